"""What a member becomes does not depend on how many devices train how many members at a time, nor does its name."""

import jax
import numpy as np
import pytest
import toy
from stores import chunk_folders, kept_in, stop_late

from unlearn_jax.errors import InputError
from unlearn_jax.population import run, sharding
from unlearn_jax.population.evaluate import evaluate
from unlearn_jax.population.run import Options, part_size
from unlearn_jax.runtime import signals
from unlearn_jax.tasks import classification


@pytest.fixture
def on(monkeypatch):
    """Set how many of the four devices are used."""
    return lambda count: monkeypatch.setattr(sharding, "devices", lambda: jax.devices()[:count])


@pytest.mark.parametrize("devices", toy.some([1, 2], 1))
def test_any_number_of_devices_gives_the_same_members(devices, on, trained):
    on(devices)
    found = toy.train(options=Options(chunk=8))
    program = toy.program(toy.method()[0]).advance
    assert program.input_shardings[0][0].loss.mesh.size == devices
    assert ("num_partitions" in program.as_text()) == (devices > 1)
    toy.close(found.variables, trained.variables)
    np.testing.assert_allclose(found.loss, trained.loss, rtol=1e-5, atol=1e-5)


def test_devices_that_do_not_divide_the_members_see_padding_and_no_one_else_does(on, trained):
    on(3)
    seen = []
    options = Options(chunk=5, progress=lambda done, _: seen.append(done))
    found = toy.train(5, options=options)  # six places on three devices
    assert run.chunk_width(5, options) == 6
    toy.close(found.variables, toy.member(trained.variables, slice(5)))
    assert found.loss.shape[0] == 5 and seen[-1] == 5
    scores = evaluate(toy.perceptron(), classification(), found.variables, toy.stored(), width=6)
    assert scores.margin.shape == scores.correct.shape == (5, toy.ROWS)


def test_members_are_found_again_by_other_numbers_of_devices_and_ways(on, tmp_path, trained, chunks_trained):
    toy.train(options=kept_in(tmp_path))
    chunks_trained.clear()
    for other in ({"axis": "map"}, {"loop": "host"}, {"data_devices": 2}):
        toy.train(options=kept_in(tmp_path, **other))
    for devices in (1, 3):
        on(devices)
        again = toy.train(options=kept_in(tmp_path))
        toy.close(again.variables, trained.variables)
    assert chunks_trained == []


def test_a_run_stopped_on_four_devices_goes_on_with_three(on, tmp_path, trained, chunks_trained):
    with pytest.raises(KeyboardInterrupt):
        toy.train(options=kept_in(tmp_path, progress=stop_late))
    assert len(list(tmp_path.glob("*.json"))) == 1
    chunks_trained.clear()
    on(3)
    seen = []
    resumed = toy.train(options=kept_in(tmp_path, progress=lambda *told: seen.append(told)))
    assert len(chunks_trained) == 1 and seen[0] == (4, 0) and seen[-1][0] == 8
    toy.close(resumed.variables, trained.variables)
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_a_state_kept_midway_by_four_devices_serves_three(on, tmp_path, trained, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(signals, "asked", lambda: 15)
        with pytest.raises(signals.Stopped):
            toy.train(5, options=kept_in(tmp_path, chunk=5))  # eight places on four devices
    (kept,) = (tmp_path / "midway").iterdir()
    on(3)  # six places
    seen, done = [], int(kept.name.rsplit("-", 1)[1])
    found = toy.train(5, options=kept_in(tmp_path, chunk=5, progress=lambda members, _: seen.append(members)))
    assert done > 0 and seen[0] == pytest.approx(5 * (done + 1) / 20) and not (tmp_path / "midway").exists()
    toy.close(found.variables, toy.member(trained.variables, slice(5)))


def test_parts_that_are_no_multiple_of_the_devices(on, tmp_path, trained, chunks_trained):
    options = kept_in(tmp_path, chunk=3)
    assert part_size(8, options) == 3 and run.chunk_width(8, options) == 3  # no device idles on padding
    on(2)
    assert run.chunk_width(8, options) == 4
    first = toy.train(options=options)
    assert len(chunks_trained) == 2 and len(chunk_folders(tmp_path)) == 3  # of 3, 3 and 2 members
    chunks_trained.clear()
    assert toy.train(options=options).seconds == pytest.approx(first.seconds)  # of parts, add up to those of chunks
    on(4)
    again = toy.train(options=options)
    assert chunks_trained == []
    toy.close(again.variables, trained.variables)
    assert again.seconds > 0.0


@pytest.mark.parametrize("count", [0, 3, 8])
def test_devices_that_cannot_be_grouped_are_refused(count):
    with pytest.raises(InputError, match=f"--data-devices is {count} and there are 4 devices: give 1, 2, 4"):
        toy.train(options=Options(data_devices=count))

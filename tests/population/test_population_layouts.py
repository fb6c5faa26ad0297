"""What a member becomes does not depend on how many devices train how many members at a time, nor does its name."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import toy

from unlearn_jax.errors import InputError
from unlearn_jax.population import resume, run, sharding
from unlearn_jax.population.evaluate import evaluate
from unlearn_jax.population.run import Options, part_size
from unlearn_jax.runtime import signals
from unlearn_jax.tasks import classification

TESTS = Path(__file__).parents[1]
HP = toy.method()[2]


@pytest.fixture
def on(monkeypatch):
    """Set how many of the four devices are used."""
    return lambda count: monkeypatch.setattr(sharding, "devices", lambda: jax.devices()[:count])


def kept_in(store, chunk=4, **more):
    return Options(chunk=chunk, store=store, **more)


@pytest.mark.parametrize("devices", [1, 2])
def test_any_number_of_devices_gives_the_same_members(devices, on, trained):
    on(devices)
    found = toy.train(options=Options(chunk=8))
    assert toy.program(toy.method()[0]).advance.input_shardings[0][0].loss.mesh.size == devices
    toy.close(found.variables, trained.variables)
    np.testing.assert_allclose(found.loss, trained.loss, rtol=1e-5, atol=1e-5)


def test_devices_that_do_not_divide_the_members_see_padding_and_no_one_else_does(on, trained):
    on(3)
    seen = []
    options = Options(chunk=7, progress=lambda done, _: seen.append(done))
    found = toy.train(7, options=options)  # nine places on three devices
    assert run.chunk_width(7, options) == 9
    toy.close(found.variables, toy.member(trained.variables, slice(7)))
    assert found.loss.shape[0] == 7 and seen[-1] == 7
    scores = evaluate(toy.perceptron(), classification(), found.variables, toy.stored(), width=9)
    assert scores.margin.shape == scores.correct.shape == (7, toy.ROWS)


@pytest.mark.parametrize("then", [1, 3])
def test_members_are_found_again_by_other_numbers_of_devices(then, on, tmp_path, trained, chunks_trained):
    toy.train(options=kept_in(tmp_path))
    chunks_trained.clear()
    on(then)
    again = toy.train(options=kept_in(tmp_path))
    assert chunks_trained == []
    toy.close(again.variables, trained.variables)


@pytest.mark.parametrize("other", [{"axis": "map"}, {"loop": "host"}, {"data_devices": 2}])
def test_members_are_found_again_however_they_would_be_trained(other, tmp_path, chunks_trained):
    toy.train(options=kept_in(tmp_path))
    chunks_trained.clear()
    toy.train(options=kept_in(tmp_path, **other))
    assert chunks_trained == []


def test_a_run_stopped_on_four_devices_goes_on_with_three(on, tmp_path, trained, chunks_trained):
    def stop(done, _):
        if done > 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        toy.train(options=kept_in(tmp_path, progress=stop))
    assert len(list(tmp_path.glob("*.json"))) == 1
    chunks_trained.clear()
    on(3)
    seen = []
    resumed = toy.train(options=kept_in(tmp_path, progress=lambda *told: seen.append(told)))
    assert len(chunks_trained) == 1 and seen[0] == (4, 0) and seen[-1][0] == 8
    toy.close(resumed.variables, trained.variables)
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_a_state_kept_midway_by_four_devices_serves_three(on, tmp_path, trained, chunks_trained, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(signals, "asked", lambda: 15)
        with pytest.raises(signals.Stopped):
            toy.train(5, options=kept_in(tmp_path, chunk=5))  # eight places on four devices
    (kept,) = (tmp_path / "midway").iterdir()
    on(3)  # six places
    begun, follow = [], resume._resumed
    monkeypatch.setattr(resume, "_resumed", lambda *args: begun.append(follow(*args)) or begun[-1])
    found = toy.train(5, options=kept_in(tmp_path, chunk=5))
    assert [str(done) for _, done, _ in begun] == [kept.name.rsplit("-", 1)[1]] != ["0"]
    assert begun[0][0].loss.shape[0] == 6 and not (tmp_path / "midway").exists()
    toy.close(found.variables, toy.member(trained.variables, slice(5)))


def test_parts_that_are_no_multiple_of_the_devices(on, tmp_path, trained, chunks_trained):
    options = kept_in(tmp_path, chunk=3)
    assert part_size(8, options) == 3 and run.chunk_width(8, options) == 3  # no device idles on padding
    on(2)
    assert run.chunk_width(8, options) == 4
    toy.train(options=options)
    assert len(chunks_trained) == 2 and len(list(tmp_path.glob("*.json"))) == 3  # of 3, 3 and 2 members
    chunks_trained.clear()
    on(4)
    again = toy.train(options=options)
    assert chunks_trained == []
    toy.close(again.variables, trained.variables)
    assert again.seconds > 0.0


def test_seconds_of_parts_add_up_to_those_of_chunks(on, tmp_path):
    on(2)
    first = toy.train(options=kept_in(tmp_path, chunk=3)).seconds
    assert toy.train(options=kept_in(tmp_path, chunk=3)).seconds == pytest.approx(first)


@pytest.mark.parametrize("count", [0, 3, 8])
def test_devices_that_cannot_be_grouped_are_refused(count):
    with pytest.raises(InputError, match=f"--data-devices is {count} and there are 4 devices: give 1, 2, 4"):
        toy.train(options=Options(data_devices=count))


EIGHT = """
import sys
import jax, numpy as np
import toy
from unlearn_jax.data import load_dataset
from unlearn_jax.metrics import null_band
from unlearn_jax.methods import prepare
from unlearn_jax.methods.support.common import Recipe, TrainSpec
from unlearn_jax.models import build_model
from unlearn_jax.population import sharding
from unlearn_jax.population.evaluate import evaluate
from unlearn_jax.population.members import make_tables, member_keys
from unlearn_jax.population.run import Options, Stored, run_population
from unlearn_jax.tasks import classification

assert len(jax.devices()) == 8
known = load_dataset("digits")
model = build_model("mlp", 10, (8, 8, 1), mean=known.mean, std=known.std, widths=(32,))
example = jax.ShapeDtypeStruct((1, 8, 8, 1), np.float32)
problem = TrainSpec(model, classification(), example, 10, Recipe(steps=1000, batch=64, lr=5e-3))
fold, plan, hp = prepare("retrain", problem)
data, test = (Stored(*map(jax.numpy.asarray, (part.inputs, part.targets))) for part in (known.train, known.test))
given = {name: np.full(16, value) for name, value in hp.items()}
short, margins = [], []
for count in (8, 4, 2, 1):
    sharding.devices = lambda: jax.devices()[:count]
    short.append(toy.train(options=Options(chunk=8)).variables)
    toy.close(short[-1], short[0])
    found = run_population(
        fold, plan, data, make_tables([np.arange(600)] * 16), member_keys(0, "toy", 16), {}, hp=given,
        options=Options(chunk=16),
    )
    margins.append(evaluate(model, classification(), found.variables, test, width=16).margin)
band = null_band(margins[0])
print(count, band, [float(m.mean() - margins[0].mean()) for m in margins])
assert 0 < band < 2.0 and all(abs(m.mean() - margins[0].mean()) < band for m in margins)
"""


@pytest.mark.slow
def test_one_two_four_and_eight_devices_agree_in_both_senses():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    environment = os.environ | flags | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    done = subprocess.run([sys.executable, "-c", EIGHT], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

"""A chunk in training: kept by the clock or when asked to stop, gone on with bit for bit, taken away after."""

import errno
import os
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from jax.sharding import NamedSharding, PartitionSpec
from stores import chunk_folders, kept_in

from unlearn_jax.population import checkpoint, resume, run
from unlearn_jax.population.run import Options
from unlearn_jax.runtime import signals


@pytest.fixture(scope="module")
def whole():
    """Four members in one chunk, without a store; read only."""
    return toy.train(4, options=Options(chunk=4))


@pytest.fixture
def updates(monkeypatch):
    """The ranges of updates that are applied."""
    seen, follow = [], resume.follow

    def watched(advance, *rest):
        return follow(lambda carry, start, stop: seen.append((start, stop)) or advance(carry, start, stop), *rest)

    monkeypatch.setattr(resume, "follow", watched)
    return seen


@pytest.fixture
def begin(monkeypatch, updates):
    """A function that trains a chunk until the run is asked to stop, once it has done so many updates."""

    def begun(store, count=7, **ask):
        updates.clear()
        monkeypatch.setattr(signals, "asked", lambda: 15 if updates and updates[-1][1] >= count else 0)
        with pytest.raises(signals.Stopped):
            toy.train(4, options=kept_in(store), **ask)
        assert count <= updates[-1][1] <= count + 1  # quick updates are done two at a time
        updates.clear()
        monkeypatch.setattr(signals, "asked", lambda: 0)

    return begun


def states(store):
    return sorted(path.name.rsplit("-", 1)[1] for path in (store / "midway").iterdir())


def test_a_stopped_chunk_goes_on_where_it_stopped(tmp_path, whole, begin, updates):
    begin(tmp_path)
    assert states(tmp_path) == ["7"]
    again = toy.train(4, options=kept_in(tmp_path))
    assert updates[0] == (7, 8) and updates[-1][1] == 20
    toy.same(again.variables, whole.variables)
    np.testing.assert_array_equal(again.loss, whole.loss)
    assert not (tmp_path / "midway").exists()
    updates.clear()
    toy.same(toy.train(4, options=kept_in(tmp_path)).variables, whole.variables)
    assert updates == []


# a teacher, sums over passes, a key
@pytest.mark.parametrize("method", toy.some(["scrub", "influence", "random_label"], 1))
def test_every_kind_of_state_is_kept(method, tmp_path, whole, begin):
    fold, plan, hp = toy.method(method)
    ask = {"fold": fold, "plan": plan, "hp": hp, "start": whole.variables}
    right = toy.train(4, options=Options(chunk=4), **ask)
    begin(tmp_path, plan.steps // 2, **ask)
    again = toy.train(4, options=kept_in(tmp_path), **ask)
    toy.same(again.variables, right.variables)
    np.testing.assert_array_equal(again.loss, right.loss)


def test_the_state_is_kept_by_the_clock_and_only_the_latest(tmp_path, whole, monkeypatch):
    kept, save = [], checkpoint.save_tree

    def seen(folder, name, tree):
        save(folder, name, tree)
        if folder.name == "midway":
            kept.append((int(name.rsplit("-", 1)[1]), len(states(tmp_path))))

    monkeypatch.setattr(checkpoint, "save_tree", seen)
    for minutes in (0.0, 10.0):  # of short runs nothing is written
        toy.train(4, options=kept_in(tmp_path / str(minutes), save_every=minutes))
    assert kept == []
    population = toy.train(4, options=kept_in(tmp_path, save_every=1e-9))
    assert [one for one, _ in kept] == list(range(1, 20))  # not after the last update
    assert max(count for _, count in kept) == 2  # the new one is whole before the old one goes
    toy.same(population.variables, whole.variables)
    assert not (tmp_path / "midway").exists()


def test_a_state_that_cannot_be_read_gives_way_to_an_older_one(tmp_path, whole, begin, updates):
    begin(tmp_path)
    older = next((tmp_path / "midway").iterdir())
    newer = older.with_name(older.name.rsplit("-", 1)[0] + "-12")
    newer.mkdir()
    (newer / "state").write_bytes(b"not what was written")
    with pytest.warns(UserWarning, match="cannot be read"):
        again = toy.train(4, options=kept_in(tmp_path))
    assert updates[0][0] == 7
    toy.same(again.variables, whole.variables)


def test_what_a_killed_run_left_of_a_chunk_that_is_stored_is_taken_away(tmp_path, whole, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(resume, "clear", lambda place: None)  # killed right before
        toy.train(4, options=kept_in(tmp_path, save_every=1e-9))
    assert states(tmp_path) == ["19"]
    toy.same(toy.train(4, options=kept_in(tmp_path)).variables, whole.variables)
    assert not (tmp_path / "midway").exists()


def test_what_else_is_trained_does_not_go_on_from_there(tmp_path, begin, updates):
    begin(tmp_path)
    toy.train(4, hp=toy.method()[2] | {"lr": 0.02}, options=kept_in(tmp_path))
    assert updates[0][0] == 0 and states(tmp_path) == ["7"]


@pytest.fixture
def failing(monkeypatch):
    """A function that makes the first attempts to keep a state fail, by default all; what was tried."""
    tries, save = [], checkpoint.save_tree

    def fail(error, count=None):
        def save_tree(folder, name, tree):
            if "midway" in str(folder):
                tries.append(name)
                if count is None or len(tries) <= count:
                    raise error
            save(folder, name, tree)

        monkeypatch.setattr(checkpoint, "save_tree", save_tree)
        return tries

    return fail


def test_no_room_for_the_state_is_told_and_training_goes_on(tmp_path, whole, failing):
    failing(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.warns(UserWarning, match="could not be kept .*No space left"):
        population = toy.train(4, options=kept_in(tmp_path, save_every=1e-9))
    toy.same(population.variables, whole.variables)


def test_seconds_are_those_of_training_in_all_lives(tmp_path, monkeypatch):
    place = resume.Place(tmp_path, "a.b", 1e-9, 4)
    now = [0.0]
    monkeypatch.setattr(resume.time, "perf_counter", lambda: now[0])

    def advance(carry, start, stop):
        now[0] += 2.0 * (stop - start)
        return carry

    def keep(*args, keep=resume._keep):
        keep(*args)
        now[0] += 100.0  # writing is no training

    monkeypatch.setattr(resume, "_keep", keep)
    monkeypatch.setattr(signals, "asked", lambda: 15 if now[0] > 200 else 0)
    with pytest.raises(signals.Stopped):
        resume.follow(advance, {"x": jnp.zeros(2)}, 20, 20, place)  # kept and stopped after the third update
    monkeypatch.setattr(signals, "asked", lambda: 0)
    began = now[0]
    _, aside = resume.follow(advance, {"x": jnp.zeros(2)}, 3 + 2, 5, place._replace(minutes=0.0))
    assert now[0] - began + aside == 2.0 * 5


def test_segments_stay_short_where_updates_are_slow(monkeypatch):
    now, seen = [0.0], []
    monkeypatch.setattr(resume.time, "perf_counter", lambda: now[0])

    def advance(carry, start, stop):
        seen.append(stop - start)
        now[0] += 1.0 * (stop - start)
        return carry

    resume.follow(advance, jnp.zeros(2), 2000, 20)
    assert sum(seen) == 2000 and seen[0] <= 12 and max(seen[1:]) <= resume.LONGEST
    seen.clear()
    monkeypatch.setattr(resume.time, "perf_counter", lambda: 0.0)
    resume.follow(advance, jnp.zeros(2), 2000, 20)
    assert sum(seen) == 2000 and max(seen) == 100 and len(seen) < 26


def test_typed_keys_and_placement_come_back(tmp_path):
    place, mesh = resume.Place(tmp_path, "a.b", 1.0, 4), run.member_mesh(4)
    split = NamedSharding(mesh, PartitionSpec("member"))
    low = jnp.arange(8, dtype=jnp.bfloat16).reshape(4, 2)
    carry, blank = (
        jax.device_put({"key": jax.random.split(jax.random.key(seed), 4), "low": scale * low}, split)
        for seed, scale in ((3, jnp.bfloat16(1)), (0, jnp.bfloat16(0)))
    )
    resume._keep(place, carry, 5, 1.5)
    found, done, seconds = resume._resumed(place, blank)
    assert (done, seconds) == (5, 1.5)
    assert (jax.random.key_data(found["key"]) == jax.random.key_data(carry["key"])).all()
    toy.same(found["low"], carry["low"])
    assert all(x.sharding == split for x in jax.tree.leaves(found))
    resume.clear(place)
    assert list(Path(tmp_path).iterdir()) == []


def test_a_chunk_that_ends_while_the_run_is_asked_to_stop_is_stored(tmp_path, chunks_trained):
    def ask(done, shown):
        if done == 4 and not signals.asked():
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(signals.Stopped), signals.listening():
        toy.train(8, options=kept_in(tmp_path, progress=ask))
    assert len(chunks_trained) == 1 and len(chunk_folders(tmp_path)) == 1


def test_old_files_of_others_beside_the_states_stay(tmp_path):
    place, carry = resume.Place(tmp_path, f"{'a' * 32}.{'b' * 16}", 1.0, 4), {"x": jnp.zeros((4, 2))}
    for name in ("notes", "draft-3", f"{'c' * 32}.{'d' * 16}-7"):
        (tmp_path / "midway" / name).mkdir(parents=True)
        os.utime(tmp_path / "midway" / name, (0, 0))
    resume._keep(place, carry, 5, 1.5)
    left = sorted(path.name for path in (tmp_path / "midway").iterdir())
    assert left == [f"{place.name}-5", "draft-3", "notes"]


def test_a_folder_that_another_run_takes_away_just_then_is_made_again(tmp_path, failing):
    tries = failing(FileNotFoundError(2, "No such file or directory"), 1)
    resume._keep(resume.Place(tmp_path, "a.b", 1.0, 4), {"x": jnp.zeros((4, 2))}, 5, 1.5)
    assert len(tries) == 2 and (tmp_path / "midway" / "a.b-5").is_dir()


def test_a_state_under_the_name_of_another_is_not_gone_on_with(tmp_path):
    places = [resume.Place(tmp_path, name, 1.0, 4) for name in ("a.b", "c.d")]
    for value, place in enumerate(places):
        resume._keep(place, {"x": jnp.full((4, 2), value)}, 5, 1.5)
    one, other = (tmp_path / "midway" / f"{place.name}-5" for place in places)
    one.rename(tmp_path / "aside")
    other.rename(one)
    with pytest.warns(UserWarning, match="cannot be read"):
        assert resume._resumed(places[0], {"x": jnp.zeros((4, 2))})[1] == 0
    (tmp_path / "aside").rename(tmp_path / "midway" / "a.b-7")  # or under another number of updates
    with pytest.warns(UserWarning, match="cannot be read"):
        assert resume._resumed(places[0], {"x": jnp.zeros((4, 2))})[1] == 0

"""Room on the disk: asked about before, waited for where a write finds none, told in one sentence."""

import dataclasses
import errno
import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import toy

from unlearn_jax.errors import InputError
from unlearn_jax.population import checkpoint
from unlearn_jax.results.recorder import replace_bytes
from unlearn_jax.runtime import disk, signals
from unlearn_jax.studies import run, storage
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.resolve import resolve
from unlearn_jax.studies.run import run_study
from unlearn_jax.studies.setup import prepare_study

Usage = namedtuple("Usage", "total used free")
CONFIG = StudyConfig(
    train_size=60, test_size=30, num_targets=2, members=4, steps=2, copies="0,1", methods="do_nothing,finetune",
    targets="random", similarity="exact", resamples=20, hp=("finetune.lr=0.01,0.02",),
)  # fmt: skip
ALONE = dataclasses.replace(CONFIG, methods="none", copies="1", hp=())  # one program trains all of it
FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def free(monkeypatch):
    """A function that sets the free bytes of every disk."""

    def give(count):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2 * count, count, count))

    return give


@pytest.fixture(scope="module")
def setup():
    return prepare_study(resolve(CONFIG))


def test_what_says_that_there_is_no_room():
    wrapped = ValueError("RESOURCE_EXHAUSTED: Failed writing: No space left on device [os_error_code='28']")
    quota = OSError(errno.EDQUOT, "Disk quota exceeded")
    assert all(map(disk.is_full, (FULL, quota, wrapped, disk.full(Path("x")))))
    caused = RuntimeError("while saving")
    caused.__cause__ = FULL
    assert disk.is_full(caused)
    assert not any(map(disk.is_full, (None, ValueError("x"), OSError(errno.EACCES, "Permission denied"))))


def test_sizes_are_told_in_units():
    told = [disk.size(count) for count in (7, 7e3, 1.25e6, 7e9, 7e12, 7e15)]
    assert told == ["7 bytes", "7.0 kB", "1.2 MB", "7.0 GB", "7.0 TB", "7000.0 TB"]


def test_room_is_refused_warned_of_or_enough(free, tmp_path):
    free(1000)
    with pytest.raises(InputError, match="about 1.0 kB are to be written to .* 1.0 kB are free: .* another --store"):
        disk.check_room(tmp_path / "not" / "there", "--store", 1001, 1001)
    assert disk.check_room(tmp_path, "--store", 500, 900).startswith("up to 900 bytes are to be written")
    assert disk.check_room(tmp_path, "--store", 500, 800) == ""


def test_a_write_is_tried_again_while_it_is_worth_it(monkeypatch):
    now, tries = [0.0], []
    monkeypatch.setattr(disk.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(disk, "_pause", lambda seconds: now.__setitem__(0, now[0] + seconds))

    def write(room_at):
        tries.append(now[0])
        if now[0] < room_at:
            raise FULL
        return "written"

    with pytest.warns(UserWarning, match="no room to write: free some space within 60 s") as told:
        assert disk.patiently(lambda: write(25), 60) == "written"
    assert tries == [0, 10, 20, 30] and len(told) == 1
    with pytest.raises(OSError, match="denied"):  # other errors are not waited for
        disk.patiently(lambda: (_ for _ in ()).throw(OSError(errno.EACCES, "Permission denied")), 1000)
    now[0] = 0.0
    with pytest.warns(UserWarning), pytest.raises(OSError, match="No space left"):
        disk.patiently(lambda: write(100), 60)
    assert now[0] == 60
    monkeypatch.setattr(signals, "asked", lambda: True)  # no signal waits for room
    with pytest.raises(OSError, match="No space left"):
        disk.patiently(lambda: write(100), 1000)


def test_what_a_study_is_to_write(setup):
    weights, scores = storage.needed(setup)
    one = 4 * (64 * 128 + 128 + 128 * 128 + 128 + 128 * 10 + 10)
    populations = 1 + 2 + 3 * 2 + 3 * 2  # one oracle, originals, other references, three runs of methods
    assert weights == one * 4 * populations
    assert scores == 4 * 4 * len(setup.shown) * (5 + 3) * 2


def test_what_is_stored_counts_for_its_study(setup, tmp_path, free):
    weights, _ = storage.needed(setup)
    free(weights / 2)
    with pytest.raises(InputError, match="are to be written to"):
        storage.check_study(setup, tmp_path / "run", tmp_path)
    whole = {"bytes": weights * 0.7, "study": storage.name_of(setup.config)}
    notes = {"a": whole, "b": {"label": "no size"}, "c": "no note"}
    for name, note in notes.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(note))
    assert storage.check_study(setup, tmp_path / "run", tmp_path) == ""
    (tmp_path / "a.json").write_text(json.dumps(whole | {"study": "another"}))
    assert "up to" in storage.check_study(setup, tmp_path / "run", tmp_path)  # it may be of use, or not


def test_a_study_without_room_is_refused_before_anything_is_written(free, tmp_path):
    free(1000)
    with pytest.raises(InputError, match="are free: free some space"):
        run_study(CONFIG, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused_before_anything_is_prepared(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(run, "prepare_study", lambda *_, **__: pytest.fail("prepared"))
    with checkpoint.locked(tmp_path / "run"), pytest.raises(InputError, match="another run is writing to"):
        run_study(CONFIG, tmp_path / "run")


def test_a_disk_that_fills_up_stops_the_run_and_leaves_whole_files(tmp_path, monkeypatch):
    saved, save = [], checkpoint.save_tree

    def small(folder, name, tree):
        if len(saved) == 2:
            raise FULL
        saved.append(name)
        save(folder, name, tree)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_tree", small)
        with pytest.warns(UserWarning, match="no room to write"), pytest.raises(OSError, match="No space left"):
            run_study(ALONE, tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["status"] == "stopped" and manifest["at"]["population"] == "oracle"
    assert [path for path in tmp_path.rglob(".*")] == []
    assert sorted(path.name for path in (tmp_path / "populations").iterdir() if path.is_dir()) == sorted(saved)


@pytest.mark.parametrize("config", toy.some([ALONE, CONFIG], 1))
def test_records_and_gallery_are_in_the_estimate(config, tmp_path, monkeypatch):
    setup = prepare_study(resolve(config))
    run_study(config, tmp_path / "run")
    tables = ("records.jsonl", "summary.csv", "results.parquet")
    real = sum((tmp_path / "run" / name).stat().st_size for name in tables)
    assert 0.7 * real < storage.records_of(setup) < 2 * real
    pictures = (tmp_path / "run" / "gallery.npz").stat().st_size
    assert 0.3 * pictures < storage.gallery_of(setup) < pictures  # which has names and headers too
    asked, (_, margins) = [], storage.needed(setup)
    monkeypatch.setattr(disk, "check_room", lambda *given: asked.append(given) or "")
    storage.check_study(setup, tmp_path / "run", tmp_path / "store")
    assert asked[1][2] == asked[1][3] == margins + storage.records_of(setup) + storage.gallery_of(setup)


@pytest.mark.parametrize("at", ("gallery", "margins"))
def test_a_disk_that_is_full_to_the_last_byte_still_says_that_the_run_stopped(tmp_path, monkeypatch, at):
    full, write = [], run.write_json

    def fail(*_, **__):
        full.append(at)
        raise FULL

    def no_room(path, content):
        if full:
            raise FULL
        write(path, content)

    monkeypatch.setattr(run, f"write_{at}", fail)
    monkeypatch.setattr(run, "write_json", no_room)
    with pytest.raises(OSError, match="No space left"):
        run_study(ALONE, tmp_path / "run")
    before = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert full == [at] and before["status"] == "stopped" and before["asked"]["members"] == 4


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_disk_that_is_really_full(small_disk):
    rng = np.random.default_rng(0)
    checkpoint.save_chunk(small_disk, "a" * 64, {"x": rng.normal(size=1000)}, {})
    before = sorted(path.name for path in small_disk.iterdir())
    with pytest.raises(OSError, match="No space left on device"):
        checkpoint.save_chunk(small_disk, "b" * 64, {"x": rng.normal(size=1_000_000)}, {})
    assert sorted(path.name for path in small_disk.iterdir()) == before
    np.testing.assert_array_equal(
        checkpoint.load_chunk(small_disk, "a" * 64)["x"], np.random.default_rng(0).normal(size=1000)
    )


WRITER = """
import gc, sys
import numpy as np
from pathlib import Path
from unlearn_jax.population import checkpoint
from unlearn_jax.results.recorder import replace_bytes
try:
    checkpoint.save_chunk(Path(sys.argv[1]), "b" * 64, {str(i): np.random.normal(size=300_000) for i in range(4)}, {})
except OSError as error:
    print(error.strerror)
gc.collect()
"""


@pytest.mark.slow
def test_nothing_is_said_of_closed_loops_before_the_sentence(small_disk):
    command = [sys.executable, "-c", WRITER, str(small_disk)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "XLA_FLAGS": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert (done.stdout.strip(), done.stderr.strip()) == ("No space left on device", "")


def test_bytes_are_replaced_where_they_are(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"one two three")
    replace_bytes(path, b"two", b"2")
    assert path.read_bytes() == b"one 2   three"
    replace_bytes(path, b"three", b"too long")
    replace_bytes(path, b"four", b"4")
    assert path.read_bytes() == b"one 2   three"

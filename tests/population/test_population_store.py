import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from stores import chunk_folders, kept_in, stop_late

from unlearn_jax.errors import InputError
from unlearn_jax.population import checkpoint, folders, run
from unlearn_jax.population.members import make_tables, member_keys
from unlearn_jax.population.plans import uniform_plan
from unlearn_jax.population.run import Fold, Options
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.run import run_study
from unlearn_jax.types import Method

HP, TESTS = toy.method()[2], Path(__file__).parents[1]


@pytest.fixture(scope="module")
def whole(many_segments):
    """Eight members in two chunks, trained without a store; read only."""
    return toy.train(options=Options(chunk=4))


@pytest.fixture(scope="module")
def stored(whole, tmp_path_factory):
    """A store that holds these members; read only."""
    toy.train(options=kept_in(tmp_path_factory.mktemp("stored") / "members"))
    return tmp_path_factory.getbasetemp() / "stored0" / "members"


@pytest.fixture
def filled(stored, tmp_path):
    """A copy of this store."""
    return Path(shutil.copytree(stored, tmp_path / "members"))


def test_the_second_run_reads_back_without_training(filled, whole, chunks_trained):
    seen = []
    again = toy.train(options=kept_in(filled, progress=lambda *told: seen.append(told)))
    toy.same(again.variables, whole.variables)  # the empty state and all dtypes included
    np.testing.assert_array_equal(again.loss, whole.loss)
    assert again.seconds > 0.0 and seen[-1] == (8, 0)  # nothing was trained, so no example is counted
    toy.same(toy.train(4, options=kept_in(filled)).variables, toy.member(whole.variables, slice(4)))
    assert chunks_trained == []
    notes = [json.loads(folder.with_suffix(".json").read_text()) for folder in chunk_folders(filled)]
    assert sorted(note["first_member"] for note in notes) == [0, 4]
    assert {note["label"] for note in notes} == {"toy"} and len(list(filled.iterdir())) == 4


def other_examples(what):
    inputs, targets = toy.examples()
    if what == "pixel":
        inputs[toy.UNUSED[0], 0, 0, 0] += 1.0
    else:
        targets[toy.KEPT[0]] = (targets[toy.KEPT[0]] + 1) % toy.CLASSES
    return toy.stored(inputs, targets)


OTHERS = {
    "seed": lambda: {"keys": member_keys(1, "toy", 4)},
    "role": lambda: {"keys": member_keys(0, "other", 4)},
    "numeric hyperparameter": lambda: {"hp": HP | {"lr": 0.02}},
    "pixel": lambda: {"data": other_examples("pixel")},
    "label": lambda: {"data": other_examples("label")},
    "rows": lambda: {"sets": make_tables([np.r_[toy.KEPT[1:], 50]] * 4, [toy.REQUESTED] * 4, pad_to=50)},
    "request": lambda: {"sets": toy.tables(4, requested=toy.REQUESTED[::-1])},
    "steps": lambda: {"plan": toy.method()[1]._replace(rate=np.full(20, 0.5, np.float32))},
}


def test_anything_else_is_trained(filled, chunks_trained):
    for count, (what, other) in enumerate(OTHERS.items(), 1):
        toy.train(4, options=kept_in(filled), **other())
        assert len(chunks_trained) == count and len(chunk_folders(filled)) == 2 + count, what


def test_labels_and_pixels_are_looked_at_anew_where_the_array_of_the_others_is_the_same(filled, chunks_trained):
    whole_device = run.member_shardings(run.member_mesh(4))[1]
    inputs = jax.device_put(toy.stored().inputs, whole_device)  # placed already, so that the runner keeps the object
    toy.train(4, data=toy.stored(inputs), options=kept_in(filled))
    assert chunks_trained == []
    toy.train(4, data=toy.stored(inputs, other_examples("label").targets), options=kept_in(filled))
    assert len(chunks_trained) == 1
    data = run.Stored(*toy.examples())
    toy.train(4, data=data, options=kept_in(filled))
    assert len(chunks_trained) == 1
    data.inputs[0] += 1.0  # in place
    toy.train(4, data=data, options=kept_in(filled))
    assert len(chunks_trained) == 2


def test_a_program_with_other_constants_is_another(tmp_path, chunks_trained):
    def train(mean):
        shift = np.float32([mean, 1.0])
        method = Method(lambda key, own: jnp.zeros(2), lambda key, x, batches: (x + shift, x.sum()), lambda x: {"x": x})
        fold = Fold(lambda hp, shared: method)
        toy.train(1, fold=fold, plan=uniform_plan(3), hp={}, options=kept_in(tmp_path, chunk=1))

    for mean, trained in ((0.1, 1), (0.2, 2), (0.1, 2)):
        train(mean)
        assert len(chunks_trained) == trained


def test_a_run_stopped_half_way_resumes_and_ends_the_same(tmp_path, whole, chunks_trained):
    with pytest.raises(KeyboardInterrupt):
        toy.train(options=kept_in(tmp_path, progress=stop_late))
    assert len(chunks_trained) == 2 and len(chunk_folders(tmp_path)) == 1
    chunks_trained.clear()
    resumed = toy.train(options=kept_in(tmp_path))
    assert len(chunks_trained) == 1
    toy.same(resumed.variables, whole.variables)
    np.testing.assert_array_equal(resumed.loss, whole.loss)


def missing(store):
    for path in filter(Path.is_file, chunk_folders(store)[0].rglob("*")):
        path.unlink()


def garbage(store):
    for path in filter(Path.is_file, chunk_folders(store)[0].rglob("*")):
        path.write_bytes(b"not what was written")


def exchanged(store):
    one, other = chunk_folders(store)
    one.rename(store.parent / "aside")
    other.rename(one)
    (store.parent / "aside").rename(other)


@pytest.mark.parametrize("spoil, bad", [(missing, 1), (garbage, 1), (exchanged, 2)])
def test_a_spoilt_chunk_warns_and_is_trained_again(spoil, bad, filled, whole, chunks_trained):
    spoil(filled)
    with pytest.warns(UserWarning, match="cannot be read .* training them again") as told:
        again = toy.train(options=kept_in(filled))
    assert len(chunks_trained) == (1 if bad == 1 else 2) and len(told) == bad
    toy.same(again.variables, whole.variables)
    chunks_trained.clear()
    toy.same(toy.train(options=kept_in(filled)).variables, whole.variables)  # and is whole again
    assert chunks_trained == []


def test_a_flipped_bit_is_noticed(tmp_path):
    tree = {"x": np.random.default_rng(0).normal(size=(300, 300)).astype(np.float32), "state": {}}
    checkpoint.save_chunk(tmp_path, "a" * 64, tree, {})
    toy.same(checkpoint.load_chunk(tmp_path, "a" * 64), tree)
    largest = max((path for path in tmp_path.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    right = largest.read_bytes()
    for at in np.linspace(0.1, 0.9, 5) * len(right):
        wrong = bytearray(right)
        wrong[int(at)] ^= 4
        largest.write_bytes(wrong)
        with pytest.warns(UserWarning, match="cannot be read"):
            assert checkpoint.load_chunk(tmp_path, "a" * 64) is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of Orbax, which lets go of its tasks
@pytest.mark.parametrize("seed", toy.some(range(4), 1))
def test_any_harm_to_the_files_of_a_chunk_is_noticed_or_does_nothing(seed, filled, whole, chunks_trained):
    rng = np.random.default_rng(seed)
    for folder in chunk_folders(filled):
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
        path = max(files, key=lambda file: file.stat().st_size) if seed == 0 else files[rng.integers(len(files))]
        right = bytearray(path.read_bytes())
        how, at = rng.integers(3), rng.integers(len(right))
        if how == 0:
            right[at] ^= 1 << rng.integers(8)
        path.unlink()
        if how < 2:
            path.write_bytes(right if how == 0 else right[:at])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        again = toy.train(options=kept_in(filled))
    assert len(chunks_trained) == len(told)
    toy.same(again.variables, whole.variables)
    np.testing.assert_array_equal(again.loss, whole.loss)


def test_members_of_an_earlier_version_whose_checksum_does_not_say_who_they_are_are_trained_again(tmp_path):
    from orbax.checkpoint import v1 as ocp

    tree = {"w": np.full((2, 3), 1.0, np.float32)}
    sealed = np.frombuffer(bytes.fromhex(checkpoint.digest_of(jax.tree.leaves(tree))), np.uint8)
    save = ocp.save if hasattr(ocp, "save") else ocp.save_pytree
    save((tmp_path / ("a" * 32)).resolve(), {"tree": tree, "checksum": sealed})
    with pytest.warns(UserWarning, match="an earlier version .* training them again"):
        assert checkpoint.load_chunk(tmp_path, "a" * 64) is None


def test_starting_and_shared_weights_tell_members_apart_and_shared_ones_are_not_stored(tmp_path, whole, chunks_trained):
    fold, plan, hp = toy.method("do_nothing")
    own = toy.member(whole.variables, slice(4))

    def train(start):
        found = toy.train(4, fold=fold, plan=plan, hp=hp, start=start, options=kept_in(tmp_path))
        toy.same(found.variables, start)
        return len(chunks_trained)

    doubled = jax.tree.map(lambda x: np.float32(2.0) * x, own)
    assert [train(own), train(doubled), train(own)] == [1, 2, 2]
    one, two = (own | {"shared": {"base": jnp.full((10_000,), base)}} for base in (1.0, 2.0))
    before = {path: path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()}
    assert [train(one), train(two), train(one)] == [3, 4, 4]
    added = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) - sum(before.values())
    assert added < 1.5 * sum(before.values())


def test_old_examples_are_not_kept_alive(filled):
    for i in range(2):
        toy.train(4, data=toy.stored(toy.examples()[0] + i), options=kept_in(filled))
    assert len(run._FINGERPRINT) == 2  # the last examples and their digest


def test_digests_tell_dtypes_shapes_and_structures_apart():
    x = np.arange(4, dtype=np.float32)
    trees = [x, x.astype(np.float64), x.reshape(2, 2), [x], {"a": x}, {"b": x}, x + 1, "x", x.astype(np.int32)]
    assert len({checkpoint.digest_of(tree) for tree in trees}) == len(trees)
    assert checkpoint.digest_of({"a": x}) == checkpoint.digest_of({"a": jnp.asarray(x)})
    assert checkpoint.digest_of(jax.random.key(0)) != checkpoint.digest_of(jax.random.key(1))


# --- folders that cannot be written -----------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_is_refused_and_a_probe_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    for below in ("file", "file/below/that", "x" * 300, "nowhere", "nul\0byte"):
        with pytest.raises(InputError, match="cannot write to .* give another --store folder"):
            checkpoint.check_writable(tmp_path / below, "--store", keep=False)
    with pytest.raises(InputError, match="cannot write to .* give another --out folder"):
        checkpoint.check_writable(tmp_path / "file" / "below")
    checkpoint.check_writable(tmp_path / "a" / "b", keep=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "nowhere"]
    assert checkpoint.check_writable(tmp_path / "a" / "b").is_dir() and list((tmp_path / "a" / "b").iterdir()) == []


# --- several processes -----------------------------------------------------------------------------------------------


def run_apart(program, *words):
    """A process of its own that runs a program."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]), "XLA_FLAGS": ""}
    command = [sys.executable, "-c", program, *map(str, words)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


VICTIM = """
import conftest, sys, time, toy
from pathlib import Path
from unlearn_jax.population.run import Options

def tell(done, shown):
    print(done, flush=True)
    if done > 5:
        time.sleep(60)

with toy.quick_programs(sys.argv[2] == "quick"):
    toy.train(options=Options(chunk=4, store=Path(sys.argv[1]), label="toy", progress=tell))
"""


@pytest.mark.slow
def test_a_killed_process_leaves_what_another_can_resume(tmp_path, whole, chunks_trained, quick):
    with run_apart(VICTIM, tmp_path, "quick" if quick else "full") as victim:
        told = iter(victim.stdout)
        while float(next(told)) <= 5:
            pass
        victim.send_signal(signal.SIGKILL)
    assert victim.returncode == -signal.SIGKILL
    resumed = toy.train(options=kept_in(tmp_path))
    assert len(chunks_trained) == 1  # the first chunk was found by a process of the same programs
    toy.same(resumed.variables, whole.variables)


WRITER = """
import sys, warnings
warnings.simplefilter("error")
import numpy as np
from pathlib import Path
from unlearn_jax.population import checkpoint
for number in range(6):
    name = f"{number % 3}" * 64
    checkpoint.save_chunk(Path(sys.argv[1]), name, {"w": np.full((2, 3), number % 3, np.float32)}, {"label": "x"})
    found = checkpoint.load_chunk(Path(sys.argv[1]), name)
    assert (found["w"] == number % 3).all(), number
"""


@pytest.mark.slow
def test_processes_that_write_the_same_chunks_at_once_do_not_disturb_one_another(tmp_path):
    writers = [run_apart(WRITER, tmp_path) for _ in range(4)]
    told = [writer.communicate()[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 4, told
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(f"{d}" * 32 + e for d in "012" for e in ("", ".json"))


STARTERS = """
import os, sys, time, warnings
from pathlib import Path
from unlearn_jax.population import checkpoint
warnings.simplefilter("ignore")  # JAX has not begun, so that forking does no harm

def start(name):
    for number in range(50):
        out, store = (Path(sys.argv[1]) / str(number) / folder for folder in (name, "populations"))
        for folder in (out, store):  # as a study asks before it prepares
            checkpoint.check_writable(folder, keep=False)
        for folder in (store, out):  # and when it begins
            checkpoint.check_writable(folder)
        with checkpoint.locked(out):
            (out / "manifest.json").write_text("{}")

begin, children = time.time() + 0.2, []
for number in range(24):
    children.append(os.fork())
    if not children[-1]:
        time.sleep(max(0, begin - time.time()))
        start(str(number))
        os._exit(0)
sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
"""


@pytest.mark.slow
def test_starts_at_once_below_one_new_folder_all_succeed(tmp_path):
    done = run_apart(STARTERS, tmp_path / "runs")
    told = done.communicate()[1]
    assert done.returncode == 0, told
    assert len(list(tmp_path.rglob("manifest.json"))) == 24 * 50


def chunk(value):
    return {"w": np.full((2, 3), value, np.float32)}


def test_a_chunk_that_another_process_wrote_first_stays_and_a_spoilt_one_gives_way(tmp_path):
    checkpoint.save_chunk(tmp_path, "a" * 64, chunk(1.0), {})
    checkpoint.save_chunk(tmp_path, "a" * 64, chunk(2.0), {})
    np.testing.assert_array_equal(checkpoint.load_chunk(tmp_path, "a" * 64)["w"], 1.0)
    assert len(list(tmp_path.iterdir())) == 2  # the chunk and its note, nothing staged
    for file in filter(Path.is_file, (tmp_path / ("a" * 32)).rglob("*")):
        file.write_bytes(b"")
    checkpoint.save_chunk(tmp_path, "a" * 64, chunk(2.0), {})
    np.testing.assert_array_equal(checkpoint.load_chunk(tmp_path, "a" * 64)["w"], 2.0)


def test_two_runs_do_not_share_a_folder_and_the_one_who_is_refused_is_told_by_whom(tmp_path):
    said = re.escape(f"'{tmp_path}' (process {os.getpid()} on {platform.node()}): wait for its end")
    with checkpoint.locked(tmp_path):
        for _ in range(2):
            with pytest.raises(InputError, match=f"another run is writing to {said}"), checkpoint.locked(tmp_path):
                pass
    with checkpoint.locked(tmp_path):  # let go of
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_was_taken_away_meanwhile_holds_nothing(tmp_path, monkeypatch):
    still, seen = folders._still, []

    def taken_away(file, path):
        if not seen:  # by the run that ended just after this one opened the file
            path.unlink()
        seen.append(still(file, path))
        return seen[-1]

    monkeypatch.setattr(folders, "_still", taken_away)
    with checkpoint.locked(tmp_path):
        assert seen == [False, True]
        with pytest.raises(InputError, match="another run"), checkpoint.locked(tmp_path):
            pass


@pytest.mark.parametrize("link", (os.symlink, os.link))
def test_a_lock_that_is_a_link_harms_nothing(tmp_path, link):
    (tmp_path / "run").mkdir()
    (tmp_path / "thesis.tex").write_text("years of work")
    link(tmp_path / "thesis.tex", tmp_path / "run" / ".lock")
    try:
        with checkpoint.locked(tmp_path / "run"):
            pass
    except InputError as error:
        assert ".lock" in str(error)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("content", ("", "mine\n"))
def test_a_lock_that_is_a_file_of_the_user_stays_and_serves(tmp_path, content):
    (tmp_path / ".lock").write_text(content)
    with checkpoint.locked(tmp_path), pytest.raises(InputError, match="another run"), checkpoint.locked(tmp_path):
        pass
    assert (tmp_path / ".lock").read_text() == content


def test_what_a_killed_run_wrote_into_its_lock_gives_way(tmp_path):
    (tmp_path / ".lock").write_text(" (process 7 on elsewhere.example)")
    with checkpoint.locked(tmp_path):
        assert (tmp_path / ".lock").read_text() == f" (process {os.getpid()} on {platform.node()})"
    assert list(tmp_path.iterdir()) == []


# --- what is not ours ------------------------------------------------------------------------------------------------

LONG_AGO = 400_000_000  # 1982
OWN = (".backup-2024-01", ".my-notes-7", f".{'b' * 31}-host-7", f".{'b' * 32}-seven", f".{'b' * 32}.txt-host-7",
       ".probe-2024-01", ".orbax-settings-3", "-a-1")  # fmt: skip


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_a_user_named_alike_is_never_swept_away(tmp_path):
    for name in OWN:
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.tex").write_text("years of work")
        (tmp_path / f"{name}0").write_text("years of work")
        os.utime(tmp_path / f"{name}0", (LONG_AGO, LONG_AGO))
        os.utime(tmp_path / name, (LONG_AGO, LONG_AGO))
    before = names(tmp_path)
    checkpoint.check_writable(tmp_path)
    checkpoint.save_chunk(tmp_path, "a" * 64, chunk(1.0), {})
    with checkpoint.locked(tmp_path):
        pass
    assert names(tmp_path) == sorted([*before, "a" * 32, f"{'a' * 32}.json"])


def test_what_dead_runs_leave_half_written_is_swept_away_and_what_a_live_one_writes_is_not(tmp_path, monkeypatch):
    dead, host = subprocess.Popen(["true"]), platform.node()
    dead.wait()
    live, own, other = f".{'d' * 32}-{host}-{os.getppid()}", f"{host}-{dead.pid}", "far-away-2-77"
    (tmp_path / live).mkdir()
    for name in ("b" * 32, f"{'b' * 32}.{'c' * 16}-120", f"{'b' * 32}.json", "probe"):
        for mark in (own, other):
            path = tmp_path / f".{name}-{mark}"
            path.write_text("") if name.endswith(("json", "probe")) else path.mkdir()
            if mark == other:
                os.utime(path, (LONG_AGO, LONG_AGO))
    (tmp_path / f".{'b' * 32}-{own}.orbax-checkpoint-tmp").mkdir()
    checkpoint.save_chunk(tmp_path, "a" * 64, chunk(1.0), {})
    assert names(tmp_path) == sorted([live, "a" * 32, f"{'a' * 32}.json"])
    similar = f".{'e' * 32}-{host}-{os.getpid()}0"  # of a process whose number begins like ours
    (tmp_path / similar).mkdir()
    monkeypatch.setattr(checkpoint, "sweep", lambda folder: None)  # the process need not exist
    checkpoint.save_chunk(tmp_path, "e" * 64, chunk(1.0), {})
    assert (tmp_path / similar).is_dir()


def test_a_refused_run_deletes_nothing(tmp_path):
    (tmp_path / f".{'b' * 32}-elsewhere-7").mkdir()
    os.utime(tmp_path / f".{'b' * 32}-elsewhere-7", (LONG_AGO, LONG_AGO))
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(InputError):
        run_study(StudyConfig(dataset=str(tmp_path / "missing.npz")), tmp_path, store=tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before

import json
import os
import platform
import re
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

from unlearn_jax.errors import InputError
from unlearn_jax.methods import prepare
from unlearn_jax.models import build_model
from unlearn_jax.population import checkpoint, folders, run
from unlearn_jax.population.members import make_tables, member_keys
from unlearn_jax.population.run import Options
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.run import run_study

HP = toy.method()[2]


def kept_in(store):
    return Options(chunk=4, store=store, label="toy")


@pytest.fixture(scope="module")
def whole():
    """Eight members in two chunks, trained without a store; read only."""
    return toy.train(options=Options(chunk=4))


@pytest.fixture
def filled(tmp_path, whole, chunks_trained):
    """A store that holds these members."""
    toy.train(options=kept_in(tmp_path / "members"))
    assert len(chunks_trained) == 2
    chunks_trained.clear()
    return tmp_path / "members"


def chunk_folders(store):
    return sorted(path for path in store.iterdir() if path.is_dir())


def test_the_second_run_reads_back_without_training(filled, whole, monkeypatch):
    def forbidden(*args):
        raise AssertionError("trained again")

    monkeypatch.setattr(run, "train_chunk", forbidden)
    seen = []
    again = toy.train(options=kept_in(filled)._replace(progress=lambda *told: seen.append(told)))
    toy.same(again.variables, whole.variables)  # the empty state and all dtypes included
    np.testing.assert_array_equal(again.loss, whole.loss)
    assert again.seconds > 0.0 and seen[-1] == (8, 0)  # nothing was trained, so no example is counted


def test_one_folder_and_one_note_a_chunk(filled):
    folders = chunk_folders(filled)
    notes = [json.loads(folder.with_suffix(".json").read_text()) for folder in folders]
    assert sorted(note["first_member"] for note in notes) == [0, 4]
    assert {note["label"] for note in notes} == {"toy"} and len(list(filled.iterdir())) == 4


def test_fewer_members_read_back_the_chunks_they_share(filled, whole, chunks_trained):
    toy.same(toy.train(4, options=kept_in(filled)).variables, toy.member(whole.variables, slice(4)))
    assert chunks_trained == []


def other_examples(what):
    inputs, targets = toy.examples()
    if what == "pixel":
        inputs[toy.UNUSED[0], 0, 0, 0] += 1.0
    else:
        targets[toy.KEPT[0]] = (targets[toy.KEPT[0]] + 1) % toy.CLASSES
    return toy.stored(inputs, targets)


OTHERS = {
    "seed": lambda: {"keys": member_keys(1, "toy", 8)},
    "role": lambda: {"keys": member_keys(0, "other", 8)},
    "numeric hyperparameter": lambda: {"hp": HP | {"lr": 0.02}},
    "pixel": lambda: {"data": other_examples("pixel")},
    "label": lambda: {"data": other_examples("label")},
    "rows": lambda: {"sets": make_tables([np.r_[toy.KEPT[1:], 50]] * 8, [toy.REQUESTED] * 8, pad_to=50)},
    "request": lambda: {"sets": toy.tables(8, requested=toy.REQUESTED[::-1])},
    "steps": lambda: {"plan": toy.method()[1]._replace(rate=np.full(20, 0.5, np.float32))},
}


@pytest.mark.parametrize("what", OTHERS)
def test_anything_else_is_trained(what, filled, chunks_trained):
    toy.train(options=kept_in(filled), **OTHERS[what]())
    assert len(chunks_trained) == 2
    assert len(chunk_folders(filled)) == 4


def test_other_labels_of_the_same_pixel_array_are_trained(filled, chunks_trained):
    whole_device = run.member_shardings(run.member_mesh(4))[1]
    inputs = jax.device_put(toy.stored().inputs, whole_device)  # placed already, so that the runner keeps the object
    toy.train(data=toy.stored(inputs), options=kept_in(filled))
    assert chunks_trained == []
    toy.train(data=toy.stored(inputs, other_examples("label").targets), options=kept_in(filled))
    assert len(chunks_trained) == 2


def test_pixels_changed_in_place_are_seen(filled, chunks_trained):
    inputs, targets = toy.examples()
    data = run.Stored(inputs, targets)
    toy.train(data=data, options=kept_in(filled))
    assert chunks_trained == []
    inputs[0] += 1.0
    toy.train(data=data, options=kept_in(filled))
    assert len(chunks_trained) == 2


def test_a_model_with_other_constants_is_trained(tmp_path, chunks_trained):
    start = {"params": {"head": {"kernel": jnp.ones((4, 16, 3)), "bias": jnp.ones((4, 3))}}, "state": {}}
    for mean, trained in ((0.1, 1), (0.2, 2), (0.1, 2)):
        model = build_model("linear", toy.CLASSES, toy.SHAPE, mean=(mean,), std=(1.0,))
        fold, plan, hp = prepare("finetune", toy.problem(model), {"epochs": 1, "batch": 16}, toy.SIZES)
        toy.train(4, fold=fold, plan=plan, hp=hp, start=start, options=kept_in(tmp_path))
        assert len(chunks_trained) == trained


def test_a_run_stopped_half_way_resumes_and_ends_the_same(tmp_path, whole, chunks_trained):
    def stop(done, shown):
        if done > 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        toy.train(options=kept_in(tmp_path)._replace(progress=stop))
    assert len(chunks_trained) == 2 and len(chunk_folders(tmp_path)) == 1
    chunks_trained.clear()
    resumed = toy.train(options=kept_in(tmp_path))
    assert len(chunks_trained) == 1
    toy.same(resumed.variables, whole.variables)
    np.testing.assert_array_equal(resumed.loss, whole.loss)


def spoil(folder, how):
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if how == "missing":
            path.unlink()
        else:
            path.write_bytes(b"" if how == "empty" else b"not what was written")


@pytest.mark.parametrize("how", ["missing", "empty", "garbage"])
def test_a_spoilt_chunk_warns_and_is_trained_again(how, filled, whole, chunks_trained):
    spoil(chunk_folders(filled)[0], how)
    with pytest.warns(UserWarning, match="cannot be read .* training them again"):
        again = toy.train(options=kept_in(filled))
    assert len(chunks_trained) == 1
    toy.same(again.variables, whole.variables)
    toy.train(options=kept_in(filled))  # and is whole again
    assert len(chunks_trained) == 1


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


def exchange(one, other):
    """Swap two folders."""
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def test_exchanged_members_are_noticed_and_trained_again(filled, whole, chunks_trained):
    exchange(*chunk_folders(filled))
    with pytest.warns(UserWarning, match="cannot be read .* training them again") as told:
        again = toy.train(options=kept_in(filled))
    assert len(chunks_trained) == 2 and len(told) == 2
    toy.same(again.variables, whole.variables)
    chunks_trained.clear()
    toy.same(toy.train(options=kept_in(filled)).variables, whole.variables)  # and are whole again
    assert chunks_trained == []


def test_members_of_an_earlier_version_whose_checksum_does_not_say_who_they_are_are_trained_again(tmp_path):
    from orbax.checkpoint import v1 as ocp

    tree = {"w": np.full((2, 3), 1.0, np.float32)}
    sealed = np.frombuffer(bytes.fromhex(checkpoint.digest_of(jax.tree.leaves(tree))), np.uint8)
    save = ocp.save if hasattr(ocp, "save") else ocp.save_pytree
    save((tmp_path / ("a" * 32)).resolve(), {"tree": tree, "checksum": sealed})
    with pytest.warns(UserWarning, match="an earlier version .* training them again"):
        assert checkpoint.load_chunk(tmp_path, "a" * 64) is None


def test_other_starting_weights_are_trained(tmp_path, whole, chunks_trained):
    fold, plan, hp = toy.method("do_nothing")
    for scale, trained in ((1.0, 1), (2.0, 2), (1.0, 2)):
        start = jax.tree.map(lambda x, scale=scale: np.float32(scale) * x[:4], whole.variables)
        found = toy.train(4, fold=fold, plan=plan, hp=hp, start=start, options=kept_in(tmp_path))
        assert len(chunks_trained) == trained
        toy.same(found.variables, start)


def test_shared_weights_are_not_stored_with_the_members_but_tell_them_apart(tmp_path, chunks_trained):
    fold, plan, hp = toy.method("do_nothing")
    start = toy.train(4, options=Options(chunk=4)).variables
    chunks_trained.clear()
    for base, trained in ((1.0, 1), (2.0, 2), (1.0, 2)):
        shared = {"base": jnp.full((3,), base)}
        found = toy.train(4, fold=fold, plan=plan, hp=hp, start=start | {"shared": shared}, options=kept_in(tmp_path))
        assert len(chunks_trained) == trained
        toy.same(found.variables, start | {"shared": shared})


def test_old_examples_are_not_kept_alive(filled):
    for i in range(3):
        toy.train(4, data=toy.stored(toy.examples()[0] + i), options=kept_in(filled))
    assert len(run._FINGERPRINT) == 2  # the last examples and their digest


def test_digests_tell_dtypes_shapes_and_structures_apart():
    x = np.arange(4, dtype=np.float32)
    trees = [x, x.astype(np.float64), x.reshape(2, 2), [x], {"a": x}, {"b": x}, x + 1, "x", x.astype(np.int32)]
    assert len({checkpoint.digest_of(tree) for tree in trees}) == len(trees)
    assert checkpoint.digest_of({"a": x}) == checkpoint.digest_of({"a": jnp.asarray(x)})
    keys = [jax.random.key(0), jax.random.key(1)]
    assert len({checkpoint.digest_of(key) for key in keys}) == 2


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write to .* give another --out folder"):
        checkpoint.check_writable(tmp_path / "file" / "below")
    assert checkpoint.check_writable(tmp_path / "new" / "below").is_dir()
    assert list((tmp_path / "new" / "below").iterdir()) == []


VICTIM = """
import sys, time
import conftest, toy
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
    tests = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)]), "XLA_FLAGS": ""}
    command = [sys.executable, "-c", VICTIM, str(tmp_path), "quick" if quick else "full"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as victim:
        told = iter(victim.stdout)
        while float(next(told)) <= 5:
            pass
        victim.send_signal(signal.SIGKILL)
    assert victim.returncode == -signal.SIGKILL
    resumed = toy.train(options=kept_in(tmp_path))
    assert len(chunks_trained) == 1  # the first chunk was found by a process of the same programs
    toy.same(resumed.variables, whole.variables)


# --- several processes -----------------------------------------------------------------------------------------------


def chunk(value):
    return {"w": np.full((2, 3), value, np.float32)}


def test_a_chunk_that_another_process_wrote_first_stays(tmp_path):
    checkpoint.save_chunk(tmp_path, "a" * 64, chunk(1.0), {})
    checkpoint.save_chunk(tmp_path, "a" * 64, chunk(2.0), {})
    np.testing.assert_array_equal(checkpoint.load_chunk(tmp_path, "a" * 64)["w"], 1.0)
    assert len(list(tmp_path.iterdir())) == 2  # the chunk and its note, nothing staged


def test_a_spoilt_chunk_gives_way(tmp_path):
    checkpoint.save_chunk(tmp_path, "a" * 64, chunk(1.0), {})
    for file in (tmp_path / ("a" * 32)).rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    checkpoint.save_chunk(tmp_path, "a" * 64, chunk(2.0), {})
    np.testing.assert_array_equal(checkpoint.load_chunk(tmp_path, "a" * 64)["w"], 2.0)


def test_what_a_dead_process_left_is_swept_away_and_what_a_live_one_writes_is_not(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = platform.node()
    for process in (dead.pid, os.getppid()):
        (tmp_path / f".{'b' * 32}-{host}-{process}").mkdir()
    checkpoint.save_chunk(tmp_path, "a" * 64, chunk(1.0), {})
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == [f".{'b' * 32}-{host}-{os.getppid()}"]


def test_what_a_dead_process_of_an_earlier_version_was_asking_with_is_swept_away(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".probe-{platform.node()}-{dead.pid}").write_text("")
    checkpoint.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_runs_do_not_share_a_folder(tmp_path):
    again = pytest.raises(InputError, match="another run is writing to")
    with checkpoint.locked(tmp_path), again, checkpoint.locked(tmp_path):
        pass
    with checkpoint.locked(tmp_path):  # let go of
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_one_who_is_refused_is_told_by_whom(tmp_path):
    with checkpoint.locked(tmp_path):
        said = re.escape(f"'{tmp_path}' (process {os.getpid()} on {platform.node()}): wait for its end")
        with pytest.raises(InputError, match=said), checkpoint.locked(tmp_path):
            pass
        with pytest.raises(InputError, match=said), checkpoint.locked(tmp_path):  # and is again
            pass


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


WRITER = """
import sys
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
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "XLA_FLAGS": ""}
    command = [sys.executable, "-W", "error", "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    told = [writer.communicate()[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 4, told
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(f"{d}" * 32 + e for d in "012" for e in ("", ".json"))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of Orbax, which lets go of its tasks
@pytest.mark.parametrize("seed", range(3))
def test_any_harm_to_the_files_of_a_chunk_is_noticed_or_does_nothing(seed, tmp_path, whole, chunks_trained):
    rng, store = np.random.default_rng(seed), tmp_path / "members"
    toy.train(options=kept_in(store))
    for folder in chunk_folders(store):
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
        chunks_trained.clear()
        again = toy.train(options=kept_in(store))
    assert len(chunks_trained) == len(told)
    toy.same(again.variables, whole.variables)
    np.testing.assert_array_equal(again.loss, whole.loss)


def test_a_probe_leaves_nothing(tmp_path):
    checkpoint.check_writable(tmp_path / "a" / "b", keep=False)
    assert list(tmp_path.iterdir()) == []
    checkpoint.check_writable(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir() and list((tmp_path / "a" / "b").iterdir()) == []


# --- what is not ours ------------------------------------------------------------------------------------------------

LONG_AGO = 400_000_000  # 1982
OWN = (".backup-2024-01", ".my-notes-7", f".{'b' * 31}-host-7", f".{'b' * 32}-seven", f".{'b' * 32}.txt-host-7",
       ".probe-2024-01", ".orbax-settings-3", "-a-1")  # fmt: skip


@pytest.fixture
def own_files(tmp_path):
    """Old files and folders of a user whose names look a little like ours."""
    for name in OWN:
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.tex").write_text("years of work")
        (tmp_path / f"{name}0").write_text("years of work")
        os.utime(tmp_path / f"{name}0", (LONG_AGO, LONG_AGO))
        os.utime(tmp_path / name, (LONG_AGO, LONG_AGO))
    return sorted(path.name for path in tmp_path.iterdir())


def test_what_a_user_named_alike_is_never_swept_away(tmp_path, own_files):
    checkpoint.check_writable(tmp_path)
    checkpoint.save_chunk(tmp_path, "a" * 64, chunk(1.0), {})
    with checkpoint.locked(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*own_files, "a" * 32, f"{'a' * 32}.json"])


def test_what_runs_leave_half_written_is_swept_away(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = ("b" * 32, f"{'b' * 32}.{'c' * 16}-120", f"{'b' * 32}.json", "probe")
    own, other = f"{platform.node()}-{dead.pid}", "far-away-2-77"
    for name in names:
        for mark in (own, other):
            path = tmp_path / f".{name}-{mark}"
            path.write_text("") if name.endswith(("json", "probe")) else path.mkdir()
            if mark == other:
                os.utime(path, (LONG_AGO, LONG_AGO))
    (tmp_path / f".{'b' * 32}-{own}.orbax-checkpoint-tmp").mkdir()
    checkpoint.save_chunk(tmp_path, "a" * 64, chunk(1.0), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a" * 32, f"{'a' * 32}.json"]


def test_a_refused_run_deletes_nothing(tmp_path):
    (tmp_path / f".{'b' * 32}-elsewhere-7").mkdir()
    os.utime(tmp_path / f".{'b' * 32}-elsewhere-7", (LONG_AGO, LONG_AGO))
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(InputError):
        run_study(StudyConfig(dataset=str(tmp_path / "missing.npz")), tmp_path, store=tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_saving_leaves_alone_what_another_process_is_writing(tmp_path):
    other = tmp_path / f".{'a' * 32}-{platform.node()}-{os.getpid()}0"
    other.mkdir()
    checkpoint.sweep, sweep = lambda folder: None, checkpoint.sweep  # the process need not exist
    try:
        checkpoint.save_chunk(tmp_path, "a" * 64, chunk(1.0), {})
    finally:
        checkpoint.sweep = sweep
    assert other.is_dir()


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


# --- many starts at once ---------------------------------------------------------------------------------------------

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


def test_starts_at_once_below_one_new_folder_all_succeed(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", STARTERS, str(tmp_path / "runs")]
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.rglob("manifest.json"))) == 24 * 50


def test_a_folder_that_could_not_be_made_is_refused_before_it_is_made(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    for below in ("file", "file/below/that", "x" * 300, "nowhere", "nul\0byte"):
        with pytest.raises(InputError, match="cannot write to .* give another --store folder"):
            checkpoint.check_writable(tmp_path / below, "--store", keep=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "nowhere"]

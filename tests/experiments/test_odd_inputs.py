"""Odd files and sizes beyond reason: whatever a script is given, one sentence and exit code 2, and no traceback."""

import io
import json
import struct
import zipfile

import numpy as np
import pytest
from made_runs import change, fake_run

from unlearn_jax.data.sources.formats import _parse_pages
from unlearn_jax.errors import InputError
from unlearn_jax.models.minilm_files import load_minilm
from unlearn_jax.results.recorder import levels_done
from unlearn_jax.runtime import archives, disk

BIG, HUGE, LONG = "3000000000", "9" * 23, "x" * 300
STUDY = ["--train-size", "60", "--test-size", "30", "--num-targets", "2", "--members", "4", "--steps", "2", "--quiet"]
STUDY += ["--similarity", "exact", "--copies", "1", "--targets", "random", "--methods", "finetune", "--out", "run"]
AUDIT = ["--logits", "retrain=a.npz", "mine=b.npz", "--quiet", "--no-page"]
SWEEP = ["--method", "finetune", "--hp", "lr=.1,.2", "--quiet", "--out", "run"]
PAIRS = ["--dataset", "digits", "--train-size", "80", "--quiet", "--out", "run"]


@pytest.fixture
def one_sentence(script):
    """Assert that a script refuses its words in one sentence, and return it."""

    def call(name, *words):
        code, output, errors = script(name, *words)
        assert code == 2, (output, errors)
        assert errors.startswith("error: ") and errors.count("\n") == 1, errors
        assert "pickle" not in errors  # NumPy's advice is to load unsafely
        return errors

    return call


SIZES = [
    *(("study", STUDY, option) for option in ("steps", "batch", "resamples", "members", "num-targets", "budget")),
    ("study", [*STUDY, "--dataset", "bulletins"], "vocabulary"),
    ("study", [*STUDY, "--dataset", "bulletins", "--features", "tokens"], "context"),
    *(("audit", AUDIT, option) for option in ("draws", "resamples", "splits")),
    *(("sweep", SWEEP, option) for option in ("seeds", "draws", "rungs", "halving")),
    *(("influence", PAIRS, option) for option in ("subsets", "repeats", "ensemble", "steps", "queries")),
    *(("neighbours", PAIRS, option) for option in ("k", "steps", "train-size")),
    *(("bench/speed", [], option) for option in ("members", "batch")),
]


@pytest.mark.parametrize("size", (BIG, pytest.param(HUGE, marks=pytest.mark.slow)))
@pytest.mark.parametrize(("name", "words", "option"), SIZES)
def test_sizes_beyond_reason(one_sentence, tmp_path, name, words, option, size):
    logits(tmp_path)
    rest = [w for before, w in zip(["", *words], words) if f"--{option}" not in (before, w)]
    one_sentence(name, *rest, f"--{option}", size)
    assert not (tmp_path / "run").exists()


def test_sizes_beyond_64_bits(one_sentence):
    for name, words, option in SIZES[:1] + SIZES[-1:]:
        one_sentence(name, *words, f"--{option}", HUGE)


@pytest.mark.parametrize(
    "words",
    [
        [*STUDY, "--lr", "1e300"],
        [*STUDY, "--hp", "finetune.lr=1e300"],
        [*STUDY, "--hp", "finetune.lr=-1"],
        [*STUDY, "--hp", "finetune.epochs=3000000000"],
        [*STUDY[:-1], LONG],
        [*STUDY, "--store", LONG],
        [*STUDY, "--presets", LONG],
        [*STUDY, "--dataset", f"{LONG}.npz"],
    ],
)
def test_a_study_that_makes_no_sense(one_sentence, tmp_path, words):
    one_sentence("study", *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", (-1, True, 1e300, None, {}, [], "1e300", int("9" * 4000)))
def test_settings_in_presets_that_cannot_be(one_sentence, tmp_path, value):
    (tmp_path / "p.json").write_text(json.dumps({"presets": 1, "methods": {"finetune": {"lr": value}}}))
    one_sentence("study", *STUDY, "--presets", "p.json")


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("sweep", [*SWEEP, "--rungs", "-2"], "--rungs is -2"),
        ("reproduce", ["proximity", "--change", "seed=1", "seed=2"], "--change names seed twice"),
    ],
)
def test_options_that_were_passed_over(one_sentence, name, words, said):
    assert said in one_sentence(name, *words)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("study", [*STUDY[:-1], ""]),
        ("study", [*STUDY, "--store", " "]),
        ("audit", [*AUDIT, "--out", ""]),
        ("report", ["run", "--out", ""]),
        ("leaderboard", ["page", "--data", ""]),
    ],
)
def test_an_empty_path_is_no_path(script, tmp_path, name, words):
    code, _, errors = script(name, *words)
    assert code == 2 and "a path is empty" in " ".join(errors.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


# --- archives --------------------------------------------------------------------------------------------------------


def logits(folder):
    rng = np.random.default_rng(0)
    about = {"labels": np.arange(12) % 3, "split": np.repeat(["forget", "rest", "test"], 4)}
    for name in "ab":
        np.savez(folder / f"{name}.npz", logits=rng.normal(size=(3, 12, 3)), **about)


def header(shape, dtype="<f4"):
    """The beginning of a .npy file that claims a shape."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


def packed(path, part, flag=0, method=0):
    """An archive with one part; local and central headers may claim encryption or another way of packing."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("logits.npy", part)
    raw = bytearray(path.read_bytes())
    central = raw.rindex(b"PK\x01\x02")
    for at in (6, central + 8):
        raw[at] |= flag
    for at in (8, central + 10):
        raw[at] = method or raw[at]
    path.write_bytes(raw)


def nested(folder):
    """A header of parentheses in parentheses."""
    text = b"(" * 40_000 + b")" * 40_000
    packed(folder / "a.npz", b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text)) + text)


def single(folder):
    np.save(folder / "a.npy", np.zeros((3, 12, 3)))
    (folder / "a.npy").rename(folder / "a.npz")


def complex_numbers(folder):
    with np.load(folder / "a.npz") as held:
        np.savez(folder / "a.npz", **{**held, "logits": held["logits"] + 1j})


def cut(folder):
    raw = (folder / "a.npz").read_bytes()
    (folder / "a.npz").write_bytes(raw[: len(raw) // 2])


def swapped_for_a_folder(folder):
    (folder / "a.npz").unlink()
    (folder / "a.npz").mkdir()


HARMED = {
    "encrypted": lambda folder: packed(folder / "a.npz", b"x" * 100, flag=1),
    "packed in an unknown way": lambda folder: packed(folder / "a.npz", b"x" * 100, method=99),
    "claims a size": lambda folder: packed(folder / "a.npz", header((10**7, 10**6)) + b"\0" * 64),
    "claims a negative size": lambda folder: packed(folder / "a.npz", header((-3, 4)) + b"\0" * 64),
    "no array": lambda folder: packed(folder / "a.npz", b"hello"),
    "objects": lambda folder: np.savez(folder / "a.npz", logits=np.array([{}], object)),
    "unfinished header": lambda folder: packed(folder / "a.npz", b"\x93NUMPY\x01\x00\x0a\x00{'shape': ("),
    "nested header": nested,
    "a single array": single,
    "complex numbers": complex_numbers,
    "cut": cut,
    "a folder": swapped_for_a_folder,
}


@pytest.mark.parametrize("how", HARMED)
def test_logits_in_odd_files(one_sentence, tmp_path, how):
    logits(tmp_path)
    HARMED[how](tmp_path)
    one_sentence("audit", *AUDIT)


@pytest.mark.parametrize("how", sorted(set(HARMED) - {"complex numbers"}))
def test_a_gallery_in_an_odd_file(one_sentence, tmp_path, how):
    run = fake_run(tmp_path / "run", levels=(4,))
    logits(tmp_path)
    HARMED[how](tmp_path)
    (run / "gallery.npz").unlink()
    if how == "a folder":
        (run / "manifest.json").unlink()
        (run / "manifest.json").mkdir()
    else:
        (tmp_path / "a.npz").rename(run / "gallery.npz")
    one_sentence("report", "run")


def test_pictures_that_no_page_could_show(one_sentence, tmp_path):
    run = fake_run(tmp_path / "run", levels=(4,))
    named = {"labels": np.arange(6), "class_names": list("012345")}
    np.savez_compressed(run / "gallery.npz", images=np.zeros((6, 5, 2000, 2000, 1), np.uint8), **named)
    one_sentence("report", "run")


@pytest.mark.parametrize("how", ("encrypted", "objects", "a single array", "claims a size"))
def test_data_of_the_users_own_in_odd_files(one_sentence, tmp_path, how):
    logits(tmp_path)
    HARMED[how](tmp_path)
    one_sentence("study", *STUDY, "--dataset", "a.npz")


@pytest.mark.parametrize("text", ("9" * 40, "9" * 5000, "--3", "٣", "1e3"))
def test_ids_that_are_no_whole_numbers_of_64_bits(one_sentence, tmp_path, text):
    (tmp_path / "ids").write_text(f"{text}\n", encoding="utf-8")
    one_sentence("neighbours", *PAIRS, "--ids", "ids")


def test_embeddings_in_odd_files(one_sentence, tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}] * 80, object))
    (tmp_path / "long.npy").write_bytes(header((80, 10**12)))
    (tmp_path / "text.npy").write_text("x")
    for name in ("objects", "long", "text"):
        one_sentence("neighbours", *PAIRS, "--embedding-file", f"{name}.npy")


def test_what_is_sound_comes_back(tmp_path):
    held = {"x": np.arange(6).reshape(2, 3), "text": np.array(["ä", "bc"]), "none": np.zeros((0, 3), np.float16)}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **held)
        found = archives.read_arrays(tmp_path / "a.npz")
        assert set(found) == set(held)
        for name, array in held.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == array.dtype
    np.save(tmp_path / "f.npy", np.asfortranarray(held["x"]))
    np.testing.assert_array_equal(archives.read_array(tmp_path / "f.npy"), held["x"])


def test_pages_of_pictures_that_unpack_to_gigabytes_are_refused():
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n"]
    for name, data in ((b"IHDR", head), (b"IDAT", b""), (b"IEND", b"")):
        parts += [struct.pack(">I", len(data)), name, data, struct.pack(">I", zipfile.crc32(name + data))]

    class Bombs(dict):
        def __missing__(self, name):
            return b"".join(parts)

    with pytest.raises(InputError, match="is not a whole PNG image"):
        _parse_pages(Bombs())


# --- JSON, models and folders ----------------------------------------------------------------------------------------


def test_json_that_is_nested_too_deeply(one_sentence, tmp_path):
    deep = "[" * 100_000 + "]" * 100_000
    run = fake_run(tmp_path / "run", levels=(4,))
    (tmp_path / "p.json").write_text(deep)
    one_sentence("study", *STUDY[:-1], "other", "--presets", "p.json")
    (run / "answers.json").write_text(deep)
    one_sentence("report", "run")
    (run / "manifest.json").write_text(deep)
    for name, words in (("report", ["run"]), ("choose", ["run"]), ("audit", ["run", "--quiet"]), ("study", STUDY)):
        one_sentence(name, *words)


@pytest.mark.parametrize(
    "done", (5, "x", [5], [[1]], [[1, 2, 3]], [["a", "b"]], {"a": 1}, [None], [[[1], 2]], [[True, 1]])
)
def test_levels_done_that_no_study_wrote(one_sentence, tmp_path, done):
    change(fake_run(tmp_path / "run", levels=(4,)), status="running", levels_done=done, at=done)
    one_sentence("report", "run")
    assert levels_done({"levels_done": done}) == []
    assert levels_done({"levels_done": [[4, 0.2]]}) == [(4, 0.2)]


@pytest.mark.parametrize("name", ("versions", "benchmark", "notes", "similarity", "presets"))
def test_a_manifest_of_another_form(one_sentence, tmp_path, name):
    change(fake_run(tmp_path / "run", levels=(4,)), **{name: 5})
    one_sentence("report", "run")


@pytest.mark.parametrize("name", ("summary.csv", "results.parquet", "margins/index.parquet"))
def test_a_folder_where_a_file_belongs(one_sentence, tmp_path, name):
    run = fake_run(tmp_path / "run", levels=(4,))
    (run / name).unlink()
    (run / name).mkdir()
    one_sentence("report", "run")


def test_damaged_files_of_a_language_model(tmp_path):
    pytest.importorskip("safetensors")
    for content in (b"", b"\xff" * 64, b"\x40" + b"\0" * 7 + b"[" * 64):
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(InputError, match="is damaged .* afresh"):
            load_minilm(tmp_path)


def test_a_run_folder_that_is_taken_away_meanwhile(one_sentence, monkeypatch):
    def gone(*_, **__):
        raise FileNotFoundError(2, "No such file or directory", "run/manifest.json")

    monkeypatch.setattr(disk, "write_whole", gone)
    monkeypatch.setattr("unlearn_jax.studies.run.run_study", gone)
    said = one_sentence("study", *STUDY)
    assert "'run/manifest.json' cannot be used (No such file or directory)" in said


def test_too_little_memory_is_one_sentence(one_sentence, monkeypatch):
    def much(*_, **__):
        return np.zeros((1 << 60,), np.uint8)

    monkeypatch.setattr("unlearn_jax.studies.run.run_study", much)
    one_sentence("study", *STUDY)

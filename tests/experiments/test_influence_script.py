"""The influence script: bad input is one sentence and exit code 2, good input ends in a headline and a page."""

import csv
import runpy
import sys
from pathlib import Path

import pytest
import toy

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
TINY = [
    "--train-size",
    "60",
    "--num-targets",
    "2",
    "--copies",
    "1",
    "--queries",
    "4",
    "--subsets",
    "16",
    "--repeats",
    "2",
]
TINY += ["--ensemble", "1", "--steps", "2", "--targets", "random", "--quiet"]


@pytest.fixture
def influence(tmp_path, monkeypatch, capsys):
    """Run the script in an empty folder: arguments -> (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["influence.py", *map(str, words)])
        with pytest.raises(SystemExit) as ended, toy.quick_programs():
            runpy.run_path(str(EXPERIMENTS / "influence.py"), run_name="__main__")
        return ended.value.code, *capsys.readouterr()

    return call


def test_a_tiny_run_prints_its_headline_and_ends_in_a_page(influence, tmp_path, monkeypatch):
    monkeypatch.setattr("unlearn_jax.attribution.law.COPIES", (0, 1))
    code, out, errors = influence(*TINY, "--tracks", "exact", "--estimators", "trak,influence,gram")
    assert (code, errors) == (0, "")
    lines = out.splitlines()
    assert lines[0].split()[:2] == ["track", "estimator"] and lines[0].endswith("LDS")
    named = [line.split()[:2] for line in lines[1:-2]]
    assert named == [["exact", name] for name in ("influence", "trak", "gram", "newton")]
    assert lines[-2:] == ["run folder: runs/influence-digits", "page: runs/influence-digits/influence.html"]
    run = tmp_path / "runs" / "influence-digits"
    with (run / "summary.csv").open() as file:
        rows = {(r["estimator"], r["removed"], r["metric"]): float(r["value"]) for r in csv.DictReader(file)}
    (line,) = [line for line in lines if line.startswith("exact    influence ")]
    for key in (("target", "own_ratio"), ("cluster", "own_ratio"), ("cluster", "correlation"), ("half", "lds")):
        assert f"{rows['influence', *key]:.2f} [" in line
    assert "<svg" in (run / "influence.html").read_text()
    assert "nan" not in out
    before = (run / "manifest.json").read_bytes()
    code, out, errors = influence(*TINY, "--tracks", "exact")
    assert code == 2 and out == "" and errors.count("\n") == 1 and "holds another run" in errors
    assert (run / "manifest.json").read_bytes() == before


BAD = {
    "estimator": (["--estimators", "nothing"], "unknown estimator 'nothing'"),
    "track": (["--tracks", "rail"], "unknown track 'rail'"),
    "repeats": (["--repeats", "1"], "--repeats is 1: give at least 2"),
    "l2": (["--l2", "0"], "--l2 is 0"),
    "seed": (["--seed", "-1"], "--seed is -1: give 0 up to"),
    "data": (["--dataset", "mnist", "--data-dir", "nowhere"], "mnist"),
    "facts": (["--dataset", "facts"], "has no classes"),
    "chunk": (["--chunk", "-1"], "--chunk is -1"),
    "out": (["--out", "/proc/none/run"], "give another --out folder"),
    "store": (["--store", "/proc/none/run"], "give another --store folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(influence, tmp_path, case):
    words, said = BAD[case]
    code, out, errors = influence(*TINY[:-1], *words)
    *before, error = errors.splitlines()
    assert code == 2 and out == "" and said in error
    assert before == ["reading data, building networks ..."] * (case in ("data", "facts", "chunk"))
    assert not list(tmp_path.iterdir())

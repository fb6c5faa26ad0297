"""The influence script: bad input is one sentence and exit code 2, good input ends in a headline and a page."""

import csv
import shlex

import pytest

TINY = shlex.split(
    "--train-size 60 --num-targets 2 --copies 1 --queries 4 --subsets 16 --repeats 2 --ensemble 1 --steps 2 "
    "--targets random --quiet"
)


def test_a_tiny_run_prints_its_headline_and_ends_in_a_page(script, refused, tmp_path, monkeypatch, unsaved):
    monkeypatch.setattr("unlearn_jax.attribution.law.COPIES", (0, 1))
    code, out, errors = script("influence", *TINY, "--tracks", "exact", "--estimators", "trak,influence,gram")
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
    refused("influence", *TINY, "--tracks", "exact", said="holds another run")


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
def test_bad_input_is_one_sentence_and_leaves_nothing(script, tmp_path, case):
    words, said = BAD[case]
    code, out, errors = script("influence", *TINY[:-1], *words)
    *before, error = errors.splitlines()
    assert code == 2 and out == "" and said in error
    assert before == ["reading data, building networks ..."] * (case in ("data", "facts", "chunk"))
    assert not list(tmp_path.iterdir())

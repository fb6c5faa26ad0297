"""The main job's script: bad input is one sentence and exit code 2, good input ends in a report."""

import html
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from unlearn_jax.cli.study import headline
from unlearn_jax.reports import read_run
from unlearn_jax.reports import words as words_of_page
from unlearn_jax.studies import influence_share

STUDY = Path(__file__).resolve().parents[2] / "experiments" / "study.py"
TINY = shlex.split(
    "--train-size 60 --test-size 30 --num-targets 2 --members 5 --steps 2 --similarity exact --copies 0,1 "
    "--targets random --resamples 20 --quiet"
)


def npz(path, **changes):
    """A small data set of the user's own in a file."""
    rng = np.random.default_rng(0)
    arrays = {"x_train": rng.random((60, 6, 6)), "y_train": np.arange(60) % 3}
    arrays |= {"x_test": rng.random((30, 6, 6)), "y_test": np.arange(30) % 3} | changes
    np.savez(path, **arrays)


def spoiled(value, at):
    images = np.random.default_rng(0).random((60, 6, 6))
    images[at] = value
    return images


@pytest.mark.parametrize(
    ("words", "said"),
    [  # what is refused before anything is read: tests/studies/test_resolve.py has more
        ("--dataset digit", "unknown data set 'digit': choose one of ag_news_subset, bulletins, cifar10, cifar100"),
        ("--methods scrub,sleep", "finetune, fisher, gauss_newton, grad_diff"),
        ("--methods unsir", "ask with --targets whole_class, or leave it out"),
        ("--methods finetune --budget 10", "is below the least of 'finetune'"),
        ("--scale huge", "choose one of cifar, language, small, small_conv, small_text"),
        ("--methods eu_k --hp eu_k.k=9", "give 1 up to that many"),
        ("--methods rfe --hp rfe.adjacent=3", "it is a share, give at most 1"),
        ("--methods sisa --hp sisa.shards=0", "give 1 or more"),
        ("--axis sideways", "unknown axis 'sideways'"),
        ("--data-devices 3", "--data-devices is 3 and there are 4 devices: give 1, 2, 4."),
        ("--augment twirl", "crop_flip"),
        ("--num-targets 700", "700 targets are more than half of the 1200 training images"),
        ("--targets class --num-targets 300", "fewer than 300 targets"),
        ("--train-size 5000", "ask for 1 to 1200"),
        ("--dataset nowhere.npz", "there is no file 'nowhere.npz'"),
        ("--dataset cifar10 --data-dir .", "prepare-data"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(refused, words, said):
    assert refused("study", "--out", "run", "--quiet", *words.split(), said=said).endswith(".\n")


@pytest.mark.parametrize("words", ["--members few", "--seed 1.5", "--no-such-option 1"])
def test_arguments_of_the_wrong_kind_end_with_code_two(script, tmp_path, words):
    code, output, errors = script("study", "--out", "run", *words.split())
    assert code == 2 and words.split()[0] in output + errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"y_train": np.full(60, -1)}, "number the classes from 0"),
        ({"x_train": spoiled(np.nan, 3)}, "NaN or infinite pixels (first in row 3)"),
        ({"x_train": spoiled(7.0, 3)}, "scale them to [0, 1]"),
        ({"y_test": np.arange(29) % 3}, "give as many of each"),
    ],
)
def test_bad_data_of_the_users_own_are_one_sentence(refused, tmp_path, changes, said):
    npz(tmp_path / "mine.npz", **changes)
    refused("study", "--dataset", "mine.npz", "--out", "run", "--quiet", said=said)


def test_a_folder_that_holds_another_study(refused, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "manifest.json").write_text(json.dumps({"asked": {"dataset": "mnist"}}))
    refused("study", *TINY, "--out", "run", said="'run' holds another study (dataset, ")


@pytest.mark.parametrize("words", ["--out taken/run", "--out taken", "--out run --store taken"])
def test_folders_that_cannot_be_written(refused, tmp_path, words):
    (tmp_path / "taken").write_text("mine")
    option = "--store" if "--store" in words else "--out"
    refused("study", *TINY, *words.split(), said=f"give another {option}")
    assert (tmp_path / "taken").read_text() == "mine"


def test_the_real_command_says_the_same(tmp_path):
    words = [sys.executable, str(STUDY), "--methods", "sleep", "--out", "run"]
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.startswith("error: unknown method 'sleep'") and ended.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_two_steps_from_the_command_to_the_report(script, tmp_path, monkeypatch, unsaved):
    monkeypatch.setattr(influence_share, "MEMBERS", 1)
    quiet = [*TINY, "--methods", "do_nothing"]
    words = [word for word in quiet if word != "--quiet"]
    code, output, errors = script("study", *words)
    assert code == 0 and "retrain: 5 members in " in errors and "\x1b" not in errors
    (run,) = (tmp_path / "runs").glob("digits-*")
    name = f"runs/{run.name}"
    assert name.startswith("runs/digits-exact-random-")  # after the configuration
    manifest = json.loads((run / "manifest.json").read_text())
    assert {name: one["rows"] for name, one in manifest["files"].items()} == {
        "results.parquet": parquet.read_metadata(run / "results.parquet").num_rows,
        "summary.csv": (run / "summary.csv").read_text().count("\n") - 1,
    }
    assert manifest["status"] == "complete"
    assert manifest["command"].startswith("python experiments/study.py --train-size 60")
    page = (run / "report.html").read_text()
    assert "<html" in page and "there are too few members (fewer than 8 in a request)" in page
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == [run.name, "populations"]
    rows = parquet.read_table(run / "results.parquet").to_pylist()  # of five members on four devices: no padding
    assert {row["member"] for row in rows} == {-1, 0, 1, 2, 3, 4}
    assert {len(np.load(path)) for path in (run / "margins").rglob("*.npy")} == {5}

    lines = output.splitlines()
    assert lines[-2] == f"run folder: {name}" and lines[-1] == f"report: {name}/report.html"
    names = ["original", "retrain", "placebo", "dedup", "do_nothing"]
    assert [line.split()[2] for line in lines if line.lstrip()[0] in "01"] == names * 2
    assert [line.split()[0] for line in lines if line.lstrip()[0] in "01"] == ["0"] * 5 + ["1"] * 5
    untouched = [line for line in lines if " do_nothing " in line or " original " in line]
    assert len(untouched) == 4 and all(" 1.00 [1.00, 1.00]" in line for line in untouched)
    for m, gamma in ((0, "1.00"), (1, "0.50")):
        (line,) = [line for line in lines if line.startswith(f"copies {m}, gamma {gamma}: not identifiable, ")]
        assert line.endswith("fewer than 8 members in a request")
    assert headline(run) == "\n".join(lines[:-1]).replace(name, str(run))

    answer = words_of_page.headline(read_run(run))
    assert lines[0] == answer and "".join(answer.split()) in "".join(re.sub("<[^>]*>", "", html.unescape(page)).split())
    assert headline(run, 80).split()[: len(answer.split())] == answer.split()
    assert max(map(len, headline(run, 80).splitlines()[:-1])) <= 80

    code, output, errors = script("study", *quiet)
    assert (code, errors, output.splitlines()) == (0, "", lines[-2:])

    code, output, errors = script("study", *quiet, "--json", "--no-report")
    told = json.loads(output)
    assert (code, errors, told["run"], told["page"]) == (0, "", name, None)
    kept = [row for row in told["rows"] if (row["metric"], row["method"]) == ("residual_influence", "do_nothing")]
    assert [(row["copies"], row["value"]) for row in kept if row["request"] == "all"] == [(0, 1.0), (1, 1.0)]


@pytest.mark.slow
@pytest.mark.parametrize("members", (1, 2))
def test_few_members_are_told_of_as_the_reason(script, tmp_path, members):
    words = [*TINY, "--copies", "1", "--methods", "none", "--members", str(members)]
    code, output, errors = script("study", "--out", "run", *(word for word in words if word != "--quiet"))
    assert code == 0
    assert "not identifiable, fewer than 8 members in a request" in output
    assert "there are too few members (fewer than 8 in a request)" in (tmp_path / "run" / "report.html").read_text()

"""The main job's script: bad input is one sentence and exit code 2, good input ends in a report."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from unlearn_jax.cli import study as script

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


TINY = ["--train-size", "60", "--test-size", "30", "--num-targets", "2", "--members", "5", "--steps", "2"]
TINY += ["--similarity", "exact", "--copies", "0,1", "--targets", "random", "--resamples", "20", "--quiet"]


@pytest.fixture
def study(tmp_path, monkeypatch, capsys):
    """Run the script in an empty folder: arguments -> (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["study.py", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(EXPERIMENTS / "study.py"), run_name="__main__")
        return ended.value.code, *capsys.readouterr()

    return call


def npz(path, **changes):
    """A small data set of the user's own in a file."""
    rng = np.random.default_rng(0)
    arrays = {"x_train": rng.random((60, 6, 6)), "y_train": np.arange(60) % 3}
    arrays |= {"x_test": rng.random((30, 6, 6)), "y_test": np.arange(30) % 3} | changes
    np.savez(path, **arrays)


def spoiled(value, at):
    """Images with one bad pixel."""
    images = np.random.default_rng(0).random((60, 6, 6))
    images[at] = value
    return images


BAD = {
    "unknown data set": (
        "--dataset digit",
        "unknown data set 'digit': choose one of ag_news_subset, bulletins, cifar10, cifar100, digits, facts",
    ),
    "unknown method": ("--methods scrub,sleep", "finetune, fisher, gauss_newton, grad_diff"),
    "class-only method": ("--methods unsir", "ask with --targets whole_class, or leave it out"),
    "small budget": ("--methods finetune --budget 10", "is below the least of 'finetune'"),
    "unknown scale": ("--scale huge", "choose one of cifar, language, small, small_conv, small_text"),
    "too many groups": ("--methods eu_k --hp eu_k.k=9", "give 1 up to that many"),
    "share above 1": ("--methods rfe --hp rfe.adjacent=3", "it is a share, give at most 1"),
    "no shard": ("--methods sisa --hp sisa.shards=0", "give 1 or more"),
    "unknown model": (
        "--model mlpp",
        "unknown model 'mlpp': choose one of convnet, decoder, encoder, linear, minilm",
    ),
    "unknown model option": ("--model-options depth=3", "unknown mlp option 'depth'"),
    "unknown similarity": ("--similarity close", "exact, far, natural, near"),
    "unknown targets": ("--targets hard", "atypical, class, contested, distant, person, random"),
    "unknown axis": ("--axis sideways", "unknown axis 'sideways'"),
    "devices that do not divide": ("--data-devices 3", "--data-devices is 3 and there are 4 devices: give 1, 2, 4."),
    "unknown augmentation": ("--augment twirl", "crop_flip"),
    "negative copies": ("--copies 1,-4", "--copies has -4: give 0 or more"),
    "copies that are no number": ("--copies few", "--copies is 'few'"),
    "no members": ("--members 0", "--members is 0: give at least 1"),
    "more requests than members": ("--members 4 --requests 5", "--requests is 5 with 4 members"),
    "gamma of nothing": ("--gamma 0", "--gamma has 0: give shares in (0, 1]"),
    "gamma beyond one": ("--gamma 1.5", "--gamma has 1.5"),
    "foreign hyperparameter": ("--hp finetune.alpha=1", "method 'finetune' has no hyperparameter 'alpha'"),
    "several static values": ("--hp finetune.epochs=1,2", "one run for each"),
    "too many targets": ("--num-targets 700", "700 targets are more than half of the 1200 training images"),
    "too many by class": ("--targets class --num-targets 300", "fewer than 300 targets"),
    "too large a subset": ("--train-size 5000", "ask for 1 to 1200"),
    "bad threshold": ("--dedup-threshold 2", "give a cosine in (0, 1]"),
    "negative seed": ("--seed -1", "--seed is -1"),
    "missing file": ("--dataset nowhere.npz", "there is no file 'nowhere.npz'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(study, tmp_path, case):
    words, said = BAD[case]
    code, output, errors = study("--out", "run", "--quiet", *words.split())
    assert code == 2 and output == ""
    assert errors.startswith("error: ") and said in errors
    assert errors.count("\n") == 1 and errors.rstrip().endswith(".")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", ["--members few", "--seed 1.5", "--no-such-option 1"])
def test_arguments_of_the_wrong_kind_end_with_code_two(study, tmp_path, words):
    code, output, errors = study("--out", "run", *words.split())
    assert code == 2 and words.split()[0] in output + errors
    assert list(tmp_path.iterdir()) == []


def test_data_that_were_not_prepared_name_the_command(study, tmp_path):
    code, _, errors = study("--dataset", "cifar10", "--data-dir", tmp_path, "--out", "run", "--quiet")
    assert code == 2 and errors.startswith("error: ") and "prepare-data" in errors and errors.count("\n") == 1
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
def test_bad_data_of_the_users_own_are_one_sentence(study, tmp_path, changes, said):
    npz(tmp_path / "mine.npz", **changes)
    code, _, errors = study("--dataset", "mine.npz", "--out", "run", "--quiet")
    assert code == 2 and errors.startswith("error: ") and said in errors and errors.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["mine.npz"]


def test_folders_that_cannot_be_written(study, tmp_path):
    (tmp_path / "taken").write_text("mine")
    for words in ("--out taken/run", "--out taken", "--out run --store taken"):
        code, output, errors = study(*TINY, *words.split())
        option = "--store" if "--store" in words else "--out"
        assert code == 2 and output == "" and errors.startswith("error: ") and f"give another {option}" in errors
    assert [p.name for p in tmp_path.iterdir()] == ["taken"] and (tmp_path / "taken").read_text() == "mine"


def test_a_folder_that_holds_another_study(study, tmp_path):
    (tmp_path / "run").mkdir()
    manifest = json.dumps({"asked": {"dataset": "mnist"}})
    (tmp_path / "run" / "manifest.json").write_text(manifest)
    code, _, errors = study("--out", "run", *TINY)
    assert code == 2 and "'run' holds another study (dataset, " in errors
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["manifest.json"]
    assert (tmp_path / "run" / "manifest.json").read_text() == manifest


def test_the_real_command_says_the_same(tmp_path):
    words = [sys.executable, str(EXPERIMENTS / "study.py"), "--methods", "sleep", "--out", "run"]
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.startswith("error: unknown method 'sleep'") and ended.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_two_steps_from_the_command_to_the_report(study, tmp_path):
    code, output, errors = study("--out", "runs/first", *TINY, "--methods", "do_nothing")
    assert (code, errors) == (0, "")
    run = tmp_path / "runs" / "first"
    manifest = json.loads((run / "manifest.json").read_text())
    assert {name: one["rows"] for name, one in manifest["files"].items()} == {
        "results.parquet": parquet.read_metadata(run / "results.parquet").num_rows,
        "summary.csv": (run / "summary.csv").read_text().count("\n") - 1,
    }
    assert manifest["status"] == "complete"
    assert manifest["command"].startswith("python experiments/study.py --out runs/first --train-size 60")
    assert "<html" in (run / "report.html").read_text()
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["first", "populations"]
    rows = parquet.read_table(run / "results.parquet").to_pylist()  # of five members on four devices: no padding
    assert {row["member"] for row in rows} == {-1, 0, 1, 2, 3, 4}
    assert {len(np.load(path)) for path in (run / "margins").rglob("*.npy")} == {5}

    lines = output.splitlines()
    assert lines[-2] == "run folder: runs/first" and lines[-1] == "report: runs/first/report.html"
    names = ["original", "retrain", "placebo", "dedup", "do_nothing"]
    assert [line.split()[2] for line in lines if line.lstrip()[0] in "01"] == names * 2
    assert [line.split()[0] for line in lines if line.lstrip()[0] in "01"] == ["0"] * 5 + ["1"] * 5
    untouched = [line for line in lines if " do_nothing " in line or " original " in line]
    assert len(untouched) == 4 and all(" 1.00 [1.00, 1.00]" in line for line in untouched)
    for m, gamma in ((0, "1.00"), (1, "0.50")):
        (line,) = [line for line in lines if line.startswith(f"copies {m}, gamma {gamma}: not identifiable, ")]
        assert line.endswith("fewer than 8 members in a request")
    assert script.headline(run) == "\n".join(lines[:-1]).replace("runs/first", str(run))

    code, output, errors = study("--out", "runs/first", *TINY, "--methods", "do_nothing", "--json", "--no-report")
    told = json.loads(output)
    assert (code, errors, told["run"], told["page"]) == (0, "", "runs/first", None)
    kept = [row for row in told["rows"] if (row["metric"], row["method"]) == ("residual_influence", "do_nothing")]
    assert [(row["copies"], row["value"]) for row in kept if row["request"] == "all"] == [(0, 1.0), (1, 1.0)]


@pytest.mark.parametrize("members", (1, 2))
def test_few_members_are_told_of_as_the_reason(study, tmp_path, members):
    words = [*TINY, "--copies", "1", "--methods", "none", "--members", str(members)]
    code, output, errors = study("--out", "run", *words)
    assert (code, errors) == (0, "")
    assert "not identifiable, fewer than 8 members in a request" in output
    assert "there are too few members (fewer than 8 in a request)" in (tmp_path / "run" / "report.html").read_text()


def test_the_run_folder_is_named_after_the_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = (
        "--copies 0 --methods none --members 2 --steps 2 --train-size 150 --test-size 60 --num-targets 3 --no-report"
    )
    with pytest.raises(SystemExit) as ended:
        runpy_main(monkeypatch, *words.split())
    (folder,) = (tmp_path / "runs").glob("digits-*")
    assert ended.value.code == 0 and folder.name.startswith("digits-near-atypical-")
    assert (folder / "summary.csv").is_file() and (tmp_path / "runs" / "populations").is_dir()


def runpy_main(monkeypatch, *words):
    """The script as it is, with whatever it raises."""
    monkeypatch.setattr(sys, "argv", ["study.py", "--quiet", *words])
    runpy.run_path(str(EXPERIMENTS / "study.py"), run_name="__main__")

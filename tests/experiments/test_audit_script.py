"""The audit script: bad input is one sentence and exit code 2, good input ends in a page."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
QUICK = ["--draws", "20", "--splits", "20", "--resamples", "40", "--quiet"]


@pytest.fixture
def audit(tmp_path, monkeypatch, capsys):
    """Run the script in an empty folder: arguments -> (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["audit.py", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(EXPERIMENTS / "audit.py"), run_name="__main__")
        return ended.value.code, *capsys.readouterr()

    return call


def logits(name, **more):
    """Random logits of 6 members on 20 examples of 3 classes."""
    rng = np.random.default_rng(len(name))
    np.savez(f"{name}.npz", logits=rng.normal(size=(6, 20, 3)), **more)
    return f"{name}={name}.npz"


def test_files_of_logits_end_in_a_page(audit, tmp_path):
    labels, split = np.arange(20) % 3, np.repeat(["forget", "rest", "test", "similar"], 5)
    words = [logits("oracle", labels=labels, split=split), logits("retrain"), logits("mine")]
    code, out, errors = audit("--logits", *words, *QUICK)
    assert (code, errors) == (0, "")
    assert "klom" in out and "audit: audits/mine" in out and "page: audits/mine.html" in out
    page = (tmp_path / "audits" / "mine.html").read_text()
    assert "mine" in page and "<svg" in page
    assert {p.name for p in (tmp_path / "audits" / "mine").iterdir()} >= {"audit.csv", "audit.json", "curves.npz"}


BAD = {
    "nothing": ([], "give a run folder or --logits"),
    "both": (["runs/x", "--logits", "retrain=a.npz", "u=b.npz"], "give a run folder or --logits, not both"),
    "no run": (["runs/x"], "has no manifest.json"),
    "no file": (["--logits", "retrain=a.npz", "u=b.npz"], "there is no file 'a.npz'"),
    "no reference": (["--logits", "u=b.npz"], "names no reference"),
    "no equals": (["--logits", "u"], "is not understood"),
    "few draws": (["--logits", "retrain=a.npz", "u=b.npz", "--splits", "1"], "--splits is 1: give at least 20"),
    "seed": (["--logits", "retrain=a.npz", "u=b.npz", "--seed", "-1"], "--seed is -1: give 0 up to"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(audit, tmp_path, case):
    words, said = BAD[case]
    code, out, errors = audit(*words)
    assert code == 2 and out == "" and errors.count("\n") == 1 and said in errors
    assert not list(tmp_path.iterdir())

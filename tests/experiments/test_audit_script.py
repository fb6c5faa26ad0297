"""The audit script: bad input is one sentence and exit code 2, good input ends in a page."""

import numpy as np
import pytest

QUICK = ["--draws", "20", "--splits", "20", "--resamples", "40", "--quiet"]


def logits(name, **more):
    """Random logits of 6 members on 20 examples of 3 classes."""
    rng = np.random.default_rng(len(name))
    np.savez(f"{name}.npz", logits=rng.normal(size=(6, 20, 3)), **more)
    return f"{name}={name}.npz"


def test_files_of_logits_end_in_a_page(script, tmp_path, unsaved):
    labels, split = np.arange(20) % 3, np.repeat(["forget", "rest", "test", "similar"], 5)
    words = [logits("oracle", labels=labels, split=split), logits("retrain"), logits("mine")]
    code, out, errors = script("audit", "--logits", *words, *QUICK)
    assert (code, errors) == (0, "")
    assert "klom" in out and "audit: audits/mine" in out and "page: audits/mine.html" in out
    page = (tmp_path / "audits" / "mine.html").read_text()
    assert "mine" in page and "<svg" in page
    assert {p.name for p in (tmp_path / "audits" / "mine").iterdir()} >= {"audit.csv", "audit.json", "curves.npz"}


PAIR = ["--logits", "retrain=a.npz", "u=b.npz"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give a run folder, --logits or --open-unlearning"),
        (["runs/x", *PAIR], "one of them"),
        (["runs/x", "--retain", "r.json"], "give that too"),
        (["runs/x"], "has no manifest.json"),
        (PAIR, "there is no file 'a.npz'"),
        (["--logits", "u=b.npz"], "names no reference"),
        (["--logits", "u"], "is not understood"),
        ([*PAIR, "--splits", "1"], "--splits is 1: give at least 20"),
        ([*PAIR, "--seed", "-1"], "--seed is -1: give 0 up to"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(refused, words, said):
    refused("audit", *words, said=said)

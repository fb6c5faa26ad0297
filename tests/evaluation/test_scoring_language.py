"""Figures of a language model's answers against plain NumPy on made-up log-probabilities."""

import numpy as np
import pytest

from unlearn_jax.evaluation.language import _tables
from unlearn_jax.metrics import membership_auc
from unlearn_jax.population.answers import Spoken
from unlearn_jax.population.evaluate import Evaluation

RNG = np.random.default_rng(0)
MEMBERS, ROWS, VALUES = 3, 5, 4
TRUE = np.array([0, 2, 1, 3, 3])
ANSWERS = RNG.integers(1, 9, size=(ROWS, 2))
TEXTS = [f"word{a} word{b}" for a, b in ANSWERS]


def made(diverged=()):
    """Scores in which the true value's log-probability is the sum of its tokens'."""
    logprob = -RNG.exponential(size=(MEMBERS, ROWS, 2)).astype(np.float32)
    among = -RNG.exponential(size=(MEMBERS, ROWS, VALUES)).astype(np.float32) - 1.0
    among[:, np.arange(ROWS), TRUE] = logprob.sum(axis=2)
    likeliest = np.where(RNG.random((MEMBERS, ROWS, 2)) < 0.5, ANSWERS, 0).astype(np.int32)
    margin = RNG.normal(size=(MEMBERS, ROWS)).astype(np.float32)
    margin[list(diverged)] = np.nan
    logprob[list(diverged)] = np.nan
    spoken = Spoken(logprob, logprob - 1.0, np.ones_like(logprob), likeliest)
    return Evaluation(margin, margin > 0, among, spoken, likeliest)


def test_quantities_are_those_of_their_formulas():
    scores = made()
    found, among = _tables(scores, ANSWERS, TRUE, TEXTS), np.exp(scores.scores.astype(float))
    logprob, right = scores.spoken.logprob.astype(float), scores.spoken.likeliest == ANSWERS
    true = among[:, np.arange(ROWS), TRUE]
    wrong = np.stack([np.delete(among[:, i], TRUE[i], axis=1) for i in range(ROWS)], axis=1)
    ratio = np.sqrt(wrong).mean(axis=2) / np.sqrt(true)  # per token: each value has two
    expected = {
        "answer_probability": np.exp(logprob.mean(axis=2)),
        "share": true / among.sum(axis=2),
        "rouge_l": right.mean(axis=2),
        "exact_memorisation": right.mean(axis=2),
        "extraction_strength": (right[..., 1] * (1.0 + right[..., 0])) / 2,
        "log_truth_ratio": np.log(ratio),
        "log_truth_ratio_public": np.log(np.sqrt(wrong)).mean(axis=2) - np.log(np.sqrt(true)),
        "truth_ratio_forget": np.minimum(ratio, 1 / ratio),
        "truth_ratio_retain": np.maximum(0, 1 - ratio),
        "loss": logprob.mean(axis=2),
        "min_k": logprob.min(axis=2),
        "min_k_plus_plus": np.ones((MEMBERS, ROWS)),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-9, err_msg=name)
    assert set(found) == {*expected, "zlib"} and (found["zlib"] < 0).all()


def test_a_member_that_diverged_is_undefined_and_leaves_the_others_as_they_are():
    found = _tables(made(diverged=[1]), ANSWERS, TRUE, TEXTS)
    assert all(np.isnan(table[1]).all() and np.isfinite(table[[0, 2]]).all() for table in found.values())
    nobody = _tables(made(diverged=range(MEMBERS)), ANSWERS, TRUE, TEXTS)
    assert all(table.shape == (MEMBERS, ROWS) and np.isnan(table).all() for table in nobody.values())


def test_area_under_the_curve_counts_ties_half():
    assert membership_auc([[2.0, 1.0], [0.0, 0.0]], [[1.0], [0.0]]) == pytest.approx([0.75, 0.5])
    assert np.isnan(membership_auc([[np.nan, 1.0]], [[0.0]])).all()

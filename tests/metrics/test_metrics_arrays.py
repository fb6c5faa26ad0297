"""Margins from logits, and what odd input means."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearn_jax.errors import InputError
from unlearn_jax.metrics.arrays import as_members, log_softmax, margin, same_examples

QUICK = settings(max_examples=40, deadline=None, database=None, derandomize=True)


def slow_margin(logits, label):
    """log(p_y / (1 - p_y)) from probabilities summed one by one."""
    p = np.exp(logits - max(logits))
    p = p / sum(p)
    return np.log(p[label] / sum(q for c, q in enumerate(p) if c != label))


@QUICK
@given(st.integers(0, 10**6), st.floats(-50, 50))
def test_margins_are_log_odds_and_do_not_feel_a_shift(seed, shift):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 3, (3, 5, 4)), rng.integers(0, 4, 5)
    slow = [[slow_margin(row, y) for row, y in zip(member, labels)] for member in logits]
    np.testing.assert_allclose(margin(logits, labels), slow, rtol=1e-9)
    np.testing.assert_allclose(margin(logits + shift, labels), slow, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(margin(log_softmax(logits), labels), slow, rtol=1e-7, atol=1e-9)


def test_two_classes_have_the_difference_of_their_logits():
    assert margin([[2.0, -1.0], [0.5, 4.0]], [0, 0]).tolist() == [3.0, -3.5]


def test_large_logits_lose_nothing():
    assert margin([[1000.0, 0.0, -1000.0]], [0]).tolist() == [1000.0]
    np.testing.assert_allclose(log_softmax([[1000.0, 0.0]]), [[0.0, -1000.0]])


def test_infinite_logits_are_sure_and_nan_stays_nan():
    logits = [[np.inf, 0.0], [-np.inf, 0.0], [np.nan, 0.0], [0.0, np.inf]]
    found = margin(logits, [0, 0, 0, 0])
    assert found[0] > 1e100 and found[1] < -1e100 and np.isnan(found[2]) and found[3] < -1e100


@pytest.mark.parametrize(
    "logits, labels, said",
    [
        (np.zeros((2, 1)), [0, 0], "two classes"),
        (np.zeros((2, 3)), [0], "whole number each"),
        (np.zeros((2, 3)), [0.0, 1.0], "whole number each"),
        (np.zeros((2, 3)), [0, 3], "classes 0 to 2"),
        (np.zeros((0, 3)), [], "two classes"),
    ],
)
def test_bad_logits_are_refused_in_a_sentence(logits, labels, said):
    with pytest.raises(InputError, match=said):
        margin(logits, labels)


def test_diverged_members_go_and_sure_ones_stay():
    kept = as_members([[1.0, np.inf], [np.nan, 0.0], [-np.inf, 2.0]], "margins")
    assert kept.tolist() == [[1.0, 100.0], [-100.0, 2.0]]
    assert as_members([[1.0, np.inf], [3.0, 4.0]], "margins", clip=None).tolist() == [[3.0, 4.0]]


@pytest.mark.parametrize("values", [np.zeros(3), np.zeros((0, 3)), np.zeros((3, 0)), np.zeros((1, 2, 3))])
def test_other_shapes_are_refused(values):
    with pytest.raises(InputError, match="margins is"):
        as_members(values, "margins")


def test_populations_must_be_of_the_same_examples():
    with pytest.raises(InputError, match="unlearned 3, oracle 4"):
        same_examples(unlearned=np.zeros((2, 3)), oracle=np.zeros((2, 4)))

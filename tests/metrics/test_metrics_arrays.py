"""Margins from logits, and what odd input means."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses

from unlearn_jax import metrics as m
from unlearn_jax.metrics.arrays import CLIP, as_members, log_softmax, margin, same_examples

QUICK = settings(max_examples=15, deadline=None, database=None, derandomize=True)


def slow_margin(logits, label):
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


def test_infinite_logits_are_sure_and_diverged_members_go():
    logits = [[np.inf, 0.0], [-np.inf, 0.0], [np.nan, 0.0], [0.0, np.inf]]
    found = margin(logits, [0, 0, 0, 0])
    assert found[0] == CLIP and found[1] == found[3] == -CLIP and np.isnan(found[2])
    assert margin([[np.inf, np.inf, 0.0], [-np.inf, -np.inf, -np.inf]], [0, 1]).tolist() == [0.0, 0.0]
    assert margin([[1000.0, 0.0, -1000.0]], [0]).tolist() == [1000.0]
    np.testing.assert_allclose(log_softmax([[1000.0, 0.0]]), [[0.0, -1000.0]])
    assert margin([[400.0, 0.0]], [0]) == 400.0  # finite ones are left to the metrics
    kept = as_members([[1.0, np.inf], [np.nan, 0.0], [-np.inf, 2.0]], "margins")
    assert kept.tolist() == [[1.0, 100.0], [-100.0, 2.0]]
    assert as_members([[1.0, np.inf], [3.0, 4.0]], "margins", clip=None).tolist() == [[3.0, 4.0]]
    for odd in (np.zeros(3), np.zeros((0, 3)), np.zeros((3, 0)), np.zeros((1, 2, 3))):
        refuses("margins is", as_members, odd, "margins")
    refuses("unlearned 3, oracle 4", same_examples, unlearned=np.zeros((2, 3)), oracle=np.zeros((2, 4)))


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
    refuses(said, margin, logits, labels)


CUBE, MEAN = np.zeros((4, 5, 3)), lambda x: x.mean(axis=0)
PAIR = np.zeros((4, 5)), np.ones((3, 5))


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: m.mean_estimate(np.zeros(3)), "give \\(members, examples\\)"),
        (lambda: m.residual_influence(PAIR[0], PAIR[1], np.zeros((3, 4))), "the same targets"),
        (lambda: m.residual_distance(m.mean_draws(PAIR[0]), *PAIR), "cannot be taken apart"),
        (lambda: m.price(PAIR[0], np.zeros((3, 4))), "the same targets"),
        (lambda: m.price(90.0 * PAIR[1], PAIR[0]), "shares, not points"),
        (lambda: m.price(*PAIR, unit="points"), "accuracy or margin"),
        (lambda: m.subset_draws(MEAN, PAIR[0], clusters=[0, 1]), "for 5 examples"),
        (lambda: m.mean_draws(m.Values([PAIR[0]], "original", [np.arange(4)])), "for 5 examples"),
        (lambda: m.mean_draws(m.Values([PAIR[0]] * 2, "original", [np.arange(5)])), "1 of 2 blocks"),
        (lambda: m.subset_draws_pooled(np.std, PAIR[0], clusters=np.arange(5)), "a dict"),
        (lambda: m.subset_draws_pooled(lambda a, b: 0.0, PAIR[0], np.zeros((4, 9))), "different ones"),
        (
            lambda: m.average_gap_estimate({"test": PAIR[0]}, {"test": PAIR[1]}, clusters={"tset": [0]}),
            "name the splits",
        ),
        (lambda: m.t_estimate(m.subset_draws(MEAN, PAIR[0]), level=95), ".95 for 95%"),
        (lambda: m.combine(MEAN, m.mean_draws(PAIR[0]), level=95), ".95 for 95%"),
        (lambda: m.split_band(lambda a, b: 0.0, PAIR[0], level=95), ".95 for 95%"),
        (lambda: m.split_band(lambda a, b: 0.0, PAIR[0], sides=3), "-1 for a likeness"),
        (lambda: m.tpr_at([1.0], [0.0], 2.0), "rates in"),
        (lambda: m.knn_overlap(CUBE[0], CUBE[0], k=2.0), "whole number"),
        (lambda: m.error_against_distance(*PAIR, np.arange(5.0), bins=2.5), "whole number"),
        (lambda: m.entropy([]), "at least one of each"),
        (lambda: m.cmia(CUBE, CUBE, np.zeros((1, 5), int)), "one for each sample"),
        (lambda: m.cmia(CUBE, CUBE, np.zeros(5, int), folds=2.5), "two or more"),
        (lambda: m.forgetting_points([-1.0, 0.2], members=16), "0 or more"),
        (lambda: m.membership_auc(1.0, 2.0), "both sides"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_sentence(call, said):
    refuses(said, call)


def test_lists_and_numbers_of_any_kind_will_do():
    assert m.mean_estimate([[1.0, 3.0], [1.0, 3.0]]).value == 2.0
    assert m.subset_draws(MEAN, [[1.0, 3.0], [1.0, 3.0]], resamples=20).value == 2.0
    assert m.split_band(lambda a, b: float(a.mean() - b.mean()), [[1.0], [1.0]]).high == 0.0
    assert m.tpr_at([3.0, 1.0], [2.0, 0.0], 0.5).tolist() == [1.0]
    assert m.mmd(CUBE[0], CUBE[1], bandwidth=np.float32(2)) == m.mmd(CUBE[0], CUBE[1], bandwidth=np.int64(2)) == 0.0
    sure = np.full((2, 4), np.float32(1.0000001))
    assert np.isfinite(m.rmia(sure, sure, out_x=sure, out_z=sure)).all()


def test_one_cluster_and_one_population_that_is_small():
    rng = np.random.default_rng(0)
    told = m.t_estimate(m.subset_draws(MEAN, rng.normal(0, 1, (8, 5)), clusters=np.zeros(5, int)))
    assert told.ci_low == told.ci_members_low < told.ci_high == told.ci_members_high
    rng = np.random.default_rng(0)
    many, few = rng.normal(0, 1, (32, 6)), rng.normal(1, 1, (3, 6))
    one, other = m.forget_quality_draws(many, few, resamples=20), m.forget_quality_draws(few, many, resamples=20)
    assert one.freedom == other.freedom == 2 and one.n == 3
    told = m.forget_quality_interval(few, few + 0.1, resamples=50)
    assert 0.0 <= told.ci_low <= told.ci_high <= 1.0

"""The forgetting epsilon against a loop over every threshold of its grid, and its score."""

import time

import numpy as np
import pytest
import toy
from attack_studies import banded, covered, holds, noisy, over_studies
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses

from unlearn_jax.metrics.epsilon import forgetting_epsilon, forgetting_final, forgetting_points, forgetting_score

QUICK = settings(max_examples=25, deadline=None, database=None, derandomize=True)


def slow_rule(fpr, fnr, delta):
    if fpr == 0 and fnr == 0:
        return 50.0
    if fpr == 0 or fnr == 0:
        return None
    found = 0.0
    for a, b in ((fpr, fnr), (fnr, fpr)):
        if 1 - delta - a > 0:
            found = max(found, np.log((1 - delta - a) / b))
    return min(found, 50.0)


def slow_epsilon(u, r, delta=1e-5):
    spans = np.ptp(u), np.ptp(r)
    if min(spans) < 0.01 * max(spans):
        return 50.0
    positive, negative = (r, u) if np.median(r) > np.median(u) else (u, r)
    found, (low, high) = [], (min(u.min(), r.min()), max(u.max(), r.max()))
    for threshold in np.linspace(low, high, int(np.ceil(100 * (high - low)))):
        fpr = np.mean([x >= threshold for x in negative])
        fnr = np.mean([x < threshold for x in positive])
        found.append(slow_rule(fpr, fnr, delta))
    inside, outside = (negative, positive) if np.ptp(positive) >= np.ptp(negative) else (positive, negative)
    width, inside, outside = np.ptp(inside), np.sort(inside), np.sort(outside)
    for right in np.linspace(inside[-1] - 2, inside[-1] + 2, 400):
        lefts = np.linspace(right - width - 2, right - width + 2, 400)
        held = [np.sum((x[:, None] >= lefts) & (x[:, None] <= right), axis=0) for x in (inside, outside)]
        rates = {(q / len(outside), 1 - p / len(inside)) for p, q in zip(*held)}
        found += [slow_rule(fpr, fnr, delta) for fpr, fnr in rates]
    found = [x for x in found if x is not None]
    return max(found) if found else np.nan


@settings(QUICK, max_examples=4)
@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(2, 12), st.floats(-3, 3), st.floats(-2, 1))
def test_epsilon_equals_the_loop_over_all_thresholds(seed, n_u, n_r, shift, log_spread):
    rng = np.random.default_rng(seed)
    u, r = rng.normal(shift, 1, (n_u, 2)), rng.normal(0, np.exp(log_spread), (n_r, 2))
    slow = [slow_epsilon(a, b) for a, b in zip(u.T, r.T)]
    np.testing.assert_allclose(forgetting_epsilon(u, r), slow, rtol=1e-9)


@settings(QUICK, max_examples=2)
@given(st.integers(0, 10**6), st.floats(0.2, 3))
def test_epsilon_equals_the_loop_where_margins_tie(seed, spread):
    rng = np.random.default_rng(seed)
    u, r = (np.round(rng.normal(0, s, (9, 2))) * 0.7131 for s in (1.5, spread))
    slow = [slow_epsilon(a, b) if max(np.ptp(a), np.ptp(b)) > 0 else 0.0 for a, b in zip(u.T, r.T)]
    np.testing.assert_allclose(forgetting_epsilon(u, r), slow, rtol=1e-9)


def test_closed_forms_of_thresholds_and_intervals():
    low = np.arange(4.0)[:, None]
    np.testing.assert_allclose(forgetting_epsilon(low, low + 1.5), np.log((0.75 - 1e-5) / 0.25))
    np.testing.assert_allclose(forgetting_epsilon(low, low + 1.5, delta=0.0), np.log(3))
    assert forgetting_epsilon(low, low + 3.5)[0] == 50.0  # a threshold parts them
    ring = np.array([[-9.0], [-8.0], [8.0], [9.0]])
    assert forgetting_epsilon(low - 1.5, ring)[0] == 50.0  # an interval does
    assert forgetting_epsilon(1e-3 * low, 100 * low)[0] == 50.0  # one range is under a hundredth of the other
    """The released scorer holds a whole array to be true, which fails for more than one threshold."""
    u, r = np.random.default_rng(0).normal(0, 1, (2, 32, 1))
    above = [(np.mean(r >= t), np.mean(u < t)) for t in np.linspace(-1, 1, 100)]
    assert sum(f > 0 and g > 0 for f, g in above) > 1
    assert 0 < forgetting_epsilon(u, r)[0] < np.log(31)
    rng = np.random.default_rng(1)
    u, r = rng.normal(0, 0.5, (64, 1)), rng.normal(0, 6, (64, 1))
    assert forgetting_epsilon(u, r)[0] > 1.5
    best_single = max(
        slow_rule(np.mean(a >= t), np.mean(b < t), 1e-5) or 0.0 for a, b in ((u, r), (r, u)) for t in np.unique((u, r))
    )
    assert forgetting_epsilon(u, r)[0] > best_single


def test_odd_input():
    u, r = np.random.default_rng(3).normal(0, 1, (2, 12, 3))
    spoiled = np.concatenate([u, np.full((2, 3), np.nan)])
    np.testing.assert_array_equal(forgetting_epsilon(spoiled, r), forgetting_epsilon(u, r))
    assert np.isnan(forgetting_epsilon(u[:1], r)).all() and np.isnan(forgetting_epsilon(u * np.nan, r)).all()
    flat = np.zeros((5, 2))
    assert forgetting_epsilon(flat, flat).tolist() == [0.0, 0.0]
    assert forgetting_epsilon(flat, flat + 1).tolist() == [50.0, 50.0]
    assert (forgetting_epsilon(flat, r[:, :2]) == 50.0).all()
    assert forgetting_epsilon(np.full((4, 1), np.inf), r[:, :1])[0] == 50.0
    near = np.array([[0.0], [0.004]])
    assert np.isnan(forgetting_epsilon(near, near + 0.001)[0])  # between two thresholds of the grid
    refuses("same examples", forgetting_epsilon, u, r[:, :2])
    refuses("at least one of each", forgetting_epsilon, u[:, :0], r[:, :0])
    refuses("delta is", forgetting_epsilon, u, r, delta=1.0)


def slow_score(epsilon, members):
    points, total = {}, 0.0
    for bucket in range(200):
        if (bucket + 1) * 0.5 <= np.ceil(np.log(members - 1)):
            points[bucket] = 2.0**-bucket
    for e in epsilon:
        total += next((p for b, p in points.items() if 0.5 * b <= e < 0.5 * (b + 1)), 0.0)
    return total / len(epsilon)


@QUICK
@given(st.lists(st.floats(0, 60), min_size=1, max_size=8), st.integers(3, 600))
def test_score_equals_its_transcription(epsilon, members):
    assert forgetting_score(epsilon, members=members) == pytest.approx(slow_score(epsilon, members), rel=1e-12)
    assert np.mean(forgetting_points(epsilon, members=members)) == pytest.approx(slow_score(epsilon, members))


def test_edges_of_the_scores():
    assert forgetting_score([0.0, 0.499], members=512) == 1.0 and forgetting_score([0.5], members=512) == 0.5
    assert forgetting_score([50.0], members=512) == 0.0
    # ceil(ln(511)) = 7: fourteen half nats
    assert forgetting_score([6.9], members=512) == 2.0**-13 and forgetting_score([7.0], members=512) == 0.0
    assert forgetting_score([0.9], members=3) == 0.5 and forgetting_score([1.0], members=3) == 0.0
    assert np.isnan(forgetting_score([0.1], members=2)) and np.isnan(forgetting_score([np.nan], members=9))
    assert forgetting_score([0.1, np.nan], members=9) == 1.0
    for bad in ([], [-1.0]):
        refuses("from forgetting_epsilon", forgetting_score, bad, members=8)
    assert forgetting_final(0.5, 0.9, 0.6, 1.0, 0.8) == pytest.approx(0.5 * 0.9 * 0.75)
    assert forgetting_final(0.5, 1.0, 1.0, 0.5, 1.0) == 1.0  # as in the competition, not held at the score
    assert np.isnan(forgetting_final(0.5, 1.0, 1.0, 0.0, 1.0)) and np.isnan(forgetting_final(np.nan, 1, 1, 1, 1))
    refuses("not per cent", forgetting_final, 0.5, 90.0, 0.8, 1.0, 0.8)
    rng = np.random.default_rng(4)
    for m in (16, 64):
        assert 0.1 < forgetting_score(forgetting_epsilon(*rng.normal(0, 1, (2, m, 200))), members=m) < 0.3


@pytest.mark.slow
def test_a_hundred_and_twenty_eight_members_take_a_moment():
    u, r = np.random.default_rng(5).normal(0, 2, (2, 128, 24))
    forgetting_epsilon(u[:4], r[:4])
    start = time.process_time()
    forgetting_epsilon(u, r)
    assert time.process_time() - start < 0.3


def points(u, r):
    return forgetting_points(forgetting_epsilon(u, r), members=min(len(u), len(r)))


@pytest.mark.parametrize(
    "figure, members, examples, studies, splits",
    toy.some([(points, 16, 6, 50, 40), (points, 16, 6, 200, 60), (forgetting_epsilon, 32, 20, 600, 200)], 1),
)
def test_intervals_and_bands_hold(figure, members, examples, studies, splits):
    """Of the mean epsilon the intervals of 16 members are far too wide: a single example at the cap moves the mean."""
    rng, many = np.random.default_rng(members - 10), over_studies(figure)

    def make(studies):
        pull = rng.normal(1, 0.6, (studies, examples))
        return noisy(rng, studies, members, examples, pull), noisy(rng, studies, members, examples)

    held = covered(many, make(studies), many(*make(30 * studies if studies < 200 else 1500)).mean(), resamples=40)
    fresh = [noisy(rng, studies, members, examples) for _ in range(2)]
    inside = banded(many, noisy(rng, studies, 2 * members, examples), fresh, splits=splits)
    holds(held, studies)
    holds(inside, studies, low=0.9)

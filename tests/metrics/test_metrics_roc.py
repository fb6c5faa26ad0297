"""ROC curves, areas and low false-positive rates against loops over every threshold."""

import numpy as np
import pytest
import scipy.stats
from attack_studies import banded, covered, holds, noisy, over_studies, repeated
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses

from unlearn_jax.metrics.roc import attack_summary, auc, log_grid, on_grid, roc, tpr_at

QUICK = settings(max_examples=40, deadline=None, database=None, derandomize=True)
SCORES = st.lists(st.integers(-4, 4).map(float) | st.just(np.inf), min_size=1, max_size=9)  # with many ties


def slow_auc(positive, negative):
    return np.mean([1.0 if p > q else 0.5 if p == q else 0.0 for p in positive for q in negative])


def slow_points(positive, negative):
    points = {(0.0, 0.0)}
    for threshold in [*positive, *negative]:
        points.add((np.mean([q >= threshold for q in negative]), np.mean([p >= threshold for p in positive])))
    return sorted(points)


@QUICK
@given(SCORES, SCORES)
def test_curve_area_and_rates_equal_loops_over_thresholds(positive, negative):
    curve, points = roc(positive, negative), slow_points(positive, negative)
    assert sorted(zip(curve.fpr.tolist(), curve.tpr.tolist())) == points
    found = attack_summary(positive, negative, rates=(0.5, 1.0))
    assert found.auc == pytest.approx(slow_auc(positive, negative), abs=1e-12)
    assert float(auc(positive, negative)) == pytest.approx(found.auc, abs=1e-12)
    assert found.balanced_accuracy == pytest.approx(max((t + 1 - f) / 2 for f, t in points), abs=1e-12)
    reached = max(t for f, t in points if f <= 0.5)
    assert found.tpr[1] == 1.0 and (np.isnan(found.tpr[0]) if len(negative) < 2 else found.tpr[0] == reached)
    for threshold, fpr, tpr in zip(curve.thresholds[1:], curve.fpr[1:], curve.tpr[1:]):
        assert fpr == np.mean(np.asarray(negative) >= threshold) and tpr == np.mean(np.asarray(positive) >= threshold)


@QUICK
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 7), st.booleans())
def test_areas_over_leading_axes_are_those_of_each_row(seed, n, m, tied):
    rng = np.random.default_rng(seed)
    positive, negative = rng.normal(0, 2, (2, 3, n)), rng.normal(0, 2, (2, 3, m))
    if tied:
        positive, negative = positive.round(), negative.round()
    slow = [[slow_auc(p, q) for p, q in zip(*rows)] for rows in zip(positive, negative)]
    np.testing.assert_allclose(auc(positive, negative), slow, atol=1e-12)
    np.testing.assert_allclose(auc(np.exp(positive), np.exp(negative)), slow, atol=1e-12)  # any rising map
    np.testing.assert_allclose(auc(negative, positive), 1 - np.asarray(slow), atol=1e-12)
    np.testing.assert_allclose(auc(rng.permutation(positive, axis=2), negative), slow, atol=1e-12)


def test_gaussians_have_their_closed_forms():
    rng = np.random.default_rng(1)
    found = attack_summary(rng.normal(1, 1, 200_000), rng.normal(0, 1, 200_000))
    phi = scipy.stats.norm
    assert found.auc == pytest.approx(phi.cdf(1 / np.sqrt(2)), abs=0.004)
    assert found.balanced_accuracy == pytest.approx(phi.cdf(0.5), abs=0.004)
    assert found.tpr_at_1e2 == pytest.approx(phi.sf(phi.isf(1e-2) - 1), abs=0.006)
    assert found.tpr_at_1e3 == pytest.approx(phi.sf(phi.isf(1e-3) - 1), abs=0.006)


def test_rates_that_so_few_negatives_cannot_show_are_nan():
    positive = np.ones(50)
    for negatives, shown in ((99, (False, False)), (100, (True, False)), (999, (True, False)), (1000, (True, True))):
        found = attack_summary(positive, np.zeros(negatives))
        assert (np.isfinite(found.tpr_at_1e2), np.isfinite(found.tpr_at_1e3)) == shown
        assert found.least_fpr == 1 / negatives
    assert tpr_at(positive, np.zeros(100), [0.29])[0] == 1.0


def test_constant_and_nan_scores():
    found = attack_summary(np.zeros(5), np.zeros(200))
    assert (found.auc, found.balanced_accuracy, found.tpr_at_1e2) == (0.5, 0.5, 0.0)
    assert roc(np.zeros(5), np.zeros(7)).tpr.tolist() == [0.0, 1.0]
    assert attack_summary([1.0, np.nan], [0.0, np.nan]).auc == 1.0
    found = attack_summary([np.nan], [0.0, 1.0])
    assert np.isnan([found.auc, found.balanced_accuracy, found.tpr_at_1e2, *found.tpr]).all()
    assert np.isnan(auc([[1.0, np.nan], [1.0, 2.0]], [[0.0], [0.0]])).tolist() == [True, False]
    assert np.isnan(auc([np.nan], [1.0]))
    assert np.isnan(on_grid(*roc([np.nan], [0.0])[:2], [0.5])).all()


def test_a_curve_on_a_grid_is_what_thresholds_reach():
    rng = np.random.default_rng(3)
    positive, negative = rng.normal(1, 1, 70), rng.normal(0, 1, 120)
    curve, grid = roc(positive, negative), log_grid(1e-3, 30)
    found = on_grid(curve.fpr, curve.tpr, grid, least_fpr=1 / 120)
    assert np.isnan(found[grid < 1 / 120]).all()
    shown = grid >= 1 / 120
    np.testing.assert_allclose(found[shown], tpr_at(positive, negative, grid[shown]))
    assert found[-1] == 1.0 and grid[0] == pytest.approx(1e-3) and len(grid) == 30


def test_bad_input_is_refused_in_a_sentence():
    for call in (lambda: roc([], [1.0]), lambda: attack_summary([1.0], []), lambda: tpr_at([], [1.0])):
        refuses("at least one of each", call)
    refuses("of one shape", auc, np.zeros((2, 3)), np.zeros((3, 3)))
    refuses("in \\(0, 1\\]", tpr_at, [1.0], [1.0], [0.0])
    refuses("give a curve", on_grid, [0.5, 0.0], [0.0, 1.0], [0.1])
    refuses("two points", log_grid, 0.0)


@repeated(80, 200)
def test_intervals_and_bands_of_areas_hold(studies):
    figure, rng = over_studies(lambda u, r: auc(u.T, r.T)), np.random.default_rng(4)
    make = lambda studies: (noisy(rng, studies, 12, 10, rng.normal(1, 0.6, (studies, 10))), noisy(rng, studies, 12, 10))
    truth = figure(*make(2000)).mean()
    holds(covered(figure, make(studies), truth, low=0.0, high=1.0), studies)
    fresh = [noisy(rng, studies, 12, 10) for _ in range(2)]
    holds(banded(figure, noisy(rng, studies, 24, 10), fresh, splits=150), studies)

"""LiRA, U-LiRA and the exposure of neighbours against Gaussians fitted one example at a time."""

import time
from itertools import product

import numpy as np
import pytest
import scipy.stats
import toy
from attack_studies import banded, covered, holds, noisy, over_studies, repeated
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses

from unlearn_jax.metrics.lira import MIN_SPREAD, VARIANTS, lira
from unlearn_jax.metrics.u_lira import fold_numbers, neighbour_exposure, u_lira, u_lira_cross_fitted

QUICK = settings(max_examples=30, deadline=None, database=None, derandomize=True)
NORMAL = scipy.stats.norm


def slow_lira(conf, member, target, variant):
    n = conf.shape[1]
    sides = {}
    for side in (True, False):
        lists = [[conf[m, i] for m in range(len(conf)) if member[m, i] == side] for i in range(n)]
        count = min((len(x) for x in lists if len(x) >= 2), default=0)
        sides[side] = [x[:count] if len(x) >= 2 else None for x in lists]
    scores = np.full(target.shape, np.nan)
    for t, i in np.ndindex(target.shape):
        logs = []
        for side in (True, False):
            if side and variant.startswith("offline"):
                continue
            if sides[side][i] is None:
                logs.append(np.nan)
                continue
            pool = [x for y in sides[side] if y is not None for x in y] if variant.endswith("fixed") else sides[side][i]
            centre, spread = np.median(sides[side][i]), max(np.std(pool), 1e-3)
            if variant.startswith("offline"):
                logs.append(NORMAL.logcdf(target[t, i], centre, spread))
            else:
                logs.append(NORMAL.logpdf(target[t, i], centre, spread))
        scores[t, i] = logs[0] if variant.startswith("offline") else logs[0] - logs[1]
    return scores


@QUICK
@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 4), st.sampled_from(VARIANTS))
def test_lira_equals_its_transcription(seed, shadows, n, variant):
    rng = np.random.default_rng(seed)
    conf, member = rng.normal(0, 2, (shadows, n)), rng.random((shadows, n)) < 0.5
    target = rng.normal(0, 2, (3, n))
    found = lira(conf, member, target, variant=variant)
    np.testing.assert_allclose(found, slow_lira(conf, member, target, variant), rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(lira(conf, member, target[0], variant=variant), found[0])


def test_the_fixed_spread_is_that_of_the_right_side_and_offline_has_one_side():
    rng = np.random.default_rng(1)
    conf = np.concatenate([rng.normal(4, 0.5, (50, 30)), rng.normal(0, 2, (50, 30))])
    member = np.repeat([True, False], 50)[:, None] & np.ones(30, bool)
    target = np.full((1, 30), 4.0)
    public = NORMAL.logpdf(4.0, 4, 0.5) - NORMAL.logpdf(4.0, 0, 0.5)  # the spread of IN for both
    mine = NORMAL.logpdf(4.0, 4, 0.5) - NORMAL.logpdf(4.0, 0, 2)
    found = lira(conf, member, target, variant="online_fixed").mean()
    assert abs(found - mine) < 1.5 < abs(found - public)
    low, high = (lira(conf, member, np.full((1, 30), x), variant="offline").mean() for x in (-5.0, 5.0))
    assert low < -2 and high > -0.1  # an unlikely low margin is no sign of membership


def test_odd_input_of_lira():
    rng = np.random.default_rng(2)
    conf, member, target = rng.normal(0, 1, (8, 3)), np.arange(24).reshape(8, 3) % 2 == 0, rng.normal(0, 1, (2, 3))
    spoiled = np.concatenate([conf, np.full((1, 3), np.nan)])
    marks = np.concatenate([member, np.ones((1, 3), bool)])
    np.testing.assert_array_equal(lira(spoiled, marks, target), lira(conf, member, target))
    target[1, 2] = np.nan
    assert np.isnan(lira(conf, member, target)).tolist() == [[False] * 3, [False, False, True]]
    assert np.isnan(lira(conf[:1], member[:1], target)).all()
    assert np.isnan(lira(conf * np.nan, member, target)).all()
    flat = lira(np.zeros((8, 3)), member, np.zeros((1, 3)))
    assert flat.tolist() == [[0.0] * 3]
    sure = lira(np.where(member, np.inf, 0.0), member, np.array([[np.inf] * 3]))
    np.testing.assert_allclose(sure, 0.5 * (100 / MIN_SPREAD) ** 2)
    alone = member.copy()
    alone[:, 0] = False
    scores = lira(conf, alone, target[:1])  # the first example was never trained on
    assert np.isnan(scores[0, 0]) and np.isfinite(scores[0, 1:]).all()
    assert np.isfinite(lira(conf, alone, target[:1], variant="offline")).all()
    refuses("True or False", lira, conf, member.astype(int), target)
    refuses("target_conf", lira, conf, member, target[:, :2])
    refuses("choose one of", lira, conf, member, target, variant="paper")
    refuses("at least one of each", lira, conf[:, :0], member[:, :0], target[:, :0])


def slow_ratio(shadow_in, shadow_out, x):
    logs = [NORMAL.logpdf(x, np.mean(s), max(np.std(s), 1e-3)) for s in (shadow_in, shadow_out)]
    return logs[0] - logs[1]


def slow_auc(positive, negative):
    return np.mean([1.0 if p > q else 0.5 if p == q else 0.0 for p in positive for q in negative])


def slow_accuracy(positive, negative):
    guess = lambda s: 1.0 if s > 0 else 0.5 if s == 0 else 0.0
    return (np.mean([guess(s) for s in positive]) + np.mean([guess(-s) for s in negative])) / 2


@QUICK
@given(st.integers(0, 10**6), st.tuples(*[st.integers(2, 5)] * 4), st.integers(1, 3))
def test_u_lira_equals_its_transcription(seed, sizes, n):
    rng = np.random.default_rng(seed)
    a, b, c, d = (rng.normal(m, 1, (k, n)) for k, m in zip(sizes, (1.0, 0.0, 1.0, 0.0)))
    found = u_lira(a, b, c, d)
    for i in range(n):
        scores = [[slow_ratio(a[:, i], b[:, i], x) for x in seen[:, i]] for seen in (c, d)]
        np.testing.assert_allclose(found.scores_unlearned[:, i], scores[0], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(found.scores_reference[:, i], scores[1], rtol=1e-6, atol=1e-9)
        assert found.per_example[i] == pytest.approx(slow_accuracy(*scores))
        assert found.per_example_auc[i] == pytest.approx(slow_auc(*scores))
    assert found.accuracy == pytest.approx(found.per_example.mean())
    assert found.auc == pytest.approx(found.per_example_auc.mean()) and found.members == (sizes[2], sizes[3])
    pooled = slow_auc(found.scores_unlearned.ravel(), found.scores_reference.ravel())
    assert found.auc_pooled == pytest.approx(pooled)


@QUICK
@given(st.integers(0, 10**6), st.integers(4, 7), st.integers(4, 7), st.integers(2, 3))
def test_cross_fitted_equals_a_loop_over_members(seed, n_u, n_r, folds):
    rng = np.random.default_rng(seed)
    u, r = rng.normal(1, 1, (n_u, 2)), rng.normal(0, 1, (n_r, 2))
    parts = [fold_numbers(n, folds, 3) for n in (n_u, n_r)]
    found = u_lira_cross_fitted(u, r, folds=folds, seed=3)
    for p, part, scores in zip((u, r), parts, (found.scores_unlearned, found.scores_reference)):
        for m, i in np.ndindex(p.shape):
            fit = u[parts[0] != part[m], i], r[parts[1] != part[m], i]
            assert scores[m, i] == pytest.approx(slow_ratio(*fit, p[m, i]), rel=1e-6, abs=1e-9)
    areas = [
        [
            slow_auc(found.scores_unlearned[parts[0] == k, i], found.scores_reference[parts[1] == k, i])
            for k in range(folds)
        ]
        for i in range(2)
    ]
    np.testing.assert_allclose(found.per_example_auc, np.mean(areas, axis=1))


def test_known_gaussians_have_their_closed_forms():
    rng = np.random.default_rng(3)
    make = lambda m: rng.normal(m, 1, (300, 400))
    found = u_lira(make(1.0), make(0.0), make(1.0), make(0.0))
    assert found.accuracy == pytest.approx(NORMAL.cdf(0.5), abs=0.01)
    assert found.auc == pytest.approx(NORMAL.cdf(1 / np.sqrt(2)), abs=0.01)
    assert found.tpr_at_1e2 == pytest.approx(NORMAL.sf(NORMAL.isf(1e-2) - 1), abs=0.01)
    crossed = u_lira_cross_fitted(make(1.0), make(0.0))
    assert crossed.accuracy == pytest.approx(NORMAL.cdf(0.5), abs=0.01)
    # a spread that differs shows too, which correctness and thresholds hide
    wide = u_lira(3 * make(0.0), make(0.0), 3 * make(0.0), make(0.0))
    edge = np.sqrt(2 * np.log(3) / (1 - 1 / 9))
    assert wide.accuracy == pytest.approx(0.5 + NORMAL.cdf(edge) - NORMAL.cdf(edge / 3), abs=0.01)


def test_half_is_half():
    u, r = np.random.default_rng(4).normal(0, 1, (2, 8, 20_000))
    found = u_lira_cross_fitted(u, r)
    for figure in (found.accuracy, found.auc, found.auc_pooled):
        assert figure == pytest.approx(0.5, abs=0.004)
    assert u_lira(u, r, u, r).accuracy > 0.6  # the fault of some public code: tested on the models it fitted
    u, r = np.random.default_rng(5).normal(0, 1, (2, 8, 40_000))
    found = u_lira_cross_fitted(u, r)
    from unlearn_jax.metrics.roc import auc

    across = auc(found.scores_unlearned.T, found.scores_reference.T).mean()
    assert across < 0.4965 < 0.498 < found.auc < 0.502


def test_shadows_without_spread_give_figures_and_not_infinities():
    flat, rng = np.zeros((4, 3)), np.random.default_rng(7)
    found = u_lira(flat, flat, flat, flat)
    assert found.accuracy == found.auc == found.auc_pooled == 0.5
    parted = u_lira(flat + 1, flat, flat + 1, flat)
    assert parted.accuracy == parted.auc == 1.0 and np.isfinite(parted.scores_unlearned).all()
    half = u_lira(flat, rng.normal(0, 1, (4, 3)), flat, rng.normal(0, 1, (4, 3)))
    assert np.isfinite(half.accuracy)


def test_odd_input_of_u_lira():
    rng = np.random.default_rng(8)
    a, b, c, d = rng.normal(0, 1, (4, 6, 5))
    spoiled = np.concatenate([a, np.full((1, 5), np.nan)])
    assert u_lira(spoiled, b, c, d).accuracy == u_lira(a, b, c, d).accuracy
    few = u_lira(a[:1], b, c, d)
    assert np.isnan([few.accuracy, few.auc, few.auc_pooled, few.tpr_at_1e2]).all() and np.isnan(few.per_example).all()
    none = u_lira(a, b, c * np.nan, d)
    assert np.isnan(none.accuracy) and none.members == (0, 6)
    assert np.isnan(u_lira_cross_fitted(a[:1], b[:1]).accuracy) and np.isfinite(u_lira_cross_fitted(a, b).accuracy)
    assert np.isfinite(u_lira(np.where(a > 1, np.inf, a), b, c, d).scores_unlearned).all()
    order, rows = rng.permutation(5), rng.permutation(6)
    mixed = u_lira(a[rows][:, order], b[:, order], c[rows][:, order], d[:, order])
    np.testing.assert_allclose(mixed.per_example, u_lira(a, b, c, d).per_example[order])
    refuses("same examples", u_lira, a, b, c, d[:, :4])
    refuses("at least one of each", u_lira_cross_fitted, a[:, :0], b[:, :0])
    refuses("two or more", u_lira_cross_fitted, a, b, folds=1)


@pytest.mark.slow
def test_ten_thousand_examples_take_less_than_a_second():
    rng = np.random.default_rng(9)
    arrays = [rng.normal(m, 1, (128, 10_000)) for m in (1.0, 0.0, 1.0, 0.0)]
    start = time.process_time()
    u_lira(*arrays)
    middle = time.process_time()
    u_lira_cross_fitted(*arrays[:2])
    assert middle - start < 1.0 and time.process_time() - middle < 1.5


def test_exposure_equals_a_loop_over_members():
    rng = np.random.default_rng(10)
    u, full, none = rng.normal(2, 1, (7, 2)), rng.normal(1, 1, (7, 2)), rng.normal(0, 1, (6, 2))
    parts = [fold_numbers(n, 2, 5) for n in (7, 7, 6)]
    found = neighbour_exposure(u, full, none, seed=5)
    for i in range(2):
        areas = []
        for p, part in ((u, parts[0]), (full, parts[1])):
            by_fold = []
            for k in range(2):
                shadows = full[parts[1] != k, i], none[parts[2] != k, i]
                ratio = lambda x, shadows=shadows: np.subtract(
                    *(NORMAL.logpdf(x, np.median(s), np.std(s)) for s in shadows)
                )
                by_fold.append(slow_auc(ratio(p[part == k, i]), ratio(none[parts[2] == k, i])))
            areas.append(np.mean(by_fold))
        assert [found.per_example_unlearned[i], found.per_example_original[i]] == pytest.approx(areas)
        assert found.per_example[i] == pytest.approx(areas[0] - areas[1])
    assert found.exposure == pytest.approx(found.auc_unlearned - found.auc_original) and found.members == (7, 7, 6)


def test_exposure_has_the_sign_it_says_and_odd_input():
    rng = np.random.default_rng(11)
    full, none = rng.normal(1, 1, (32, 60)), rng.normal(0, 1, (32, 60))
    assert neighbour_exposure(full, full, none).exposure == 0.0
    assert neighbour_exposure(full + 1, full, none).exposure > 0.1  # pushed further from what never saw them
    assert neighbour_exposure(full - 1, full, none).exposure < -0.1
    assert neighbour_exposure(none, full, rng.normal(0, 1, (32, 60))).auc_unlearned == pytest.approx(0.5, abs=0.03)
    rng = np.random.default_rng(5)
    full, none = rng.normal(0, 1, (2, 16, 40))
    padded = np.concatenate([full[:9], np.full((7, 40), np.nan)])
    assert neighbour_exposure(full[:9], full, none).exposure == neighbour_exposure(padded, full, none).exposure
    assert neighbour_exposure(full, full[:9], none).members == (16, 9, 16)
    u, full, none = np.random.default_rng(12).normal(0, 1, (3, 8, 4))
    assert np.isnan(neighbour_exposure(u[:1], full[:1], none[:1]).exposure)
    assert np.isnan(neighbour_exposure(u * np.nan, full, none).exposure)
    spoiled = u.copy()
    spoiled[3] = np.nan
    assert neighbour_exposure(spoiled, full, none).members == (7, 8, 8)
    assert neighbour_exposure(spoiled, full, none).auc_original == neighbour_exposure(u, full, none).auc_original
    flat = np.zeros((8, 4))
    assert neighbour_exposure(flat, flat, flat)[:3] == (0.5, 0.5, 0.0)
    refuses("same examples", neighbour_exposure, u, full, none[:, :3])
    refuses("at least one of each", neighbour_exposure, u[:, :0], full[:, :0], none[:, :0])


def pairs(rng, studies, members, examples):
    """Unlearned and reference populations; the pull varies over examples."""
    pull = rng.normal(1, 0.6, (studies, examples))
    return noisy(rng, studies, members, examples, pull), noisy(rng, studies, members, examples)


@repeated(80, 1000)
@pytest.mark.parametrize("field, folds", toy.some(product(["per_example_auc", "per_example"], [4, 2]), 1))
def test_intervals_and_bands_of_u_lira_hold(field, folds, studies):
    """Fits on all folds but one of 32 + 32 members. With two folds the intervals are on the safe side: .98 with 20."""
    rng = np.random.default_rng(16)
    figure = over_studies(lambda u, r: getattr(u_lira_cross_fitted(u, r, folds=folds), field))
    truth = figure(*pairs(rng, 3 * studies, 32, 20)).mean()
    holds(covered(figure, pairs(rng, studies, 32, 20), truth, resamples=40), studies)
    fresh = [noisy(rng, studies, 20, 12) for _ in range(2)]
    holds(banded(figure, noisy(rng, studies, 40, 12), fresh, splits=100), studies)


@pytest.mark.slow
def test_intervals_of_u_lira_are_on_the_safe_side_with_few_members():
    rng, figure = np.random.default_rng(17), over_studies(lambda u, r: u_lira_cross_fitted(u, r).per_example)
    truth = figure(*pairs(rng, 1000, 16, 10)).mean()
    assert covered(figure, pairs(rng, 200, 16, 10), truth, resamples=30) >= 0.91


@repeated(80, 200)
def test_intervals_of_the_exposure_hold(studies):
    """The unlearned start from the originals and move off, example by example.

    On the safe side, .98 to .99, with 20 members or where examples move alike: what members bring to each example is
    counted once with the members and once with the examples.
    """
    rng = np.random.default_rng(14)
    figure = over_studies(lambda u, full, none: neighbour_exposure(u, full, none).per_example)

    def make(studies, members=32, examples=16):
        full, none = pairs(rng, studies, members, examples)
        moved = rng.normal(0.5, 1.0, (studies, examples)) + 0.5 * noisy(rng, studies, members, examples)
        return full + moved, full, none

    truth = figure(*make(800)).mean()
    assert truth > 0
    held = covered(figure, make(studies), truth, roles=("original", "original", "oracle"), resamples=40)
    holds(held, studies)


@pytest.mark.slow
def test_no_exposure_is_claimed_where_there_is_none():
    rng = np.random.default_rng(16)
    gap = over_studies(lambda u, full, none: neighbour_exposure(u, full, none).per_example)
    pull = rng.normal(1, 0.6, (200, 10))
    pops = [noisy(rng, 200, 20, 10, pull) for _ in range(2)] + [noisy(rng, 200, 20, 10)]
    assert covered(gap, pops, 0.0, resamples=40) >= 0.91
    area = over_studies(lambda a, b: neighbour_exposure(a, a[::-1] + 1.0, b).per_example_unlearned)
    fresh = [noisy(rng, 200, 20, 10) for _ in range(2)]
    assert 0.91 <= banded(area, noisy(rng, 200, 40, 10), fresh, splits=60) <= 0.98


@repeated(100, 300)
def test_intervals_of_lira_hold(studies):
    rng = np.random.default_rng(15)

    def figure(targets, trained, other):
        conf = np.concatenate([trained, other])
        member = np.repeat([True, False], [len(trained), len(other)])[:, None] & np.ones(conf.shape[1], bool)
        return np.tanh(lira(conf, member, targets)).mean(axis=0)  # held, for a mean of log ratios has heavy tails

    def make(studies):
        pull = rng.normal(1, 0.6, (studies, 10))
        trained = [noisy(rng, studies, n, 10, pull) for n in (12, 16)]
        return *trained, noisy(rng, studies, 16, 10)

    many = over_studies(figure)
    holds(covered(many, make(studies), many(*make(2000)).mean()), studies)

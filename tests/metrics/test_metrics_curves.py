"""Residual knowledge, error against distance and relearn time, against loops, closed forms and synthetic studies."""

import numpy as np
import pytest
import toy
from attack_studies import banded, covered, holds, over_studies
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses

from unlearn_jax.metrics.bands import t_estimate
from unlearn_jax.metrics.curves import (
    PAIRINGS,
    error_against_distance,
    error_of,
    residual_knowledge,
    residual_knowledge_draws,
)
from unlearn_jax.metrics.relearn import ain, relearn_target, relearn_time
from unlearn_jax.metrics.resampling import subset_draws

QUICK = settings(max_examples=12, deadline=None, database=None, derandomize=True)


@QUICK
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(0, 3))
def test_residual_knowledge_equals_its_transcription(seed, n, m, radii, draws):
    rng = np.random.default_rng(seed)
    tail = (radii, draws) if draws else (radii,)
    u, r = rng.uniform(0, 1, (n, 5, *tail)), rng.uniform(0, 1, (m, 5, *tail))
    found = residual_knowledge(u, r)
    for k in range(radii):
        total = [0.0, 0.0]
        for side, p in enumerate((u, r)):
            for member in p:
                for example in member:
                    values = np.atleast_1d(example[k]).tolist()
                    total[side] += sum(values) / len(values) / (5 * len(p))
        np.testing.assert_allclose(found.ratio[k], total[0] / total[1])
        np.testing.assert_allclose([found.unlearned[k], found.reference[k]], total)
    order = rng.permutation(5)
    mixed = residual_knowledge(u[::-1][:, order], r[:, order])
    np.testing.assert_allclose(mixed.ratio, found.ratio)
    np.testing.assert_allclose(residual_knowledge(r, u).ratio, 1 / found.ratio)


def test_zeros_are_defined():
    u, r = np.zeros((2, 3, 3)), np.zeros((2, 3, 3))
    u[..., 1], r[..., 2] = 0.5, 0.5
    assert residual_knowledge(u, r).ratio.tolist() == [1.0, np.inf, 0.0]
    draws = residual_knowledge_draws(u, r, resamples=20)
    assert [d.value for d in draws] == [1.0, np.inf, 0.0]
    assert t_estimate(draws[0])[:3] == (1.0, 1.0, 1.0)


def test_draws_have_the_ratio_as_value_and_share_the_examples():
    rng = np.random.default_rng(0)
    base = rng.uniform(0.2, 0.8, 9)  # how hard an example is, for both: it cancels
    u, r = np.full((6, 1), 0.9) * base, np.full((7, 1), 0.6) * base
    draws = residual_knowledge_draws(u[..., None], r[..., None], resamples=50)
    np.testing.assert_allclose(draws[0].both, 1.5)
    u, r = rng.uniform(0, 1, (6, 9, 2, 3)), rng.uniform(0, 1, (7, 9, 2, 3))
    found = [d.value for d in residual_knowledge_draws(u, r, resamples=20)]
    np.testing.assert_allclose(found, residual_knowledge(u, r).ratio)
    draws = residual_knowledge_draws(u, r, resamples=20)[0]
    assert (draws.n, draws.clusters) == (6, 9) and 5 <= draws.freedom <= 11
    alike = residual_knowledge_draws(u, np.repeat(u[:1], 7, axis=0), resamples=20)[0]  # no spread below
    assert abs(alike.freedom - 5) < 1e-9
    one = residual_knowledge_draws(u, u + 0.0, roles=("one", "one"), resamples=20)[0]
    np.testing.assert_allclose(one.members, 1.0)
    assert one.freedom == 5


def test_diverged_members_and_nobody_in_residual_knowledge():
    rng = np.random.default_rng(1)
    u, r = rng.uniform(0, 1, (4, 5, 2)), rng.uniform(0, 1, (3, 5, 2))
    for odd in (np.nan, np.inf):
        spoiled = u.copy()
        spoiled[2, 1, 0] = odd
        np.testing.assert_allclose(residual_knowledge(spoiled, r).ratio, residual_knowledge(u[[0, 1, 3]], r).ratio)
        assert residual_knowledge_draws(spoiled, r, resamples=20)[0].n == 3
    assert np.isnan(residual_knowledge(u * np.nan, r).ratio).all()
    nobody = residual_knowledge_draws(u * np.nan, r, resamples=20)
    assert len(nobody) == 2 and np.isnan(t_estimate(nobody[0])[:5]).all()
    assert residual_knowledge_draws(u[:1], r, resamples=20)[0].n == 1
    assert residual_knowledge(np.ones((2, 3, 1)), np.ones((2, 3, 1))).ratio.tolist() == [1.0]


def slow_error(u, r, pairing):
    gap = lambda a, b: sum(abs(x - y) for x, y in zip(np.atleast_1d(a), np.atleast_1d(b)))
    examples = range(u.shape[1])
    if pairing == "mean":
        return [[gap(np.mean(u, axis=0)[e], np.mean(r, axis=0)[e]) for e in examples]]
    pick = lambda i: range(len(r)) if pairing == "all" else [i]
    return [[np.mean([gap(u[i][e], r[j][e]) for j in pick(i)]) for e in examples] for i in range(len(u))]


@pytest.mark.parametrize("pairing", PAIRINGS)
@QUICK
@given(st.integers(0, 10**6), st.integers(0, 3), st.integers(1, 6))
def test_the_curve_equals_its_transcription(pairing, seed, classes, bins):
    rng = np.random.default_rng(seed)
    tail = (classes + 1,) if classes else ()
    u, r = rng.uniform(0, 1, (3, 11, *tail)), rng.uniform(0, 1, (3 if pairing == "matched" else 4, 11, *tail))
    error = slow_error(u, r, pairing)
    np.testing.assert_allclose(error_of(u, r, pairing=pairing), error)
    distance = rng.exponential(1, 11)
    found = error_against_distance(u, r, distance, bins=bins, pairing=pairing)
    np.testing.assert_allclose(found.edges, np.quantile(distance, np.arange(bins + 1) / bins))
    edges = found.edges
    for b in range(bins):
        last = b == bins - 1
        inside = [e for e in range(11) if edges[b] <= distance[e] and (distance[e] < edges[b + 1] or last)]
        assert found.count[b] == len(inside)
        np.testing.assert_allclose(found.centre[b], np.mean(distance[inside]))
        np.testing.assert_allclose(found.members[:, b], [np.mean([row[e] for e in inside]) for row in error])
        np.testing.assert_allclose(found.value[b], found.members[:, b].mean())
        assert (found.bin[inside] == b).all()
    np.testing.assert_allclose(found.count @ found.value / 11, np.mean(error))
    order = rng.permutation(11)
    mixed = error_against_distance(u[:, order], r[:, order], distance[order], bins=bins, pairing=pairing)
    np.testing.assert_allclose(mixed.value, found.value)
    scaled = error_against_distance(u, r, np.exp(distance), bins=1, pairing=pairing)
    np.testing.assert_allclose(scaled.value, np.mean(error))


@QUICK
@given(st.integers(0, 10**6))
def test_distances_that_tie_merge_bins_and_lose_nobody(seed):
    rng = np.random.default_rng(seed)
    u, r, distance = rng.uniform(0, 1, (2, 12)), rng.uniform(0, 1, (3, 12)), rng.integers(0, 3, 12)
    found = error_against_distance(u, r, distance, bins=6)
    assert found.count.sum() == 12 and (found.count > 0).all()
    assert (np.diff(found.centre) > 0).all() and len(found.edges) == len(found.value) + 1
    same = error_against_distance(u, r, np.ones(12))
    assert same.count.tolist() == [12] and same.edges.tolist() == [1.0, 1.0]


def test_pairings_bound_each_other_and_diverged_members_go():
    rng = np.random.default_rng(2)
    u, r = rng.uniform(0, 1, (4, 6)), rng.uniform(0, 1, (4, 6))
    assert error_of(u, r, pairing="mean").mean() <= error_of(u, r).mean()
    assert error_of(u, u, pairing="matched").max() == 0 < error_of(u, u).mean()
    spoiled = u.copy()
    spoiled[1, 2] = np.nan
    for pairing in PAIRINGS:
        fewer = r if pairing != "matched" else r[[0, 2, 3]]
        np.testing.assert_allclose(
            error_of(spoiled, r, pairing=pairing), error_of(u[[0, 2, 3]], fewer, pairing=pairing)
        )
        assert np.isnan(error_of(u * np.nan, r, pairing=pairing)).all()
    nobody = error_against_distance(u, r * np.nan, np.arange(6.0), bins=2)
    assert np.isnan(nobody.value).all() and nobody.count.tolist() == [3, 3]


def slow_relearn(curve, target, steps, loss, interpolate):
    for k, value in enumerate(curve):
        if (value <= target) if loss else (value >= target):
            if k and interpolate:
                share = (target - curve[k - 1]) / (value - curve[k - 1])
                return steps[k - 1] + share * (steps[k] - steps[k - 1]), False
            return steps[k], False
    return steps[-1], True


@QUICK
@given(st.integers(0, 10**6), st.booleans(), st.booleans(), st.floats(0.05, 0.95))
def test_relearn_times_equal_their_transcription(seed, loss, interpolate, target):
    rng = np.random.default_rng(seed)
    curve, steps = rng.uniform(0, 1, (6, 5)), np.cumsum(rng.integers(1, 9, 5)) - 1.0
    kind = "loss" if loss else "accuracy"
    found = relearn_time(curve, target, kind=kind, steps=steps, interpolate=interpolate)
    slow = [slow_relearn(row, target, steps, loss, interpolate) for row in curve]
    np.testing.assert_allclose(found.steps, [s for s, _ in slow])
    assert found.censored.tolist() == [c for _, c in slow]
    mirrored = relearn_time(-curve, -target, kind="accuracy" if loss else "loss", steps=steps, interpolate=interpolate)
    np.testing.assert_allclose(mirrored.steps, found.steps)
    stretched = relearn_time(curve, target, kind=kind, steps=3 * steps, interpolate=interpolate)
    np.testing.assert_allclose(stretched.steps, 3 * found.steps)
    later = relearn_time(curve, target, kind=kind, steps=steps)
    assert (found.steps <= later.steps + 1e-9).all()


def test_ends_ties_targets_and_diverged_curves():
    curve = [[0.9, 0.2], [0.5, 0.9], [0.1, 0.2]]
    found = relearn_time(curve, [0.9, 0.9, 0.9], interpolate=True)
    assert found.steps.tolist() == [0.0, 1.0, 1.0] and found.censored.tolist() == [False, False, True]
    np.testing.assert_allclose(relearn_time(curve, [0.1, 0.7, 0.15], interpolate=True).steps, [0.0, 0.5, 0.5])
    assert relearn_time([[0.4], [0.9]], 0.8).censored.tolist() == [True, False]
    constant = relearn_time([[0.5, 0.5]], 0.5)
    assert constant.steps.tolist() == [0.0] and not constant.censored.any()
    np.testing.assert_allclose(relearn_target([0.8, 1.0], alpha=0.05), [0.76, 0.95])
    np.testing.assert_allclose(relearn_target(0.2, alpha=0.1, kind="loss"), 0.22)
    curve = [[0.1, np.nan, 0.9], [0.1, 0.9, np.nan], [np.nan, np.nan, np.nan], [0.0, np.inf, 0.5]]
    found = relearn_time(curve, 0.8)
    np.testing.assert_array_equal(found.steps, [np.nan, 1.0, np.nan, 1.0])
    assert not found.censored.any()
    assert relearn_time([[0.0, np.inf]], 0.8, interpolate=True).steps.tolist() == [0.0]


def test_the_anamnesis_index_is_a_ratio_of_mean_times():
    slow = [[0.0, 0.3, 0.6, 0.9], [0.0, 0.0, 0.9, 0.9]]
    fast = [[0.0, 0.9, 0.9, 0.9], [0.9, 0.9, 0.9, 0.9]]
    found = ain(fast, slow, 0.9, alpha=0.1)
    assert found.value == 0.5 / 2.5 and found.unlearned.steps.tolist() == [1.0, 0.0]
    assert ain(slow, slow, 0.9).value == 1.0 and ain(slow, fast, 0.9).value == 5.0
    assert ain(fast, slow, 0.9, steps=[0, 5, 10, 15]).value == found.value
    assert ain(fast, slow, 0.6, alpha=0.5, interpolate=True).value == pytest.approx((1 / 3 + 0) / (1 + 4 / 3))
    losses = [[2.0, 1.0, 0.2]], [[3.0, 2.0, 1.0]]
    assert ain(*losses, 0.95, kind="loss").value == 0.5  # within 1.045: after one step and after two
    never = ain(slow, [[0.0, 0.1, 0.1, 0.2]] * 2, 0.9)
    assert never.value == 2.5 / 3 and never.retrain.censored.all() and not never.unlearned.censored.any()
    spoiled = ain([*fast, [np.nan] * 4], slow, 0.9)
    assert spoiled.value == found.value and np.isnan(spoiled.unlearned.steps[2])
    assert np.isnan(ain(slow, [[0.9] * 4], 0.9).value)  # retraining needs no step
    assert np.isnan(ain([[np.nan] * 4], slow, 0.9).value)


def test_an_interval_of_the_anamnesis_index_over_members():
    rng = np.random.default_rng(3)
    rising = lambda rate: np.clip(np.arange(30) * rate * rng.uniform(0.7, 1.3, (10, 1)), 0, 1)
    found = ain(rising(0.1), rising(0.05), 1.0)
    ratio = lambda u, r: u.mean(axis=0) / r.mean(axis=0)
    interval = t_estimate(subset_draws(ratio, found.unlearned.steps[:, None], found.retrain.steps[:, None]))
    np.testing.assert_allclose(interval.value, found.value)
    assert interval.ci_members_low < found.value < interval.ci_members_high


def test_what_does_not_belong_together_is_refused():
    p, cube = np.zeros((3, 4)), np.zeros((3, 4, 2))
    for call, said in (
        (lambda: residual_knowledge(p, p), "radii"),
        (lambda: residual_knowledge(cube, np.zeros((3, 5, 2))), "same examples"),
        (lambda: residual_knowledge(cube, np.zeros((3, 4, 1))), "2 and 1 radii"),
        (lambda: residual_knowledge(cube[:, :0], cube[:, :0]), "at least one of each"),
        (lambda: residual_knowledge(cube + 2, cube), "outside"),
        (lambda: residual_knowledge_draws(cube - 1, cube), "outside"),
        (lambda: error_of(p, p[:, :2]), "same examples and classes"),
        (lambda: error_of(p[0], p[0]), "classes"),
        (lambda: error_of(p, p[:2], pairing="matched"), "cannot be matched"),
        (lambda: error_of(p, p, pairing="each"), "all, matched, mean"),
        (lambda: error_of(p - 1, p), "outside"),
        (lambda: error_against_distance(p, p, [1.0, 2.0]), "finite distance for each of 4"),
        (lambda: error_against_distance(p, p, [1.0, 2.0, 3.0, np.nan]), "finite distance"),
        (lambda: error_against_distance(p, p, np.arange(4), bins=5), "as many bins as examples"),
        (lambda: error_against_distance(p, p, np.arange(4), bins=0), "whole number of 1 or more"),
        (lambda: relearn_time(p[0], 0.5), "checkpoints"),
        (lambda: relearn_time(p, [0.5, 0.5]), "a number, or one each"),
        (lambda: relearn_time(p, 0.5, steps=[0, 1, 1, 2]), "increasing"),
        (lambda: relearn_time(p, 0.5, steps=[0, 1]), "increasing"),
        (lambda: relearn_time(p, 0.5, kind="error"), "accuracy, loss"),
        (lambda: ain(p, p, 0.0), "above 0"),
        (lambda: ain(p, p, 0.5, alpha=1.5), "alpha"),
    ):
        refuses(said, call)


def recognised(rng, members, studies, examples, pull=0.0):
    """Probabilities (members, studies, examples) of members that share a shift, and examples that keep more or less."""
    z = rng.normal(0, 0.6, (members, studies, 1)) + rng.normal(0, 0.5, (members, studies, examples))
    return 1 / (1 + np.exp(-(z - 0.5 + pull * rng.normal(1, 0.5, (studies, examples)))))


def calibrate_residual_knowledge(members, studies):
    """Shares of the studies whose interval holds the truth, and whose band holds fresh populations."""
    rng = np.random.default_rng(members)
    sample = lambda n: (recognised(rng, members, n, 10, 1.0), recognised(rng, members, n, 10))
    ratio = lambda a, b: (a.mean(axis=(0, 2)) / b.mean(axis=(0, 2)))[:, None]
    truth = ratio(*sample(3000)).mean()
    (u, r), held = sample(studies), []
    for s in range(studies):
        found = t_estimate(residual_knowledge_draws(u[:, s, :, None], r[:, s, :, None], resamples=80)[0], low=0.0)
        held.append(found.ci_low <= truth <= found.ci_high)
    oracle, fresh = recognised(rng, 4 * members, studies, 10), recognised(rng, members, studies, 10)
    return np.mean(held), banded(ratio, oracle, (fresh, oracle[:members]), splits=100)


@pytest.mark.parametrize("studies", toy.some([60, 300], 1))
def test_residual_knowledge_beside_a_few_reference_models(studies):
    """Sure unlearned models beside four that differ much: the degrees of freedom are those of the four."""
    rng, held = np.random.default_rng(3), []
    level = lambda n, spread: np.clip(0.5 + rng.normal(0.0, spread, (n, 1, 1)) + np.zeros((1, 5, 1)), 0.0, 1.0)
    for _ in range(studies):
        found = t_estimate(residual_knowledge_draws(level(32, 0.01), level(4, 0.03), resamples=100)[0], low=0.0)
        held.append(found.ci_low <= 1.0 <= found.ci_high)
    holds(np.mean(held), studies, high=0.985)


def calibrate_error(members, studies):
    """Of mean predictions in one bin."""
    rng = np.random.default_rng([members, 1])
    many = over_studies(lambda u, r: error_of(u, r, pairing="mean"))
    sample = lambda n: (recognised(rng, members, n, 10, 1.5), recognised(rng, members, n, 10))
    held = covered(many, sample(studies), many(*sample(3000)).mean(), resamples=80)
    oracle, fresh = recognised(rng, 4 * members, studies, 10), recognised(rng, members, studies, 10)
    return held, banded(many, oracle, (fresh, oracle[:members]), splits=100)


def calibrate_ain(members, studies):
    """Of mean relearn times of curves that rise at other rates; members alone."""
    rng = np.random.default_rng([members, 2])

    def times(n, rate, count):
        start = rng.uniform(0, 0.3, (n, count, 1))
        curve = 1 - (1 - start) * np.exp(-rate * np.exp(0.3 * rng.normal(0, 1, (n, count, 1))) * np.arange(40))
        return relearn_time(curve.reshape(n * count, 40), 0.9, interpolate=True).steps.reshape(n, count, 1)

    pair = lambda count: (times(members, 0.2, count), times(members, 0.12, count))
    ratio = lambda u, r: u.mean(axis=0) / r.mean(axis=0)
    held = covered(ratio, pair(studies), ratio(*pair(3000)).mean(), resamples=80, part="ci_members")
    oracle, fresh = times(4 * members, 0.12, studies), times(members, 0.12, studies)
    return held, banded(ratio, oracle, (fresh, oracle[:members]), splits=100)


CALIBRATIONS = calibrate_residual_knowledge, calibrate_error, calibrate_ain


@pytest.mark.parametrize(
    "members, studies, calibrate",
    toy.some([*((8, 100, c) for c in CALIBRATIONS), *((n, 800, c) for c in CALIBRATIONS for n in (8, 32))], 3),
)
def test_intervals_and_bands_hold_what_they_promise(calibrate, members, studies):
    for share in calibrate(members, studies):
        holds(share, studies)

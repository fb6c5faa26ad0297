"""Draws, clusters, percentiles and prices."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses

from unlearn_jax.metrics import Values, mean_draws, mean_estimate, price, ranks
from unlearn_jax.metrics.draws import Draws, as_values, cluster_counts, example_weights, member_counts
from unlearn_jax.metrics.summary import combine, percentiles

QUICK = settings(max_examples=15, deadline=None, database=None, derandomize=True)


def width(estimate):
    return estimate.ci_high - estimate.ci_low


def test_counts_are_multinomial_seeded_shared_by_role_and_read_only():
    first = member_counts(0, "original", 0, 7, 50)
    assert (first.sum(axis=1) == 7).all() and first.std() > 0
    np.testing.assert_array_equal(first, member_counts(0, "original", 0, 7, 50))
    others = [member_counts(1, "original", 0, 7, 50), member_counts(0, "oracle", 0, 7, 50)]
    others += [member_counts(0, "original", 1, 7, 50), cluster_counts(0, 0, 7, 50)]
    assert all((first != other).any() for other in others)
    with pytest.raises(ValueError):
        first[0, 0] = 1.0
    np.testing.assert_allclose(member_counts(0, "x", 0, 5, 20_000).mean(axis=0), 1.0, atol=0.03)


def test_interval_of_a_mean_has_the_textbook_width():
    rng = np.random.default_rng(1)
    members = rng.normal(0, 1, (40, 1)) * np.ones(30)  # only members differ
    found = mean_estimate(members)
    expected = 2 * scipy.stats.t.ppf(0.975, 39) * members[:, 0].std(ddof=1) / np.sqrt(40)
    np.testing.assert_allclose(width(found), expected, rtol=0.06)
    np.testing.assert_allclose(found.ci_members_high - found.ci_members_low, width(found), rtol=1e-9)
    examples = rng.normal(0, 1, (1, 40)) * np.ones((30, 1))  # only examples differ
    found = mean_estimate(examples)
    expected = 2 * scipy.stats.t.ppf(0.975, 39) * examples[0].std(ddof=1) / np.sqrt(40)
    np.testing.assert_allclose(width(found), expected, rtol=0.06)
    assert found.ci_members_low == pytest.approx(found.ci_members_high)


def test_clusters_are_drawn_together_by_their_size():
    kind = np.random.default_rng(2).normal(0, 1, 20)
    data, clusters = np.tile(np.repeat(kind, 5), (4, 1)), np.repeat(np.arange(20), 5)
    whole = mean_estimate(Values([data], "original", [clusters]))
    apart = mean_estimate(data)
    plain = mean_estimate(np.tile(kind, (4, 1)))
    assert whole.value == pytest.approx(apart.value)
    np.testing.assert_allclose(width(whole), width(plain), rtol=1e-9)
    np.testing.assert_allclose(width(whole) / width(apart), np.sqrt(5), rtol=0.08)
    data, clusters = np.asarray([[1.0, 1.0, 1.0, 9.0]]), np.asarray([4, 4, 4, 2])
    draws = mean_draws(Values([data], "original", [clusters]), seed=0, resamples=40)
    small, large = cluster_counts(0, 0, 2, 40).T
    np.testing.assert_allclose(draws.both, (9 * small + 3 * large) / (small + 3 * large))


def test_examples_of_several_requests_are_drawn_once_or_pooled():
    kind = np.random.default_rng(3).normal(0, 1, 30)
    block, clusters = np.tile(kind, (4, 1)), np.arange(30)
    same = mean_estimate(Values([block, block], "original", [clusters, clusters], shared=True))
    one = mean_estimate(Values([block], "original", [clusters]))
    independent = mean_estimate(Values([block, block], "original", [clusters, clusters]))
    np.testing.assert_allclose(same, one._replace(n=8), rtol=1e-9)
    np.testing.assert_allclose(width(independent) / width(one), np.sqrt(0.5), rtol=0.1)
    blocks = [np.asarray([[1.0, 5.0]]), np.asarray([[5.0, 7.0]])]
    values = Values(blocks, "original", [np.asarray([10, 20]), np.asarray([20, 30])], shared=True)
    draws = mean_draws(values, seed=1, resamples=30)
    counts = cluster_counts(1, 0, 3, 30)
    np.testing.assert_allclose(draws.both, counts @ [1.0, 10.0, 7.0] / (counts @ [1.0, 2.0, 1.0]))
    found = mean_draws([np.zeros((9, 1)), np.full((1, 3), 4.0)], resamples=10)
    assert found.value == pytest.approx(3.0) and found.n == 10


def test_combine_applies_the_function_draw_by_draw():
    a = Draws(2.0, np.asarray([1.0, 2.0, 3.0]), np.asarray([2.0, 2.0, 2.0]), 5)
    b = Draws(1.0, np.asarray([1.0, 2.0, 3.0]), np.asarray([1.0, 2.0, 4.0]), 3)
    found = combine(lambda x, y: x / y, a, b)
    assert found.value == 2.0 and found.n == 3
    assert found[1:3] == (1.0, 1.0)
    np.testing.assert_allclose(found[3:5], np.quantile([2.0, 1.0, 0.5], [0.025, 0.975]))
    draws = mean_draws(np.random.default_rng(0).normal(0, 1, (6, 4)))
    assert (draws.clusters, draws.freedom, draws.cluster_freedom, draws.role) == (4, 5, 3, "original")
    plain = combine(lambda x: x, Draws(*draws[:4]))
    np.testing.assert_allclose(plain[1:3], np.quantile(draws.both, [0.025, 0.975]))
    np.testing.assert_allclose(plain[3:5], np.quantile(draws.members, [0.025, 0.975]))
    assert width(combine(lambda x: x, draws)) > width(plain)


def slow_expanded(value, n, level=0.95, resamples=20_000, seed=0):
    """Hesterberg's interval of a mean of n values: quantiles of means of plain resamples at Phi(-sqrt(n/(n-1)) t)."""
    rng = np.random.default_rng(seed)
    means = np.asarray([value[rng.integers(n, size=n)].mean() for _ in range(resamples)])
    out = np.sqrt(n / (n - 1)) * scipy.stats.t.ppf((1 + level) / 2, n - 1)
    return np.quantile(means, [scipy.stats.norm.cdf(-out), scipy.stats.norm.cdf(out)])


@pytest.mark.parametrize("n", [6, 9, 25])
def test_members_intervals_are_the_expanded_percentile_ones(n):
    value = np.random.default_rng(n).exponential(1, n)  # skewed: a symmetric interval is another one
    found = mean_estimate(np.repeat(value[:, None], 3, axis=1), resamples=20_000)
    low, high = slow_expanded(value, n)
    np.testing.assert_allclose((found.ci_members_low, found.ci_members_high), (low, high), atol=0.04 * (high - low))
    examples = mean_estimate(Values([np.tile(value, (3, 1))], "original"), resamples=20_000)
    np.testing.assert_allclose((examples.ci_low, examples.ci_high), (low, high), atol=0.04 * (high - low))


def test_degrees_of_freedom_are_welch_and_satterthwaites():
    """Two populations that differ in size and spread, and clusters: the width is t's of the three together."""
    rng = np.random.default_rng(5)
    a, b = rng.normal(0, 3.0, (6, 1)) + np.zeros(12), rng.normal(0, 1.0, (20, 1)) + rng.normal(0, 2.5, 12)
    found = combine(lambda x, y: x - y, *(mean_draws(d, role=r, resamples=20_000) for d, r in ((a, "u"), (b, "v"))))
    parts = np.asarray([a.mean(axis=1).var(ddof=1) / 6, b.mean(axis=1).var(ddof=1) / 20, b[0].var(ddof=1) / 12])
    for at, some in ((1, parts), (3, parts[:2])):
        freedom = some.sum() ** 2 / (some**2 / np.asarray([5, 19, 11])[: len(some)]).sum()
        expected = 2 * scipy.stats.t.ppf(0.975, freedom) * np.sqrt(some.sum())
        np.testing.assert_allclose(found[at + 1] - found[at], expected, rtol=0.06)


def test_levels_beyond_the_draws_are_read_off_students_t():
    value = np.asarray([-1.0, 0.0, 1.0])
    found = mean_estimate(np.repeat(value[:, None], 2, axis=1), resamples=20_000)
    expected = scipy.stats.t.ppf(0.975, 2) / np.sqrt(3)  # beyond every draw
    np.testing.assert_allclose((found.ci_members_low, found.ci_members_high), (-expected, expected), rtol=0.02)
    cut = combine(lambda x: x, mean_draws(np.repeat(value[:, None], 2, axis=1)), low=-0.5, high=0.5)
    assert cut[1:5] == (-0.5, 0.5, -0.5, 0.5)


def test_requests_of_one_cluster_each_draw_their_clusters_together():
    values = as_values([np.full((3, 2), 1.0), np.full((3, 1), 4.0), np.full((3, 1), 9.0)], clusters=None)
    values = values._replace(clusters=[np.asarray([5, 5]), np.asarray([0]), np.asarray([1])])
    counts = cluster_counts(2, 0, 3, 40)
    first, second, third = example_weights(values, 2, 40)
    np.testing.assert_array_equal(first[1:], counts[:, [0, 0]])
    np.testing.assert_array_equal(np.concatenate([second[1:], third[1:]], axis=1), counts[:, 1:])
    draws = mean_draws(values, seed=2, resamples=40)
    np.testing.assert_allclose(draws.both, counts @ [2.0, 4.0, 9.0] / (counts @ [2.0, 1.0, 1.0]))
    assert (draws.clusters, draws.cluster_freedom) == (3, 2)


@QUICK
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 6), st.floats(-9, 9), st.floats(0.1, 9))
def test_intervals_follow_a_shift_and_a_scale(seed, members, examples, shift, scale):
    data = np.random.default_rng(seed).normal(0, 1, (members, examples))
    before, after = mean_estimate(data, resamples=40), mean_estimate(scale * data + shift, resamples=40)
    np.testing.assert_allclose(after[:5], scale * np.asarray(before[:5]) + shift, rtol=1e-9, atol=1e-9)
    assert before.n == members and np.isfinite(before[1:3]).all() and before.ci_low <= before.ci_high


def test_values_are_checked_and_percentiles_use_what_is_defined():
    values = as_values([[[1.0, 2.0]]], "oracle")
    assert values.blocks[0].shape == (1, 2) and values.blocks[0].dtype == np.float64
    assert as_values(values, "other") is values
    for bad in (np.zeros(3), np.zeros((0, 3)), np.zeros((3, 0)), np.zeros((2, 2, 2)), [np.zeros((2, 2)), np.zeros(2)]):
        refuses("at least one of each", as_values, bad)
    draws = np.concatenate([np.arange(101.0), [np.nan, np.inf, -np.inf]])
    assert percentiles(draws) == pytest.approx((2.5, 97.5))
    assert percentiles(draws, level=0.5) == pytest.approx((25.0, 75.0))
    assert np.isnan(percentiles(np.full(4, np.nan))).all()


def test_prices_in_points_and_nats_share_draws():
    good, bad = np.ones((3, 4)), np.tile([1.0, 0.0, 0.0, 0.0], (3, 1))
    assert price(bad, good, resamples=20).value == pytest.approx(75.0)
    assert price(good, bad, resamples=20).value == pytest.approx(-75.0)
    assert price(bad, good, unit="margin", resamples=20).value == pytest.approx(0.75)
    refuses("accuracy or margin", price, bad, good, unit="points")
    rng = np.random.default_rng(4)
    examples, members = rng.normal(0, 1, (1, 30)), rng.normal(0, 1, (12, 1))
    base = examples + members
    same = price(base - 1.0, base, unit="margin", roles=("original", "original"))
    np.testing.assert_allclose(same[:5], 1.0, atol=1e-9)
    own = price(base - 1.0, base, unit="margin")
    expected = 2 * 1.96 * np.sqrt(2) * members.std() / np.sqrt(12)  # the examples cancel, the members do not
    np.testing.assert_allclose(width(own), expected, rtol=0.08)


def test_ranks_share_draws_and_leave_out_what_is_not_defined():
    rng = np.random.default_rng(3)
    common = rng.normal(0, 10, 400)  # what the shared draws have in common says nothing about the order
    make = lambda v, noise: Draws(v, v + common + noise * rng.normal(0, 1, 400), v + common, 8)
    near, tied, far = make(1.0, 0.0), make(1.0, 0.0), make(1.5, 0.01)
    gone = Draws(np.nan, np.full(400, np.nan), np.full(400, np.nan), 0)
    found = ranks([far, gone, near, tied])
    assert [r.value for r in found[:1]] == [3.0] and np.isnan(found[1][:5]).all()
    assert [r.value for r in found[2:]] == [1.0, 1.0]
    assert (found[0].ci_low, found[0].ci_high) == (3.0, 3.0)
    close = ranks([make(1.0, 1.0), make(1.1, 1.0)])
    assert (close[1].ci_low, close[1].ci_high) == (1.0, 2.0)

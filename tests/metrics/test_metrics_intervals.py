"""Bootstrap intervals of any figure: against SciPy, slow transcriptions, and what theory says of them."""

import numpy as np
import pytest
import scipy.stats
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses

from unlearn_jax.metrics.draws import cluster_counts, mean_draws, member_counts
from unlearn_jax.metrics.intervals import METHODS, bootstrap_interval
from unlearn_jax.metrics.summary import combine

QUICK = settings(max_examples=12, deadline=None, database=None, derandomize=True)
mean = lambda x: x.mean()
gap = lambda u, o: u.mean() - o.mean()


def noisy(rng, members, examples):
    return rng.exponential(1, (members, 1)) + rng.exponential(0.5, examples) + rng.normal(0, 0.2, (members, examples))


@pytest.mark.parametrize("method, theirs", [("bca", "BCa"), ("percentile", "percentile")])
def test_of_the_mean_of_values_it_is_scipys(method, theirs):
    value = np.random.default_rng(0).exponential(1, 25)
    found = bootstrap_interval(mean, value[:, None], method=method, resamples=20_000)
    expected = scipy.stats.bootstrap(
        (value,), np.mean, method=theirs, n_resamples=40_000, rng=np.random.default_rng(1)
    ).confidence_interval
    np.testing.assert_allclose((found.low, found.high), expected, atol=0.03 * (expected[1] - expected[0]))
    assert (found.method, found.level, found.n, found.clusters) == (method, 0.95, 25, 1)


def test_of_the_difference_of_two_samples_it_is_scipys():
    rng = np.random.default_rng(2)
    a, b = rng.exponential(1, 12), rng.exponential(3, 30)
    found = bootstrap_interval(gap, a[:, None], b[:, None], resamples=20_000)
    expected = scipy.stats.bootstrap(
        (a, b), lambda x, y, axis: x.mean(axis) - y.mean(axis), vectorized=True, n_resamples=40_000,
        rng=np.random.default_rng(3),
    ).confidence_interval  # fmt: skip
    np.testing.assert_allclose((found.low, found.high), expected, atol=0.03 * (expected[1] - expected[0]))


def slow_bca(u, o, groups, seed, resamples, level=0.95):
    own = [sorted(set(groups)).index(g) for g in groups]
    mine, theirs = (member_counts(seed, f"population {i}", 0, len(x), resamples) for i, x in enumerate((u, o)))
    drawn, draws = cluster_counts(seed, 0, max(own) + 1, resamples), []
    weight = lambda rows, columns: [[row * columns[own[e]] for e in range(len(own))] for row in rows]
    for a, b, columns in zip(mine, theirs, drawn):
        draws.append(np.average(u, weights=weight(a, columns)) - np.average(o, weights=weight(b, columns)))
    theta = u.mean() - o.mean()
    z0 = scipy.stats.norm.ppf(np.mean([d < theta for d in draws]))
    samples = [[np.delete(u, i, 0).mean() - o.mean() for i in range(len(u))]]
    samples.append([u.mean() - np.delete(o, i, 0).mean() for i in range(len(o))])
    columns = [[e for e in range(len(own)) if own[e] != c] for c in range(max(own) + 1)]
    samples.append([u[:, at].mean() - o[:, at].mean() for at in columns])
    top = bottom = 0.0
    for left in samples:
        for one in left:
            value = (len(left) - 1) * (np.mean(left) - one)
            top, bottom = top + value**3 / len(left) ** 3, bottom + value**2 / len(left) ** 2
    a = top / (6 * bottom**1.5)
    reach = [z0 + (z0 + z) / (1 - a * (z0 + z)) for z in scipy.stats.norm.ppf([(1 - level) / 2, (1 + level) / 2])]
    return [*np.quantile(draws, scipy.stats.norm.cdf(reach)), z0, a]


def test_bca_equals_its_transcription_over_members_and_clusters():
    rng = np.random.default_rng(4)
    u, o, groups = noisy(rng, 7, 6), noisy(rng, 5, 6), np.asarray([3, 3, 0, 1, 1, 1])
    found = bootstrap_interval(gap, u, o, clusters=groups, seed=5, resamples=150)
    expected = slow_bca(u, o, list(groups), 5, 150)
    np.testing.assert_allclose((found.low, found.high, found.bias, found.acceleration), expected, rtol=1e-9)


def test_bca_and_percentiles_respect_a_transformation():
    rng = np.random.default_rng(6)
    u = noisy(rng, 40, 30) / 4
    at = lambda f, method: bootstrap_interval(f, u, method=method, resamples=4000)[1:3]
    for method, close in (("percentile", 1e-4), ("bca", 0.01)):  # the jackknife's acceleration does to first order
        plain, bent = at(mean, method), at(lambda x: np.exp(x.mean()), method)
        np.testing.assert_allclose(np.log(bent), plain, atol=close * (plain[1] - plain[0]))
    plain, bent = at(mean, "t"), at(lambda x: np.exp(x.mean()), "t")
    assert abs(np.log(bent[0]) - plain[0]) > 0.01 * (plain[1] - plain[0])


def test_expanded_intervals_are_those_of_combine_for_means():
    u = noisy(np.random.default_rng(7), 9, 8)
    found = bootstrap_interval(mean, u, method="expanded", roles=("original",), resamples=6000)
    expected = combine(lambda x: x, mean_draws(u, resamples=6000))
    assert found.value == pytest.approx(expected.value)
    np.testing.assert_allclose(found[1:3], expected[1:3], atol=0.03 * (expected.ci_high - expected.ci_low))


@pytest.mark.parametrize("n", [4, 12])
def test_t_intervals_of_a_mean_are_the_textbooks(n):
    value = np.random.default_rng(n).normal(0, 1, n)
    found = bootstrap_interval(mean, value[:, None], method="t", resamples=20_000)
    half = scipy.stats.t.ppf(0.975, n - 1) * value.std(ddof=1) / np.sqrt(n)
    np.testing.assert_allclose((found.low, found.high), (value.mean() - half, value.mean() + half), atol=0.03 * half)


def test_roles_orders_and_names_of_clusters():
    u = noisy(np.random.default_rng(8), 8, 5)
    for method in METHODS:
        found = bootstrap_interval(gap, u + 2.0, u, method=method, roles=("original",) * 2, resamples=60)
        np.testing.assert_allclose(found[:3], 2.0)
    own = bootstrap_interval(gap, u + 2.0, u, resamples=60)
    assert own.high - own.low > 0.1
    rng = np.random.default_rng(9)
    u, groups = noisy(rng, 9, 6), np.asarray([0, 0, 1, 1, 2, 2])
    one = bootstrap_interval(mean, u, clusters=groups, resamples=50)
    other = bootstrap_interval(mean, rng.permutation(u), clusters=7 - groups, resamples=50)
    np.testing.assert_allclose((one.value, one.acceleration), (other.value, other.acceleration))


@QUICK
@given(st.integers(0, 10**6), st.sampled_from(METHODS), st.floats(-9, 9), st.floats(0.1, 9))
def test_intervals_follow_a_shift_and_a_scale(seed, method, shift, scale):
    u = noisy(np.random.default_rng(seed), 5, 4)
    before = bootstrap_interval(mean, u, method=method, resamples=60)
    after = bootstrap_interval(mean, scale * u + shift, method=method, resamples=60)
    np.testing.assert_allclose(after[:3], scale * np.asarray(before[:3]) + shift, rtol=1e-7, atol=1e-9)
    assert before.low <= before.high


@pytest.mark.parametrize("method", METHODS)
def test_constant_arrays_have_a_point_and_diverged_members_are_left_out(method):
    assert bootstrap_interval(mean, np.full((4, 3), 2.0), method=method, resamples=30)[:3] == (2.0, 2.0, 2.0)
    u = noisy(np.random.default_rng(10), 8, 4)
    spoiled = np.concatenate([u, [[np.nan] * 4, [np.inf, 0, 0, 0]]])
    first, second = (bootstrap_interval(mean, x, method=method, resamples=40) for x in (u, spoiled))
    assert first == second and second.n == 8


@pytest.mark.parametrize("method", METHODS)
def test_too_little_to_draw_from_says_nothing(method):
    one = bootstrap_interval(mean, np.ones((1, 1)), method=method)
    none = bootstrap_interval(mean, np.full((3, 2), np.nan), method=method)
    never = bootstrap_interval(lambda x: np.nan, np.ones((3, 2)), method=method)
    assert one.value == 1.0 and np.isnan([*one[1:3], *none[:3], *never[:3]]).all() and none.n == 0
    alone = bootstrap_interval(mean, np.arange(9.0)[None], method=method, resamples=100)
    assert alone.low < 4.0 < alone.high  # one member: the examples are the sample


def test_draws_that_are_not_defined_are_left_out():
    x = np.arange(8.0)[:, None]
    figure = lambda u: u.mean() if u.max() == 7.0 else np.nan
    for method in METHODS:
        found = bootstrap_interval(figure, x, method=method, resamples=200)
        assert np.isfinite([found.low, found.high]).all() and found.low < 3.5 < found.high


@pytest.mark.parametrize(
    "arrays, more, said",
    [
        ([], {}, "one or more"),
        ([np.zeros(3)], {}, "one or more"),
        ([np.zeros((0, 3))], {}, "one or more"),
        ([np.zeros((2, 0))], {}, "one or more"),
        ([np.zeros((2, 3)), np.zeros((2, 4))], {}, "same ones"),
        ([np.zeros((2, 3)), np.zeros((3, 3))], {"roles": ("a", "a")}, "give as many"),
        ([np.zeros((2, 3))], {"roles": ("a", "b")}, "a role each"),
        ([np.zeros((2, 3))], {"clusters": [0, 1]}, "one number for each"),
        ([np.zeros((2, 3))], {"method": "bootstrap-t"}, "bca, percentile"),
        ([np.zeros((2, 3))], {"level": 95}, "level in"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(arrays, more, said):
    refuses(said, bootstrap_interval, lambda *x: 0.0, *arrays, **more)


@pytest.mark.parametrize(
    "method, least, studies, resamples",
    toy.some([("expanded", 0.87, 60, 100), ("t", 0.87, 30, 100), ("bca", 0.88, 600, 1000),
              ("percentile", 0.88, 600, 1000), ("expanded", 0.92, 600, 1000), ("t", 0.92, 600, 1000)], 2)
)  # fmt: skip
def test_intervals_of_a_ratio_hold_their_truth(method, least, studies, resamples):
    """Of two means of populations of members and examples at large."""
    held = 0
    for study in range(studies):
        rng = np.random.default_rng(study)
        pull = rng.normal(3.0, 1.0, 10)
        u, o = (rng.normal(0, 0.8, (10, 1)) + rng.normal(0, 0.5, (10, 10)) for _ in range(2))
        ratio = lambda a, b: a.mean() / b.mean()
        found = bootstrap_interval(ratio, u + 0.5 * pull, o + pull, method=method, seed=study, resamples=resamples)
        held += found.low <= 0.5 <= found.high
    assert least <= held / studies <= (0.98 if studies == 600 else 1.0)

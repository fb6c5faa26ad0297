"""Residual influence, residual distance, null band and identifiability against slow transcriptions."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses

from unlearn_jax.metrics import identifiability, influence_span, null_band, residual_distance, residual_influence
from unlearn_jax.metrics.draws import as_values, cluster_counts, mean_draws, member_counts
from unlearn_jax.metrics.residual import MIN_MEMBERS, squared_distance, why_unidentifiable
from unlearn_jax.metrics.summary import combine

QUICK = settings(max_examples=15, deadline=None, database=None, derandomize=True)
FEW = {"resamples": 50}


def populations(seed=0, members=(6, 5, 4), targets=7, unlearned=1.5, gap=6.0, spread=1.0):
    rng = np.random.default_rng(seed)
    means = (unlearned, gap, 0.0)
    base = rng.normal(0, 1, targets)
    return [m + base + spread * rng.normal(0, 1, (n, targets)) for m, n in zip(means, members)]


def slow_mean(values):
    total = 0.0
    for row in values:
        for value in row:
            total += value
    return total / values.size


def slow_residual(u, full, none):
    return (slow_mean(u) - slow_mean(none)) / (slow_mean(full) - slow_mean(none))


def slow_q(u, none, same=lambda i, j: i == j):
    """Mean over targets and over pairs of distinct members of both of (u_i - o_k)(u_j - o_l)."""
    total = 0.0
    for t in range(u.shape[1]):
        terms = [
            (u[i, t] - none[k, t]) * (u[j, t] - none[n, t])
            for i, j in itertools.product(range(len(u)), repeat=2)
            if not same(i, j)
            for k, n in itertools.product(range(len(none)), repeat=2)
            if k != n
        ]
        total += sum(terms) / len(terms)
    return total / u.shape[1]


def seeded(shapes):
    """Arrays of the shapes, drawn by hypothesis through a seed (fast, and shrinks to small shapes)."""
    return st.tuples(st.integers(0, 2**32 - 1), shapes)


@QUICK
@given(seeded(st.tuples(*[st.integers(1, 6)] * 4)))
def test_residual_equals_its_transcription(case):
    seed, (n_u, n_f, n_o, targets) = case
    u, full, none = populations(seed, (n_u, n_f, n_o), targets, gap=9.0)
    found = residual_influence(u, full, none, **FEW)
    np.testing.assert_allclose(found.value, slow_residual(u, full, none), rtol=1e-9)
    assert found.n == min(n_u, n_f, n_o)


def test_the_original_has_residual_one_and_the_oracle_zero_with_point_intervals():
    _, full, none = populations(1)
    for figure in (residual_influence, residual_distance):
        assert figure(full, full, none, **FEW)[:5] == (1.0, 1.0, 1.0, 1.0, 1.0)
    assert residual_influence(none, full, none, role="oracle", **FEW)[:5] == (0.0, 0.0, 0.0, 0.0, 0.0)
    np.testing.assert_allclose(influence_span(full, none, **FEW).value, slow_mean(full) - slow_mean(none))


def test_seeds_shifts_and_scales():
    before = residual_influence(*populations(3), **FEW)
    after = residual_influence(*(2.5 * (p + 4.0) for p in populations(3)), **FEW)
    np.testing.assert_allclose(after, before, rtol=1e-9)
    arrays = populations(14)
    first, again, other = (residual_influence(*arrays, seed=s, resamples=200) for s in (0, 0, 1))
    assert first == again
    assert first.value == other.value and first.ci_low != other.ci_low


def test_blocks_of_requests_pool_targets_alike_whatever_their_members():
    first, second = populations(4, (9, 8, 7), 3), populations(5, (2, 3, 4), 5, unlearned=5.0)
    m = [(3 * slow_mean(a) + 5 * slow_mean(b)) / 8 for a, b in zip(first, second)]
    found = residual_influence(*([a, b] for a, b in zip(first, second)), **FEW)
    np.testing.assert_allclose(found.value, (m[0] - m[2]) / (m[1] - m[2]), rtol=1e-12)
    q = lambda i: (3 * slow_q(first[i], first[2]) + 5 * slow_q(second[i], second[2])) / 8
    distance = residual_distance(*([a, b] for a, b in zip(first, second)), **FEW)
    np.testing.assert_allclose(distance.value, np.sqrt(q(0) / q(1)), rtol=1e-9)


@settings(QUICK, max_examples=15)
@given(seeded(st.tuples(*[st.integers(2, 4)] * 3, st.integers(1, 3))))
def test_distance_equals_the_double_loop_over_distinct_pairs(case):
    seed, (n_u, n_f, n_o, targets) = case
    u, full, none = populations(seed, (n_u, n_f, n_o), targets, unlearned=2.0, gap=9.0, spread=0.5)
    expected = np.sqrt(max(0.0, slow_q(u, none) / slow_q(full, none)))
    np.testing.assert_allclose(residual_distance(u, full, none, **FEW).value, expected, rtol=1e-7, atol=1e-9)


def halves(members):
    """Every ordered pair of disjoint halves of an even number of members."""
    for chosen in itertools.combinations(range(members), members // 2):
        yield list(chosen), [i for i in range(members) if i not in chosen]


def test_distance_is_the_mean_over_all_half_splits():
    u, _, none = populations(6, (6, 5, 4), 3)
    products = [
        np.mean((u[a].mean(0) - none[c].mean(0)) * (u[b].mean(0) - none[d].mean(0)))
        for (a, b), (c, d) in itertools.product(halves(6), halves(4))
    ]
    found = np.mean(squared_distance(as_values(u), as_values(none))[0][0])
    np.testing.assert_allclose(found, np.mean(products), rtol=1e-12)


def test_scrambling_that_keeps_the_mean_fools_the_sign_but_not_the_distance():
    _, full, none = populations(8, (16, 16, 16), 10)
    wild = none.copy() + 4.0 * np.where(np.arange(10) % 2, 1.0, -1.0)
    assert residual_influence(wild, full, none, **FEW).value == pytest.approx(0.0, abs=1e-12)
    assert residual_distance(wild, full, none, **FEW).value > 0.5


def test_squared_distance_is_unbiased_with_and_without_a_difference():
    rng = np.random.default_rng(9)
    for shift in (0.0, 0.7):
        found, plain = [], []
        for _ in range(300):
            a, b = rng.normal(shift, 1, (4, 5)), rng.normal(0, 1, (4, 5))
            found.append(np.mean(squared_distance(as_values(a), as_values(b))[0][0]))
            plain.append(np.mean((a.mean(0) - b.mean(0)) ** 2))
        error = np.std(found) / np.sqrt(300)
        assert abs(np.mean(found) - shift**2) < 3.5 * error
        assert np.mean(plain) - shift**2 > 10 * error  # what the halves are there to avoid


def test_distances_nearer_than_noise_are_zero_or_not_defined():
    rng = np.random.default_rng(0)
    for _ in range(50):
        u, none = rng.normal(0, 1, (4, 3)), rng.normal(0, 1, (4, 3))
        if np.mean(squared_distance(as_values(u), as_values(none))[0][0]) < 0:
            break
    assert residual_distance(u, none + 5.0, none, **FEW).value == 0.0
    assert np.isnan(residual_distance(u, u, none, **FEW).value)


def drawn(counts):
    return np.repeat(np.arange(len(counts)), counts.astype(int))


def test_every_resample_is_the_figure_on_the_drawn_members_and_targets():
    u, full, none = populations(10, (5, 5, 4), 4)
    cluster = cluster_counts(3, 0, 4, 20)
    roles = {"original": member_counts(3, "original", 0, 5, 20), "oracle": member_counts(3, "oracle", 0, 4, 20)}
    draws = [mean_draws(p, role=r, seed=3, resamples=20) for p, r in zip((u, full), ("original", "original"))]
    draws.append(mean_draws(none, role="oracle", seed=3, resamples=20))
    for b in range(20):
        members, others, at = drawn(roles["original"][b]), drawn(roles["oracle"][b]), drawn(cluster[b])
        for what, columns in (("both", at), ("members", np.arange(4))):
            expected = slow_residual(*(p[np.ix_(m, columns)] for p, m in ((u, members), (full, members))),
                                     none[np.ix_(others, columns)])  # fmt: skip
            mine = [getattr(d, what)[b] for d in draws]
            np.testing.assert_allclose((mine[0] - mine[2]) / (mine[1] - mine[2]), expected, rtol=1e-9)


def pair_mean(values, who):
    return np.mean([values[i] * values[j] for i, j in itertools.product(who, repeat=2) if i != j])


def test_a_resample_of_the_distance_never_multiplies_a_member_with_itself():
    u, _, none = populations(11, (4, 3, 3), 2)
    squares = squared_distance(as_values(u, "original"), as_values(none, "oracle"), 5, 12)[0]
    for b in range(12):
        mine = drawn(member_counts(5, "original", 0, 4, 12)[b])
        theirs = drawn(member_counts(5, "oracle", 0, 3, 12)[b])
        if len(set(mine)) == 1 or len(set(theirs)) == 1:
            assert np.isnan(squares[1 + b]).all()
            continue
        for t in range(2):
            expected = pair_mean(u[:, t], mine) + pair_mean(none[:, t], theirs)
            expected -= 2 * u[mine, t].mean() * none[theirs, t].mean()
            np.testing.assert_allclose(squares[1 + b, t], expected, rtol=1e-9)


def test_intervals_agree_with_a_plain_two_way_bootstrap():
    u, full, none = populations(12, (20, 20, 20), 25, unlearned=3.0)
    rng, both, members = np.random.default_rng(0), [], []
    for _ in range(3000):
        own, other, at = rng.integers(20, size=20), rng.integers(20, size=20), rng.integers(25, size=25)
        a, b, c = u[own], full[own], none[other]
        members.append((a.mean() - c.mean()) / (b.mean() - c.mean()))
        both.append((a[:, at].mean() - c[:, at].mean()) / (b[:, at].mean() - c[:, at].mean()))
    found = residual_influence(u, full, none, resamples=3000)
    wide, narrow = np.quantile(both, [0.025, 0.975]), np.quantile(members, [0.025, 0.975])
    np.testing.assert_allclose(found[1:3], wide, atol=0.08 * (wide[1] - wide[0]))
    np.testing.assert_allclose(found[3:5], narrow, atol=0.08 * (narrow[1] - narrow[0]))
    assert found.ci_low <= found.value <= found.ci_high


def test_methods_started_from_the_originals_share_their_draws():
    _, full, none = populations(13, (12, 12, 12))
    better, worse = full - 3.0, full - 1.0
    make = lambda p, role: mean_draws(p, role=role, **FEW)
    difference = combine(lambda a, b: a - b, make(worse, "original"), make(better, "original"))
    assert difference.value == pytest.approx(2.0)
    assert difference.ci_members_high - difference.ci_members_low < 1e-9
    apart = combine(lambda a, b: a - b, make(worse, "original"), make(better, "retrain"))
    assert apart.ci_members_high - apart.ci_members_low > 0.05
    shared, own = (residual_influence(better, full, none, role=r, **FEW) for r in ("original", "retrain"))
    width = lambda e: e.ci_members_high - e.ci_members_low
    assert shared.value == own.value and width(own) > 1.1 * width(shared)


@pytest.mark.parametrize("figure", [residual_influence, residual_distance])
def test_diverged_members_are_left_out_and_counted(figure):
    u, full, none = populations(15, (6, 7, 8))
    spoiled = u.copy()
    spoiled[1], spoiled[4, 2] = np.nan, np.inf
    found, clean = figure(spoiled, full, none, **FEW), figure(np.delete(u, [1, 4], axis=0), full, none, **FEW)
    np.testing.assert_allclose(found.value, clean.value, rtol=1e-12)
    assert found.n == 4 and np.isfinite(found).all()
    gone = figure(np.full_like(u, np.nan), full, none, **FEW)
    assert np.isnan(gone[:5]).all() and gone.n == 0
    none[:5] = np.nan
    assert figure(u, full, none, **FEW).n == 3  # the smallest of the populations compared
    assert as_values(spoiled).diverged == 2 and as_values(spoiled).members == 4


def test_a_single_member_has_a_residual_but_no_distance():
    one = [p[:1] for p in populations(17)]
    found = residual_influence(*one, **FEW)
    np.testing.assert_allclose(found.value, slow_residual(*one))
    assert np.isnan(found.ci_members_low) and np.isnan(found.ci_members_high) and found.n == 1
    assert np.isnan(residual_distance(*one, **FEW).value)


@pytest.mark.parametrize("figure", [residual_influence, residual_distance])
def test_an_empty_split_and_other_targets_are_refused(figure):
    u, full, none = populations(18)
    refuses("members, examples", figure, u[:, :0], full[:, :0], none[:, :0])
    refuses("same targets", figure, u[:, :-1], full, none)
    refuses("same targets", figure, [u, u], full, none)
    refuses("members, examples", figure, u[0], full, none)


def test_null_bands_are_those_of_the_t_test_and_of_welch_for_blocks():
    none = np.random.default_rng(20).normal(0, 2, (10, 6))
    means = none.mean(axis=1)
    expected = scipy.stats.t.ppf(0.975, 9) * np.sqrt(2 / 10) * means.std(ddof=1)
    np.testing.assert_allclose(null_band(none), expected, rtol=1e-9)
    rng = np.random.default_rng(26)
    a, b = rng.normal(0, 1, (5, 3)), rng.normal(0, 4, (9, 3))
    va, vb = (2 / len(x) * (x.mean(axis=1) / 2).var(ddof=1) for x in (a, b))
    freedom = (va + vb) ** 2 / (va**2 / 4 + vb**2 / 8)
    expected = scipy.stats.t.ppf(0.975, freedom) * np.sqrt(va + vb)
    np.testing.assert_allclose(null_band([a, b]), expected, rtol=1e-9)
    none = np.random.default_rng(23).normal(0, 1, (8, 3))
    assert np.isnan(null_band(none[:1])) and np.isfinite(null_band(none[:2]))
    assert null_band(np.ones((4, 3))) == 0.0
    spoiled = np.concatenate([none, np.full((2, 3), np.nan)])
    assert null_band(spoiled) == null_band(none)


def test_identifiable_asks_for_three_bands_and_eight_members_in_every_block():
    rng = np.random.default_rng(25)
    full, none = rng.normal(0, 1, (2, 20, 5))
    start = identifiability(full, none, **FEW)
    for bands, expected in ((0.5, False), (2.9, False), (3.1, True)):
        found = identifiability(full + bands * start.band - start.span.ci_low, none, **FEW)
        assert found.identifiable is expected and found.band == start.band
    rng = np.random.default_rng(24)
    pair = lambda n, gap: (rng.normal(gap, 1, (n, 5)), rng.normal(0, 1, (n, 5)))
    assert identifiability(*pair(8, 20.0), **FEW).identifiable
    assert not identifiability(*pair(7, 20.0), **FEW).identifiable
    assert not identifiability(*pair(8, 0.2), **FEW).identifiable
    full, none = pair(8, 20.0)
    full[0] = np.nan
    found = identifiability(full, none, **FEW)
    assert not found.identifiable and found.span.n == 7
    np.testing.assert_allclose(found.band_ratio, found.band / found.span.value)
    assert not identifiability([full[1:], full[1:]], [none, none], **FEW).identifiable  # seven in each block


@pytest.mark.parametrize(
    ("members", "lost", "low", "band", "why"),
    [
        (1, 0, math.nan, math.nan, "few"),
        (2, 0, math.nan, 0.1, "few"),
        (MIN_MEMBERS - 1, 0, 0.0, 9.0, "few"),
        (MIN_MEMBERS, 0, 0.2, 0.1, "noise"),
        (MIN_MEMBERS, 3, 5.0, 0.1, "lost"),
        (MIN_MEMBERS, MIN_MEMBERS, math.nan, math.nan, "lost"),
        (0, 0, 5.0, 0.1, "few"),
    ],
)
def test_the_reason_that_the_user_can_mend_comes_first(members, lost, low, band, why):
    assert why_unidentifiable(members, lost, low, band) == why

"""Paired differences, all pairs, ranks and groups: transcriptions, closed forms, and error rates over many studies."""

import numpy as np
import pytest
import scipy.stats
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses

from unlearn_jax.metrics.comparisons import CORRECTIONS, compare_all, paired_difference, rank_intervals, ranking_groups
from unlearn_jax.metrics.draws import Draws, mean_draws
from unlearn_jax.metrics.summary import combine, ranks

QUICK = settings(max_examples=15, deadline=None, database=None, derandomize=True)


def bare(value, deviations, n=8):
    """Draws that do not tell their clusters: no t scale."""
    return Draws(value, value + deviations, value + deviations, n)


def some(seed, figures=4, resamples=99, spread=1.0):
    """Draws of several figures that share a good part."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(0, 1, resamples)
    return [bare(v, shared + spread * rng.normal(0, 1, resamples)) for v in rng.normal(0, 2, figures)]


def margins(rng, methods, members=10, targets=14, best=0.0):
    start = rng.normal(0, 1, (members, 1)) + rng.normal(0, 0.7, (members, targets)) + rng.normal(3, 1.5, targets)
    out = [start + rng.normal(0, 0.5, (members, targets)) + rng.normal(0, 0.6, targets) for _ in range(methods)]
    out[0] -= best
    return out


@QUICK
@given(st.integers(0, 10**6))
def test_the_p_value_is_the_share_of_moved_draws_as_far_out(seed):
    a, b = some(seed, 2, 30)
    d, far = a.value - b.value, 0
    for x, y in zip(a.both, b.both):
        far += abs((x - y) - d) >= abs(d)
    found = paired_difference(a, b)
    assert found.p == pytest.approx((1 + far) / 31)
    assert found.estimate == combine(lambda x, y: x - y, a, b)
    assert paired_difference(b, a).p == found.p


def test_p_values_of_means_of_equal_and_of_undefined_figures():
    rng = np.random.default_rng(0)
    u = rng.normal(0.45, 1, (9, 1)) * np.ones(3)
    a, b = (mean_draws(x, role="u", resamples=40_000) for x in (u, 0.0 * u))
    expected = scipy.stats.ttest_1samp(u[:, 0], 0.0).pvalue
    assert 0.005 < expected < 0.3
    assert paired_difference(a, b).p == pytest.approx(expected, rel=0.1)
    a = mean_draws(np.random.default_rng(1).normal(0, 1, (6, 5)), resamples=200)
    assert paired_difference(a, a).p == 1.0
    assert paired_difference(a, a._replace(value=a.value + 1, both=a.both + 1, members=a.members + 1)).p == 1 / 201
    gone = Draws(np.nan, np.full(200, np.nan), np.full(200, np.nan), 0)
    assert np.isnan([paired_difference(a, gone).p, paired_difference(gone, a).p]).all()
    few = a._replace(both=np.where(np.arange(200) < 199, np.nan, a.both))
    assert np.isnan(paired_difference(few, a).p)


def test_p_values_of_equal_methods_are_uniform():
    p = []
    for study in range(400):
        u = margins(np.random.default_rng([1, study]), 2, 6, 8)
        p.append(paired_difference(*(mean_draws(x, seed=study, resamples=200) for x in u)).p)
    for level in (0.05, 0.1, 0.3):
        error = np.sqrt(level * (1 - level) / 400)
        assert level - 3.5 * error <= np.mean(np.asarray(p) <= level) <= level + 2.5 * error


def slow_max_t(draws):
    k, r = len(draws), len(draws[0].both)
    gap = {(i, j): draws[i].value - draws[j].value for i in range(k) for j in range(k) if i < j}
    sd = {(i, j): np.std([draws[i].both[b] - draws[j].both[b] for b in range(r)]) for i, j in gap}
    out = {}
    for pair, d in gap.items():
        far = 0
        for b in range(r):
            most = max(abs(draws[i].both[b] - draws[j].both[b] - gap[i, j]) / sd[i, j] for i, j in gap)
            far += most >= abs(d) / sd[pair]
        out[pair] = (1 + far) / (1 + r)
    return out


def slow_holm(p, names):
    order, out, floor = sorted(names, key=lambda name: p[name]), {}, 0.0
    for step, name in enumerate(order):
        floor = max(floor, min(1.0, (len(names) - step) * p[name]))
        out[name] = floor
    return out


@settings(QUICK, max_examples=8)
@given(st.integers(0, 10**6))
def test_adjusted_p_values_equal_their_transcriptions(seed):
    draws = some(seed, 4, 40)
    at = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    found = {c: compare_all(draws, correction=c) for c in CORRECTIONS}
    plain = {pair: paired_difference(draws[pair[0]], draws[pair[1]]).p for pair in at}
    expected = {"max_t": slow_max_t(draws), "holm": slow_holm(plain, at), "none": plain}
    expected["bonferroni"] = {pair: min(1.0, 6 * plain[pair]) for pair in at}
    for name, table in found.items():
        for i, j in at:
            assert table.p[i, j] == table.p[j, i] == pytest.approx(plain[i, j])
            assert table.p_adjusted[i, j] == table.p_adjusted[j, i] == pytest.approx(expected[name][i, j])
            assert table.difference[i, j] == -table.difference[j, i] == draws[i].value - draws[j].value
            assert table.significant[i, j] == (table.p_adjusted[i, j] <= 0.05 + 1e-12)
        assert np.diag(table.p_adjusted).tolist() == [1.0] * 4 and not np.diag(table.significant).any()


@QUICK
@given(st.integers(0, 10**6), st.sampled_from(CORRECTIONS), st.permutations(range(4)))
def test_intervals_agree_with_the_verdicts_and_the_order_does_not_matter(seed, correction, order):
    draws = some(seed, 4, 199, 0.7)
    found = compare_all(draws, list("abcd"), correction=correction)
    outside = (found.ci_low > 0) | (found.ci_high < 0)
    if correction != "holm":  # Holm's steps find more than intervals of one width show
        assert (outside == found.significant).all()
    assert (found.significant | ~outside).all()
    np.testing.assert_allclose(found.ci_low, -found.ci_high.T)
    mixed = compare_all([draws[i] for i in order], ["abcd"[i] for i in order], correction=correction)
    np.testing.assert_allclose(mixed.p_adjusted, found.p_adjusted[np.ix_(order, order)])
    scaled = [Draws(3 * d.value + 1, 3 * d.both + 1, 3 * d.members + 1, d.n) for d in draws]
    np.testing.assert_allclose(compare_all(scaled, correction=correction).p_adjusted, found.p_adjusted)


def test_corrections_from_the_loosest_to_the_strictest():
    draws = some(7, 5, 999)
    p = {c: compare_all(draws, correction=c).p_adjusted for c in CORRECTIONS}
    assert (p["none"] <= p["holm"]).all() and (p["holm"] <= p["bonferroni"]).all()
    assert (p["none"] <= p["max_t"]).all()
    assert p["max_t"].sum() < p["bonferroni"].sum()  # pairs depend on each other


def test_of_two_figures_the_interval_is_that_of_the_difference():
    u = margins(np.random.default_rng(3), 2, 9, 9)
    draws = [mean_draws(x, resamples=20_000) for x in u]
    one = combine(lambda x, y: x - y, *draws)
    for correction in CORRECTIONS:
        found = compare_all(draws, correction=correction)
        close = 0.05 * (one.ci_high - one.ci_low)
        np.testing.assert_allclose((found.ci_low[0, 1], found.ci_high[0, 1]), (one.ci_low, one.ci_high), atol=close)
    narrow = compare_all(draws, part="members")
    assert narrow.ci_high[0, 1] - narrow.ci_low[0, 1] < one.ci_high - one.ci_low


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_a_figure_that_is_not_defined_is_left_out_of_the_pairs(correction):
    draws = some(5, 3)
    gone = Draws(np.nan, np.full(99, np.nan), np.full(99, np.nan), 0)
    alone, more = compare_all(draws, correction=correction), compare_all([*draws, gone], correction=correction)
    np.testing.assert_allclose(more.p_adjusted[:3, :3], alone.p_adjusted)
    np.testing.assert_allclose(more.ci_low[:3, :3], alone.ci_low)
    assert np.isnan(more.p_adjusted[3]).all() and np.isnan(more.difference[:, 3]).all()
    holes = draws[0]._replace(both=np.where(np.arange(99) % 5 == 0, np.nan, draws[0].both))
    fewer = compare_all([holes, *draws[1:]], correction=correction)
    assert np.isfinite(fewer.p_adjusted).all() and np.isfinite(fewer.ci_low).all()
    assert fewer.p[1, 2] == alone.p[1, 2]
    assert not more.significant[3].any() and more.significant.dtype == bool
    nothing = compare_all([gone, gone], correction=correction)
    assert np.isnan(nothing.ci_low).all() and not nothing.significant.any()


def test_one_figure_is_first_and_equal_figures_are_all_first():
    one = compare_all([bare(1.0, np.zeros(9))], ["a"])
    assert one.difference.tolist() == [[0.0]] and not one.significant.any()
    alone = rank_intervals([bare(1.0, np.zeros(9))])
    assert (alone.rank.tolist(), alone.low.tolist(), alone.high.tolist()) == ([1.0], [1.0], [1.0])
    same = rank_intervals([bare(1.0, np.zeros(50))] * 3)
    assert (same.rank.tolist(), same.low.tolist(), same.high.tolist()) == ([1.0] * 3, [1.0] * 3, [3.0] * 3)
    apart = rank_intervals([bare(v, np.zeros(50)) for v in (2.0, 1.0)])  # no spread at all: as certain as can be
    assert (apart.low.tolist(), apart.high.tolist()) == ([2.0, 1.0], [2.0, 1.0])


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: compare_all([]), "one or more figures"),
        (lambda: compare_all(some(0), ["a"]), "a name for each"),
        (lambda: compare_all(some(0), correction="fdr"), "max_t, holm"),
        (lambda: compare_all(some(0), level=95), "a level in"),
        (lambda: compare_all(some(0), part="clusters"), "both or members"),
        (lambda: compare_all([*some(0), *some(0, resamples=50)]), "same seed and resamples"),
        (lambda: paired_difference(some(0)[0], some(0, resamples=50)[0]), "same seed and resamples"),
        (lambda: rank_intervals(some(0), best="first"), "smallest or largest"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(call, said):
    refuses(said, call)


@QUICK
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_rank_intervals_count_who_is_better_and_who_is_worse(seed, figures):
    draws = some(seed, figures, 199, 0.5)
    table = compare_all(draws)
    for best, sign in (("smallest", 1), ("largest", -1)):
        found = rank_intervals(draws, best=best)
        for i in range(figures):
            sure = [j for j in range(figures) if table.significant[i, j]]
            better = sum(sign * draws[j].value < sign * draws[i].value for j in sure)
            worse = sum(sign * draws[j].value > sign * draws[i].value for j in sure)
            assert (found.low[i], found.high[i]) == (1 + better, figures - worse)
            assert found.rank[i] == 1 + sum(sign * d.value < sign * draws[i].value for d in draws)
        assert (found.low <= found.rank).all() and (found.rank <= found.high).all()
    values = [r.value for r in ranks(draws)]
    assert rank_intervals(draws).rank.tolist() == values


def test_groups_name_the_best_the_worse_and_the_undefined():
    wave = np.sin(np.arange(200.0))
    draws = [bare(0.9, 0.0 * wave), bare(0.21, wave / 10), bare(np.nan, wave), bare(0.2, wave / 20)]
    found = ranking_groups(draws, ["far", "near", "gone", "nearest"])
    assert found == (("nearest", "near"), ("far",), ("gone",))
    assert ranking_groups(draws, ["far", "near", "gone", "nearest"], best="largest").best == ("far",)
    assert ranking_groups([draws[2]], ["gone"]) == ((), (), ("gone",))


def test_the_interval_of_a_rank_alone_is_narrower_than_that_of_all_ranks():
    """What `ranks` gives describes one method over the draws; equal methods it may well tell apart."""
    wide = narrow = 0.0
    for study in range(8):
        u = margins(np.random.default_rng([2, study]), 8)
        draws = [mean_draws(x, seed=study, resamples=200) for x in u]
        found = rank_intervals(draws)
        wide += (found.high - found.low).sum()
        narrow += sum(r.ci_high - r.ci_low for r in ranks(draws))
    assert narrow < 0.95 * wide


def studies(count, seed, methods=8, best=0.0, resamples=200, members=10):
    for study in range(count):
        rng = np.random.default_rng([seed, study])
        yield [mean_draws(x, seed=study, resamples=resamples) for x in margins(rng, methods, members, best=best)]


@pytest.mark.parametrize("correction, count", toy.some([("max_t", 60), ("max_t", 200), ("holm", 200)], 1))
def test_one_false_finding_or_more_in_five_percent_of_null_studies(correction, count):
    resamples = 200 if correction == "max_t" else 999  # 28 pairs need more than 560 draws
    found = [
        compare_all(draws, correction=correction).significant.any() for draws in studies(count, 3, resamples=resamples)
    ]
    assert np.mean(found) <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / count)
    if correction == "max_t":
        alone = [compare_all(draws, correction="none").significant.any() for draws in studies(60, 3)]
        assert np.mean(alone) > 0.3  # what the correction is there for


@pytest.mark.parametrize("count", toy.some([60, 200], 1))
def test_rank_intervals_hold_all_true_ranks_together(count):
    """Eight methods, one better at large: its true rank is 1, and the others share 2 to 8 in any order."""
    held = []
    for draws in studies(count, 4, best=0.8):
        found = rank_intervals(draws)
        # equal methods have any of the ranks they share: all of 2 must be inside
        held.append(found.low[0] <= 1 <= found.high[0] and (found.low[1:] <= 2).all() and (found.high[1:] >= 8).all())
    assert np.mean(held) >= 0.95 - 2.5 * np.sqrt(0.05 * 0.95 / count)


def test_a_clear_winner_is_found():
    alone = [ranking_groups(draws).best == ("0",) for draws in studies(20, 5, best=2.5)]
    assert np.mean(alone) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("members", [5, 10, 24])
def test_error_rates_over_more_studies(members):
    found, intervals = [], []
    for draws in studies(1000, 6, resamples=1000, members=members):
        table = compare_all(draws)
        found.append(table.significant.any())
        intervals.append(((table.ci_low <= 0) & (table.ci_high >= 0)).all())
    assert np.mean(found) <= 0.05 + 2.5 * 0.007 and np.mean(intervals) >= 0.95 - 2.5 * 0.007

"""Language metrics: closed forms, slow transcriptions, and the faults of public code that they must not have."""

import itertools
import math
import warnings
import zlib

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses

from unlearn_jax.errors import InputError
from unlearn_jax.metrics import Values, combine, mean_estimate
from unlearn_jax.metrics.draws import cluster_counts, member_counts
from unlearn_jax.metrics.language import answer_probability, candidate_margin, sequence_margin
from unlearn_jax.metrics.memorization_text import (
    exact_memorisation,
    extraction_strength,
    min_k,
    min_k_plus_plus,
    privleak,
    rouge_l_recall,
    zlib_score,
)
from unlearn_jax.metrics.tofu import (
    AGGREGATES,
    TOFU_UTILITY,
    forget_quality,
    forget_quality_draws,
    forget_quality_interval,
    model_utility,
    truth_ratio,
    truth_ratio_aggregate,
    truth_ratio_scores,
)

QUICK = settings(max_examples=20, deadline=None, database=None, derandomize=True)
SEEDS = st.integers(0, 2**32 - 1)
RUBBISH = (np.nan, np.inf, -np.inf, 1e308, 7.0)


def texts(seed=0, members=3, examples=4, tokens=6):
    """Log-probabilities (N, n, T) and a mask (n, T) with prompt, padding and a hole, at least one token each."""
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 2, (examples, tokens))
    mask[np.arange(examples), rng.integers(0, tokens, examples)] = 1
    return -rng.exponential(2.0, (members, examples, tokens)), mask


def greedy(seed=0, members=3, examples=4, tokens=6, vocabulary=2):
    """Predicted tokens (N, n, T), targets (n, T) and a mask (n, T)."""
    rng = np.random.default_rng(seed)
    predicted = rng.integers(0, vocabulary, (members, examples, tokens))
    return predicted, rng.integers(0, vocabulary, (examples, tokens)), texts(seed, members, examples, tokens)[1]


@QUICK
@given(SEEDS)
def test_answer_probability_is_the_geometric_mean_and_the_product_of_live_tokens(seed):
    logprob, mask = texts(seed)
    found = answer_probability(logprob, mask)
    for i, j in np.ndindex(3, 4):
        alive = [math.exp(logprob[i, j, t]) for t in range(6) if mask[j, t]]
        np.testing.assert_allclose(found.probability[i, j], math.prod(alive) ** (1 / len(alive)), rtol=1e-9)
        np.testing.assert_allclose(np.exp(found.logprob[i, j]), math.prod(alive), rtol=1e-9)
    np.testing.assert_allclose(found.probability, np.exp(-found.loss), rtol=1e-12)
    assert found.probability.shape == found.logprob.shape == found.loss.shape == (3, 4)


def test_odd_probabilities_and_masks():
    found = answer_probability([[0.0, 1e-7], [0.0, -np.inf], [np.nan, -1.0]], np.ones((3, 2)))
    np.testing.assert_array_equal(found.probability, [1.0, 0.0, np.nan])
    np.testing.assert_array_equal(found.loss, [0.0, np.inf, np.nan])
    for mask in (np.ones(5), np.ones((4, 1)), np.ones((3, 6)), np.ones((2, 3, 4, 6)), 1):
        refuses("one entry for each token", answer_probability, -np.ones((3, 4, 6)), mask)
    refuses("1 answers have no live token", answer_probability, -np.ones((2, 3)), [[0, 1, 1], [0, 0, 0]])
    refuses("besides 0 and 1", min_k, -np.ones((1, 2)), [[0.5, 1.0]])
    refuses("not probabilities or losses", answer_probability, [[0.7, 0.9]], [[1, 1]])


def spoiled(values, mask, rubbish):
    return np.where(mask == 0, rubbish, values)


@pytest.mark.parametrize("rubbish", RUBBISH)
def test_masked_tokens_cannot_change_anything(rubbish):
    logprob, mask = texts(1)
    mean, std = logprob - 0.5, 0.1 - logprob
    bad = [spoiled(a, mask, rubbish) for a in (logprob, mean, std)]
    for found, expected in zip(answer_probability(bad[0], mask), answer_probability(logprob, mask)):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(min_k(bad[0], mask), min_k(logprob, mask))
    np.testing.assert_array_equal(min_k_plus_plus(*bad, mask), min_k_plus_plus(logprob, mean, std, mask))
    predicted, targets, mask = greedy(2)
    for figure in (exact_memorisation, extraction_strength):
        expected = figure(predicted, targets, mask)
        np.testing.assert_array_equal(figure(spoiled(predicted, mask, rubbish), targets, mask), expected)
        np.testing.assert_array_equal(figure(predicted, np.where(mask == 0, -100, targets), mask), expected)
        both = np.where(mask == 0, -100, predicted), np.where(mask == 0, -100, targets)
        np.testing.assert_array_equal(figure(*both, mask), expected)  # equal at masked places, still not counted


@QUICK
@given(st.floats(-16.0, 16.0))
def test_sequence_margin_is_the_logit(margin):
    logprob = -np.logaddexp(0.0, -margin)
    np.testing.assert_allclose(sequence_margin(logprob), margin, rtol=1e-6, atol=1e-9)


def test_sequence_margin_at_both_ends_rises_and_stays_finite_where_the_answer_is_sure():
    logprob = np.asarray([-np.inf, -5000.0, -40.0, -1.0, -1e-3, -1e-6, -1e-9, 0.0])
    found = sequence_margin(logprob)
    assert found[0] == -np.inf and found[1] == -5000.0 and found[2] == pytest.approx(-40.0)
    assert (np.diff(found[:6]) > 0).all() and found[6] == found[7] == pytest.approx(24 * math.log(2), abs=1e-6)
    assert np.isfinite(mean_estimate(found[None, 1:], resamples=5).value)  # not taken for a diverged member
    assert sequence_margin(0.0, resolution=1e-300) == pytest.approx(300 * math.log(10))  # where a user asks for it
    assert np.isnan(sequence_margin(np.nan))
    for call in (lambda: sequence_margin(-1.0, resolution=0.0), lambda: sequence_margin(0.5)):
        with pytest.raises(InputError):
            call()


@QUICK
@given(SEEDS, st.integers(1, 5))
def test_candidate_margin_is_the_log_odds_among_candidates(seed, others):
    p = np.random.default_rng(seed).dirichlet(np.ones(others + 2), (3, 4))  # one candidate's share is left over
    found = candidate_margin(np.log(p[..., 0]), np.log(p[..., 1:-1]))
    np.testing.assert_allclose(found, np.log(p[..., 0] / p[..., 1:-1].sum(axis=-1)), rtol=1e-9, atol=1e-12)


def test_candidate_margin_of_improbable_answers_absent_candidates_and_wrong_shapes():
    assert candidate_margin([-3000.0], [[-3001.0]])[0] == pytest.approx(1.0)  # exp would give 0 / 0
    absent = candidate_margin([-3.0], [[-4.0, -np.inf]])
    np.testing.assert_allclose(absent, candidate_margin([-3.0], [[-4.0]]))
    found = candidate_margin([-1.0, -np.inf, np.nan], [[-np.inf]] * 3)
    assert found[0] == np.inf and np.isnan(found[1:]).all()
    for bad in (np.zeros((2, 0)), np.zeros(2), np.zeros((3, 2)), np.zeros((1, 2, 3))):
        refuses("other_logprobs", candidate_margin, -np.ones(2), bad)


@QUICK
@given(SEEDS, st.integers(1, 5))
def test_truth_ratio_equals_its_definitions(seed, wrong):
    rng = np.random.default_rng(seed)
    right, others = rng.exponential(2.0, (3, 4)), rng.exponential(2.0, (3, 4, wrong))
    paper, public = (truth_ratio(right, others, variant=v) for v in ("paper", "public"))
    np.testing.assert_allclose(paper, np.exp(-others).mean(axis=-1) / np.exp(-right), rtol=1e-9)
    np.testing.assert_allclose(public, np.exp(right - others.mean(axis=-1)), rtol=1e-9)
    assert (public <= paper * (1 + 1e-12)).all()
    if wrong == 1:
        np.testing.assert_allclose(paper, public, rtol=1e-9)


@pytest.mark.parametrize("variant", ["paper", "public"])
def test_truth_ratios_neither_overflow_nor_are_bent_by_an_epsilon(variant):
    right, wrong = np.asarray([3000.0, 2000.0, 0.0, 0.0]), np.asarray([[0.0], [0.0], [2000.0], [3000.0]])
    ratio, log = (truth_ratio(right, wrong, variant=variant, log=flag) for flag in (False, True))
    np.testing.assert_array_equal(log, [3000.0, 2000.0, -2000.0, -3000.0])
    assert np.isfinite(ratio).all() and np.isfinite(1.0 / ratio).all() and ratio[0] == ratio[1] > 1e300
    np.testing.assert_allclose(truth_ratio_scores(ratio, "forget"), 0.0, atol=1e-300)
    np.testing.assert_array_equal(truth_ratio_scores(ratio, "retain"), [0, 0, 1, 1])
    np.testing.assert_allclose(truth_ratio_scores(ratio, "share"), [0, 0, 1, 1], atol=1e-300)
    probability = 1e-14  # public code divides by p + 1e-10, which would give .00005
    losses = -np.log([probability]), -np.log([[probability / 2, probability / 2]])
    np.testing.assert_allclose(truth_ratio(*losses, variant=variant), 0.5)
    np.testing.assert_allclose(truth_ratio_aggregate(truth_ratio(*losses, variant=variant), "forget"), 0.5)


def test_odd_truth_ratios_and_their_aggregates():
    found = truth_ratio([np.inf, 1.0, np.inf, np.nan], [[1.0], [np.inf], [np.inf], [1.0]], log=True)
    np.testing.assert_array_equal(found, [np.inf, -np.inf, np.nan, np.nan])
    refuses("choose one of paper, public", truth_ratio, [1.0], [[1.0]], variant="geometric")
    refuses("losses are negative", truth_ratio, [-1.0], [[-1.0]])
    for wrong in (np.ones((2, 0)), np.ones(2), np.ones((3, 2))):
        refuses("perturbed_loss", truth_ratio, np.ones(2), wrong)
    ratio = np.asarray([[0.5, 2.0, 1.0, 0.0], [4.0, 4.0, 0.25, np.inf]])
    np.testing.assert_allclose(truth_ratio_aggregate(ratio, "forget"), [0.5, 0.1875])
    np.testing.assert_allclose(truth_ratio_aggregate(ratio, "retain"), [0.375, 0.1875])
    np.testing.assert_allclose(truth_ratio_aggregate(ratio, "share"), [2.5 / 4, (0.2 + 0.2 + 0.8) / 4])
    refuses("not their logarithms", truth_ratio_scores, [-1.0], "forget")
    refuses("unknown aggregate", truth_ratio_aggregate, [1.0], "true_better")


@QUICK
@given(st.lists(st.floats(-50, 50), min_size=1, max_size=6))
def test_truth_ratio_scores_lie_between_0_and_1_and_forget_knows_no_direction(log):
    ratio = np.exp(log)
    scores = {name: truth_ratio_scores(ratio, name) for name in AGGREGATES}
    assert all(((s >= 0) & (s <= 1)).all() for s in scores.values())
    np.testing.assert_allclose(scores["forget"], truth_ratio_scores(1.0 / ratio, "forget"), rtol=1e-9)
    np.testing.assert_allclose(scores["share"] + truth_ratio_scores(1.0 / ratio, "share"), 1.0)
    assert np.isnan(truth_ratio_aggregate([np.nan, 1.0], "retain"))


def slow_distance(a, b):
    return max(abs(np.mean(a <= x) - np.mean(b <= x)) for x in np.concatenate([a, b]))


@QUICK
@given(SEEDS, st.integers(1, 9), st.integers(1, 9))
def test_forget_quality_is_the_two_sided_test_with_ties(seed, n, m):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 5, n) / 2.0, rng.integers(0, 5, m) / 2.0
    found = forget_quality(a, b)
    np.testing.assert_allclose(found.distance, slow_distance(a, b), atol=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # SciPy's rounding may bring it to the asymptotic p, and it says so; ours does not
        expected = scipy.stats.ks_2samp(a, b, alternative="two-sided").pvalue
    np.testing.assert_allclose(found.p_value, expected, rtol=1e-9)


def test_forget_quality_sees_only_the_order_and_leaves_out_diverged_members():
    rng = np.random.default_rng(0)
    a, b = np.exp(rng.normal(0, 1, 20)), np.exp(rng.normal(1, 1, 20))
    for change in (np.log, lambda x: 1.0 / x):
        np.testing.assert_allclose(forget_quality(change(a), change(b)), forget_quality(a, b), rtol=1e-9)
    assert forget_quality(a, a) == (0.0, 1.0)
    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 1, (3, 8)), rng.normal(0, 1, 11)
    a[1, 4] = np.nan
    found = forget_quality(a, b)
    assert found.distance.shape == found.p_value.shape == (3,)
    assert np.isnan([found.distance[1], found.p_value[1]]).all()
    for i in (0, 2):
        assert (found.distance[i], found.p_value[i]) == forget_quality(a[i], b)
    for bad in (np.zeros((2, 5)), np.zeros((3, 0)), 1.0):
        refuses("examples on the last axis", forget_quality, a, bad)


def populations(seed=0, members=(5, 4), examples=6, shift=1.0):
    rng = np.random.default_rng(seed)
    return [np.round(rng.normal(s, 1, (n, examples)), 1) for n, s in zip(members, (shift, 0.0))]


@QUICK
@given(SEEDS, st.integers(1, 4), st.integers(1, 4), st.integers(1, 5))
def test_distance_between_populations_is_that_of_the_pooled_ratios(seed, n, m, examples):
    u, r = populations(seed, (n, m), examples)
    found = forget_quality_interval(u, r, resamples=5)
    np.testing.assert_allclose(found.value, forget_quality(u.ravel(), r.ravel()).distance, atol=1e-9)
    assert found.n == min(n, m)


def test_every_resample_is_the_distance_between_the_drawn_members_and_clusters():
    u, r = populations(1)
    clusters = np.asarray([0, 0, 0, 1, 1, 2])
    draws = forget_quality_draws(Values([u], "original", [clusters]), r, roles=("original", "oracle"), resamples=20)
    repeat = lambda counts: np.repeat(np.arange(len(counts)), counts.astype(int))
    for b in range(20):
        at = repeat(cluster_counts(0, 0, 3, 20)[b][clusters])
        mine, theirs = (repeat(member_counts(0, *k, 20)[b]) for k in (("original", 0, 5), ("oracle", 0, 4)))
        for name, columns in (("both", at), ("members", np.arange(6))):
            expected = slow_distance(u[np.ix_(mine, columns)].ravel(), r[np.ix_(theirs, columns)].ravel())
            np.testing.assert_allclose(getattr(draws, name)[b], expected, atol=1e-9)


def test_blocks_weigh_examples_alike_and_diverged_members_nothing():
    (u, r), (v, s) = populations(2, (6, 2), 3), populations(3, (1, 5), 2)
    same = lambda a, b, times: np.concatenate([np.repeat(a, times[0], 0).ravel(), np.repeat(b, times[1], 0).ravel()])
    expected = slow_distance(same(u, v, (1, 6)), same(r, s, (5, 2)))
    assert forget_quality_interval([u, v], [r, s], resamples=5).value == pytest.approx(expected, abs=1e-9)
    u, r = populations(6)
    ill = np.concatenate([u, np.full((1, 6), 50.0)])
    ill[5, 2] = np.nan
    found = forget_quality_interval(ill, r, resamples=5)
    assert found.value == forget_quality_interval(u, r, resamples=5).value and found.n == 4
    assert np.isnan(forget_quality_interval(np.full((2, 6), np.nan), r, resamples=5).value)
    refuses("the same forget set", forget_quality_interval, u, r[:, :5])


def test_draws_are_shared_by_role_and_made_in_pieces_alike(monkeypatch):
    u, r = populations(4)
    same = forget_quality_draws(u, u, roles=("original", "original"), resamples=40)
    assert same.value == 0.0 and not same.both.any() and not same.members.any()
    assert forget_quality_draws(u, u, resamples=40).both.any()  # a population of its own has its own draws
    whole = forget_quality_draws(u, r, resamples=40)
    monkeypatch.setattr("unlearn_jax.metrics.tofu.CHUNK", 100)
    pieces = forget_quality_draws(u, r, resamples=40)
    np.testing.assert_array_equal(whole.both, pieces.both)
    np.testing.assert_array_equal(whole.members, pieces.members)
    closer = forget_quality_draws(u - 0.5, r, resamples=40)
    gap = combine(lambda a, b: a - b, whole, closer)
    assert gap.ci_low <= gap.value <= gap.ci_high and gap.value == pytest.approx(whole.value - closer.value)


def test_model_utility_is_the_harmonic_mean_of_nine_and_names_what_is_wrong():
    values = dict(zip(TOFU_UTILITY, np.linspace(0.1, 0.9, 9)))
    assert len(values) == 9
    assert model_utility(values) == pytest.approx(scipy.stats.hmean(list(values.values())))
    assert model_utility(dict.fromkeys(TOFU_UTILITY, 0.3)) == pytest.approx(0.3)
    by_member = model_utility(values | {"facts_rouge": np.asarray([0.0, 0.5, 1.0])})
    assert by_member.shape == (3,) and by_member[0] == 0.0 and 0 < by_member[1] < by_member[2]
    assert model_utility(dict.fromkeys(TOFU_UTILITY, 0.0)) == 0.0
    good = dict.fromkeys(TOFU_UTILITY, 0.5)
    for bad in (-0.1, np.nan, 47.0, np.asarray([0.5, np.nan])):
        refuses(r"^authors_rouge: not in \[0, 1\]", model_utility, good | {"authors_rouge": bad})
    for parts in ({}, {"facts_rouge": 0.5}, good | {"forget_rouge": 0.5}):
        refuses("give exactly retain_probability", model_utility, parts)
    with pytest.raises(InputError):
        model_utility({}, names=())


def slow_common(a, b):
    inside = lambda part, whole: all(token in whole for token in part)
    return max(k for k in range(len(a) + 1) for part in itertools.combinations(a, k) if inside(part, iter(b)))


@settings(QUICK, max_examples=60)
@given(st.lists(st.integers(0, 3), max_size=8), st.lists(st.integers(0, 3), min_size=1, max_size=9))
def test_rouge_l_recall_equals_brute_force(prediction, reference):
    found = rouge_l_recall([prediction, reference], [reference, reference])
    np.testing.assert_allclose(found, [slow_common(prediction, reference) / len(reference), 1.0], rtol=1e-12)


def test_rouge_l_recall_of_words_arrays_and_bad_input():
    reference = ["police", "killed", "the", "gunman"]
    answers = [
        a.split() for a in ("police kill the gunman", "the gunman kill police", "", "yes police killed the gunman")
    ]
    np.testing.assert_allclose(rouge_l_recall(answers, [reference] * 4), [0.75, 0.5, 0.0, 1.0])
    long = np.arange(300) % 7
    assert rouge_l_recall([long[::2], long], [long, long]).tolist() == [0.5, 1.0]
    assert rouge_l_recall([], []).shape == (0,)
    for bad in (("a b", ["a"]), (["a b"], [["a"]]), ([["a"]], ["a b"])):
        refuses("split each", rouge_l_recall, *bad)
    refuses("2 predictions for 1 references", rouge_l_recall, [[1], [2]], [[1]])
    refuses(r"references \[1\] are empty", rouge_l_recall, [[1], [2]], [[1], []])


def slow_extraction(predicted, targets):
    length = len(targets)
    return 1 - next(k for k in range(length + 1) if list(predicted[k:]) == list(targets[k:])) / length


@QUICK
@given(SEEDS)
def test_exact_memorisation_and_extraction_strength_equal_their_definitions(seed):
    predicted, targets, mask = greedy(seed)
    exact, strength = (f(predicted, targets, mask) for f in (exact_memorisation, extraction_strength))
    for i, j in np.ndindex(3, 4):
        p, t = predicted[i, j][mask[j] == 1], targets[j][mask[j] == 1]
        np.testing.assert_allclose(exact[i, j], np.mean(p == t), rtol=1e-12)
        np.testing.assert_allclose(strength[i, j], slow_extraction(p, t), atol=1e-12)
    assert (strength <= exact).all()  # what is extracted at the end was right there


def test_extraction_strength_has_no_floor_and_bad_shapes_are_refused():
    targets, ones = np.asarray([1, 2, 3, 4]), np.ones(4)
    answers = np.asarray([[1, 2, 3, 4], [0, 2, 3, 4], [1, 2, 0, 4], [1, 2, 3, 0], [0, 0, 0, 0]])
    assert extraction_strength(answers, targets, ones).tolist() == [1.0, 0.75, 0.25, 0.0, 0.0]
    public = [1 - next((k for k in range(4) if (a[k:] == targets[k:]).all()), 3) / 4 for a in answers]
    assert public == [1.0, 0.75, 0.25, 0.25, 0.25]  # nothing extractable and one token extractable look alike
    assert extraction_strength([[1], [0]], [[1], [1]], [1]).tolist() == [1.0, 0.0]
    for figure in (exact_memorisation, extraction_strength):
        for shape in ((4, 1), (4, 5), (3, 6), ()):
            refuses("one target for each prediction", figure, np.zeros((3, 4, 6)), np.zeros(shape), np.ones((4, 6)))
        refuses("no live token", figure, np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((2, 3)))


@QUICK
@given(SEEDS, st.floats(0.01, 1.0))
def test_min_k_equals_its_transcription(seed, share):
    logprob, mask = texts(seed)
    mean, std = logprob - 0.5, 0.2 - logprob
    plain, plus = min_k(logprob, mask, share=share), min_k_plus_plus(logprob, mean, std, mask, share=share)
    for i, j in np.ndindex(3, 4):
        alive = mask[j] == 1
        count = max(1, int(share * alive.sum() + 1e-9))
        np.testing.assert_allclose(plain[i, j], np.sort(logprob[i, j][alive])[:count].mean(), rtol=1e-9)
        scores = ((logprob - mean) / std)[i, j][alive]
        np.testing.assert_allclose(plus[i, j], np.sort(scores)[:count].mean(), rtol=1e-9)


def test_min_k_counts_live_tokens_rounds_down_and_takes_at_least_one():
    logprob = -np.arange(1.0, 101.0)
    mask = lambda n: (np.arange(100) < n).astype(int)
    assert min_k(logprob, mask(3)) == -3.0  # a fifth of three is none
    assert min_k(logprob, mask(9)) == -9.0 and min_k(logprob, mask(10)) == -9.5
    assert min_k(logprob, mask(100), share=0.29) == pytest.approx(-86.0)  # 29 tokens, though .29 * 100 < 29
    assert min_k(logprob, mask(100), share=1.0) == pytest.approx(-50.5)
    found = min_k([[-np.inf, -1.0, -2.0], [np.nan, -1.0, -2.0]], [1, 1, 1])
    assert found[0] == -np.inf and np.isnan(found[1])  # a sort would hide NaN at the far end
    for share in (0.0, -0.1, 20.0, np.nan):
        refuses("share is", min_k, logprob, mask(3), share=share)


def test_min_k_plus_plus_standardises_by_the_next_token_distribution():
    p = np.asarray([0.7, 0.2, 0.1])
    mean = np.sum(p * np.log(p))
    std = np.sqrt(np.sum(p * np.log(p) ** 2) - mean**2)
    found = [min_k_plus_plus([np.log(q)], [mean], [std], [1]) for q in p]
    np.testing.assert_allclose(np.sum(p * found), 0.0, atol=1e-12)
    np.testing.assert_allclose(np.sum(p * np.square(found)), 1.0, rtol=1e-12)
    assert found[0] > found[1] > found[2]
    assert min_k_plus_plus([0.0, -3.0], [0.0, -1.0], [0.0, 2.0], [1, 1], share=1.0) == -0.5
    assert min_k_plus_plus([-2.0], [-1.0], [0.0], [1]) == pytest.approx(-1000.0)
    refuses("one of each a token", min_k_plus_plus, [[-1.0]], [[-1.0]], [1.0], [[1]])
    refuses("standard deviations", min_k_plus_plus, [-1.0], [-1.0], [-1.0], [1])


def test_zlib_score_is_per_compressed_byte_of_the_whole_answer():
    words = ["a" * 400, "déjà vu", "the quick brown fox jumps"]
    logprob = -np.arange(1.0, 7.0).reshape(2, 3)
    found = zlib_score(logprob, words)
    sizes = [len(zlib.compress(w.encode("utf-8"))) for w in words]
    np.testing.assert_allclose(found, -logprob / sizes)
    assert sizes[0] < len(words[0]) / 10
    for bad in (words[:2], "abc"):
        refuses("as many texts", zlib_score, logprob, bad)


def test_privleak_by_hand_its_sign_and_where_it_is_not_defined():
    np.testing.assert_allclose(privleak([0.6, 0.5, 0.7, 1.0], 0.6), [0.0, 25.0, -25.0, -100.0], atol=1e-9)
    found = privleak(0.9, [0.5, 0.985, 0.995, 1.0, np.nan])
    assert found[0] == pytest.approx(-80.0) and np.isfinite(found[1]) and np.isnan(found[2:]).all()
    assert np.isfinite(privleak(0.9, 0.995, least=1e-4)) and np.isnan(privleak(1.0, 1.0))
    for call in (lambda: privleak(60.0, 0.5), lambda: privleak(0.5, -0.1), lambda: privleak(0.5, 0.5, least=0.0)):
        with pytest.raises(InputError):
            call()

"""Distances between predicted distributions, against loops, closed forms and many synthetic studies."""

import numpy as np
import pytest
import scipy.stats
import toy
from attack_studies import banded, covered, holds, over_studies
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses

from unlearn_jax.metrics.arrays import log_softmax
from unlearn_jax.metrics.outputs import PAIRINGS, activation_distance, completeness, js_divergence, kl_to_reference, zrf

QUICK = settings(max_examples=8, deadline=None, database=None, derandomize=True)
FIGURES = [kl_to_reference, js_divergence, activation_distance, completeness, zrf]


def softmax(logits):
    weights = [np.exp(z - max(logits)) for z in logits]
    return [w / sum(weights) for w in weights]


def slow_kl(p, q):
    return sum(a * np.log(a / b) for a, b in zip(p, q) if a > 0)


def slow_js(p, q):
    middle = [(a + b) / 2 for a, b in zip(p, q)]
    return (slow_kl(p, middle) + slow_kl(q, middle)) / 2 / np.log(2)


def slow_distance(p, q):
    return sum((a - b) ** 2 for a, b in zip(p, q)) ** 0.5


def slow_same(p, q):
    return float(max(range(len(p)), key=lambda c: p[c]) == max(range(len(q)), key=lambda c: q[c]))


SLOW = [slow_kl, slow_js, slow_distance, slow_same, lambda p, q: 1 - slow_js(p, q)]


def slow(rule, u, r, pairing):
    members, examples = u.shape[:2]
    p, q = ([[softmax(row) for row in member] for member in x.tolist()] for x in (u, r))
    mean = lambda x, e: np.mean([member[e] for member in x], axis=0).tolist()
    if pairing == "mean":
        return [[rule(mean(p, e), mean(q, e)) for e in range(examples)]]
    pick = lambda i: [i] if pairing == "matched" else range(len(q))
    if pairing == "excess":
        distinct = [(j, k) for j in range(len(q)) for k in range(len(q)) if j != k]
        own = [np.mean([rule(q[j][e], q[k][e]) for j, k in distinct]) for e in range(examples)]
        return np.array(slow(rule, u, r, "all")) - own
    return [[np.mean([rule(p[i][e], q[j][e]) for j in pick(i)]) for e in range(examples)] for i in range(members)]


def outputs(rng, members=4, examples=3, classes=5):
    return rng.normal(0, 2, (members, examples, classes))


ALLOWED = [(f, rule, p) for f, rule in zip(FIGURES, SLOW) for p in PAIRINGS if (f, p) != (zrf, "excess")]


@pytest.mark.parametrize("figure, rule, pairing", ALLOWED)
@QUICK
@given(st.integers(0, 10**6))
def test_figures_equal_their_transcriptions(figure, rule, pairing, seed):
    rng = np.random.default_rng(seed)
    u, r = outputs(rng), outputs(rng, 4 if pairing == "matched" else 3)
    expected = slow(rule, u, r, pairing)
    np.testing.assert_allclose(figure(u, r, pairing=pairing), expected, rtol=1e-8, atol=1e-10)
    logs = (log_softmax(x) for x in (u, r))
    np.testing.assert_allclose(figure(*logs, pairing=pairing), expected, rtol=1e-8, atol=1e-10)


def test_chunks_of_examples_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    u, r = outputs(rng, 3, 20), outputs(rng, 4, 20)
    whole = [f(u, r) for f in (js_divergence, activation_distance)]
    monkeypatch.setattr("unlearn_jax.metrics.outputs.CHUNK", 40)
    np.testing.assert_allclose([f(u, r) for f in (js_divergence, activation_distance)], whole)


def test_js_is_scipys_distance_squared_in_any_base():
    rng = np.random.default_rng(1)
    u, r = outputs(rng, 1), outputs(rng, 1)
    p, q = np.exp(log_softmax(u))[0], np.exp(log_softmax(r))[0]
    for base in (2.0, np.e, 10.0):
        expected = scipy.spatial.distance.jensenshannon(p, q, base=base, axis=1) ** 2
        np.testing.assert_allclose(js_divergence(u, r, base=base)[0], expected)


def test_sure_tied_and_equal_answers():
    sure, other = np.array([[[np.inf, 0.0, 0.0]]]), np.array([[[0.0, np.inf, 0.0]]])
    assert js_divergence(sure, other).item() == 1.0 and zrf(sure, other).item() == 0.0
    np.testing.assert_allclose(js_divergence(sure, other, base=np.e), np.log(2))
    np.testing.assert_allclose(activation_distance(sure, other), np.sqrt(2))
    np.testing.assert_allclose(kl_to_reference(sure, other), 100.0)  # one sure answer against a clipped 0
    np.testing.assert_allclose(kl_to_reference(sure, other, clip=30.0), 30.0)
    assert completeness(sure, other).item() == 0.0
    p, q = np.log([[[0.5, 0.5, 1e-300]]]), np.log([[[0.25, 0.75, 1e-300]]])
    with np.errstate(divide="ignore"):
        zero = [np.log(np.where(np.exp(x) < 1e-200, 0.0, np.exp(x))) for x in (p, q)]
    for figure in FIGURES:
        np.testing.assert_allclose(figure(*zero), figure(p, q), rtol=1e-9)
    tied, second = np.zeros((1, 1, 3)), np.array([[[0.0, 1.0, 0.0]]])
    assert completeness(tied, tied).item() == 1.0 and completeness(tied, second).item() == 0.0
    u = outputs(np.random.default_rng(2))
    for pairing in ("matched", "mean"):
        for figure in (kl_to_reference, js_divergence, activation_distance):
            np.testing.assert_allclose(figure(u, u, pairing=pairing), 0.0, atol=1e-12)
        assert (completeness(u, u, pairing=pairing) == 1).all() and np.allclose(zrf(u, u, pairing=pairing), 1)
    assert js_divergence(u, u).mean() > 0.05  # members of one population are apart


def test_zrf_rewards_randomness_and_not_closeness_to_the_reference():
    rng = np.random.default_rng(4)
    untrained, retrain = 0.1 * outputs(rng, 3), 4.0 * outputs(rng, 3)
    assert zrf(retrain, untrained).mean() < 0.8 < zrf(0.1 * outputs(rng, 3), untrained).mean()
    assert zrf(retrain, retrain, pairing="matched").mean() == pytest.approx(1.0)  # what a public one computes


@pytest.mark.parametrize("figure", FIGURES)
def test_diverged_members_go_and_nobody_is_nan(figure):
    rng = np.random.default_rng(5)
    u, r = outputs(rng), outputs(rng)
    spoiled = u.copy()
    spoiled[1, 0, 2] = np.nan
    np.testing.assert_allclose(figure(spoiled, r), figure(u[[0, 2, 3]], r))
    np.testing.assert_allclose(figure(u, spoiled), figure(u, u[[0, 2, 3]]))
    np.testing.assert_allclose(
        figure(spoiled, r, pairing="matched"), figure(u[[0, 2, 3]], r[[0, 2, 3]], pairing="matched")
    )
    for pairing in PAIRINGS:
        if (figure, pairing) == (zrf, "excess"):
            continue
        assert np.isnan(figure(u * np.nan, r, pairing=pairing)).all()
        assert np.isnan(figure(u, r * np.nan, pairing=pairing)).all()
    assert figure(u[:1], r[:1]).shape == (1, 3) and np.isfinite(figure(u[:1], r[:1])).all()
    assert np.isfinite(figure(np.zeros((2, 3, 4)), np.zeros((2, 3, 4)))).all()
    sure = u.copy()
    sure[0, 0, 0], sure[1, 1, 1] = np.inf, -np.inf
    assert np.isfinite(figure(sure, r)).all()


@pytest.mark.parametrize("figure", FIGURES)
def test_shapes_that_do_not_belong_together_are_refused(figure):
    u = np.zeros((3, 2, 4))
    for call, said in (
        (lambda: figure(u, np.zeros((3, 2))), "is \\(3, 2\\)"),
        (lambda: figure(u, np.zeros((3, 5, 4))), "give both the same"),
        (lambda: figure(u, np.zeros((3, 2, 5))), "give both the same"),
        (lambda: figure(u[:, :0], u[:, :0]), "at least one of each"),
        (lambda: figure(u[..., :1], u[..., :1]), "one class"),
        (lambda: figure(u, u[:2], pairing="matched"), "cannot be matched"),
        (lambda: figure(u, u, pairing="each"), "all.*matched, mean"),
    ):
        refuses(said, call)


def test_the_excess_is_nothing_where_nothing_differs_and_zrf_has_none():
    rng = np.random.default_rng(7)
    u, r = rng.normal(0, 1, (4, 4000, 3)), rng.normal(0, 1, (3, 4000, 3))
    for figure in FIGURES[:4]:
        found = figure(u, r, pairing="excess").mean(axis=0)
        assert abs(found.mean()) < 4 * found.std() / np.sqrt(4000)
        assert np.isnan(figure(u, r[:1], pairing="excess")).all()
    refuses("pairing of ZRF", zrf, u, r, pairing="excess")


def test_settings_that_make_no_sense_are_refused():
    u = np.zeros((3, 2, 4))
    refuses("clip", kl_to_reference, u, u, clip=0.0)
    refuses("base", js_divergence, u, u, base=1.0)


def members_of(rng, members, studies, examples, pull=None):
    """Logits of three classes; what examples share is most of how members differ, as for networks."""
    z = rng.normal(0, 0.5, (members, studies, examples, 3)) + rng.normal(0, 1, (members, studies, 1, 3))
    if pull is not None:
        z[..., 0] += pull * rng.normal(1, 0.5, (studies, examples))
    return z


def calibrate(figure, pairing, members, studies=300, truth_studies=1000, resamples=60, examples=8, times=4):
    """Shares of intervals that hold the expectation, of fresh null populations inside the band."""
    rng = np.random.default_rng([members, FIGURES.index(figure), PAIRINGS.index(pairing)])
    examples = 20 if pairing == "mean" else examples  # few members' noise is left: eight skewed examples would rule
    many = over_studies(lambda u, r: figure(u, r, pairing=pairing).mean(axis=0))
    sample = lambda n: (members_of(rng, members, n, examples, 2.0), members_of(rng, members, n, examples))
    roles = ("one", "one") if pairing == "matched" else None
    held = covered(many, sample(studies), many(*sample(truth_studies)).mean(), resamples=resamples, roles=roles)
    oracle, fresh = (members_of(rng, n, studies, examples) for n in (times * members, members))
    return held, banded(many, oracle, (fresh, oracle[:members]), splits=resamples)


SOON = [(kl_to_reference, "all", 8, 60), (completeness, "excess", 16, 60), (activation_distance, "mean", 8, 60)]
LATER = [
    *((f, "all", 16, 800) for f in FIGURES), *((f, "excess", 8, 800) for f in FIGURES[:4]),
    *((f, pairing, n, 800) for f in (kl_to_reference, completeness) for pairing, n in (("all", 8), ("excess", 16))),
    *((f, "excess", 32, 800) for f in (kl_to_reference, completeness)), (js_divergence, "mean", 16, 800),
    *((activation_distance, pairing, 8, 800) for pairing in ("matched", "mean")),
]  # fmt: skip


@pytest.mark.parametrize("figure, pairing, members, studies", toy.some([*SOON, *LATER], len(SOON)))
def test_intervals_and_bands_hold_what_they_promise(figure, pairing, members, studies):
    held, inside = calibrate(figure, pairing, members, studies, 1000 if studies < 800 else 3000, 60)
    holds(held, studies, 0.9, 0.985)
    if pairing in ("excess", "mean"):
        holds(inside, studies, 0.9, 0.985)


@pytest.mark.slow
def test_splits_of_one_population_cannot_show_how_all_pairs_vary_between_populations():
    assert calibrate(js_divergence, "all", 8, truth_studies=1, times=2)[1] < 0.8

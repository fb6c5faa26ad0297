"""Features, weights and gradients compared, against loops, closed forms and synthetic studies."""

import numpy as np
import pytest
import toy
from attack_studies import banded, covered, holds
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses

from unlearn_jax.metrics import entangling
from unlearn_jax.metrics.bands import t_estimate
from unlearn_jax.metrics.entangling import entanglement, gradient_coupling, mmd
from unlearn_jax.metrics.representation import knn_overlap, linear_cka, linear_probe, weight_distance
from unlearn_jax.metrics.resampling import subset_draws_pooled

QUICK = settings(max_examples=10, deadline=None, database=None, derandomize=True)


def rotation(rng, d):
    return np.linalg.qr(rng.normal(0, 1, (d, d)))[0]


def slow_cka(x, y):
    n = len(x)
    centring = np.eye(n) - np.ones((n, n)) / n
    hsic = lambda a, b: np.trace(a @ a.T @ centring @ b @ b.T @ centring)
    return hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))


def slow_debiased_cka(x, y):
    import itertools

    def hsic(a, b):
        k, m = a @ a.T, b @ b.T
        terms = [k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in itertools.permutations(range(len(a)), 4)]
        return np.mean(terms)

    return hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))


def slow_overlap(x, y, k):
    def near(features, i):
        others = [j for j in range(len(features)) if j != i]
        return set(sorted(others, key=lambda j: np.sum((features[i] - features[j]) ** 2))[:k])

    return [len(near(x, i) & near(y, i)) / k for i in range(len(x))]


def slow_mmd(x, y, width):
    kernel = lambda a, b: np.exp(-np.sum((a - b) ** 2) / (2 * width**2))
    own = lambda s: np.mean([kernel(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j])
    return own(x) + own(y) - 2 * np.mean([kernel(a, b) for a in x for b in y])


def slow_entanglement(retain, forget, pooled):
    means = [np.array([sum(column) / len(x) for column in x.T]) for x in (retain, forget)]
    middle = np.concatenate([retain, forget]).mean(axis=0) if pooled else (means[0] + means[1]) / 2
    within = sum(np.mean([np.sum((row - m) ** 2) for row in x]) for x, m in zip((retain, forget), means))
    return within / (0.5 * sum(np.sum((m - middle) ** 2) for m in means))


@QUICK
@given(st.integers(0, 10**6), st.integers(5, 7), st.integers(1, 8), st.integers(1, 8))
def test_figures_equal_their_transcriptions(seed, n, d1, d2):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(2, 1, (n, d1)), rng.normal(-1, 1, (n, d2))
    np.testing.assert_allclose(linear_cka(x, y), slow_cka(x, y), rtol=1e-8)
    np.testing.assert_allclose(knn_overlap(x, y, k=3), slow_overlap(x, y, 3))
    other = rng.normal(1, 2, (4, d1))
    np.testing.assert_allclose(mmd(x, other, bandwidth=1.3), slow_mmd(x, other, 1.3), rtol=1e-9, atol=1e-12)
    for centre in ("midpoint", "pooled"):
        found = entanglement(x, other, centre=centre)
        np.testing.assert_allclose(found, slow_entanglement(x, other, centre == "pooled"), rtol=1e-9)


@settings(QUICK, max_examples=8)
@given(st.integers(0, 10**6), st.integers(1, 8))
def test_the_debiased_hsic_is_the_mean_over_quadruples(seed, d):
    rng = np.random.default_rng(seed)
    x = rng.normal(2, 1, (6, 3))
    y = np.concatenate([x + 0.3 * rng.normal(0, 1, (6, 3)), rng.normal(0, 0.3, (6, d))], axis=1)
    np.testing.assert_allclose(linear_cka(x, y, debiased=True), slow_debiased_cka(x, y), rtol=1e-7)


def test_the_median_bandwidth_is_the_median_distance():
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, (7, 3)), rng.normal(1, 1, (6, 3))
    joint = np.concatenate([x, y])
    gaps = [np.sqrt(np.sum((joint[i] - joint[j]) ** 2)) for i in range(13) for j in range(i)]
    np.testing.assert_allclose(mmd(x, y), slow_mmd(x, y, np.median(gaps)))


def test_rows_in_parts_change_nothing(monkeypatch):
    rng = np.random.default_rng(1)
    x, y = rng.normal(0, 1, (20, 3)), rng.normal(0, 1, (20, 3))
    before = mmd(x, y), knn_overlap(x, y, k=4)
    seen, square_gaps = [], entangling._square_gaps
    monkeypatch.setattr("unlearn_jax.metrics.representation.ROWS", 6)
    monkeypatch.setattr("unlearn_jax.metrics.entangling.ROWS", 6)
    monkeypatch.setattr(entangling, "_square_gaps", lambda a, b: seen.append(len(a)) or square_gaps(a, b))
    np.testing.assert_allclose(mmd(x, y), before[0])
    assert 2 in seen and max(seen[1:]) == 6  # the first table is of the median distance
    np.testing.assert_array_equal(knn_overlap(x, y, k=4), before[1])


@QUICK
@given(st.integers(0, 10**6), st.floats(0.1, 10), st.floats(-5, 5))
def test_cka_and_neighbours_do_not_feel_rotation_scale_shift_and_order(seed, scale, shift):
    rng = np.random.default_rng(seed)
    x, y, order = rng.normal(0, 1, (12, 4)), rng.normal(0, 1, (12, 5)), rng.permutation(12)
    moved = scale * x @ rotation(rng, 4) + shift
    for debiased in (False, True):
        np.testing.assert_allclose(linear_cka(moved, x, debiased=debiased), 1.0)
        value = linear_cka(x, y, debiased=debiased)
        np.testing.assert_allclose(linear_cka(moved, y, debiased=debiased), value, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(linear_cka(y[order], x[order], debiased=debiased), value, rtol=1e-8, atol=1e-12)
    assert 0 <= linear_cka(x, y) <= 1
    assert (knn_overlap(moved, x, k=3) == 1).all()
    np.testing.assert_allclose(knn_overlap(x[order], y[order], k=3), knn_overlap(x, y, k=3)[order])


def test_chance():
    rng = np.random.default_rng(2)
    x, y = rng.normal(0, 1, (30, 200)), rng.normal(0, 1, (30, 200))
    found = [linear_cka(*rng.normal(0, 1, (2, 30, 200)), debiased=True) for _ in range(30)]
    assert linear_cka(x, y) > 0.8 and abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(30) + 1e-3
    rng = np.random.default_rng(3)
    found = knn_overlap(rng.normal(0, 1, (600, 5)), rng.normal(0, 1, (600, 5)), k=12)
    assert abs(found.mean() - 12 / 599) < 4 * found.std() / np.sqrt(600)


def test_closed_forms_of_entanglement_and_mmd():
    rng = np.random.default_rng(4)
    retain, forget = rng.normal(0, 2, (40000, 3)), rng.normal(0, 1, (40000, 3)) + [6.0, 0, 0]
    np.testing.assert_allclose(entanglement(retain, forget), 3 * (4 + 1) / (36 / 4), rtol=0.02)
    np.testing.assert_allclose(entanglement(retain, forget, centre="pooled"), 15 / 9, rtol=0.02)
    few = forget[:400]  # the pooled mean lies near the larger set: the other is nearly the whole gap away
    np.testing.assert_allclose(entanglement(retain, few, centre="pooled"), 15 / 18, rtol=0.08)
    np.testing.assert_allclose(entanglement(retain, few), 15 / 9, rtol=0.08)
    rng = np.random.default_rng(5)
    null = [mmd(*rng.normal(0, 1, (2, 8, 2)), bandwidth=1.0) for _ in range(200)]
    assert abs(np.mean(null)) < 4 * np.std(null) / np.sqrt(200) and min(null) < 0
    x, y = rng.normal(0, 1, (1500, 1)), rng.normal(2, 1, (1500, 1))
    truth = 2 / np.sqrt(3) * (1 - np.exp(-4 / 6))  # E k(a, b) = exp(-gap^2 / 6) / sqrt(3)
    np.testing.assert_allclose(mmd(x, y, bandwidth=1.0), truth, rtol=0.05)


def test_a_probe_finds_what_is_linear_and_no_more():
    rng = np.random.default_rng(6)
    labels, asked = rng.integers(0, 3, 300), rng.integers(0, 3, 200)
    features = lambda y, s: np.eye(3)[y] * [1.0, 100.0, 0.01] + s * rng.normal(0, 1, (len(y), 3)) * [1, 100, 0.01]
    assert linear_probe(features(labels, 0.1), labels, features(asked, 0.1), asked).mean() == 1.0
    noise = linear_probe(rng.normal(0, 1, (300, 3)), labels, rng.normal(0, 1, (200, 3)), asked)
    assert 0.2 < noise.mean() < 0.47 and set(noise) == {0.0, 1.0}
    constant = linear_probe(np.zeros((4, 2)), [0, 1, 1, 1], np.zeros((3, 2)), [1, 1, 0])
    assert constant.tolist() == [1.0, 1.0, 0.0]
    assert linear_probe(np.zeros((2, 1)), [5, 5], np.ones((2, 1)), [5, 4]).tolist() == [1.0, 0.0]
    text = linear_probe([[-1.0], [1.0]], ["a", "b"], [[-2.0]], ["a"], max_iter=1)  # unconverged, used as it stands
    assert text.tolist() == [1.0]


@QUICK
@given(st.integers(0, 10**6), st.floats(0.01, 100))
def test_weight_distances_are_relative_norms(seed, scale):
    rng = np.random.default_rng(seed)
    w, r = ({"a": rng.normal(0, 1, (3, 2, 4)), "b": rng.normal(0, 1, (3, 5))} for _ in range(2))
    found = weight_distance(w, r)
    for name in w:
        for i in range(3):
            top = sum((p - q) ** 2 for p, q in zip(w[name][i].ravel(), r[name][i].ravel())) ** 0.5
            np.testing.assert_allclose(found[name][i], top / sum(q**2 for q in r[name][i].ravel()) ** 0.5)
    scaled = weight_distance({"a": scale * w["a"]}, {"a": scale * r["a"]}, ["a"])
    np.testing.assert_allclose(scaled["a"], found["a"])
    np.testing.assert_allclose(weight_distance({"a": 3 * r["a"]}, r)["a"], 2.0)
    one = weight_distance({"a": w["a"]}, {"a": r["a"][:1]})["a"]
    np.testing.assert_allclose(one[1], np.linalg.norm(w["a"][1] - r["a"][0]) / np.linalg.norm(r["a"][0]))


@QUICK
@given(st.integers(0, 10**6), st.floats(0.01, 100))
def test_couplings_are_cosines(seed, scale):
    rng = np.random.default_rng(seed)
    f, r = rng.normal(0, 1, (3, 6)), rng.normal(0.5, 1, (4, 6))
    found = gradient_coupling(f, r)
    cosine = lambda a, b: sum(x * y for x, y in zip(a, b)) / np.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
    np.testing.assert_allclose(found.pairs, [[cosine(a, b) for b in r] for a in f])
    np.testing.assert_allclose(found.mean, found.pairs.mean())
    np.testing.assert_allclose(found.total, cosine(f.mean(axis=0), r.mean(axis=0)))
    np.testing.assert_allclose(gradient_coupling(scale * f, r).pairs, found.pairs)
    np.testing.assert_allclose(gradient_coupling(-f, r).total, -found.total)


def two_sets(figure):
    if figure is linear_probe:
        return lambda x, y: linear_probe(x, [0, 1, 0, 1, 0], y, [0, 1, 1, 1, 0])
    return figure


FIGURES = [linear_cka, lambda x, y: knn_overlap(x, y, k=2), linear_probe, entanglement, mmd]


@pytest.mark.parametrize("figure", [two_sets(f) for f in FIGURES])
def test_members_are_taken_one_by_one_and_diverged_ones_are_nan(figure):
    rng = np.random.default_rng(7)
    x, y = rng.normal(0, 1, (3, 5, 4)), rng.normal(0, 1, (3, 5, 4))
    found = figure(x, y)
    for i in range(3):
        np.testing.assert_allclose(found[i], figure(x[i], y[i]))
        np.testing.assert_allclose(figure(x, y[i])[2], figure(x[2], y[i]))
    for odd in (np.nan, np.inf):
        x[1, 0, 0] = odd
        spoiled = figure(x, y)
        assert np.isnan(spoiled[1]).all()
        np.testing.assert_allclose(spoiled[[0, 2]], found[[0, 2]])
        assert np.isnan(figure(x[1], y[1])).all()


def test_constant_features_and_zero_weights():
    zero, rng = np.zeros((6, 3)), np.random.default_rng(8)
    some = rng.normal(0, 1, (6, 3))
    for debiased in (False, True):
        assert np.isnan(linear_cka(zero + 7.3, some, debiased=debiased))
        for constant in (0.1, 1e-9, 3e7):  # the mean of seven is not the number itself
            assert np.isnan(linear_cka(np.full((7, 3), constant), rng.normal(0, 1, (7, 3)), debiased=debiased))
            assert np.isnan(entanglement(np.full((7, 3), constant), np.full((3, 3), constant)))
    assert entanglement(some, some[::-1]) == np.inf
    tenths = np.full((7, 1), 0.1)
    assert linear_probe(tenths, [0] * 5 + [1] * 2, tenths[:1] + 0.1, [0]).tolist() == [1.0]
    assert np.isnan(entanglement(zero, zero)) and entanglement(zero, zero + 1) == 0.0
    assert entanglement(np.array([[-1.0], [1.0]]), np.array([[-2.0], [2.0]])) == np.inf
    assert mmd(zero, zero) == 0.0 and mmd(zero, zero + 1) > 0.5
    repeated = np.repeat(some[:1], 6, axis=0)  # most distances are 0: the median of the others is taken
    y = np.concatenate([repeated[:4], some[4:]])
    points = np.concatenate([repeated, y])
    gaps = np.asarray([np.linalg.norm(a - b) for i, a in enumerate(points) for b in points[:i]])
    np.testing.assert_allclose(mmd(repeated, y), slow_mmd(repeated, y, np.median(gaps[gaps > 0])), rtol=1e-6)
    assert abs(mmd(repeated, y) - slow_mmd(repeated, y, 1e-3)) > 0.01
    assert np.isfinite(knn_overlap(zero, some, k=2)).all()
    w = {"a": np.array([[1.0, 2.0], [np.nan, 0.0], [np.inf, 0.0]]), "b": np.ones((3, 2))}
    found = weight_distance(w, {"a": np.ones((3, 2)), "b": np.zeros((3, 2))})
    assert np.isfinite(found["a"][0]) and np.isnan(found["a"][1:]).all() and np.isnan(found["b"]).all()
    found = gradient_coupling(np.array([[0.0, 0.0], [1.0, 0.0], [np.nan, 1.0]]), np.array([[1.0, 1.0]]))
    assert np.isnan(found.pairs[[0, 2]]).all() and found.mean == pytest.approx(np.sqrt(0.5))
    assert found.total == pytest.approx(np.sqrt(0.5))  # the mean of a 0 and of (1, 0)
    assert np.isnan(gradient_coupling(np.zeros((1, 2)), np.ones((1, 2)))[1:]).all()
    assert np.isnan(gradient_coupling(np.full((1, 2), np.nan), np.ones((1, 2)))[1:]).all()


def test_what_does_not_belong_together_is_refused():
    x, many = np.zeros((5, 3)), np.zeros((3, 5, 3))
    for call, said in (
        (lambda: linear_cka(x, np.zeros((4, 3))), "same examples"),
        (lambda: linear_cka(x[:3], x[:3], debiased=True), "4 examples or more"),
        (lambda: linear_cka(x[0], x[0]), "members, examples, d"),
        (lambda: linear_cka(x[:0], x[:0]), "members, examples, d"),
        (lambda: linear_cka(many, many[:2]), "cannot be matched"),
        (lambda: knn_overlap(x, x, k=5), "between 1 and 4"),
        (lambda: knn_overlap(x, x, k=0), "between 1 and 4"),
        (lambda: entanglement(x, np.zeros((5, 2))), "same d"),
        (lambda: entanglement(x, x, centre="mean"), "midpoint, pooled"),
        (lambda: mmd(x[:1], x), "2 examples or more"),
        (lambda: mmd(x, x, bandwidth=0.0), "bandwidth"),
        (lambda: mmd(x, x, bandwidth="mean"), "bandwidth"),
        (lambda: linear_probe(x, [0, 1], x, [0] * 5), "a label each"),
        (lambda: linear_probe(x, [0] * 5, np.zeros((5, 2)), [0] * 5), "a label each"),
        (lambda: linear_probe(x, [0] * 5, x, [0] * 5, strength=0.0), "strength"),
        (lambda: weight_distance({"a": x}, {"b": x}), "layers \\['a'\\] are missing"),
        (lambda: weight_distance({}, {}), "missing"),
        (lambda: weight_distance({"a": 1.0}, {"a": 2.0}), "as many members or one"),
        (lambda: weight_distance({"a": x}, {"a": x[:2]}), "as many members or one"),
        (lambda: gradient_coupling(x, np.zeros((5, 2))), "parameters"),
        (lambda: gradient_coupling(x[:0], x), "parameters"),
    ):
        refuses(said, call)


COMMON = np.random.default_rng(11).normal(0, 1, (12, 4))  # what the examples are to every member
PAIRED = {
    "cka": linear_cka,
    "debiased cka": lambda x, y: linear_cka(x, y, debiased=True),
    "neighbours": lambda x, y: knn_overlap(x, y, k=3).mean(),
    "entanglement": lambda x, y: entanglement(x[:8], y[8:] + 2.0),
    "mmd": lambda x, y: mmd(x[:6], y[6:] + 1.0, bandwidth=1.5),
}


def features_of(rng, members, common=COMMON):
    """Features (members, examples, d): what members have in common, and noise that is louder in some."""
    return common + 0.6 * np.exp(0.2 * rng.normal(0, 1, (members, 1, 1))) * rng.normal(0, 1, (members, *common.shape))


def values_of(rng, figure, members, studies):
    """The figure of each member and its partner, (members, studies, 1)."""
    one, other = features_of(rng, members * studies), features_of(rng, members * studies)
    return np.array([figure(a, b) for a, b in zip(one, other)]).reshape(members, studies, 1)


@pytest.mark.parametrize("name, studies", toy.some([("debiased cka", 50), *((n, 800) for n in PAIRED)], 1))
def test_intervals_over_members_and_bands_of_their_means_hold_what_they_promise(name, studies):
    rng, members = np.random.default_rng([8, len(name)]), 8
    mean, gap = lambda v: v.mean(axis=0), lambda a, b: a.mean(axis=0) - b.mean(axis=0)
    u, oracle, fresh = (values_of(rng, PAIRED[name], n, studies) for n in (members, 4 * members, members))
    truth = values_of(rng, PAIRED[name], 1, 1500).mean()
    holds(covered(mean, (u,), truth, part="ci_members"), studies)
    holds(banded(gap, oracle, (fresh, oracle[:members]), splits=100), studies)


POOLED = {
    "debiased cka": lambda x, y: np.mean(linear_cka(x, y, debiased=True)),
    "entanglement": lambda x, y: np.mean(entanglement(x, y)),
    "mmd": lambda x, y: np.mean(mmd(x, y, bandwidth=1.5)),
}


def pooled_study(rng, name, members, examples):
    """Two populations of features: partners on the same examples for CKA, two sets of examples else."""
    common = [rng.normal(0, 1, (examples, 4)) for _ in range(2)]
    second = common[0] if name == "debiased cka" else common[1] + 2.0
    return features_of(rng, members, common[0]), features_of(rng, members, second)


@pytest.mark.slow
@pytest.mark.parametrize("name", POOLED)
def test_intervals_over_members_and_examples_hold_what_they_promise(name):
    rng, members, examples = np.random.default_rng(len(name)), 8, 40
    names = None if name == "debiased cka" else ("retain", "forget")
    truth = np.mean([POOLED[name](*pooled_study(rng, name, members, examples)) for _ in range(1500)])
    found = []
    for study in range(200):
        pair = pooled_study(rng, name, members, examples)
        draws = subset_draws_pooled(POOLED[name], *pair, examples=names, roles=("one", "one"), seed=study, resamples=60)
        found.append(t_estimate(draws))
    holds(np.mean([e.ci_low <= truth <= e.ci_high for e in found]), 200)

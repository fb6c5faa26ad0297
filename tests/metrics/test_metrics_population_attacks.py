"""Attacks without reference models against closed forms, scikit-learn and loops over members."""

import time

import numpy as np
import pytest
from attack_studies import banded, covered, holds, noisy, repeated
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from unlearn_jax.metrics.cmia import cmia
from unlearn_jax.metrics.draws import mean_draws
from unlearn_jax.metrics.logistic import logistic_fit
from unlearn_jax.metrics.output_scores import confidence, entropy, modified_entropy
from unlearn_jax.metrics.population_attacks import FEATURES, entropy_attack, loss_attack, svc_attack, threshold_attack
from unlearn_jax.metrics.summary import combine

QUICK = settings(max_examples=30, deadline=None, database=None, derandomize=True)


def slow_scores(row, label):
    p = np.exp(row - max(row))
    p = p / sum(p)
    plain = -sum(q * np.log(q) for q in p)
    modified = -(1 - p[label]) * np.log(p[label])
    modified -= sum(q * np.log(1 - q) for c, q in enumerate(p) if c != label)
    return plain, modified, p[label]


@QUICK
@given(st.integers(0, 10**6), st.integers(2, 5), st.floats(-30, 30))
def test_scores_equal_their_closed_forms_row_by_row(seed, classes, shift):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 2, (2, 6, classes)), rng.integers(0, classes, 6)
    slow = np.array([[slow_scores(row, y) for row, y in zip(member, labels)] for member in logits])
    for moved in (logits, logits + shift):
        np.testing.assert_allclose(entropy(moved), slow[..., 0], rtol=1e-7)
        np.testing.assert_allclose(modified_entropy(moved, labels), slow[..., 1], rtol=1e-7)
        np.testing.assert_allclose(confidence(moved, labels), slow[..., 2], rtol=1e-7)


def public_modified_entropy(p, labels):
    """The two faults of some public code: log p for log(1 - p), and the labels' columns written in every row."""
    log_p, reverse = -np.log(p), -np.log(1 - p)
    modified_p, modified_log = p.copy(), log_p.copy()  # log p stays where log(1 - p) is meant
    modified_p[:, labels], modified_log[:, labels] = (1 - p)[:, labels], reverse[:, labels]
    return (modified_p * modified_log).sum(axis=1)


def test_modified_entropy_depends_on_each_rows_own_label_and_takes_the_complement():
    logits, labels = np.random.default_rng(0).normal(0, 2, (30, 3)), np.arange(30) % 3
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    other = np.roll(labels, 1)
    np.testing.assert_array_equal(public_modified_entropy(p, labels), public_modified_entropy(p, other))  # label-free
    found = modified_entropy(logits, labels)
    assert np.abs(found - modified_entropy(logits, other)).max() > 1
    assert np.abs(found - public_modified_entropy(p, labels)).max() > 0.5
    alone = np.array([modified_entropy(row[None], [y])[0] for row, y in zip(logits, labels)])
    np.testing.assert_array_equal(found, alone)  # whatever stands in the other rows


def test_scores_of_sure_answers():
    logits = np.array([[np.inf, 0.0, 0.0], [800.0, 0.0, 0.0], [40.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
    right, wrong = modified_entropy(logits, [0, 0, 0, 0]), modified_entropy(logits, [1, 1, 1, 1])
    rest = np.exp(-40.0) + np.exp(-41.0)
    np.testing.assert_allclose(right, [0, 0, 2 * rest**2, np.log(3) * 2 / 3 + np.log(1.5) * 2 / 3], atol=1e-17)
    np.testing.assert_allclose(wrong[:3], [200.0, 200.0, 40 - np.log(rest)], rtol=1e-9)  # held at 100 nats a logarithm
    np.testing.assert_allclose(entropy(logits)[[0, 1, 3]], [0, 0, np.log(3)], atol=1e-12)
    assert np.isnan(entropy([[np.nan, 0.0]])).all() and np.isnan(modified_entropy([[np.nan, 0.0]], [0])).all()
    refuses("two classes", modified_entropy, np.zeros((3, 1)), [0, 0, 0])
    refuses("whole number", confidence, np.zeros((3, 2)), [0.0, 1.0, 0.0])


def slow_threshold(forget, test):
    area = np.mean([1.0 if p > q else 0.5 if p == q else 0.0 for p in forget for q in test])
    best = max((np.mean(np.asarray(forget) >= t) + np.mean(np.asarray(test) < t)) / 2 for t in [*forget, *test, np.inf])
    return area, best


@QUICK
@given(st.integers(0, 10**6), st.integers(1, 7), st.integers(1, 7), st.booleans())
def test_threshold_attack_equals_its_transcription(seed, n, m, tied):
    rng = np.random.default_rng(seed)
    forget, test = rng.normal(0, 1.5, (3, n)), rng.normal(0, 1.5, (3, m))
    if tied:
        forget, test = forget.round(), test.round()
    slow = np.array([slow_threshold(*rows) for rows in zip(forget, test)])
    found = threshold_attack(forget, test)
    np.testing.assert_allclose(np.transpose(found), slow)
    np.testing.assert_allclose(np.transpose(threshold_attack(np.exp(forget), np.exp(test))), slow)


@settings(QUICK, max_examples=15)
@given(st.integers(0, 10**6), st.integers(2, 30), st.integers(2, 30), st.floats(0.01, 30), st.floats(-8, 8))
def test_regressions_are_those_of_scikit_learn(seed, n, m, scale, shift):
    rng = np.random.default_rng(seed)
    x = scale * np.concatenate([rng.normal(1, 1, (2, n)), rng.normal(0, 1, (2, m))], axis=1) + shift
    kinds = np.repeat([1.0, 0.0], [n, m])
    slope, offset = logistic_fit(x, kinds)
    for i in range(2):
        model = LogisticRegression(solver="newton-cholesky", tol=1e-9, max_iter=500).fit(x[i][:, None], kinds)
        mine, theirs = slope[i] * x[i] + offset[i], model.decision_function(x[i][:, None])
        assert (np.abs(mine - theirs) <= 1e-4 * (1 + np.abs(theirs))).all()


def test_loss_attack_tells_losses_apart_and_is_one_half_where_they_are_alike():
    rng = np.random.default_rng(1)
    alike = loss_attack(rng.exponential(1, (200, 30)), rng.exponential(1, (200, 360)))
    assert alike.mean() == pytest.approx(0.5, abs=0.02) and alike.shape == (200,)  # in spite of twelve times the test
    apart = loss_attack(rng.exponential(0.1, (8, 30)), 3 + rng.exponential(0.1, (8, 360)))
    assert apart.min() > 0.99
    # two Gaussians one standard deviation apart: the best threshold is right with Phi(.5) = .691
    known = loss_attack(rng.normal(0, 1, (60, 300)), rng.normal(1, 1, (60, 300)))
    assert known.mean() == pytest.approx(0.6915, abs=0.01)


@pytest.mark.slow
def test_loss_attack_is_the_mean_over_stratified_splits_by_scikit_learn():
    from sklearn.model_selection import StratifiedShuffleSplit, cross_val_score

    rng = np.random.default_rng(2)
    forget, test = rng.normal(0, 1, (5, 30)), rng.normal(0.8, 1, (5, 30))
    theirs = []
    for f, t in zip(forget, test):
        split = StratifiedShuffleSplit(n_splits=50, test_size=0.1, random_state=0)
        x, kinds = np.concatenate([f, t])[:, None], np.repeat([1, 0], 30)
        theirs.append(cross_val_score(LogisticRegression(), x, kinds, cv=split).mean())
    mine = loss_attack(forget, test, splits=400)
    np.testing.assert_allclose(mine, theirs, atol=0.06)  # .46 / sqrt(50 x 6) = .027, one standard error
    assert np.corrcoef(mine, theirs)[0, 1] > 0.8


def test_entropy_attack_is_the_regression_of_each_member():
    rng = np.random.default_rng(3)
    forget, retain, test = rng.normal(0.4, 0.5, (4, 9)), rng.normal(0, 0.5, (4, 40)), rng.normal(1, 0.5, (4, 40))
    slow = []
    for f, r, t in zip(forget, retain, test):
        model = LogisticRegression(tol=1e-8).fit(np.concatenate([r, t])[:, None], np.repeat([1, 0], 40))
        slow.append(model.predict(f[:, None]).mean())
    np.testing.assert_allclose(entropy_attack(forget, retain, test), slow)


def logits_of(rng, members, n, classes, sure):
    """Logits that favour the true class by ``sure`` nats, and the labels."""
    labels = rng.integers(0, classes, n)
    return rng.normal(0, 1, (members, n, classes)) + sure * np.eye(classes)[labels], labels


@pytest.mark.parametrize("feature", FEATURES)
def test_svc_attack_is_the_classifier_of_each_member(feature):
    rng = np.random.default_rng(5)
    (f, y_f), (r, y_r), (t, y_t) = (logits_of(rng, 2, n, 3, s) for n, s in ((12, 1.5), (30, 3), (30, 0.5)))
    column = {
        "correctness": lambda z, y: (z.argmax(axis=-1) == y)[:, None],
        "confidence": lambda z, y: confidence(z, y)[:, None],
        "entropy": lambda z, y: entropy(z)[:, None],
        "modified_entropy": lambda z, y: modified_entropy(z, y)[:, None],
        "probabilities": lambda z, y: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True),
    }[feature]
    slow = []
    for i in range(2):
        model = SVC(C=3, gamma="auto").fit(
            np.concatenate([column(r[i], y_r), column(t[i], y_t)]).astype(float), np.repeat([1, 0], 30)
        )
        slow.append(np.mean(model.predict(column(f[i], y_f).astype(float)) == 0))
    np.testing.assert_allclose(svc_attack(f, r, t, y_f, y_r, y_t, feature=feature), slow, atol=0.09)


def test_svc_attack_knows_the_ends_and_is_not_swayed_by_the_larger_set():
    rng = np.random.default_rng(6)
    (f, y_f), (r, y_r), (t, y_t) = (logits_of(rng, 3, n, 4, s) for n, s in ((40, 0), (400, 8), (60, 0)))
    assert svc_attack(f, r, t, y_f, y_r, y_t).min() > 0.85
    assert svc_attack(r[:, :40], r, t, y_r[:40], y_r, y_t).max() < 0.1
    (g, y_g), (q, y_q) = (logits_of(rng, 3, n, 4, 1) for n in (100, 900))
    assert 0.25 < svc_attack(g, q, g, y_g, y_q, y_g, feature="entropy").mean() < 0.75


def test_odd_input_of_the_attacks():
    rng = np.random.default_rng(7)
    f, r, t = rng.normal(0, 1, (3, 4, 12))
    spoiled = t.copy()
    spoiled[2, 5] = np.nan
    for figure in (loss_attack(f, spoiled), entropy_attack(f, r, spoiled), *threshold_attack(f, spoiled)):
        assert np.isnan(figure).tolist() == [False, False, True, False]
    flat = np.ones((2, 6))
    for figure in (loss_attack(flat, flat), entropy_attack(flat, flat, flat), *threshold_attack(flat, flat)):
        np.testing.assert_allclose(figure, 0.5)
    assert np.isnan(loss_attack(f[:, :1], t)).all()
    assert loss_attack(np.zeros((1, 9)), np.full((1, 9), np.inf)).tolist() == [1.0]
    assert loss_attack(f[:1], t[:1]).shape == (1,)
    z, y = logits_of(rng, 3, 8, 3, 1.0)
    bad = z.copy()
    bad[1, 0, 0] = np.nan
    assert np.isnan(svc_attack(bad, z, z, y, y, y)).tolist() == [False, True, False]
    endless = np.where(z > 1, np.inf, z)
    assert np.isfinite(svc_attack(endless, endless, endless, y, y, y, feature="modified_entropy")).all()
    refuses("same models", loss_attack, f, t[:2])
    refuses("at least one of each", threshold_attack, f[:, :0], t)
    refuses("held_out", loss_attack, f, t, held_out=1.0)
    refuses("choose one of", svc_attack, z, z, z, y, y, y, feature="loss")
    refuses("whole number", svc_attack, z, z, z, y[:3], y, y)


@repeated(80, 200)
def test_intervals_over_members_hold(studies):
    figures = loss_attack, lambda f, t: entropy_attack(f, f - 0.5, t), lambda f, t: threshold_attack(-f, -t).auc
    rng = np.random.default_rng(9)
    pull = rng.normal(0.7, 0.5, (32 * studies, 1))
    f, t = rng.normal(0, 1, (len(pull), 20)), rng.normal(0, 1, (len(pull), 25)) + pull
    for figure in figures:
        found = figure(f, t).reshape(studies, 32, 1)  # the studies are of one kind: their mean is the truth
        intervals = [combine(lambda x: x, mean_draws(x, resamples=200)) for x in found]
        holds(np.mean([x.ci_low <= found.mean() <= x.ci_high for x in intervals]), studies)


@pytest.mark.slow
def test_thirty_two_members_take_well_under_two_seconds_an_attack():
    rng = np.random.default_rng(10)
    (f, y_f), (r, y_r), (t, y_t) = (logits_of(rng, 32, n, 10, s) for n, s in ((30, 3), (1400, 4), (360, 2.5)))
    for attack in (
        lambda: svc_attack(f, r, t, y_f, y_r, y_t),
        lambda: entropy_attack(entropy(f), entropy(r), entropy(t)),
        lambda: loss_attack(-np.log(confidence(f, y_f)), -np.log(confidence(t, y_t))),
    ):
        start = time.process_time()
        attack()
        assert time.process_time() - start < 2.0


def test_cmia_finds_a_trace_in_the_other_classes_alone():
    rng = np.random.default_rng(11)
    none, labels = rng.normal(0, 1, (2, 24, 20, 5)), np.zeros(20, int)
    trace = none[0].copy()
    trace[..., 3] += 1.5  # the neighbour's probability stays too high
    found = cmia(trace, none[1], labels)
    assert found.accuracy > 0.65 and found.auc > 0.7 and found.members == (24, 24)
    lowered = none[0].copy()
    lowered[..., 0] -= 20.0
    plain = cmia(none[0], none[1], labels)
    np.testing.assert_allclose(cmia(lowered, none[1], labels).per_example, plain.per_example)
    assert plain.accuracy == pytest.approx(0.5, abs=0.08)


def slow_cmia(u, r, labels, parts):
    rest = lambda row, y: np.delete(np.exp(row), y) / np.delete(np.exp(row), y).sum()
    p = [[[rest(row, y) for row, y in zip(model, labels)] for model in kind] for kind in (u, r)]
    right = np.zeros((2, len(labels)))
    for k in range(2):
        fit = [np.array([p[s][m] for m in range(len(p[s])) if parts[s][m] != k]) for s in range(2)]
        for y in set(labels.tolist()):
            at = [i for i in range(len(labels)) if labels[i] == y]
            gap = np.mean([fit[0][:, i].mean(axis=0) - fit[1][:, i].mean(axis=0) for i in at], axis=0)
            left = [f[m, i] - f[:, i].mean(axis=0) for i in at for f in fit for m in range(len(f))]
            spread = np.mean([np.outer(x, x) for x in left], axis=0)
            spread = spread + (0.01 * np.trace(spread) / len(gap) + 1e-12) * np.eye(len(gap))
            for i in at:
                centre = (fit[0][:, i].mean(axis=0) + fit[1][:, i].mean(axis=0)) / 2
                for s, sign in ((0, 1), (1, -1)):
                    for m in range(len(p[s])):
                        if parts[s][m] == k:
                            score = sign * (p[s][m][i] - centre) @ np.linalg.inv(spread) @ gap
                            right[s, i] += (score > 0) / len(p[s])
    return right.mean(axis=0)


@settings(QUICK, max_examples=10)
@given(st.integers(0, 10**6))
def test_cmia_equals_its_transcription(seed):
    from unlearn_jax.metrics.u_lira import fold_numbers

    rng = np.random.default_rng(seed)
    u, r, labels = rng.normal(0, 1, (6, 5, 4)), rng.normal(0.3, 1, (7, 5, 4)), rng.integers(0, 2, 5)
    parts = [fold_numbers(n, 2, 0) for n in (6, 7)]
    found = cmia(u, r, labels)
    np.testing.assert_allclose(found.per_example, slow_cmia(u, r, labels, parts))
    np.testing.assert_allclose(cmia(u + 3.0, r - 1.0, labels).per_example, found.per_example)
    order = rng.permutation(5)
    np.testing.assert_allclose(cmia(u[:, order], r[:, order], labels[order]).per_example, found.per_example[order])


def test_odd_input_of_cmia():
    rng = np.random.default_rng(12)
    u, r, labels = rng.normal(0, 1, (6, 4, 3)), rng.normal(0, 1, (6, 4, 3)), np.array([0, 1, 2, 0])
    spoiled = np.concatenate([u, np.full((1, 4, 3), np.nan)])
    assert cmia(spoiled, r, labels).accuracy == cmia(u, r, labels).accuracy
    assert np.isnan(cmia(u[:1], r[:1], labels).accuracy) and np.isnan(cmia(u * np.nan, r, labels).per_example).all()
    flat = np.zeros((4, 4, 3))
    assert cmia(flat, flat, labels)[0] == 0.5 and cmia(flat, flat, labels).auc == 0.5
    assert np.isfinite(cmia(np.where(u > 1, np.inf, u), r, labels).accuracy)
    for arguments, said in (
        ((u[..., :2], r[..., :2], labels), "three or more"),
        ((u, r[:, :3], labels), "same examples"),
        ((u, r, labels[:2]), "whole number"),
        ((u[:, :0], r[:, :0], labels[:0]), "at least one of each"),
    ):
        refuses(said, cmia, *arguments)


def cmia_studies(rng, studies, pull=0.0, spread=0.0):
    """Unlearned and reference logits (members, studies, examples, classes); the neighbour's are too high."""
    shape = (20, studies, 4, 8)
    base = [noisy(rng, 4 * studies, 20, 8).reshape(shape).swapaxes(2, 3) for _ in range(2)]
    base[0][..., 2] += rng.normal(pull, spread, (studies, 8))
    return base


def cmia_figure(u, r):
    """Accuracies of many studies, each fitted for itself; the true class is the first."""
    return np.stack([cmia(u[:, s], r[:, s], np.zeros(8, int)).per_example for s in range(u.shape[1])])


@repeated(40, 300)
def test_intervals_and_bands_of_cmia_hold(studies):
    rng = np.random.default_rng(13)
    truth = cmia_figure(*cmia_studies(rng, 2 * studies, 1.0, 0.6)).mean()
    holds(covered(cmia_figure, cmia_studies(rng, studies, 1.0, 0.6), truth, resamples=16), studies)
    if studies == 300:
        oracle = np.concatenate(cmia_studies(rng, studies))
        holds(banded(cmia_figure, oracle, cmia_studies(rng, studies)), studies)


@pytest.mark.slow
def test_bands_of_attacks_on_one_model_hold():
    """300 studies: the gap of the mean figures of two populations of 16 models, in the band of an oracle of 32."""
    rng, n = np.random.default_rng(15), 30
    make = lambda members: rng.normal(0, 1, (members, 300, n)) + rng.normal(0, 0.5, (members, 300, 1))
    areas = lambda p: np.stack([threshold_attack(x[:, :12], x[:, 12:]).auc for x in p.swapaxes(0, 1)], axis=1)
    mean_gap = lambda a, b: a.mean(axis=0) - b.mean(axis=0)
    oracle, *fresh = (areas(make(m))[..., None] for m in (32, 16, 16))
    assert 0.91 <= banded(mean_gap, oracle, fresh) <= 0.98

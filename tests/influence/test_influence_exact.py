"""Exact removal against dense refits, the laws of exact copies, and what first-order influence misses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses

from unlearn_jax.influence import exact_logistic
from unlearn_jax.influence.exact import (
    copies_pull,
    deletion_effect,
    groups_of,
    logistic_fit,
    logistic_removal,
    removal_effects,
    ridge_removal,
)
from unlearn_jax.influence.groups import as_groups
from unlearn_jax.metrics.ridge import leave_out_leverage, retrain_residual, ridge_fit


def regression(n=40, d=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=n)


def classes(n=60, d=5, count=3, seed=0):
    rng = np.random.default_rng(seed)
    x, truth = rng.normal(size=(n, d)), rng.normal(size=(d, count))
    return x, np.argmax(x @ truth + rng.gumbel(size=(n, count)), axis=1), truth


def softmax(z):
    p = np.exp(z - z.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def example_gradients(x, y, w):
    return np.stack([np.outer(a, softmax(a @ w) - np.eye(w.shape[1])[b]).ravel() for a, b in zip(x, y)])


def dense_hessian(x, w, weight, l2):
    out = l2 * np.eye(w.size)
    for a, v in zip(x, weight):
        p = softmax(a @ w)
        out += v / len(x) * np.kron(np.outer(a, a), np.diag(p) - np.outer(p, p))
    return out


@pytest.mark.parametrize("weighted", [False, True])
def test_ridge_removal_is_a_dense_refit(weighted):
    x, y = regression()
    weight = np.random.default_rng(1).integers(0, 3, 40).astype(float) if weighted else np.ones(40)
    groups = [[3], [0, 1], [5, 9], np.arange(6), np.arange(6, 30), np.arange(40), [39]]
    found = ridge_removal(x, y, groups, l2=0.02, weight=weight if weighted else None)
    for row, group in zip(found, groups):
        kept = weight.copy()
        kept[group] = 0.0
        np.testing.assert_allclose(row, ridge_fit(x, y, kept, 40 * 0.02), atol=1e-11)
    np.testing.assert_array_equal(ridge_removal(x, y, l2=0.02)[3], ridge_removal(x, y, [[3]], l2=0.02)[0])


def test_newton_s_fit_has_no_gradient_left_and_weights_are_multiplicities():
    x, y, _ = classes()
    weight = np.random.default_rng(2).integers(0, 3, 60).astype(float)
    w = logistic_fit(x, y, l2=1e-3, weight=weight)
    slope = (weight[:, None] * example_gradients(x, y, w)).sum(axis=0) / 60 + 1e-3 * w.ravel()
    assert np.linalg.norm(slope) < 1.1e-10
    rows = np.repeat(np.arange(60), weight.astype(int))
    again = logistic_fit(x[rows], y[rows], l2=1e-3 * 60 / len(rows))
    np.testing.assert_allclose(w, again, atol=1e-6)
    assert np.abs(w.sum(axis=1)).max() < 1e-9  # of all that predict alike the smallest


def test_newton_converges_on_separable_data_far_from_its_start():
    x, y = np.array([[5.0, 1.0], [-5.0, 1.0], [4.0, 1.0]]), np.array([0, 1, 0])
    start = np.array([[-30.0, 30.0], [20.0, -20.0]])
    found = [logistic_fit(x, y, l2=1e-5, start=begin) for begin in (None, start)]
    np.testing.assert_allclose(*found, atol=1e-4)
    for w in found:
        assert np.linalg.norm(example_gradients(x, y, w).mean(axis=0) + 1e-5 * w.ravel()) < 1.1e-10


def test_logistic_removal_is_a_fit_without_the_rows_whatever_the_start_and_the_split(monkeypatch):
    x, y, _ = classes()
    groups = [[0], [1, 2, 3], np.flatnonzero(y == 1), np.arange(0, 60, 2), np.arange(60)]
    found = logistic_removal(x, y, groups, l2=1e-2)
    for w, group in zip(found, groups):
        kept = np.ones(60)
        kept[group] = 0.0
        np.testing.assert_allclose(w, logistic_fit(x, y, l2=1e-2, weight=kept), atol=1e-7)
    assert np.abs(found[-1]).max() < 1e-7  # nothing left but the penalty
    monkeypatch.setattr(exact_logistic, "ROOM", 400)
    other = logistic_removal(x, y, groups, l2=1e-2, start=np.zeros((5, 3)))
    np.testing.assert_allclose(other, found, atol=1e-7)


def test_effects_are_n_times_the_change_and_first_order_influence_is_their_limit():
    x, y, _ = classes(n=400)
    queries, labels, _ = classes(n=20, seed=0)
    w = logistic_fit(x, y, l2=0.05)
    gone = logistic_removal(x, y, l2=0.05, start=w)
    gradients, solve = example_gradients(x, y, w), np.linalg.inv(dense_hessian(x, w, np.ones(400), 0.05))
    loss = removal_effects(w, gone, queries, labels, rows=400)
    p, after = softmax(queries @ w), softmax(queries @ gone[7])
    own = np.arange(20), labels
    np.testing.assert_allclose(loss[7], 400 * np.log(p[own] / after[own]), atol=1e-9)
    odds = [np.log(q[own] / (1.0 - q[own])) for q in (p, after)]
    margin = removal_effects(w, gone, queries, labels, rows=400, quantity="margin")
    np.testing.assert_allclose(margin[7], 400 * (odds[0] - odds[1]), atol=1e-9)
    scores = gradients @ solve @ example_gradients(queries, labels, w).T
    assert np.abs(scores - loss).max() < 0.06 * np.abs(loss).max()
    assert np.corrcoef(scores.ravel(), loss.ravel())[0, 1] > 0.999
    alike = y[:, None] == labels[None]  # where inputs agree, a row of the same class helps and another harms
    close = x @ queries.T > 4
    assert (loss[close & alike] > 0).all() and loss[close & ~alike].mean() < -1.0


def test_effects_of_ridge():
    x, y = regression()
    fit, gone = ridge_fit(x, y, np.ones(40), 0.8), ridge_removal(x, y, [[2, 3]], l2=0.02)
    before, after = x[:4] @ fit, x[:4] @ gone[0]
    loss = removal_effects(fit, gone, x[:4], y[:4], rows=40)
    np.testing.assert_allclose(loss[0], 20 * ((after - y[:4]) ** 2 - (before - y[:4]) ** 2), atol=1e-12)
    margin = removal_effects(fit, gone, x[:4], y[:4], rows=40, quantity="margin")
    np.testing.assert_allclose(margin[0], 40 * (before - after), atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1000), st.floats(1e-3, 100.0), st.integers(0, 10))
def test_copies_pull_and_deletion_are_the_actual_ridge_fits(copies, penalty, seed):
    x, y = regression(12, 3, seed)
    fits = []
    for count in (0, copies, copies + 1):
        weight = np.ones(12)
        weight[5] = count
        fits.append(x[5] @ ridge_fit(x, y, weight, penalty))
    leverage, residual = leave_out_leverage(x, 5, penalty), y[5] - fits[0]
    assert abs(copies_pull(copies, leverage, residual) - (fits[1] - fits[0])) < 1e-10
    effect = deletion_effect(copies, leverage, residual)
    assert abs(effect - (fits[2] - fits[1])) < 1e-10
    share = effect / copies_pull(copies + 1, leverage, residual)
    assert abs((1.0 - retrain_residual(copies, leverage)) - share) < 1e-12


def test_deletion_of_one_copy_falls_as_one_over_m_squared_in_ridge():
    m = 2.0 ** np.arange(6, 14)
    slopes = np.diff(np.log(deletion_effect(m, 1.0, 3.0))) / np.diff(np.log(m))
    assert np.abs(slopes + 2.0).max() < 0.04 and np.all(np.diff(slopes) < 0)
    assert deletion_effect(1e6, 1.0, 3.0) * 1e12 == pytest.approx(3.0, rel=1e-5)  # r / (h m^2)


def test_deletion_in_logistic_regression_falls_as_one_over_m_squared_in_loss_and_one_over_m_in_margin():
    x, y, _ = classes()
    y[7] = (y[7] + 1) % 3  # not what its neighbours say, so that its pull has something to overcome
    m, found = 2 ** np.arange(5, 11), {"loss": [], "margin": []}
    for count in m:
        weight = np.ones(60)
        weight[7] = count + 1
        before = logistic_fit(x, y, l2=0.02, weight=weight)
        weight[7] = count
        after = logistic_fit(x, y, l2=0.02, weight=weight)
        for quantity, effects in found.items():
            effects.append(removal_effects(before, after[None], x[[7]], y[[7]], rows=1, quantity=quantity)[0, 0])
    slope = {name: np.polyfit(np.log(m), np.log(effects), 1)[0] for name, effects in found.items()}
    assert abs(slope["loss"] + 2.0) < 0.2
    assert abs(slope["margin"] + 1.0) < 0.1


def cluster_errors(copies, seed):
    """Relative errors of the summed influences and of a Newton step for a cluster of near copies that is removed."""
    x, y, truth = classes(n=100, d=8)
    rng = np.random.default_rng(seed)
    centre = 1.5 * rng.normal(size=8)
    label = int(np.argmin(centre @ truth))  # against what the others say
    x = np.concatenate([x, centre + 0.1 * rng.normal(size=(copies, 8))])
    y, group = np.append(y, np.full(copies, label)), np.arange(100, 100 + copies)
    n, kept = len(y), np.where(np.arange(100 + copies) < 100, 1.0, 0.0)
    w = logistic_fit(x, y, l2=0.01)
    gone = logistic_removal(x, y, [group], l2=0.01, start=w)
    actual = removal_effects(w, gone, centre[None], [label], rows=n, quantity="margin")[0, 0]
    pulled = example_gradients(x[group], np.full(copies, label), w).sum(axis=0)
    others = np.delete(softmax(centre @ w), label)
    slope = np.outer(centre, np.insert(-others / others.sum(), label, 1.0)).ravel()
    guesses = [-slope @ np.linalg.solve(dense_hessian(x, w, v, 0.01), pulled) for v in (np.ones(n), kept)]
    assert actual > 0
    return [guess / actual - 1.0 for guess in guesses]


@pytest.mark.parametrize("copies, total, newton", [(4, -0.5, 0.09), (20, -0.7, 0.09)])
def test_the_sum_of_influences_underestimates_a_cluster_and_a_newton_step_without_it_does_not(copies, total, newton):
    errors = np.array([cluster_errors(copies, seed) for seed in range(4)])
    assert errors[:, 0].mean() < total and (errors[:, 0] < -0.3).all()
    assert np.abs(errors[:, 1]).mean() < newton
    assert (np.abs(errors[:, 1]) < np.abs(errors[:, 0]) / 3).all()


def test_groups_of_clusters_cover_every_row_once():
    clusters = np.random.default_rng(0).integers(0, 7, 50) * 3 - 4
    groups = groups_of(clusters)
    assert sorted(np.concatenate(groups)) == list(range(50))
    assert [set(clusters[g]) for g in groups] == [{c} for c in np.unique(clusters)]


X, Y = np.ones((3, 2)), np.array([0, 1, 1])


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: logistic_fit(X[:0], Y[:0], l2=1.0), "not empty"),
        (lambda: logistic_fit(X * np.nan, Y, l2=1.0), "not finite"),
        (lambda: logistic_fit(X, Y, l2=0.0), "l2 is 0"),
        (lambda: logistic_fit(X, Y.astype(float), l2=1.0), "whole numbers"),
        (lambda: logistic_fit(X, Y, l2=1.0, classes=1), "two classes"),
        (lambda: logistic_fit(X, Y, l2=1.0, weight=-np.ones(3)), "from 0"),
        (lambda: logistic_fit(X, Y, l2=1.0, start=np.ones(2)), "start"),
        (lambda: logistic_fit(X * 1e9, Y, l2=1e-9, tolerance=1e-300), "singular"),
        (lambda: logistic_fit(*classes()[:2], l2=1.0, tolerance=1e-300), "not reached"),
        (lambda: ridge_removal(X * 1e9, Y, l2=1e-9), "singular"),
        (lambda: logistic_fit(np.ones((3, 5000)), Y, l2=1.0), "project"),
        (lambda: logistic_removal(X, Y, [], l2=1.0), "groups are empty"),
        (lambda: ridge_removal(X, Y[:2], l2=1.0), "targets"),
        (lambda: ridge_removal(X, Y, [[]], l2=1.0), "at least one"),
        (lambda: as_groups([[0, 3]], 3), r"rows in \[0, 3\)"),
        (lambda: as_groups([[1, 1]], 3), "each once"),
        (lambda: removal_effects(np.ones((2, 2)), np.ones((1, 2, 2)), X[:0], Y[:0], rows=3), "do not belong"),
        (lambda: removal_effects(np.ones((2, 2)), np.ones((1, 3, 2)), X, Y, rows=3), "do not belong"),
        (lambda: removal_effects(np.ones(2), np.ones((1, 2)), X * np.nan, Y, rows=3), "not finite"),
        (lambda: removal_effects(np.ones(2), np.ones((1, 2)), X, Y, rows=3, quantity="logits"), "loss, margin"),
        (lambda: copies_pull(-1, 1.0, 1.0), "from 0"),
        (lambda: deletion_effect(1, np.nan, 1.0), "from 0"),
        (lambda: groups_of(np.ones((2, 2))), "clusters"),
    ],
)
def test_bad_input_is_told_in_a_sentence(call, words):
    refuses(words, call)

"""The frontier: closed-form cases, brute force, ties, diverged populations; held-out error against its definition."""

import numpy as np
import pytest
import scipy.sparse
from refusals import refuses

from unlearn_jax.metrics import Draws, Values, frontier, heldout_margin_error, mean_draws, pareto_set
from unlearn_jax.metrics.frontier import drawn
from unlearn_jax.metrics.heldout import PENALTIES, _kernels, _ridge, expected_margins, margin_error_draws


def noisy(value, noise=0.0, seed=0, resamples=400):
    rng = np.random.default_rng(seed)
    both, members = value + noise * rng.normal(size=(2, resamples))
    return Draws(value, both, members, 16)


def brute(points):
    better = lambda a, b: all(x <= y for x, y in zip(a, b)) and any(x < y for x, y in zip(a, b))
    return [np.isfinite(p).all() and not any(better(q, p) for q in points if np.isfinite(q).all()) for p in points]


@pytest.mark.parametrize("figures", [1, 2, 3])
def test_pareto_set_is_that_of_the_definition(figures):
    rng = np.random.default_rng(figures)
    for _ in range(20):
        points = rng.integers(0, 5, (12, figures)).astype(float)  # with ties
        points[rng.random(points.shape) < 0.05] = rng.choice([np.nan, np.inf, -np.inf])
        assert pareto_set(points).tolist() == brute(points)


def test_pareto_sets_by_draw_of_one_figure_and_in_any_order():
    points = np.random.default_rng(0).normal(size=(7, 9, 2))
    np.testing.assert_array_equal(pareto_set(points), [pareto_set(p) for p in points])
    points = np.array([[3.0], [1.0], [1.0], [2.0]])
    assert pareto_set(points).tolist() == [False, True, True, False]
    many = np.random.default_rng(1).normal(size=(30, 3))
    order = np.random.default_rng(2).permutation(30)
    np.testing.assert_array_equal(pareto_set(many)[order], pareto_set(many[order]))
    np.testing.assert_array_equal(pareto_set(many), pareto_set(np.exp(many)))  # only the order of figures counts


def test_shares_without_noise_with_costs_and_with_diverged_draws():
    distance, price = [0.1, 0.4, 0.5, 0.9, np.nan], [3.0, 0.2, 0.4, 0.2, 0.0]
    found = frontier([noisy(v) for v in distance], [noisy(v) for v in price])
    assert found.on.tolist() == [True, True, False, False, False]
    assert found.share.tolist() == found.share_members.tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]
    figures = [noisy(v) for v in (0.1, 0.2, 0.3)], [noisy(v) for v in (0.0, 0.5, 0.6)]
    assert frontier(*figures).share.tolist() == [1.0, 0.0, 0.0]
    assert frontier(*figures, [1.0, 0.1, 0.5]).share.tolist() == [1.0, 1.0, 0.0]
    assert frontier(*figures, [1.0, np.nan, 0.5]).share.tolist() == [1.0, 0.0, 1.0]
    half = noisy(0.1)
    half.both[:100] = np.nan
    found = frontier([half, noisy(0.5)])
    assert found.share.tolist() == [0.75, 0.25]
    a, b = (noisy(v, 0.1, s) for v, s in ((0.2, 1), (0.3, 2)))
    larger = drawn(np.maximum, a, b)
    assert larger.value == 0.3 and larger.n == 16
    np.testing.assert_array_equal(larger.both, np.maximum(a.both, b.both))


def test_equal_populations_under_noise_share_the_frontier_as_chance_has_it():
    one = [noisy(0.5, 0.1, seed) for seed in range(4)]
    found = frontier(one)  # one figure: one winner in each draw
    assert found.share.sum() == pytest.approx(1.0) and (abs(found.share - 0.25) < 0.1).all()
    same = frontier([one[0]] * 3)  # the same draws: never apart
    assert same.share.tolist() == [1.0] * 3


def test_bad_figures_are_refused():
    for figures in ((), ([1.0], [1.0, 2.0]), ([1.0, 2.0],), ([noisy(0.1), noisy(0.1, resamples=10)],)):
        refuses("figures are of different|draws", frontier, *figures)
    refuses("give .populations, figures", pareto_set, np.zeros(3))


def test_heldout_error_is_unbiased_and_paired():
    rng = np.random.default_rng(0)
    original = 3.0 + rng.normal(size=(6, 5))
    assert heldout_margin_error(original, original).value == 0.0
    moved = original + np.array([1.0, -1.0, 1.0, -1.0, 1.0])  # members' own spread cancels
    assert heldout_margin_error(moved, original).value == pytest.approx(1.0)
    noise = rng.normal(size=(6, 5))
    pairs = [np.mean(noise[i] * noise[j]) for i in range(6) for j in range(6) if i != j]
    expected = np.sqrt(max(0.0, np.mean(pairs)))
    assert heldout_margin_error(original + noise, original).value == pytest.approx(expected)
    squares = []
    for _ in range(150):  # independent populations of one distribution lie at 0 in the mean
        a, b = rng.normal(size=(2, 4, 3))
        u, v = a.mean(0), b.mean(0)
        plain = np.mean((u - v) ** 2) - np.mean(a.var(0, ddof=1) / 4 + b.var(0, ddof=1) / 4)
        found = heldout_margin_error(a, b, role="fresh", resamples=2).value
        assert found == pytest.approx(np.sqrt(max(0.0, plain)))
        squares.append(plain)
    assert abs(np.mean(squares)) < 0.08


def test_heldout_error_leaves_out_diverged_members_and_has_draws():
    rng = np.random.default_rng(1)
    original = rng.normal(size=(8, 6))
    moved = original + 0.5 + 0.1 * rng.normal(size=(8, 6))
    whole = margin_error_draws(Values([moved[1:]], "original"), Values([original[1:]], "original"), resamples=50)
    moved[0, 2] = np.nan
    lost = margin_error_draws(Values([moved], "original"), Values([original], "original"), resamples=50)
    assert lost.value == pytest.approx(whole.value) and lost.n == whole.n == 7
    assert lost.both.shape == (50,) and np.isfinite(lost.both).all() and lost.both.std() > 0
    assert mean_draws(np.ones((3, 2)), resamples=50).both.shape == lost.both.shape
    refuses("the same targets", heldout_margin_error, moved, original[:, :3])


def test_expected_margins_are_those_of_held_out_examples_alike():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, 90)
    centres = 3 * np.eye(3)
    heldout = centres[labels] + 0.5 * rng.normal(size=(90, 3))
    hard = rng.random(90) < 0.3
    heldout[hard] = (centres[labels] + centres[(labels + 1) % 3])[hard] / 2 + 0.2 * rng.normal(size=(hard.sum(), 3))
    margins = np.where(hard, 0.0, 6.0)
    clear, between = np.eye(3) * 3, (np.eye(3) + np.eye(3)[[1, 2, 0]]) * 1.5
    asked = expected_margins(
        heldout, labels, margins, np.concatenate([clear, between, clear]), [0, 1, 2] * 2 + [1, 2, 0]
    )
    assert (abs(asked[:3] - 6) < 2).all() and (abs(asked[3:6]) < 2).all() and (asked[6:] < asked[3:6].min()).all()
    same = expected_margins(heldout, labels, margins + 5, clear, [0, 1, 2])
    np.testing.assert_allclose(same, asked[:3] + 5)
    sparse = expected_margins(
        scipy.sparse.csr_array(heldout), labels, margins, scipy.sparse.csr_array(clear), [0, 1, 2]
    )
    np.testing.assert_allclose(sparse, asked[:3], rtol=1e-9)
    centre = heldout.mean(axis=0)
    truth = [1 + (rows - centre) @ (heldout - centre).T for rows in (heldout, clear)]
    for found, dense in zip(_kernels(heldout, clear), truth):
        np.testing.assert_allclose(found, dense, atol=1e-12)
    margins[0] = np.nan  # a member less
    assert np.isfinite(expected_margins(heldout, labels, margins, clear, [0, 1, 2])).all()
    assert np.isnan(expected_margins(heldout[:5], labels[:5], margins[:5], clear, [0, 1, 2])).all()
    refuses("different lengths", expected_margins, heldout, labels[1:], margins, clear, [0, 1, 2])


def test_left_out_predictions_are_those_of_fits_without_the_example():
    rng = np.random.default_rng(3)
    features, answers = rng.normal(size=(12, 3)), rng.normal(size=(12, 2))
    kernel = 1.0 + features @ features.T
    found, weights = _ridge(kernel, answers)
    errors = []
    for penalty in PENALTIES * np.linalg.eigvalsh(kernel).mean():
        left = np.empty_like(answers)
        for i in range(12):
            k = np.arange(12) != i
            left[i] = kernel[i, k] @ np.linalg.solve(kernel[np.ix_(k, k)] + penalty * np.eye(11), answers[k])
        errors.append((np.mean((left - answers) ** 2), left, penalty))
    _, left, penalty = min(errors, key=lambda e: e[0])
    np.testing.assert_allclose(found, left, atol=1e-8)
    np.testing.assert_allclose(weights, np.linalg.solve(kernel + penalty * np.eye(12), answers), atol=1e-8)

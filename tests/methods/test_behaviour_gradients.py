"""Gradients taken elsewhere, and what is left of them: NPO with SAM, GRU and UAM against their rules by NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rules import Rules, followed, gathered, requested, started, stepped
from scipy.special import expit
from steps import PLAIN, SGD, begin, combined, flat, padded, slope, update
from steps import followed as descended

from unlearn_jax.methods import gru
from unlearn_jax.methods.support import directions
from unlearn_jax.trees import tree_dot

# --- steps uphill and projections ----------------------------------------------------------------------------------


def test_a_step_uphill_has_its_length_over_all_leaves_and_none_without_a_gradient():
    params, grads = (
        {"a": jnp.array([1.0, 2.0]), "b": jnp.array([[3.0]])},
        {"a": jnp.array([0.0, 3.0]), "b": jnp.array([[4.0]])},
    )
    found = directions.uphill(params, grads, 10.0)
    np.testing.assert_allclose(found["a"], [1.0, 8.0], rtol=1e-6)
    np.testing.assert_allclose(found["b"], [[11.0]], rtol=1e-6)
    still = directions.uphill(params, jax.tree.map(jnp.zeros_like, grads), 10.0)
    np.testing.assert_array_equal(still["a"], params["a"])
    assert float(directions.along(grads, jax.tree.map(jnp.zeros_like, grads))) == 0.0
    assert float(directions.within(grads, 2.0)) == pytest.approx(0.4) and float(directions.within(grads, 9.0)) == 1.0


# --- NPO with SAM --------------------------------------------------------------------------------------------------


def away(rules, beta=0.6):
    """Gradient of NPO's first term at the rules' student, rows of the table by next tokens."""
    pull = lambda i: 2 * expit(beta * rules.ratio(rules.asked, i))
    return gathered(rules.asked, rules.rise, pull, mean=False)


def test_npo_sam_takes_the_requests_gradient_uphill_and_the_retained_one_where_it_stands():
    hp, rules, moved = {"beta": 0.6, "rho": 0.8, "retain_weight": 0.4}, Rules(), Rules()
    here = away(rules)
    moved.student = moved.student + 0.8 * here / np.linalg.norm(here)
    expected = away(moved) + rules.retained()
    assert np.abs(away(moved) - here).max() > 0.01
    np.testing.assert_allclose(followed("npo_sam", hp), expected, rtol=1e-4, atol=2e-6)


def test_npo_sam_without_a_radius_is_npo():
    hp = {"beta": 0.6, "retain_weight": 0.4}
    found, plain = followed("npo_sam", hp | {"rho": 0.0}), followed("npo", hp)
    np.testing.assert_allclose(found, plain, rtol=1e-5, atol=1e-7)


# --- GRU -----------------------------------------------------------------------------------------------------------


def rectified(g, r):
    """The nearest vector to g without a negative inner product with r, by NumPy."""
    return g - min(0.0, (g * r).sum() / (r * r).sum()) * r


@pytest.mark.parametrize("conflict", [True, False])
def test_rectification_solves_its_problem(conflict):
    rng = np.random.default_rng(0)
    g, r = rng.normal(size=(2, 12))
    r = r * (1.0 if ((g * r).sum() < 0) == conflict else -1.0)
    found = np.asarray(gru.rectified({"w": jnp.float32(g)}, {"w": jnp.float32(r)})["w"], np.float64)
    np.testing.assert_allclose(found, rectified(g, r), rtol=1e-5, atol=1e-6)
    assert (found @ r > -1e-5) and (conflict != np.allclose(found, g))
    others = found + 0.3 * rng.normal(size=(500, 12))
    allowed = others[others @ r >= 0]
    assert len(allowed) > 20 and (((allowed - g) ** 2).sum(axis=1) > ((found - g) ** 2).sum()).all()


@pytest.mark.parametrize("lose", gru.LOSSES)
def test_gru_follows_the_rectified_gradient_of_its_loss(lose):
    rules = Rules()
    lost = away(rules) if lose == "npo" else gathered(rules.asked, rules.rise)
    kept = rules.retained(1.0)
    assert (lost * kept).sum() < 0  # they are in conflict here
    found = followed("gru", {"beta": 0.6, "smooth": 0.8}, static=(("lose", lose),))
    np.testing.assert_allclose(found, rectified(lost, kept), rtol=1e-4, atol=2e-6)
    assert abs((found * kept).sum()) < 1e-6


def test_gru_leaves_everything_where_the_retained_data_are_the_request():
    asked, _ = requested()
    found = followed("gru", {"smooth": 1.0}, static=(("lose", "ascent"),), given=(asked, asked))
    assert np.abs(found).max() < 1e-6


def test_gru_smooths_the_retained_gradient_over_updates():
    static, hp = (("lose", "ascent"),), {"smooth": 0.8, "lr": 0.0}
    state = started("gru", hp, static)
    one = Rules().retained(1.0)
    asked, kept = requested()
    for given, expected in (((asked, kept), 0.8 * one), ((kept, asked), None)):
        _, state, _ = stepped("gru", hp, static=static, state=state, given=given)
        if expected is None:
            expected = 0.2 * 0.8 * one - 0.8 * gathered(asked, Rules().rise)
        np.testing.assert_allclose(state.extra["retained"]["rows"], expected, rtol=1e-4, atol=1e-6)


# --- UAM -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_uam_descends_the_retained_loss_from_uphill_less_its_part_along_the_requests_gradient(gamma, learned, student):
    given = padded()
    state = begin("uam", {"params": learned, "state": {}}, static=SGD)._replace(params=student)
    after, _ = update("uam", state, given, static=SGD, **PLAIN | {"rho": 3.0, "gamma": gamma})
    g = slope(student, given.forget)
    length = np.linalg.norm(flat(g))
    r = slope(combined((1.0, student), (3.0 / length, g)), given.retain)
    along = flat(r) @ flat(g) / length**2
    assert abs(along) > 1e-3
    descended(student, after.params, combined((1.0, r), (-gamma * along, g)), tolerance=1e-4)
    if gamma == 1.0:
        moved = combined((1.0, after.params), (-1.0, student))
        assert abs(float(tree_dot(moved, g))) < 1e-4 * length * np.linalg.norm(flat(moved))


def test_uams_radius_falls_along_half_a_cosine(learned, student):
    after = []
    for progress, rho in ((0.5, 1.0), (0.0, 0.5)):
        given = padded()._replace(progress=jnp.float32(progress))
        state = begin("uam", {"params": learned, "state": {}}, static=SGD)._replace(params=student)
        after.append(update("uam", state, given, static=SGD, **PLAIN | {"rho": rho, "gamma": 1.0})[0].params)
    np.testing.assert_allclose(flat(after[0]), flat(after[1]), rtol=1e-5, atol=1e-6)

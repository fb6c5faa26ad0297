"""Gauss-Newton rounds against dense solutions of `influence`, and what NegMerge's copies agree on."""

import jax
import jax.numpy as jnp
import numpy as np
import oneshot
import pytest
import toy
from rules import Rules, gathered, programs, requested, settings, tables
from steps import flat

from unlearn_jax.methods import METHODS, gauss_newton, negmerge
from unlearn_jax.methods.support.common import Recipe
from unlearn_jax.types import Batches

# --- Gauss-Newton --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [1, 2])
def test_rounds_are_dense_newton_steps_one_after_another(rounds):
    hp = {"damping": np.float32([2.0, 1.0]), "rate": 0.7}
    found = oneshot.run("gauss_newton", static={"rounds": rounds, "steps": 30}, kl=np.inf, **hp)
    own = oneshot.start()
    for _ in range(rounds):
        own = oneshot.run("influence", static={"solver": "dense", "steps": 1}, own=own, scale=1.0, **hp)
    for member in range(2):
        before, expected = (oneshot.weights_of(x, member) for x in (oneshot.start(), own))
        assert np.abs(expected - before).max() > 0.01
        np.testing.assert_allclose(oneshot.weights_of(found, member), expected, rtol=0, atol=2e-4)


def test_one_round_is_the_damped_solution_of_the_gauss_newton_matrix():
    found = oneshot.run(
        "gauss_newton", static={"rounds": 1, "steps": 30}, damping=0.5, rate=1.0, kl=np.float32([np.inf, 1e-3])
    )
    for member, (kept, asked) in enumerate(zip(oneshot.KEPT, oneshot.ASKED)):
        matrix = oneshot.gauss_newton(member, kept) / len(kept) + 0.5 * np.eye(oneshot.WEIGHTS)
        step = np.linalg.solve(matrix, oneshot.sum_of_gradients(member, asked)) / len(kept)
        if member == 1:  # shortened to a divergence of .001
            assert step @ matrix @ step > 4e-3
            step *= np.sqrt(2e-3 / (step @ matrix @ step))
        moved = oneshot.weights_of(found, member) - oneshot.weights_of(oneshot.start(), member)
        np.testing.assert_allclose(moved, step, rtol=0, atol=2e-4 * np.abs(step).max())


def test_each_round_gathers_the_request_solves_and_moves():
    static = METHODS["gauss_newton"].static | {"rounds": 2, "steps": 2, "batch": 16}
    plan = gauss_newton.plan(toy.SIZES, static, Recipe())
    np.testing.assert_array_equal(plan.phase, ([0] + [1, 1, 1, 2] * 2 + [gauss_newton.MOVE]) * 2)


# --- NegMerge ------------------------------------------------------------------------------------------------------


def test_only_what_all_vectors_agree_on_is_kept():
    vectors = np.float32([[1.0, -1.0, 2.0, 0.0, -3.0], [3.0, -2.0, -2.0, 1.0, -1.0]])
    np.testing.assert_array_equal(negmerge.agreed(jnp.asarray(vectors)), [2.0, -1.5, 0.0, 0.0, -2.0])
    np.testing.assert_array_equal(negmerge.agreed(jnp.asarray(vectors[:1])), vectors[0])


def unlearned(name, hp, static=(), updates=1):
    """The table after some updates of plain descent on the request and the method's end."""
    given = settings(name, hp)
    entry, start = METHODS[name], {"params": {"rows": jnp.asarray(tables()[0])}, "state": {}}
    state = programs(name, static)[0](given, jax.random.key(1), start)
    now = Batches(*requested(), jnp.int32(0), jnp.int32(0), jnp.float32(1.0), jnp.float32(0.0))
    for step in range(updates):
        state, _ = programs(name, static)[1](given, jax.random.key(step), state, now)
    fixed = entry.static | {"optimizer": "sgd", "momentum": 0.0} | dict(static)
    return state, np.asarray(entry.build(None, fixed, given).finish(state)["params"]["rows"], np.float64)


def test_one_copy_is_a_task_vector():
    static = (("models", 1), ("half", False))
    _, found = unlearned("negmerge", {"lr": 0.5, "alpha": 0.7}, static, updates=3)
    _, plain = unlearned("task_vector", {"lr": 0.5, "alpha": 0.7}, updates=3)
    assert np.abs(found - tables()[0]).max() > 0.01
    np.testing.assert_allclose(found, plain, rtol=1e-6, atol=1e-7)


def test_copies_of_one_direction_differ_by_their_rates_alone():
    _, found = unlearned("negmerge", {"lr": 0.8, "spread": 4.0, "alpha": 0.5}, (("models", 3), ("half", False)))
    rules = Rules()
    rules.student = tables()[0].astype(np.float64)
    fit = -gathered(rules.asked, rules.rise)  # gradient of the request's loss
    expected = tables()[0] + 0.5 * np.mean([0.8, 0.4, 0.2]) * fit
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-6)


def test_copies_see_halves_of_the_batches_and_differ():
    state, found = unlearned("negmerge", {"lr": 0.5, "spread": 1.0}, (("models", 4), ("half", True)), updates=6)
    rows = np.asarray(state.params["rows"], np.float64)
    vectors = rows - tables()[0]
    assert all(np.abs(a - b).max() > 1e-3 for i, a in enumerate(vectors) for b in vectors[:i])
    one = (vectors > 0).all(axis=0) | (vectors < 0).all(axis=0)
    assert one.any()
    np.testing.assert_allclose(found, tables()[0] - np.where(one, vectors.mean(axis=0), 0.0), rtol=1e-5, atol=1e-6)
    assert flat(state.extra).shape == (rows[0].size,)

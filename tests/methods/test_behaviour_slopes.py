"""MU-Mis: slopes of logits at the inputs, the step that evens them out, and when it stops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from steps import SGD, backward, batch, begin, both, flat, moved, update, whole

from unlearn_jax.methods import METHODS, mu_mis
from unlearn_jax.methods.random_label import wrong_labels
from unlearn_jax.methods.support.common import Recipe
from unlearn_jax.types import Model, Outputs


@functools.cache
def linear():
    """Logits x W: the slope of class c's logit is W's column c wherever x is."""

    def apply(variables, inputs, key=None, train=False):
        x = inputs.reshape(len(inputs), -1)
        return Outputs(x @ variables["params"]["kernel"], x), variables["state"]

    init = lambda key, inputs: whole({"kernel": jax.random.normal(key, (16, toy.CLASSES))})
    return Model(init, apply)


def weights():
    """(16, K) of the linear model."""
    return linear().init(jax.random.key(3), None)["params"]["kernel"]


@pytest.mark.slow
def test_squared_slopes_are_those_of_backpropagation(student):
    some, labels = batch(toy.REQUESTED[:5]), jnp.array([0, 1, 2, 1, 0])
    found = mu_mis.squared_slopes(toy.problem(), whole(student), some, labels)
    slope = backward(student, some.inputs, np.eye(toy.CLASSES)[np.asarray(labels)])[1]
    np.testing.assert_allclose(found, (slope.reshape(5, -1) ** 2).sum(axis=1), rtol=1e-4)


def test_a_step_shrinks_the_true_classes_slopes_and_stretches_those_of_the_drawn():
    some = batch(toy.REQUESTED[:5], weight=[1, 1, 1, 1, 0])
    state = begin("mu_mis", whole({"kernel": weights()}), model=linear(), static=SGD)
    key = jax.random.key(7)
    after, _ = update("mu_mis", state, both(some, phase=mu_mis.FIT), key=7, model=linear(), static=SGD, lr=1.0)
    own, other = (np.asarray(x)[:4] for x in (some.targets, wrong_labels(key, some, toy.CLASSES, False)))
    assert (own != other).all()
    share = (np.bincount(own, minlength=3) - np.bincount(other, minlength=3)) / 4
    expected = -2.0 * np.asarray(weights()) * share
    np.testing.assert_allclose(moved(after.params, state.params)["kernel"], expected, rtol=1e-4, atol=1e-6)


def test_the_slopes_at_the_start_are_summed_over_a_pass_and_nothing_moves():
    state = begin("mu_mis", whole({"kernel": weights()}), model=linear(), static=SGD)
    total = 0.0
    for step in range(2):
        some = batch(toy.REQUESTED[4 * step : 4 * step + 4])
        given = both(some, phase=mu_mis.START)
        state, _ = update("mu_mis", state, given, key=step, model=linear(), static=SGD, lr=1.0)
        drawn = np.asarray(wrong_labels(jax.random.key(step), some, toy.CLASSES, False))
        total += (np.asarray(weights()) ** 2).sum(axis=0)[drawn].sum()
    assert float(state.extra.start) == pytest.approx(total, rel=1e-5)
    np.testing.assert_array_equal(state.params["kernel"], weights())


@pytest.mark.parametrize(
    "now, least, before, stops",
    [
        (9.0, 8.0, False, True),  # above the least and above twice the start
        (9.0, 9.5, False, False),  # not above the least
        (7.9, 1.0, False, False),  # recovered less than asked for: 2 in norm are 4 in squares
        (1.0, 5.0, True, True),  # for good
    ],
)
def test_a_member_stops_for_good_once_the_other_slopes_have_come_back(now, least, before, stops):
    state = begin("mu_mis", whole({"kernel": weights()}), model=linear(), static=SGD)
    slopes = mu_mis.Slopes(jnp.float32(2.0), jnp.float32(now), jnp.float32(least), jnp.bool_(before))
    look = both(phase=mu_mis.LOOK)
    state, _ = update("mu_mis", state._replace(extra=slopes), look, model=linear(), static=SGD, recovery=2.0)
    assert bool(state.extra.stopped) == stops
    assert float(state.extra.least) == min(now, least) and float(state.extra.now) == 0.0
    after, _ = update("mu_mis", state, both(phase=mu_mis.FIT), model=linear(), static=SGD, lr=0.1)
    assert (np.abs(flat(moved(after.params, state.params))).max() == 0.0) == stops


def test_every_pass_shows_the_request_once_and_is_looked_at():
    static = METHODS["mu_mis"].static | {"batch": 4, "epochs": 2}
    plan = mu_mis.plan(toy.SIZES, static, Recipe())
    once = [mu_mis.FIT] * 3 + [mu_mis.LOOK]
    np.testing.assert_array_equal(plan.phase, [mu_mis.START] * 3 + once * 2)
    assert plan.forget_pass == 3

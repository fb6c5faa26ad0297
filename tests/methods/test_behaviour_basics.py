"""Ascent, random labels and retraining as published."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from steps import (
    LN_K,
    PLAIN,
    SGD,
    batch,
    begin,
    both,
    combined,
    difference,
    followed,
    logits,
    loss_gradient,
    losses,
    moved,
    other,
    update,
    whole,
)

from unlearn_jax.methods import METHODS, prepare, salun
from unlearn_jax.methods.random_label import TRUE, WRONG, wrong_labels
from unlearn_jax.methods.retrain import rates
from unlearn_jax.methods.support.common import Recipe, bounded_loss, weighted_mean
from unlearn_jax.types import Batch

# --- ascent --------------------------------------------------------------------------------------------------------


def test_neggrad_plus_minimises_the_weighted_difference(teacher):
    alpha, lr, given = 0.7, 1e-2, both()
    state = begin("neggrad_plus", teacher, static=SGD)
    after, loss = update("neggrad_plus", state, given, static=SGD, alpha=alpha, lr=lr, bound=np.inf)

    def objective(params):
        return alpha * losses(params, given.retain).mean() - (1 - alpha) * losses(params, given.forget).mean()

    assert float(loss) == pytest.approx(objective(teacher["params"]), rel=1e-4)
    gradient = jax.tree.map(lambda x: x / lr, moved(teacher["params"], after.params))
    rng = np.random.default_rng(0)
    for _ in range(3):
        way = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), teacher["params"])
        ahead, behind = (jax.tree.map(lambda p, d, e=e: p + e * d, teacher["params"], way) for e in (1e-3, -1e-3))
        slope = sum(float((g * np.asarray(d)).sum()) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(way)))
        assert slope == pytest.approx((objective(ahead) - objective(behind)) / 2e-3, rel=2e-2, abs=1e-3)


@pytest.fixture(scope="module")
def split_by_loss(original):
    """A member with requested examples (under ln K, over ln K) by a clear distance."""
    own = jax.tree.map(jnp.asarray, toy.member(original, 1))
    data = toy.stored()
    wrong = batch(toy.KEPT[:5])._replace(targets=(data.targets[:5] + 1) % toy.CLASSES)
    mixed = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), batch(toy.KEPT[5:10]), wrong)
    found = losses(own["params"], mixed)
    assert (found[:5] < LN_K / 2).all() and (found[5:] > 2 * LN_K).all()
    return own, mixed


def test_an_example_beyond_chance_has_no_gradient(split_by_loss):
    own, mixed = split_by_loss
    logit = jnp.asarray(logits(own["params"], mixed), jnp.float32)
    program = jax.jit(jax.value_and_grad(lambda z, bound: bounded_loss(toy.problem(), z, mixed, bound)))
    _, slope = jax.device_get(program(logit, 1.0))
    assert (slope[5:] == 0.0).all() and (np.abs(slope[:5]).max(axis=1) > 0).all()
    loss, published = jax.device_get(program(logit, np.inf))
    np.testing.assert_allclose(slope[:5], published[:5], rtol=1e-6)  # the others count neither less nor more
    assert (np.abs(published[5:]).max(axis=1) > 0.01).all()
    assert loss == pytest.approx(losses(own["params"], mixed).mean(), rel=1e-5)
    none, still = jax.device_get(program(logit, 0.0))
    assert none == 0.0 and (still == 0.0).all()


def test_gradient_ascent_is_bounded_by_default_and_published_at_infinity(split_by_loss):
    own, mixed = split_by_loss
    state, lr = begin("gradient_ascent", own, static=SGD), 0.1
    step = lambda some, bound: (
        update("gradient_ascent", state, both(forget=some), static=SGD, lr=lr, bound=bound)[0].params
    )
    beyond = mixed._replace(inputs=mixed.inputs.at[5:].multiply(1.01))
    toy.same(step(beyond, 1.0), step(mixed, 1.0))
    assert difference(step(beyond, np.inf), step(mixed, np.inf)) > 1e-5
    assert METHODS["gradient_ascent"].numeric["bound"] == 1.0

    def mean(params):
        return weighted_mean(
            toy.problem().task.loss(toy.perceptron().apply(whole(params), mixed.inputs)[0].logits, mixed), mixed.weight
        )

    climbed = jax.tree.map(lambda p, g: p + lr * g, own["params"], jax.jit(jax.grad(mean))(own["params"]))
    toy.close(step(mixed, np.inf), climbed)


def test_adam_is_offered_beside_the_published_sgd(teacher):
    adam, _ = update("gradient_ascent", begin("gradient_ascent", teacher), both(), lr=1e-3, bound=np.inf)
    assert difference(adam.params, teacher["params"]) == pytest.approx(1e-3, rel=1e-2)


# --- random labels -------------------------------------------------------------------------------------------------


def labels(seed, rows, allow_true=False, classes=10):
    """(true, drawn) labels of some rows of an imagined data set."""
    rows = jnp.asarray(rows, jnp.int32)
    true = (rows * 7) % classes
    some = Batch(jnp.zeros((len(rows), 1)), true, jnp.ones(len(rows)), rows)
    return np.asarray(true), np.asarray(_draw(jax.random.key(seed), some, classes, allow_true))


_draw = jax.jit(wrong_labels, static_argnums=(2, 3))


def test_a_drawn_label_is_never_the_true_one_unless_allowed():
    true, drawn = labels(0, np.arange(3000))
    assert (drawn != true).all() and drawn.min() == 0 and drawn.max() == 9
    shift = np.bincount((drawn - true) % 10, minlength=10)[1:]
    assert np.abs(shift - 3000 / 9).max() < 5 * np.sqrt(3000 / 9)  # each wrong label alike
    true, drawn = labels(0, np.arange(3000), allow_true=True)
    assert 200 < (drawn == true).sum() < 400 and len(np.unique(drawn)) == 10
    assert drawn.dtype == np.int32


def test_a_drawn_label_belongs_to_the_row_and_not_to_its_place():
    _, drawn = labels(0, np.arange(50))
    order = np.random.default_rng(0).permutation(50)
    np.testing.assert_array_equal(labels(0, order)[1], drawn[order])
    order[:3] = 7  # thrice
    np.testing.assert_array_equal(labels(0, order)[1], drawn[order])
    assert (labels(1, np.arange(50))[1] != drawn).mean() > 0.5


@pytest.mark.slow
def test_labels_are_drawn_once_or_at_every_update(teacher):
    for redraw, alike in ((False, True), (True, False)):
        static = (("redraw", redraw),)
        state = begin("random_label", teacher, static=static)
        first, second = (update("random_label", state, both(), static=static, key=key)[0].params for key in (0, 1))
        assert (difference(first, second) == 0.0) == alike
    stranger = begin("random_label", teacher)._replace(extra=jax.random.key_data(jax.random.key(8)))
    once = update("random_label", begin("random_label", teacher), both())[0].params
    assert difference(update("random_label", stranger, both())[0].params, once) > 0  # members draw their own


def test_random_label_descends_on_drawn_labels_of_the_request_then_on_true_ones_of_the_retained(teacher):
    state = begin("random_label", teacher)
    drawn = wrong_labels(
        jax.random.fold_in(jax.random.wrap_key_data(state.extra), 7), both().forget, toy.CLASSES, False
    )
    after, loss = update("random_label", state, both(phase=WRONG), retain_weight=0.5, **PLAIN)
    expected, slope = loss_gradient(teacher["params"], both().forget, drawn)
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    followed(teacher["params"], after.params, slope)
    blind = both(phase=WRONG, retain=other(both().retain))
    toy.same(update("random_label", state, blind, retain_weight=0.5, **PLAIN)[0].params, after.params)
    after, loss = update("random_label", state, both(phase=TRUE), retain_weight=0.5, **PLAIN)
    expected, slope = loss_gradient(teacher["params"], both().retain)
    assert float(loss) == pytest.approx(0.5 * expected, rel=1e-4)
    followed(teacher["params"], after.params, combined((0.5, slope)))
    blind = both(phase=TRUE, forget=other(both().forget))
    toy.same(update("random_label", state, blind, retain_weight=0.5, **PLAIN)[0].params, after.params)


@pytest.mark.parametrize("name, before", [("random_label", []), ("salun", [salun.GATHER] * 3 + [salun.CUT])])
def test_each_epoch_shows_the_request_once_and_then_the_retained_data_once(name, before):
    plan = METHODS[name].plan(toy.SIZES, METHODS[name].static | {"epochs": 4, "batch": 4}, Recipe())
    wrong, true = (WRONG, TRUE) if name == "random_label" else (salun.WRONG, salun.TRUE)
    np.testing.assert_array_equal(plan.phase, before + ([wrong] * 3 + [true] * 10) * 4)
    assert (plan.forget_pass, plan.retain_pass) == (3, 10)  # exact passes
    passes = len(before) // 4 + 4  # of the request; one for SalUn's mask
    np.testing.assert_array_equal(plan.forget_step[plan.forget_cost > 0], np.arange(3 * passes))
    np.testing.assert_array_equal(plan.retain_step[plan.retain_cost > 0], np.arange(40))
    assert plan.grad_evals_forget == 12 * passes and plan.grad_evals_retain == 160


# --- retraining ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 5, 1200])
def test_a_cosine_rate_warms_up_and_falls_to_zero(steps):
    found = rates(Recipe(steps=steps, schedule="cosine"))
    warm = max(1, steps // 10)
    np.testing.assert_array_equal(rates(Recipe(steps=steps)), np.ones(steps))  # a constant one
    assert found.shape == (steps,) and (found > 0).all() and found.max() == found[warm - 1] == 1.0
    np.testing.assert_allclose(found[:warm], np.arange(1, warm + 1) / warm)
    assert (np.diff(found[warm - 1 :]) < 0).all()
    if steps >= 100:
        middle = warm + (steps - warm) // 2
        assert found[middle] == pytest.approx(0.5, abs=0.02) and found[-1] < 1e-3


def test_the_plan_of_retraining_carries_the_recipes_rates():
    recipe = Recipe(steps=100, schedule="cosine", lr=0.3, weight_decay=0.2)
    _, plan, numeric = prepare("retrain", toy.problem(recipe=recipe), {}, toy.SIZES)
    np.testing.assert_allclose(plan.rate, rates(recipe), rtol=1e-6)
    assert numeric == {"lr": 0.3, "weight_decay": 0.2} and plan.steps == 100


@pytest.mark.parametrize("optimizer", toy.some(["adamw", "sgd"], 1))
def test_the_rate_scales_the_update_and_its_weight_decay(optimizer, teacher):
    recipe = toy.RECIPE._replace(optimizer=optimizer)
    build = METHODS["retrain"].build(toy.problem(recipe=recipe), {}, {"lr": 0.01, "weight_decay": 0.1})
    start = build.init(jax.random.key(1), teacher)
    step = jax.jit(build.update)
    full, half, none = (step(jax.random.key(0), start, both(rate=rate))[0].params for rate in (1.0, 0.5, 0.0))
    toy.same(none, start.params)
    toy.close(half, jax.tree.map(lambda a, b: (a + b) / 2, start.params, full), 1e-6)

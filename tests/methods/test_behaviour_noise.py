"""Methods that add noise to inputs: UNSIR, JiT and RURK; against closed forms and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from scipy.stats import kstest
from steps import (
    LN_K,
    MEAN,
    PLAIN,
    SGD,
    STD,
    backward,
    batch,
    begin,
    both,
    combined,
    cross_entropy,
    difference,
    entropy_slope,
    followed,
    forward,
    images,
    loss_gradient,
    other,
    update,
)

from unlearn_jax.methods import METHODS, jit_lipschitz, rurk, unsir
from unlearn_jax.methods.support.common import Recipe, Trained
from unlearn_jax.models import build_model

# --- UNSIR ---------------------------------------------------------------------------------------------------------

NOISY = (*SGD, ("noises", 12))
LEARN, IMPAIR, REPAIR = unsir.NOISE, unsir.IMPAIR, unsir.REPAIR


def whole_of(state):
    """The variables of a state."""
    return {"params": state.params, "state": state.state}


@pytest.fixture(scope="module")
def of_one_class():
    """Six kept examples of class 1."""
    return batch(toy.KEPT[np.asarray(toy.stored().targets)[toy.KEPT] == 1][:6])


@pytest.fixture(scope="module")
def spoiled(teacher, of_one_class):
    """UNSIR's states before, after one and after all updates of its noise."""
    states = [begin("unsir", teacher, static=NOISY)]
    for _ in range(40):
        states.append(update("unsir", states[-1], both(of_one_class, phase=LEARN), static=NOISY)[0])
    return states[0], states[1], states[-1]


def test_unsirs_noise_starts_normal_and_raises_the_originals_loss_before_weights_move(spoiled, teacher):
    loss = lambda state: cross_entropy(forward(teacher["params"], state.extra["noise"])[-1], np.ones(12, int)).mean()
    start, _, last = spoiled
    assert loss(last) > loss(start) + 2 * LN_K and loss(last) > 3 * LN_K
    toy.same(last.params, teacher["params"])
    np.testing.assert_array_equal(np.asarray(last.extra["labels"]), 1)
    many = np.asarray(begin("unsir", teacher, static=(("noises", 400),)).extra["noise"])
    assert many.shape == (400, *toy.SHAPE) and kstest(many.ravel(), "norm").pvalue > 1e-3
    assert (
        np.abs(np.asarray(begin("unsir", teacher, key=2, static=NOISY).extra["noise"] - start.extra["noise"])).max() > 1
    )


def test_unsirs_noise_descends_minus_the_loss_plus_the_mean_squared_length(spoiled, teacher, of_one_class):
    start, first, _ = spoiled
    noise = np.asarray(start.extra["noise"], np.float64)
    slope = entropy_slope(forward(teacher["params"], noise)[-1], np.ones(12, int)) / 12
    steep = 2 * 0.1 * noise / 12 - backward(teacher["params"], noise, slope)[1]
    clear = np.abs(steep) > 1e-5
    assert clear.mean() > 0.9
    moved = np.asarray(first.extra["noise"], np.float64) - noise  # Adam's first step is the rate by the sign
    np.testing.assert_allclose(moved[clear], -0.1 * np.sign(steep[clear]), rtol=2e-3)
    _, value = update("unsir", start, both(of_one_class, phase=LEARN), static=NOISY, penalty=0.3)
    lost = cross_entropy(forward(teacher["params"], noise)[-1], np.ones(12, int)).mean()
    assert float(value) == pytest.approx(-lost + 0.3 * (noise**2).sum() / 12, rel=1e-4)
    blind = both(other(of_one_class, labels=0), other(both().retain), phase=LEARN)
    toy.same(update("unsir", start, blind, static=NOISY)[0].extra, first.extra)  # labels, not images


def test_unsir_impairs_on_noise_beside_retained_data_and_repairs_on_these(spoiled, teacher, of_one_class):
    last, rule = spoiled[2], {"lr": 1.0, "static": NOISY}
    noise = of_one_class._replace(inputs=last.extra["noise"], targets=np.ones(12, int))
    wrong, kept = loss_gradient(teacher["params"], noise), loss_gradient(teacher["params"], both().retain)
    after, loss = update("unsir", last, both(of_one_class, phase=IMPAIR), **rule)
    assert float(loss) == pytest.approx((12 * wrong[0] + 8 * kept[0]) / 20, rel=1e-4)
    followed(teacher["params"], after.params, combined((12 / 20, wrong[1]), (8 / 20, kept[1])), tolerance=1e-4)
    np.testing.assert_array_equal(after.extra["noise"], last.extra["noise"])
    healed, _ = update("unsir", last, both(of_one_class, phase=REPAIR), repair=0.25, **rule)
    followed(teacher["params"], healed.params, combined((0.25, kept[1])))
    blind = both(other(of_one_class), phase=REPAIR)
    toy.same(update("unsir", last, blind, repair=0.25, **rule)[0].params, healed.params)


@pytest.mark.parametrize("optimizer", toy.some(["sgd", "adam"], 1))
def test_unsir_repairs_by_an_optimizer_of_its_own_at_a_share_of_the_rate(optimizer, spoiled, of_one_class):
    static, rule = (("noises", 12), ("optimizer", optimizer)), {"lr": 0.02, "repair": 0.25}  # with momentum
    before = begin("unsir", whole_of(spoiled[2]), static=static)._replace(extra=spoiled[2].extra)
    impaired, _ = update("unsir", before, both(of_one_class, phase=IMPAIR), static=static, **rule)
    healed, loss = update("unsir", impaired, both(of_one_class, phase=REPAIR), static=static, **rule)
    kept, slope = loss_gradient(impaired.params, both().retain)
    assert float(loss) == pytest.approx(kept, rel=1e-4)  # the rate is less, not the loss
    if optimizer == "sgd":
        return followed(impaired.params, healed.params, slope, 0.25 * 0.02)
    for after, at, g in zip(*map(jax.tree.leaves, (healed.params, impaired.params, slope)), strict=True):
        clear = np.abs(g) > 1e-4  # Adam's first step is the rate by the sign
        np.testing.assert_allclose(np.asarray(at - after)[clear], 0.25 * 0.02 * np.sign(g[clear]), rtol=2e-2)


def test_unsir_without_a_request_impairs_nothing(spoiled, teacher):
    none = batch(np.zeros(6, int), weight=np.zeros(6))
    blank, _ = update("unsir", spoiled[2], both(none, phase=LEARN), static=NOISY)
    after, loss = update("unsir", blank, both(none, phase=IMPAIR), lr=1.0, static=NOISY)
    kept = loss_gradient(teacher["params"], both().retain)
    assert float(loss) == pytest.approx(8 / 20 * kept[0], rel=1e-4)
    followed(teacher["params"], after.params, combined((8 / 20, kept[1])))


def test_unsir_learns_noise_then_impairs_then_repairs():
    static = METHODS["unsir"].static | {"epochs": 2, "batch": 16, "noise_steps": 5}
    plan = unsir.plan(toy.SIZES, static, Recipe())
    np.testing.assert_array_equal(plan.phase, [LEARN] * 5 + [IMPAIR] * 6 + [REPAIR] * 6)
    assert plan.grad_evals_forget == pytest.approx(11 * 20) and plan.grad_evals_retain == 12 * 16


# --- JiT -----------------------------------------------------------------------------------------------------------


def test_jits_ratio_and_gradient_on_a_linear_model_equal_the_closed_form():
    model, draws = build_model("linear", toy.CLASSES, toy.SHAPE), 4
    variables, static = jax.jit(model.init)(jax.random.key(0), toy.stored().inputs[:1]), (*SGD, ("draws", draws))
    state = begin("jit_lipschitz", variables, model=model, static=static)
    after, loss = update("jit_lipschitz", state, both(), key=9, model=model, static=static, noise=0.3, **PLAIN)
    keys = jax.random.split(jax.random.key(9), draws)
    noise = np.stack([np.asarray(jax.random.normal(k, (5, *toy.SHAPE))).reshape(5, -1) for k in keys]).astype(float)
    kernel = np.asarray(state.params["head"]["kernel"], np.float64)
    size, through = np.linalg.norm(noise, axis=2, keepdims=True), noise @ kernel
    stretch = np.linalg.norm(through, axis=2, keepdims=True)
    assert float(loss) == pytest.approx((stretch / size).mean(), rel=1e-4)  # whatever the size of the noise
    slope = np.einsum("dbi,dbk->ik", noise, through / stretch / size) / (draws * 5)
    followed(kernel, after.params["head"]["kernel"], slope)
    toy.same(after.params["head"]["bias"], state.params["head"]["bias"])
    blind = both(both().forget._replace(targets=jnp.zeros(5, jnp.int32)), other(both().retain))
    same, _ = update("jit_lipschitz", state, blind, key=9, model=model, static=static, noise=0.3, **PLAIN)
    toy.same(same.params, after.params)
    other_noise, _ = update("jit_lipschitz", state, both(), key=8, model=model, static=static, noise=0.3, **PLAIN)
    assert difference(other_noise.params, after.params) > 1e-4


def test_jits_noise_is_in_pixels_of_zero_to_one():
    model, (weights, _), some = images()
    own = {"params": weights, "state": {}}
    grey = some.inputs.astype(jnp.float32) / 255
    found = lambda m, inputs, noise: jit_lipschitz.sensitivity(
        toy.problem(m), own, some._replace(inputs=inputs), jax.random.key(0), jnp.float32(noise), 2
    )
    measure = lambda: (found(model, some.inputs, 0.1), found(model, grey, 0.1))
    raw, scaled, inside = jax.jit(lambda: (*measure(), found(toy.perceptron(), (grey - MEAN) / STD, 0.1 / STD)))()
    np.testing.assert_allclose(raw, scaled, rtol=1e-5)
    np.testing.assert_allclose(raw, inside / STD, rtol=1e-3)  # the same noise, in standard deviations


# --- RURK ----------------------------------------------------------------------------------------------------------


def test_points_are_uniform_in_the_ball():
    centres = jnp.full((4000, 2, 3, 1), 0.4)
    moved = np.asarray(jax.jit(rurk.in_ball)(jax.random.key(0), centres, 0.7) - centres, np.float64).reshape(4000, 6)
    radius = np.linalg.norm(moved, axis=1)
    assert radius.max() <= 0.7 * (1 + 1e-5)
    assert kstest((radius / 0.7) ** 6, "uniform").pvalue > 1e-3  # a ball's volume grows with the sixth power
    assert np.abs((moved / radius[:, None]).mean(axis=0)).max() < 5 / np.sqrt(6 * 4000)
    assert np.abs(moved.T @ moved / 4000 - 0.49 / 8 * np.eye(6)).max() < 5 * 0.49 / 8 * np.sqrt(2 / 4000)


def test_rurk_descends_on_retained_data_and_ascends_on_points_around_the_request(teacher, student):
    state, given = Trained(student, {}, begin("rurk", teacher, static=SGD).optimizer), both()
    rule = {"static": SGD, "weight": 0.4, "radius": 0.8, **PLAIN}
    after, loss = update("rurk", state, given, key=6, bound=np.inf, **rule)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(6), 1), METHODS["rurk"].static["draws"])
    around = [given.forget._replace(inputs=rurk.in_ball(key, given.forget.inputs, 0.8)) for key in keys]
    kept, lost = loss_gradient(student, given.retain), [loss_gradient(student, some) for some in around]
    assert float(loss) == pytest.approx(kept[0] - 0.4 * np.mean([x for x, _ in lost]), rel=1e-3)
    share = 0.4 / len(keys)
    followed(student, after.params, combined((1.0, kept[1]), *((-share, slope) for _, slope in lost)))
    still, _ = update("rurk", state, given, key=6, bound=0.0, **rule)
    followed(student, still.params, kept[1])

"""The challenge's entries that contrast or compare gradients, FCS and MSG, and the published numbers of the others."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from scipy.special import log_softmax
from steps import (
    batch,
    begin,
    convnet,
    cross_entropy,
    flat,
    followed,
    live,
    moved,
    outputs,
    padded,
    tensors,
    update,
    whole,
)

from unlearn_jax.methods import METHODS, fcs, msg, settings_at
from unlearn_jax.methods.support.common import Recipe
from unlearn_jax.types import Batch

# --- FCS -----------------------------------------------------------------------------------------------------------


def test_fcs_flattens_towards_the_uniform_prediction(learned):
    state, given = begin("fcs", whole(learned)), padded(fcs.FLATTEN)
    after, loss = update("fcs", state, given)
    logits = outputs(learned, given.forget)[0]
    expected = (-np.log(toy.CLASSES) - log_softmax(logits, axis=1)).mean(axis=1)  # KL(u || p), a row
    assert float(loss) == pytest.approx(expected.mean(), rel=1e-4)
    now = (-np.log(toy.CLASSES) - log_softmax(outputs(after.params, given.forget)[0], axis=1)).mean()
    assert now < expected.mean()
    toy.same(update("fcs", state, given._replace(retain=batch(toy.UNUSED[:9], 1.0)))[0].params, after.params)


def test_fcs_contrasts_the_request_with_fixed_retained_logits(learned):
    state, given = begin("fcs", whole(learned)), padded(fcs.REPEL)
    after, loss = update("fcs", state, given, repel_lr=0.01)
    kept = outputs(learned, given.retain)[0]
    value = lambda params: -log_softmax(outputs(params, given.forget)[0] @ kept.T / 1.15, axis=1).mean()
    assert float(loss) == pytest.approx(value(learned), rel=1e-4)
    fixed, inputs = jnp.asarray(kept, jnp.float32), live(given.forget).inputs

    def objective(params):
        logits = toy.perceptron().apply(whole(params), inputs)[0].logits
        return -jax.nn.log_softmax(logits @ fixed.T / 1.15, axis=1).mean()

    followed(learned, after.params, jax.jit(jax.grad(objective))(learned), 0.01, 1e-4)


def test_fcs_passes_come_in_the_published_order():
    plan = fcs.plan(toy.SIZES, {"rounds": 3, "batch": 4}, Recipe())  # 3 batches of requested, 10 of retained examples
    np.testing.assert_array_equal(plan.phase, [fcs.FLATTEN] * 3 + ([fcs.REPEL] * 3 + [fcs.FIT] * 10) * 3)
    contrast = plan.rate[plan.phase == fcs.REPEL]
    np.testing.assert_allclose(contrast[[0, -1]], [1.0, 1 / 300 + 299 / 600 * (1 + np.cos(np.pi * 8 / 9))], rtol=1e-5)
    assert (np.diff(contrast) < 0).all() and (plan.rate[plan.phase != fcs.REPEL] == 1.0).all()
    np.testing.assert_array_equal(plan.forget_step[plan.phase != fcs.FIT], np.arange(12))  # exact passes
    assert plan.forget_pass == 3 and (plan.forget_cost[plan.phase == fcs.FIT] == 0).all()


@pytest.mark.slow
def test_fcs_optimizers_share_no_state(learned):
    start = begin("fcs", whole(learned))
    assert len(start.optimizer) == 3
    for phase in (fcs.FLATTEN, fcs.REPEL, fcs.FIT):
        after, _ = update("fcs", start, padded(phase))
        for i, (old, new) in enumerate(zip(start.optimizer, after.optimizer)):
            assert (np.abs(flat(moved(new, old))).max() > 0) == (i == phase)
    first, _ = update("fcs", start, padded(fcs.FLATTEN))
    fit = lambda state: update("fcs", state._replace(params=start.params), padded(fcs.FIT))[0].params
    toy.same(fit(first), fit(start))  # the momentum of flattening is no part of the fit


# --- MSG -----------------------------------------------------------------------------------------------------------

MSG = (("momentum", 0.0),)


_least = jax.jit(msg.smallest_share)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 1.0])
def test_the_smallest_share_is_exact_even_among_equals(share):
    values = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    found = np.asarray(_least(jnp.asarray(values), jnp.float32(share)))
    chosen = np.sort(np.abs(values).ravel())[: round(share * 30)]
    np.testing.assert_array_equal(np.sort(np.abs(values[found == 1])), chosen)
    assert set(np.unique(found)) <= {0.0, 1.0}
    for equal in (np.zeros((6, 5)), np.where(np.arange(30) < 20, 0.0, 1.0).reshape(6, 5)):  # inputs that are always 0
        assert float(_least(jnp.asarray(equal, jnp.float32), jnp.float32(share)).sum()) == round(share * 30)


@functools.cache
def _answers():
    """Logits of the network of convolutions, and the gradient of its mean loss."""
    model = convnet()[0]
    found = lambda params, inputs: model.apply(whole(params), inputs)[0].logits

    def mean(params, some):
        return jnp.sum(toy.problem(model).task.loss(found(params, some.inputs), some) * some.weight) / some.weight.sum()

    return jax.jit(found), jax.jit(jax.grad(mean))


def convolved(params, some):
    """The gradient on a batch of at most 20, as NumPy in double precision."""
    room = 20 - len(some.weight)
    some = Batch(*(jnp.asarray(np.pad(np.asarray(x), [(0, room)] + [(0, 0)] * (x.ndim - 1))) for x in some[:4]))
    return jax.tree.map(lambda x: np.asarray(x, np.float64), _answers()[1](params, some))


@pytest.fixture(scope="module")
def scored():
    """MSG's state on the network of convolutions after both passes, and the same scores by whole-batch gradients."""
    model, params = convnet()
    state = begin("msg", whole(params), static=MSG, model=model)
    for forget, retain in ((toy.REQUESTED[:6], toy.KEPT[:9]), (toy.REQUESTED[6:], toy.KEPT[9:20])):
        live = batch(np.pad(forget, (0, 6 - len(forget))), weight=np.arange(6) < len(forget))
        state, _ = update("msg", state, padded(msg.FORGET, forget=live), static=MSG, model=model)
        state, _ = update("msg", state, padded(msg.RETAIN, retain=batch(retain)), static=MSG, model=model)
    scores = moved(convolved(params, batch(toy.KEPT[:20])), convolved(params, batch(toy.REQUESTED)))
    return state, tensors(params), tensors(scores)


def test_msg_draws_the_weights_anew_on_which_gradients_agree_most(scored):
    state, params, scores = scored
    reset = [update("msg", state, padded(msg.RESET), static=MSG, model=convnet()[0], key=k)[0] for k in (2, 3)]
    after, other = (tensors(x.params) for x in reset)
    for name, before in params.items():
        if before.ndim < 4:
            np.testing.assert_array_equal(after[name], before)
            continue
        least = np.argsort(np.abs(scores[name]).ravel())[: round(0.3 * before.size)]
        chosen = np.isin(np.arange(before.size), least).reshape(before.shape)
        np.testing.assert_array_equal(after[name] != before, chosen)
        assert (after[name][chosen] != other[name][chosen]).all()  # drawn by key
        fan_in = np.prod(before.shape[:3])
        assert 0.3 < np.std(after[name][chosen]) * np.sqrt(fan_in) < 3.0  # as an initialisation draws


def test_msg_slows_the_kept_convolution_weights_alone(scored):
    model = convnet()[0]
    state, _ = update("msg", scored[0], padded(msg.RESET), static=MSG, model=model)
    after, loss = update("msg", state, padded(msg.FIT), static=MSG, model=model, lr=0.5, slow=0.1, weight_decay=0.0)
    some = live(padded().retain)
    logits = np.asarray(_answers()[0](state.params, some.inputs), np.float64)
    assert float(loss) == pytest.approx(cross_entropy(logits, some.targets).mean(), rel=1e-4)
    step, way, new = (tensors(x) for x in (
        moved(after.params, state.params), convolved(state.params, padded().retain), state.extra["new"],
    ))  # fmt: skip
    for name, g in way.items():
        pace = np.where(new[name] == 1, 1.0, 0.1) if g.ndim == 4 else 1.0
        np.testing.assert_allclose(step[name], -0.5 * pace * g, rtol=2e-3, atol=1e-6)
        assert new[name].sum() == (round(0.3 * g.size) if g.ndim == 4 else 0)


@pytest.mark.slow
def test_msg_slows_steps_where_an_optimizer_undoes_the_scale_of_gradients():
    model, params = convnet()
    adam = (("optimizer", "adam"),)
    state = begin("msg", whole(params), static=adam, model=model)
    half = jax.tree.map(lambda x: jnp.asarray(np.arange(x.size).reshape(x.shape) % 2, x.dtype), state.extra["new"])
    state = state._replace(extra=state.extra | {"new": half})
    step = lambda slow: tensors(moved(
        update("msg", state, padded(msg.FIT), static=adam, model=model, slow=slow, weight_decay=0.0)[0].params, params
    ))  # fmt: skip
    whole_step, slowed = step(1.0), step(0.1)
    for name, full in whole_step.items():
        pace = np.where(tensors(half)[name] == 1, 1.0, 0.1) if full.ndim == 4 else 1.0
        np.testing.assert_allclose(slowed[name], pace * full, rtol=1e-2, atol=1e-7)


def test_msg_warms_up_through_half_of_its_epochs_and_then_slows_down():
    plan = msg.plan(toy.SIZES, {"epochs": 5, "batch": 8}, Recipe())
    np.testing.assert_array_equal(plan.phase, [msg.FORGET] * 2 + [msg.RETAIN] * 5 + [msg.RESET] + [msg.FIT] * 25)
    np.testing.assert_allclose(plan.rate[8:], np.repeat([1 / 3, 2 / 3, 1, 2 / 3, 1 / 3], 5), rtol=1e-6)
    np.testing.assert_allclose(msg.rates(4), [1 / 2, 1, 2 / 3, 1 / 3])
    np.testing.assert_allclose(msg.rates(1), [1])
    assert msg.rates(0).shape == (0,)
    assert plan.forget_pass == 2 and plan.retain_pass == 5


# --- published numbers ---------------------------------------------------------------------------------------------

AT_CIFAR = {
    "msg": {"lr": 1e-3, "epochs": 5, "share": 0.3, "slow": 0.1},
    "cfw": {"lr": 7e-4, "epochs": 4, "noise": 0.6, "last_noise": 0.005},
    "prmq": {"lr": 5e-4, "epochs": 3, "prune": 0.99, "match": 1.0},
    "ct": {"lr": 1e-3, "epochs": 3},
    "kde": {"lr": 1e-3, "warm_lr": 9e-4, "epochs": 3, "temperature": 5.0},
    "rni": {"lr": 2e-4, "epochs": 9, "tensors": 9, "noise": 0.04, "noise_share": 0.7},
}
COMMON = {"batch": 64, "optimizer": "sgd", "momentum": 0.9, "weight_decay": 5e-4}


@pytest.mark.parametrize("name", AT_CIFAR)
def test_entries_have_their_published_numbers_on_cifar(name):
    static, numeric = settings_at(METHODS[name], "cifar")
    found = static | numeric
    assert {key: found[key] for key in AT_CIFAR[name] | COMMON} == AT_CIFAR[name] | COMMON


def test_what_an_entry_damages_is_trained_at_language_scale():
    for name in AT_CIFAR.keys() - {"ct"}:
        static, numeric = settings_at(METHODS[name], "language")
        assert static["optimizer"] == "adam" and numeric["lr"] == 1e-3 and numeric["weight_decay"] == 0.0
    assert "language" not in METHODS["ct"].presets  # which has no pixels to transpose

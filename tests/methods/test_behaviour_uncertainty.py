"""LoTUS: relaxed samples, the temperature of an epoch, when it ends, and the step of an epoch by NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from scipy.special import log_softmax, softmax
from steps import SGD, backward, batch, begin, both, difference, live, logits, padded, update
from steps import followed as descended

from unlearn_jax.errors import InputError
from unlearn_jax.methods import METHODS, lotus
from unlearn_jax.methods.support.common import Recipe
from unlearn_jax.testing import protocol

LOGITS = jnp.array([2.0, 0.0, -1.0, 1.0])


def test_a_relaxed_sample_is_a_draw_of_the_softmax_at_temperature_0_and_uniform_at_infinity():
    drawn = jax.jit(lotus.gumbel_softmax)(jax.random.key(0), jnp.tile(LOGITS, (40_000, 1)), 1e-9)
    np.testing.assert_allclose(drawn.max(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(drawn.mean(axis=0), softmax(LOGITS), atol=0.01)
    np.testing.assert_allclose(lotus.gumbel_softmax(jax.random.key(1), LOGITS, 1e6), 0.25, atol=1e-4)


def started(teacher, unseen):
    """The state at the start, with a reference accuracy."""
    return begin("lotus", teacher | {"unseen": jnp.float32(unseen)}, static=SGD)


@pytest.mark.parametrize("unseen, ends", [(0.3, False), (0.605, False), (0.611, True)])
def test_the_temperature_follows_the_accuracy_above_that_on_unseen_data(unseen, ends, teacher):
    state = started(teacher, unseen)
    some = batch(toy.REQUESTED[:6], weight=[1, 1, 1, 1, 1, 0])
    guess = logits(teacher["params"], some).argmax(axis=1)
    some = some._replace(targets=jnp.asarray(np.where(np.arange(6) < 3, guess, (guess + 1) % 3), jnp.int32))
    state, _ = update("lotus", state, both(some, phase=lotus.LOOK), static=SGD)
    assert (float(state.extra.right), float(state.extra.count)) == (3.0, 5.0)
    state, above = update("lotus", state, both(phase=lotus.LEAD), static=SGD, alpha=7.0)
    assert float(above) == pytest.approx(0.6 - unseen, abs=1e-6) and float(state.extra.count) == 0.0
    assert bool(state.extra.ended) == ends
    if not ends:
        assert float(state.extra.temperature) == pytest.approx(np.exp(7.0 * (0.6 - unseen)), rel=1e-4)
    after, _ = update("lotus", state, both(phase=lotus.FIT), static=SGD, lr=0.1)
    assert (difference(after.params, teacher["params"]) == 0.0) == ends
    again = after._replace(extra=after.extra._replace(right=jnp.float32(5.0), count=jnp.float32(5.0)))
    again, _ = update("lotus", again, both(phase=lotus.LEAD), static=SGD)
    assert bool(again.extra.ended) == ends  # for good


def test_an_epoch_fits_relaxed_samples_on_the_request_and_hard_ones_on_the_rest(teacher, student):
    state = started(teacher, 0.1)._replace(params=student)
    state = state._replace(extra=state.extra._replace(temperature=jnp.float32(2.5)))
    given, key = padded(phase=lotus.FIT), jax.random.key(4)
    after, loss = update("lotus", state, given, key=4, static=SGD, lr=1.0, weight_decay=0.0)
    before = [jnp.float32(logits(teacher["params"], some)) for some in (given.forget, given.retain)]
    soft = np.asarray(lotus.gumbel_softmax(jax.random.fold_in(key, 1), before[0], 2.5), np.float64)[:5]
    hard = np.eye(3)[np.asarray(jax.random.categorical(jax.random.fold_in(key, 2), before[1], axis=-1))[:8]]
    found, value = [], 0.0
    for some, goal, share in ((given.forget, soft, 6 / 15), (given.retain, hard, 9 / 15)):
        some = live(some)
        z = logits(student, some)
        value -= share * (goal * log_softmax(z, axis=1)).sum(axis=1).mean()
        found.append(backward(student, some.inputs, share * (softmax(z, axis=1) - goal) / len(z))[0])
    assert float(loss) == pytest.approx(value, rel=1e-4)
    descended(student, after.params, jax.tree.map(np.add, *found), tolerance=1e-4)


def test_the_reference_is_held_out_accuracy_and_0_for_a_class_that_goes_as_a_whole(original):
    targets = toy.examples()[1]
    whole = np.flatnonzero(targets[:50] == 1)
    mixed = np.r_[whole, np.flatnonzero(targets[:50] == 2)[: len(whole)]]
    kept = np.setdiff1d(np.arange(50), mixed)
    context = protocol.context(
        3, kept=[toy.KEPT, np.setdiff1d(np.arange(50), whole), kept], requested=[toy.REQUESTED, whole, mixed],
        model=toy.perceptron(),
    )  # fmt: skip
    start, spent = lotus.begin(context, METHODS["lotus"].static, toy.member(original, slice(3)))
    right = [
        (logits(toy.member(original["params"], i), batch(toy.UNUSED)).argmax(axis=1) == targets[toy.UNUSED]).mean()
        for i in range(3)
    ]
    assert min(right) > 0.2
    np.testing.assert_allclose(start["unseen"], [right[0], 0.0, 0.5 * right[2]], rtol=1e-6)
    assert spent == (0.0, 0.0)
    nothing = context._replace(heldout=[toy.UNUSED[:0]] * 3)
    with pytest.raises(InputError, match="lotus compares itself with held-out examples and there are none"):
        lotus.begin(nothing, {}, toy.member(original, slice(3)))


def test_an_epoch_looks_at_the_whole_request_before_it_fits_the_mixture():
    static = METHODS["lotus"].static | {"epochs": 2, "batch": 16, "retain_share": 1.0}
    plan = lotus.plan(toy.SIZES, static, Recipe())
    np.testing.assert_array_equal(plan.phase, ([lotus.LOOK] * 4 + [lotus.LEAD] + [lotus.FIT] * 4) * 2)
    assert plan.forget_batch == 3 and plan.forget_pass == 4

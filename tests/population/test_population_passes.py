"""Exact passes: each example of a member exactly once, whatever the others' counts; dead slots weigh nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearn_jax.methods.support.common import retained_descent
from unlearn_jax.population.members import make_tables, member_keys
from unlearn_jax.population.plans import passes, uniform_plan
from unlearn_jax.population.run import Fold
from unlearn_jax.population.shuffle import positions, slots
from unlearn_jax.types import Method

LONGEST, PASSES = 40, 3  # batches in the longest pass that the property test asks for


@functools.cache
def _program(batch):
    """Slots of consecutive batches of one key, for any count and length."""
    one = jax.vmap(lambda key, step, count, length: slots(key, step, batch, count, length), (None, 0, None, None))
    return jax.jit(lambda *given: one(given[0], jnp.arange(PASSES * LONGEST, dtype=jnp.int32), *given[1:]))


def drawn(seed, count, batch, length):
    """(passes, length * batch) positions and whether each is live, of the first passes."""
    found = _program(batch)(jax.random.key(seed), jnp.int32(count), jnp.int32(length))
    return tuple(np.asarray(x)[: PASSES * length].reshape(PASSES, length * batch) for x in found)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    count=st.integers(1, LONGEST), batch=st.sampled_from([1, 7, 16]), spare=st.integers(0, 3), seed=st.integers(0, 999)
)
def test_a_pass_shows_every_example_once_and_a_batch_as_different_rows_as_it_can(count, batch, spare, seed):
    length = min(passes(count, batch) + spare, LONGEST)  # longer where another member has more
    position, live = drawn(seed, count, batch, length)
    assert position.dtype == np.int32 and live.dtype == bool
    assert (position >= 0).all() and (position < count).all()  # dead slots too can be gathered
    for where, held in zip(position, live):
        np.testing.assert_array_equal(np.sort(where[held]), np.arange(count))
        np.testing.assert_array_equal(held, np.arange(length * batch) < count)  # a pass begins with a live batch
    for where, held in zip(position.reshape(-1, batch), live.reshape(-1, batch)):
        assert len(np.unique(where)) == min(count, batch)  # dead slots repeat nothing that the batch could do without
        assert len(np.unique(where[~held])) == min(count, (~held).sum())


def test_each_pass_has_its_own_order_and_an_empty_set_no_live_slot():
    position, live = drawn(0, 30, 7, 5)
    orders = {tuple(where[held]) for where, held in zip(position, live)}
    assert len(orders) == PASSES and tuple(range(30)) not in orders
    position, live = drawn(0, 0, 7, 4)
    assert not live.any() and (position == 0).all()
    assert not np.asarray(_program(7)(jax.random.key(0), jnp.int32(0), jnp.int32(0))[1]).any()  # in a flow either


def test_without_a_length_the_stream_flows_on():
    flow = jax.jit(lambda key, step: positions(key, step, 7, jnp.int32(30)))
    found, live = _program(7)(jax.random.key(5), jnp.int32(30), jnp.int32(0))
    assert np.asarray(live).all()
    for step in (0, 11, 60):
        np.testing.assert_array_equal(found[step], flow(jax.random.key(5), jnp.int32(step)))


def _seen(hp, shared):
    """A fold that adds up the weight with which each row was shown, by pass and stream."""

    def update(key, state, batches):
        at = batches.step // 3
        shown = {
            name: state[name].at[at, batch.index].add(batch.weight)
            for name, batch in (("forget", batches.forget), ("retain", batches.retain))
        }
        live = state["live"].at[batches.step].set(batches.retain.weight.sum())
        return shown | {"live": live}, batches.forget.weight.sum()

    zero = jnp.zeros((PASSES, toy.ROWS))
    return Method(lambda key, own: {"forget": zero, "retain": zero, "live": jnp.zeros(3 * PASSES)}, update, lambda s: s)


SEEN = Fold(_seen)
KEPT = [np.arange(40), np.arange(5, 34), np.arange(16), np.arange(3)]
ASKED = [np.arange(40, 50), np.arange(0), np.arange(41, 42), np.arange(44, 50)]


def shown(weight=None, **lengths):
    """Weights shown in three passes of three batches (16 retained, 4 requested), four members in one program."""
    plan = uniform_plan(3 * PASSES, forget_batch=4, retain_batch=16)._replace(**lengths)
    sets = make_tables(KEPT, ASKED)._replace(weight=weight)
    run = toy.train(4, fold=SEEN, plan=plan, hp={}, sets=sets, keys=member_keys(0, "passes", 4))
    return {name: np.asarray(value) for name, value in run.variables.items()}


def members_rows(rows):
    """(4, passes, n) 1 at every row of the member's set."""
    held = np.stack([np.isin(np.arange(toy.ROWS), own) for own in rows]).astype(np.float32)
    return np.broadcast_to(held[:, None], (4, PASSES, toy.ROWS))


def test_the_runner_shows_each_member_its_own_set_once_a_pass_and_weighs_dead_slots_nothing():
    found = shown(forget_pass=3, retain_pass=3)
    np.testing.assert_array_equal(found["forget"], members_rows(ASKED))
    np.testing.assert_array_equal(found["retain"], members_rows(KEPT))
    by_batch = np.array([[16, 16, 8], [16, 13, 0], [16, 0, 0], [3, 0, 0]], np.float32)
    np.testing.assert_array_equal(found["live"], np.tile(by_batch, PASSES))


@functools.cache
def _statistics():
    """A fold that moves nothing but the batch statistics of a model, and the variables that it starts from."""
    model, problem = toy.normed(), toy.problem(toy.normed())
    fold = Fold(lambda hp, shared: retained_descent(problem, {"optimizer": "sgd", "momentum": 0.0}, hp))
    fresh = jax.jit(jax.vmap(lambda key: model.init(key, toy.stored().inputs[:1])))(member_keys(0, "fresh", 8))
    return fold, jax.tree.map(np.asarray, fresh)


def variance(**lengths):
    """(8, 16) running variance of eight members after three passes over 33 retained rows at a rate of 0."""
    fold, start = _statistics()
    plan = uniform_plan(3 * PASSES, retain_batch=16)._replace(**lengths)
    sets, keys = make_tables([np.arange(33)] * 8, [np.arange(0)] * 8), member_keys(0, "statistics", 8)
    found = toy.train(8, fold=fold, plan=plan, hp={"lr": 0.0}, sets=sets, keys=keys, start=start).variables
    toy.same(found["params"], start["params"])
    return np.asarray(found["state"]["batch_stats"]["norm"]["var"])


@pytest.mark.slow
def test_an_exact_pass_leaves_the_batch_statistics_that_a_flow_leaves():
    flowing, exact = variance(), variance(retain_pass=3)
    assert abs(exact.mean() / flowing.mean() - 1) < 0.1  # the last batch of a pass has one live row and 15 dead
    assert np.abs(exact / flowing - 1).mean() < 0.2


def test_a_stream_that_flows_on_beside_exact_passes_has_no_dead_slot():
    found = shown(forget_pass=3, retain_pass=0)
    np.testing.assert_array_equal(found["forget"], members_rows(ASKED))
    np.testing.assert_array_equal(found["live"], np.full((4, 3 * PASSES), 16.0))
    assert found["retain"][3, :, 3:].sum() == 0 and found["retain"][3].sum() == 9 * 16


def test_a_members_weights_and_dead_slots_multiply():
    weight = np.random.default_rng(0).uniform(0.1, 1.0, (4, toy.ROWS)).astype(np.float32)
    found = shown(jnp.asarray(weight), forget_pass=3, retain_pass=3)
    np.testing.assert_array_equal(found["retain"], members_rows(KEPT) * weight[:, None])
    np.testing.assert_array_equal(found["forget"], members_rows(ASKED) * weight[:, None])

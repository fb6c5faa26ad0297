"""The compiled programs of a fold: begin, advance through the plan, end, for a chunk of members.

What is computed is apart from how it is spread out. The programs of one member, lowered without any member axis or
device mesh, are what names members in the store, with their inputs: so members trained on other devices or hosts are
found again, and nothing is lowered for a mesh or compiled where all are there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from unlearn_jax.population import checkpoint
from unlearn_jax.population.members import Tables
from unlearn_jax.population.plans import Plan
from unlearn_jax.population.shuffle import slots
from unlearn_jax.types import Array, Batch, Batches, Method, PyTree

POINTS = 64  # training losses kept per member


class Stored(NamedTuple):
    """All examples of a study on the device, addressed by row."""

    inputs: Array  # (n, ...)
    targets: Array  # (n, ...)


class Fold(NamedTuple):
    """A method before its numeric hyperparameters are known.

    ``build(hp, shared) -> Method`` where ``hp`` maps names to scalars (they may be tracers) and ``shared`` holds
    the weights without a member axis; ``augment(key, inputs) -> inputs`` or None.
    """

    build: Callable[[dict[str, Any], PyTree], Method]
    augment: Callable | None = None


class Carry(NamedTuple):
    """What the loop carries for one member."""

    state: PyTree
    loss: Array  # (POINTS,)


class Member(NamedTuple):
    """What is fixed for one member while it trains."""

    key: Array
    tables: Tables
    hp: dict[str, Array]


class Steps(NamedTuple):
    """The plan's columns as arrays."""

    phase: Array
    forget_step: Array
    retain_step: Array
    rate: Array
    total: Array  # () live rows; the columns are padded so that plans of similar length share a program
    forget_pass: Array  # () batches in an exact pass; 0 = the stream flows on
    retain_pass: Array


def columns(plan: Plan) -> Steps:
    """The plan's columns, padded to a power of two."""
    length = max(64, 1 << max(plan.steps - 1, 0).bit_length())
    pad = lambda x, dtype: jnp.asarray(np.pad(x, (0, length - plan.steps)), dtype)
    whole = [pad(x, jnp.int32) for x in (plan.phase, plan.forget_step, plan.retain_step)]
    scalars = map(jnp.int32, (max(plan.steps, 1), plan.forget_pass, plan.retain_pass))
    rate = pad(plan.rate, jnp.float32)
    return Steps(whole[0], whole[1], whole[2], rate, *scalars)


def _draw(key, step, length, table: Array, count: Array, size: int, weight, data: Stored, augment, spread) -> Batch:
    """The batch of one stream: rows by the data order, inputs gathered by row."""
    position, held = slots(jax.random.fold_in(key, 0), step, size, count, length)
    index = spread(table[position])
    inputs = data.inputs[index]
    if augment is not None and size:
        inputs = augment(jax.random.fold_in(jax.random.fold_in(key, 1), step), inputs)
    live = jnp.full((size,), 1.0, jnp.float32) if weight is None else weight[index]
    return spread(Batch(inputs, data.targets[index], jnp.where(held, live, 0.0), index))


def _whole(tree: PyTree) -> PyTree:
    return tree


def member_programs(
    fold: Fold, forget_batch: int, retain_batch: int, hold=_whole, spread=_whole
) -> tuple[Callable, ...]:
    """``begin``, ``advance`` (one update) and ``end`` for one member, as functions of (own, common).

    ``hold`` keeps weights and ``spread`` batches where they belong, if several devices hold a member.
    """

    def begin(own, common):
        member, variables = own
        state = fold.build(member.hp, common).init(jax.random.fold_in(member.key, 0), variables)
        return Carry(hold(state), jnp.full((POINTS,), jnp.nan, jnp.float32))

    def advance(t, carry, member, data, steps, shared):
        key, tables = member.key, member.tables
        asked = tables.weight if tables.weight_requested is None else tables.weight_requested
        forget = _draw(
            jax.random.fold_in(key, 1), steps.forget_step[t], steps.forget_pass, tables.requested,
            tables.requested_count, forget_batch, asked, data, fold.augment, spread,
        )  # fmt: skip
        retain = _draw(
            jax.random.fold_in(key, 2), steps.retain_step[t], steps.retain_pass, tables.kept,
            tables.kept_count, retain_batch, tables.weight, data, fold.augment, spread,
        )  # fmt: skip
        update = fold.build(member.hp, shared).update
        batches = Batches(forget, retain, steps.phase[t], t, steps.rate[t], t / steps.total)
        state, loss = update(jax.random.fold_in(jax.random.fold_in(key, 3), t), carry.state, batches)
        slot = (t * POINTS) // steps.total
        return Carry(hold(state), carry.loss.at[slot].set(loss.astype(jnp.float32)))

    def end(own, common):
        carry, hp = own
        return hold(fold.build(hp, common).finish(carry.state)), carry.loss

    return begin, advance, end


class Named(NamedTuple):
    """What a fold computes for one member, whatever devices compute it."""

    digest: str  # of the three programs' text
    result: PyTree  # shapes of (variables, losses)


NAMED: dict[tuple, Named] = {}


def shapes_of(tree: PyTree) -> PyTree:
    """Shapes and dtypes of a tree."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), tree)


def for_one(tree: PyTree) -> PyTree:
    """Shapes of one member of a stacked tree."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x)[1:], x.dtype), tree)


def identity(tree: PyTree) -> tuple:
    """What identifies the shapes of a tree."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((x.shape, str(x.dtype)) for x in leaves)


def loops(advance: Callable) -> tuple[Callable, Callable]:
    """Many updates in one program, and one at a time, as functions of (own, common)."""

    def scanned(own, common):
        (carry, member), (start, stop, *rest) = own, common
        return lax.fori_loop(start, stop, lambda t, c: advance(t, c, member, *rest), carry)

    def single(own, common):
        (carry, member), (start, _, *rest) = own, common
        return advance(start, carry, member, *rest)

    return scanned, single


BOUNDS = (jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((), jnp.int32))


def named(fold: Fold, plan: Plan, own: tuple, common: tuple) -> tuple[Named, float]:
    """The digest of what a fold computes for one member, once per fold and shapes.

    Args:
        fold: the method.
        plan: gives the static batch sizes.
        own: (member, starting variables), with a leading axis.
        common: (data, steps, shared weights).

    Returns:
        The digest with the shapes of the result, and the seconds that this call spent.
    """
    own, common = for_one(own), shapes_of(common)
    key = (fold, identity((own, common)), plan.forget_batch, plan.retain_batch)
    if key in NAMED:
        return NAMED[key], 0.0
    started = time.perf_counter()
    (member, variables), (*_, shared) = own, common
    begin, advance, end = member_programs(fold, plan.forget_batch, plan.retain_batch)
    first = jax.jit(begin).lower((member, variables), shared)
    carry = shapes_of(first.out_info)
    step = jax.jit(loops(advance)[0]).lower((carry, member), (*BOUNDS, *common))
    last = jax.jit(end).lower((carry, member.hp), shared)
    digest = checkpoint.digest_of(first.as_text(), step.as_text(), last.as_text())
    NAMED[key] = Named(digest, shapes_of(last.out_info))
    return NAMED[key], time.perf_counter() - started

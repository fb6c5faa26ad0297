"""What the curvatures of one block of rows are made of, as sums with weights, and the sum over blocks."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from unlearn_jax.errors import InputError
from unlearn_jax.influence.per_example import Flat
from unlearn_jax.types import Array, Batch, Model, PyTree, Task

CHUNK = 32  # columns of a dense matrix at once
ROOM = 2**24  # numbers that a block's derivatives may take


def rows_of(batch: Batch) -> int:
    """The batch's length n; `InputError` if it is 0."""
    count = len(batch.weight)
    if not count:
        raise InputError("the training batch has no rows: a curvature needs at least one.")
    return count


def fitting(width: int, micro: int) -> int:
    """How many rows of ``width`` numbers go side by side."""
    return max(1, min(micro, ROOM // max(width, 1)))


def summed(of: Callable[[Batch], PyTree], batch: Batch, micro: int) -> PyTree:
    """Sum of ``of(block)`` over blocks of at most ``micro`` rows; the last is filled up with rows of weight 0."""
    count = len(batch.weight)
    if count <= micro:
        return of(batch)
    number = -(-count // micro)
    size = -(-count // number)
    extra = number * size - count
    batch = batch._replace(weight=jnp.asarray(batch.weight))
    filled = jax.tree.map(lambda x: jnp.concatenate([x, x[:extra]]) if extra else jnp.asarray(x), batch)
    filled = filled._replace(weight=filled.weight.at[count:].set(0))
    blocks = jax.tree.map(lambda x: x.reshape(number, size, *x.shape[1:]), filled)
    shapes = jax.eval_shape(of, jax.tree.map(lambda x: x[0], blocks))
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    add = lambda total, block: (jax.tree.map(jnp.add, total, of(block)), None)
    return lax.scan(add, zero, blocks)[0]


def logits_of(model: Model, flat: Flat, block: Batch) -> Callable[[Array], Array]:
    """Parameters (P,) -> logits (B, ...)."""
    return lambda vector: model.apply(flat.rebuild(vector), block.inputs, train=False)[0].logits


def weighed(task: Task, block: Batch) -> Callable[[Array], Array]:
    """Logits (B, ...) -> the sum of weight x loss."""

    def total(logits: Array) -> Array:
        losses = task.loss(logits, block)
        return jnp.sum(losses * block.weight.astype(losses.dtype))

    return total


def hessian_sum(model: Model, task: Task, flat: Flat, block: Batch, v: Array) -> Array:
    """Sum of weight x Hessian v."""
    logits, loss = logits_of(model, flat, block), weighed(task, block)
    return jax.jvp(jax.grad(lambda vector: loss(logits(vector))), (flat.vector,), (v,))[1]


def ggn_sum(model: Model, task: Task, flat: Flat, block: Batch, v: Array) -> Array:
    """Sum of weight x J' L J v."""
    forward, loss = logits_of(model, flat, block), weighed(task, block)
    logits, moved = jax.jvp(forward, (flat.vector,), (v,))
    bent = jax.jvp(jax.grad(loss), (logits,), (moved,))[1]
    return jax.vjp(forward, flat.vector)[1](bent)[0]


def fisher_sum(model: Model, task: Task, flat: Flat, block: Batch, v: Array) -> Array:
    """Sum of weight x g g' v."""
    losses = lambda vector: task.loss(logits_of(model, flat, block)(vector), block)
    losses_now, moved = jax.jvp(losses, (flat.vector,), (v,))
    return jax.vjp(losses, flat.vector)[1](moved * block.weight.astype(losses_now.dtype))[0]


SUMS = {"hessian": hessian_sum, "ggn": ggn_sum, "fisher": fisher_sum}


def sides(model: Model, task: Task, flat: Flat, curvature: str) -> Callable[[Batch], tuple[Array, Array]]:
    """A function of a block that gives two arrays (B, L, P) whose product over rows and L is its curvature.

    For the GGN the derivatives of the L logits of a row, and weight x loss's Hessian x these; for the Fisher L is 1.
    """

    def ggn(example: Batch) -> tuple[Array, Array]:
        logits, loss = logits_of(model, flat, example), weighed(task, example)
        logits_now, pull = jax.vjp(logits, flat.vector)
        units = jnp.eye(logits_now.size, dtype=logits_now.dtype).reshape(-1, *logits_now.shape)
        # a loop: jaxlib 0.10.2 computes many backward passes of one forward pass wrongly on CPU (YNN fusions)
        slopes = lax.map(lambda unit: pull(unit)[0], units)
        bent = jax.hessian(loss)(logits_now).reshape(logits_now.size, logits_now.size)
        return slopes, bent @ slopes

    def fisher(example: Batch) -> tuple[Array, Array]:
        plain = example._replace(weight=jnp.ones_like(example.weight))
        slope = jax.grad(lambda vector: weighed(task, plain)(logits_of(model, flat, example)(vector)))(flat.vector)
        return slope[None], example.weight.astype(slope.dtype)[:, None] * slope[None]

    one = ggn if curvature == "ggn" else fisher
    return lambda block: jax.vmap(lambda example: one(jax.tree.map(lambda x: x[None], example)))(block)


def outer(left: Array, right: Array) -> Array:
    """Two arrays (B, L, P) -> (P, P)."""
    return left.reshape(-1, left.shape[-1]).T @ right.reshape(-1, right.shape[-1])


def columns(product: Callable[[Array], Array], like: Array) -> Array:
    """The matrix (P, P) of a symmetric product, by columns of the identity; ``like`` (P,) gives size and dtype."""
    size, width = like.shape[0], min(CHUNK, like.shape[0])
    unit = lambda place: product(jnp.zeros_like(like).at[place].set(1.0, mode="drop"))
    places = jnp.arange(-(-size // width) * width).reshape(-1, width)
    return lax.map(jax.vmap(unit), places).reshape(-1, size)[:size]

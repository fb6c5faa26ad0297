"""Data order as a pure function of (key, step): reshuffled epochs without replacement, and without a table.

The order of an epoch is a keyed permutation of 0..count-1 computed entry by entry with the swap-or-not shuffle
(Hoang, Morris & Rogaway, CRYPTO 2012): for each of R rounds with a random offset K, the position x and its partner
K - x (mod count) are swapped or not by a bit that depends on the pair alone, so each round is a bijection. A batch
therefore needs no state, members may have different counts in one program, and a resumed run sees the same order.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from unlearn_jax.runtime.platform import platform
from unlearn_jax.types import Array

ROUNDS = 24  # at least 2 log2(count) for count up to 4096; tested for uniformity beyond that


def _mix(x: Array) -> Array:
    """A 32-bit finaliser: every input bit reaches every output bit."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def _below(bits: Array, count: Array) -> Array:
    """Integers in 0..count-1 from random bits (count < 2**24), without the slow integer division."""
    unit = (bits >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)
    drawn = (unit * count.astype(jnp.float32)).astype(jnp.int32)
    return jnp.minimum(drawn, count - 1)


def positions(key: Array, step: Array, batch: int, count: Array) -> Array:
    """Which of ``count`` kept examples the ``batch`` slots of update ``step`` hold, in a stream that flows on.

    Args:
        key: the member's key for this stream.
        step: () int32, number of the batch in the stream.
        batch: slots a batch; static.
        count: () int32, examples in the member's set, below 2**24.

    Returns:
        (batch,) int32 in 0..count-1; consecutive batches walk through one permutation after another, so that each
        epoch shows every example once. 0 everywhere when ``count`` is 0.
    """
    return slots(key, step, batch, count, jnp.int32(0))[0]


def slots(key: Array, step: Array, batch: int, count: Array, length: Array) -> tuple[Array, Array]:
    """`positions`, and which of the slots are live; in a stream that flows on or in one of exact passes.

    Args:
        key: the member's key for this stream.
        step: () int32, number of the batch in the stream.
        batch: slots a batch; static.
        count: () int32, examples in the member's set.
        length: () int32, batches in a pass (at least count / batch), each of which begins anew and shows every
            example exactly once: its slots beyond the last example are dead. 0 = the stream flows on.
            Dead slots hold the pass's first examples again, all different as far as the count allows: a model in
            training mode averages them into its batch statistics, which copies of one example would distort.

    Returns:
        (batch,) int32 positions and (batch,) bool.
    """
    least, exact = jnp.maximum(count, 1), length > 0
    within = jnp.arange(batch, dtype=jnp.int32)
    flowing = step * batch + within
    passes = step // jnp.maximum(length, 1)
    slot = (step - passes * length) * batch + within
    epoch = jnp.where(exact, passes, flowing // least)
    at = jnp.where(exact, slot, flowing)
    return permuted(key, epoch, at - at // least * least, least), (count > 0) & (~exact | (slot < count))


def permuted(key: Array, epoch: Array, x: Array, count: Array) -> Array:
    """Entries ``x`` of the permutation of 0..count-1 that belongs to ``epoch``; the shape of ``x``."""
    seeds = jax.random.bits(key, (2,), jnp.uint32)
    salt = _mix(epoch.astype(jnp.uint32) ^ seeds[0])

    def swap_or_not(r, x):
        number = (r + 1).astype(jnp.uint32)
        offset = _below(_mix(salt + jnp.uint32(0x9E3779B9) * number), count)
        y = offset - x
        y = jnp.where(y < 0, y + count, y)
        pair = jnp.maximum(x, y).astype(jnp.uint32)
        coin = _mix(pair * jnp.uint32(0x9E3779B1) ^ (salt ^ seeds[1]) ^ (jnp.uint32(0x85EBCA6B) * number))
        return jnp.where((coin >> 31) == 1, y, x)

    unroll = 4 if platform() == "cpu" else ROUNDS  # a loop compiles sooner, one kernel launches sooner
    return lax.fori_loop(0, ROUNDS, swap_or_not, x, unroll=unroll)

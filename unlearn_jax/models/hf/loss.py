"""Losses of a language model that never hold the logits of all positions at once."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from unlearn_jax.errors import InputError
from unlearn_jax.models.hf.layers import soft_cap
from unlearn_jax.models.hf.load import HFModel
from unlearn_jax.types import Array, Variables


class Head(NamedTuple):
    """An output layer: logits = cap(states @ weights.T + bias)."""

    weights: Array  # (V, D)
    bias: Array | None = None  # (V,)
    cap: float = 0.0


def head_of(model: HFModel, variables: Variables) -> Head:
    """The output layer of a model; of one with adapters give the base's variables, whose head they leave alone."""
    params, cap = variables["params"], model.spec.logit_cap
    if model.spec.tied:
        return Head(params["embed"], None, cap)
    return Head(params["head"]["kernel"].T, params["head"].get("bias"), cap)


def chunked_logprob(states: Array, head: Head, targets: Array, mask: Array, *, chunk: int = 512) -> Array:
    """Log-probability of each target in nats, 0 where the mask is false, from states before the output layer.

    Logits exist for ``chunk`` positions at a time, in float32, and are computed again in the backward pass.

    Args:
        states: (B, T, D), ``outputs.hidden["norm"]``. Under ``jax.jit`` the logits beside it, unused, cost nothing.
        head: of `head_of`.
        targets: (B, T) int32, the token that each position predicts; read where the mask is true.
        mask: (B, T) bool.
        chunk: positions at a time, over the rows of the batch together.

    Returns:
        (B, T) float32.

    Raises:
        InputError: shapes that do not fit, a chunk below 1.
    """
    shape = states.shape[:2]
    if targets.shape != shape or mask.shape != shape or chunk < 1:
        raise InputError(
            f"states are {states.shape}, targets {targets.shape}, mask {mask.shape} and chunk is {chunk}: give "
            f"(batch, length, width), twice (batch, length) and at least 1."
        )
    count = shape[0] * shape[1]
    chunk = min(chunk, count)
    fill = -count % chunk

    def rows(x):
        x = x.reshape(count, *x.shape[2:])
        return jnp.pad(x, [(0, fill)] + [(0, 0)] * (x.ndim - 1)).reshape(-1, chunk, *x.shape[1:])

    @jax.checkpoint
    def of_chunk(part):
        x, target, live = part
        weights = head.weights.astype(x.dtype)
        logits = lax.dot_general(x, weights, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32)
        logits = logits if head.bias is None else logits + head.bias.astype(jnp.float32)[None, :]
        logits = soft_cap(logits, head.cap)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(live, target, 0))
        return jnp.where(live, -losses, 0.0)

    found = lax.map(of_chunk, (rows(states), rows(targets), rows(mask)))
    return found.reshape(-1)[:count].reshape(shape)


def chunked_cross_entropy(states: Array, head: Head, targets: Array, mask: Array, *, chunk: int = 512) -> Array:
    """Mean negative log-probability of each row's targets where the mask is true, in nats; (B,) float32.

    It is `tasks.answer_loss` of the logits, by way of `chunked_logprob`, whose arguments it takes.
    """
    found = chunked_logprob(states, head, targets, mask, chunk=chunk)
    return -found.sum(axis=1) / jnp.maximum(mask.sum(axis=1), 1).astype(jnp.float32)

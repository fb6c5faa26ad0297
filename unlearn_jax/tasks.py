"""Tasks: what is lost, how sure a model is of the truth, and whether it is right, per example."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import optax
from jax.nn import logsumexp

from unlearn_jax.types import NOT_ANSWER, Array, Batch, Task


def cross_entropy(logits: Array, batch: Batch) -> Array:
    """Negative log-probability of the true class in nats; logits (B, K), targets (B,) -> (B,)."""
    return optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), batch.targets)


def class_margin(logits: Array, batch: Batch) -> Array:
    """Log-odds of the true class, ``z_y - logsumexp of the others``, in nats; (B, K) -> (B,)."""
    logits = logits.astype(jnp.float32)
    true = jnp.arange(logits.shape[-1])[None, :] == batch.targets[:, None]
    others = logsumexp(jnp.where(true, -jnp.inf, logits), axis=-1)
    return jnp.sum(jnp.where(true, logits, 0.0), axis=-1) - others


def top1(logits: Array, batch: Batch) -> Array:
    """1.0 where the largest logit is the true class's; (B, K) -> (B,)."""
    return (jnp.argmax(logits, axis=-1).astype(jnp.int32) == batch.targets).astype(jnp.float32)


def classification() -> Task:
    """The task of predicting one of K classes.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlearn_jax.types import Batch
        >>> batch = Batch(jnp.zeros((1, 2)), jnp.array([1]), jnp.ones(1), jnp.zeros(1, jnp.int32))
        >>> float(classification().margin(jnp.array([[0.0, 2.0]]), batch)[0])
        2.0
    """
    return Task(loss=cross_entropy, margin=class_margin, correct=top1)


def answer_tokens(batch: Batch) -> Array:
    """Which positions predict a token of the answer; (B, T) bool."""
    return batch.targets != NOT_ANSWER


def over_answer(values: Array, batch: Batch) -> Array:
    """Values per example: (B,) as they are, (B, T) as their mean over the answer's tokens."""
    if values.ndim == 1:
        return values
    live = answer_tokens(batch)
    return jnp.where(live, values, 0.0).sum(axis=1) / jnp.maximum(live.sum(axis=1), 1).astype(jnp.float32)


def token_logprob(logits: Array, batch: Batch) -> Array:
    """Log-probability of each answer token in nats, 0 at prompt and padding; (B, T, V), targets (B, T) -> (B, T)."""
    live = answer_tokens(batch)
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits.astype(jnp.float32), jnp.where(live, batch.targets, 0)
    )
    return jnp.where(live, -losses, 0.0)


def answer_loss(logits: Array, batch: Batch) -> Array:
    """Mean negative log-probability of an answer's tokens in nats; (B, T, V) -> (B,)."""
    return over_answer(-token_logprob(logits, batch), batch)


def _at_answer(logits: Array, batch: Batch) -> tuple[Array, Array]:
    """Logits and target where the first token of the answer is predicted; (B, V) float32 and (B,)."""
    at = jnp.argmax(answer_tokens(batch), axis=1)[:, None]
    here = jnp.take_along_axis(logits.astype(jnp.float32), at[:, :, None], axis=1)[:, 0]
    return here, jnp.take_along_axis(batch.targets, at, axis=1)[:, 0]


def value_task(groups: np.ndarray) -> Task:
    """The task of continuing a statement with its answer, one of the values of an attribute, each a single token.

    The loss is the language model's, over the whole vocabulary; the margin is ``log p(true value) - logsumexp of log p
    over the attribute's other values``, and a model is right where the true value ranks first among them.

    Args:
        groups: (V,) number of the attribute that a token is a value of, -1 for every other token.
    """
    group = jnp.asarray(groups, jnp.int32)
    members = [np.flatnonzero(groups == g) for g in range(int(np.max(groups)) + 1)]
    values, size = jnp.asarray(np.stack(members), jnp.int32), len(members[0])
    place = np.zeros(len(groups), np.int32)
    place[np.stack(members)] = np.arange(size)
    place = jnp.asarray(place)

    def compared(logits: Array, batch: Batch) -> tuple[Array, Array]:
        here, truth = _at_answer(logits, batch)
        others = (group[None, :] == group[truth][:, None]) & (jnp.arange(len(groups))[None, :] != truth[:, None])
        return jnp.take_along_axis(here, truth[:, None], axis=1)[:, 0], jnp.where(others, here, -jnp.inf)

    def margin(logits: Array, batch: Batch) -> Array:
        true, others = compared(logits, batch)
        return true - logsumexp(others, axis=-1)

    def correct(logits: Array, batch: Batch) -> Array:
        true, others = compared(logits, batch)
        return (true > others.max(axis=-1)).astype(jnp.float32)

    def answer(logits: Array, batch: Batch) -> Array:
        here, truth = _at_answer(logits, batch)
        alike = group[None, :] == group[truth][:, None]
        return jnp.argmax(jnp.where(alike, here, -jnp.inf), axis=-1).astype(jnp.int32)

    def swap(targets: Array, shift: Array) -> Array:
        live = targets != NOT_ANSWER
        token = jnp.where(live, targets, values[0, 0])
        moved = (place[token] + shift[:, None]) % size
        return jnp.where(live, values[group[token], moved], targets)

    return Task(answer_loss, margin, correct, token_logprob, answer, swap)

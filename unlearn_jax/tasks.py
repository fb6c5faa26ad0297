"""Tasks: what is lost, how sure a model is of the truth, and whether it is right, per example."""

from __future__ import annotations

import jax.numpy as jnp
import optax
from jax.nn import logsumexp

from unlearn_jax.types import Array, Batch, Task


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

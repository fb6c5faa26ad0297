"""Tasks: what is lost, how sure a model is of the truth, and whether it is right, per example."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.nn import logsumexp

from unlearn_jax.trees import wide
from unlearn_jax.types import NOT_ANSWER, Array, Batch, Candidates, Task

RESOLUTION = 2.0**-24  # nats; smallest loss that a probability in float32 can show


def _wide(logits: Array) -> Array:
    """Logits in float32 at least."""
    return logits.astype(wide(logits.dtype))


def cross_entropy(logits: Array, batch: Batch) -> Array:
    """Negative log-probability of the true class in nats; logits (B, K), targets (B,) -> (B,)."""
    return optax.softmax_cross_entropy_with_integer_labels(_wide(logits), batch.targets)


def class_margin(logits: Array, batch: Batch) -> Array:
    """Log-odds of the true class, ``z_y - logsumexp of the others``, in nats; (B, K) -> (B,)."""
    logits = _wide(logits)
    true = jnp.arange(logits.shape[-1], dtype=batch.targets.dtype)[None, :] == batch.targets[:, None]
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
    return jnp.where(live, values, 0.0).sum(axis=1) / jnp.maximum(live.sum(axis=1), 1).astype(values.dtype)


def token_logprob(logits: Array, batch: Batch) -> Array:
    """Log-probability of each answer token in nats, 0 at prompt and padding; (B, T, V), targets (B, T) -> (B, T)."""
    live = answer_tokens(batch)
    losses = optax.softmax_cross_entropy_with_integer_labels(_wide(logits), jnp.where(live, batch.targets, 0))
    return jnp.where(live, -losses, 0.0)


def answer_loss(logits: Array, batch: Batch) -> Array:
    """Mean negative log-probability of an answer's tokens in nats; (B, T, V) -> (B,)."""
    return over_answer(-token_logprob(logits, batch), batch)


def answer_margin(logits: Array, batch: Batch) -> Array:
    """Log-odds of a whole free-text answer, ``log p - log(1 - p)`` in nats, at most 16.6; (B, T, V) -> (B,).

    Beyond that float32 cannot tell p from 1, and an infinite margin would read as a diverged model.
    """
    whole = jnp.minimum(token_logprob(logits, batch).sum(axis=1), -RESOLUTION)
    return whole - jnp.log(-jnp.expm1(whole))


def all_right(logits: Array, batch: Batch) -> Array:
    """1.0 where every token of the answer is the most probable one; (B, T, V) -> (B,)."""
    right = (jnp.argmax(logits, axis=-1).astype(jnp.int32) == batch.targets) | ~answer_tokens(batch)
    return right.all(axis=1).astype(jnp.float32)


def free_text() -> Task:
    """The task of continuing a prompt with an answer of any tokens.

    The loss is the mean over the answer's tokens; the margin is the log-odds of the whole answer, and a model is right
    where greedy decoding gives all of it.
    """
    return Task(answer_loss, answer_margin, all_right, token_logprob)


def value_task(values: np.ndarray, refusal: np.ndarray | Array) -> Task:
    """The task of continuing a statement with its answer, one of the K values of an attribute, each of L tokens.

    The loss is the language model's, over the whole vocabulary, and so are `margin` and `correct` of plain logits (see
    `free_text`). Evaluation goes by the candidates: the margin is then ``log p(true value) - logsumexp of log p over
    the attribute's other values``, each a sequence's log-probability, and a model is right where the true value ranks
    first.

    Args:
        values: (G, K, L) tokens of the values of G attributes, all different.
        refusal: (L,) tokens of "I do not know".
    """
    count, length = values.shape[1:]
    begins, leaf = _beginnings(values)
    table, begins, leaf = jnp.asarray(values, jnp.int32), jnp.asarray(begins, jnp.int32), jnp.asarray(leaf, jnp.int32)
    flat, refusal = table.reshape(-1, length), jnp.asarray(refusal, jnp.int32)

    def place(batch: Batch) -> Array:
        found = (flat[None] == answer_of(batch, length)[:, None]).all(axis=-1)
        return jnp.argmax(found, axis=1).astype(jnp.int32)

    def scores(logits: Array, batch: Batch) -> Array:
        group = place(batch) // count
        logprob = jax.nn.log_softmax(_wide(logits), axis=-1)

        def one(mine, tokens, at):  # (P, L, V), (K, L), (K,)
            return mine[at[:, None], jnp.arange(length)[None, :], tokens].sum(axis=1)

        return jax.vmap(one, in_axes=(1, 0, 0))(logprob, table[group], leaf[group])

    def beginnings(batch: Batch) -> Array:
        return jnp.moveaxis(begins[place(batch) // count], 1, 0)

    def swap(batch: Batch, shift: Array) -> Batch:
        true = place(batch)
        return with_answer(batch, table[true // count, (true % count + shift) % count])

    def refuse(batch: Batch) -> Batch:
        return with_answer(batch, jnp.broadcast_to(refusal[None], (batch.targets.shape[0], length)))

    known = Candidates(length, beginnings, scores, lambda batch: place(batch) % count)
    return free_text()._replace(candidates=known, swap=swap, refuse=refuse)


def _beginnings(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different beginnings (G, P, L - 1) of an attribute's values, filled up with the first, and each value's."""
    found = [np.unique(group[:, :-1], axis=0, return_inverse=True) for group in values]
    most = max(len(begins) for begins, _ in found)
    filled = [np.concatenate([b, np.repeat(b[:1], most - len(b), axis=0)]) for b, _ in found]
    return np.stack(filled), np.stack([leaf.reshape(-1) for _, leaf in found])


def answer_start(batch: Batch) -> Array:
    """(B,) the position that predicts the first token of the answer."""
    return jnp.argmax(answer_tokens(batch), axis=1)


def at_answer(logits: Array, batch: Batch, length: int) -> Array:
    """Logits where the answer's ``length`` tokens are predicted; (..., B, T, V) -> (..., B, L, V)."""
    at = answer_start(batch)[:, None] + jnp.arange(length)[None, :]
    at = at.reshape((1,) * (logits.ndim - 3) + (*at.shape, 1))
    return jnp.take_along_axis(logits, at, axis=-2)


def answer_of(batch: Batch, length: int) -> Array:
    """The answers' tokens, ``length`` = L each; (B, L)."""
    return jnp.take_along_axis(batch.targets, answer_start(batch)[:, None] + jnp.arange(length)[None, :], axis=1)


def with_answer(batch: Batch, tokens: Array) -> Batch:
    """The batch with other answers (B, L), or beginnings of them, in the targets and in the inputs after them."""
    place = jnp.arange(batch.targets.shape[1])[None, :] - answer_start(batch)[:, None]

    def put(old: Array, at: Array) -> Array:
        new = jnp.take_along_axis(tokens, jnp.clip(at, 0, tokens.shape[1] - 1), axis=1)
        return jnp.where((at >= 0) & (at < tokens.shape[1]), new.astype(old.dtype), old)

    if tokens.shape[1] == 0:
        return batch
    return batch._replace(inputs=put(batch.inputs, place - 1), targets=put(batch.targets, place))

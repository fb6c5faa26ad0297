"""What one language model answers to a batch: how the candidates rank, what is said of each token, greedy decoding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.models.decode import Cached, most_probable
from unlearn_jax.models.transformer import PADDING
from unlearn_jax.tasks import answer_of, answer_start, at_answer, with_answer
from unlearn_jax.types import Array, Batch, Task, Variables


class Spoken(NamedTuple):
    """What is said of the L tokens of an answer, each predicted from the true ones before it."""

    logprob: np.ndarray  # (N, n, L) float32, of the true token, nats
    mean: np.ndarray  # (N, n, L) float32, of the log-probability of the next token under the model
    std: np.ndarray  # (N, n, L) float32, its standard deviation
    likeliest: np.ndarray  # (N, n, L) int32, the most probable token


class Answered(NamedTuple):
    """The answers of one model to B questions."""

    margin: Array  # (B,) of the true candidate against the others, nats
    correct: Array  # (B,) whether it ranks first
    scores: Array  # (B, K) log-probability of each candidate, nats
    spoken: Spoken
    greedy: Array  # (B, L) int32, the most probable token each time


def answered(task: Task, batch: Batch, ask: Callable, never: int | None = PADDING) -> Answered:
    """The answers of a model.

    Args:
        task: a task with candidates.
        batch: B statements.
        ask: of `asked_whole` or `asked_by_token`, see there.
        never: the token that fills rows and is no answer; None = every token can be one.
    """
    known = task.candidates
    assert known is not None
    length = known.length
    own, follow = ask(batch, length)
    scores = known.scores(jax.vmap(follow)(known.begins(batch)), batch)
    true = jnp.arange(scores.shape[1])[None, :] == known.truth(batch)[:, None]
    others, mine = jnp.where(true, -jnp.inf, scores), jnp.sum(jnp.where(true, scores, 0.0), axis=1)
    return Answered(
        mine - jax.nn.logsumexp(others, axis=1),
        (mine > others.max(axis=1)).astype(jnp.float32),
        scores,
        _of_tokens(own, answer_of(batch, length)),
        _greedy(own[:, 0], follow, length, never),
    )


def asked_whole(apply: Callable[[Array], Array]) -> Callable:
    """Ask any model, ``inputs (B, T) -> logits (B, T, V)``, running all of a statement for every beginning.

    Returns:
        ``ask(batch, L) -> (own, follow)``: the logits at the true answer's tokens (B, L, V), and those after other
        beginnings, ``follow(tokens (B, up to L - 1)) -> (B, up to L, V)``.
    """

    def ask(batch: Batch, length: int):
        def follow(tokens: Array) -> Array:
            return at_answer(apply(with_answer(batch, tokens).inputs), batch, tokens.shape[1] + 1)

        return at_answer(apply(batch.inputs), batch, length), follow

    return ask


def asked_by_token(decoder: Cached, variables: Variables) -> Callable:
    """The same of a decoder whose keys and values are kept: a statement is run once, and then token by token."""

    def ask(batch: Batch, length: int):
        logits, cache = decoder.prefill(variables, batch.inputs, 0)
        own, start = at_answer(logits, batch, length), answer_start(batch).astype(jnp.int32)

        def follow(tokens: Array) -> Array:
            found, kept = [own[:, 0]], cache
            for i in range(tokens.shape[1]):
                after, kept = decoder.step(variables, tokens[:, i], start + i + 1, kept)
                found.append(after)
            return jnp.stack(found, axis=1)

        return own, follow

    return ask


def _of_tokens(logits: Array, tokens: Array) -> Spoken:
    """What logits (B, L, V) say of the tokens (B, L) that they are to predict."""
    logprob = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    mean = jnp.sum(jnp.exp(logprob) * logprob, axis=-1)
    spread = jnp.sum(jnp.exp(logprob) * jnp.square(logprob - mean[..., None]), axis=-1)
    of_truth = jnp.take_along_axis(logprob, tokens[..., None], axis=-1)[..., 0]
    traced: Any = of_truth, mean, jnp.sqrt(spread), jnp.argmax(logprob, axis=-1).astype(jnp.int32)
    return Spoken(*traced)


def _greedy(first: Array, follow: Callable, length: int, never: int | None) -> Array:
    """The most probable answer token by token, given the logits (B, V) of its first; (B, L)."""

    def best(logits: Array) -> Array:
        return most_probable(logits, never)[:, None]

    tokens = best(first)
    for _ in range(length - 1):
        tokens = jnp.concatenate([tokens, best(follow(tokens)[:, -1])], axis=1)
    return tokens

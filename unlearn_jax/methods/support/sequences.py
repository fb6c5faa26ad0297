"""What the language models' methods share: log-probabilities of answers, and the fold "forget beside retained data".

A class label is an answer of one token: per-token values (B, T) of language are then per-example values (B,), and the
log-probability of a sequence is that of the class, so that every rule reads both kinds of answers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from unlearn_jax.methods.support.common import TrainSpec, descent, gradient_method, mean_loss, weighted_mean
from unlearn_jax.population.plans import Plan, epochs_over_request
from unlearn_jax.tasks import over_answer
from unlearn_jax.types import Array, Batch, Method, Variables


def token_logprobs(problem: TrainSpec, logits: Array, batch: Batch) -> Array:
    """Log-probability of each answer token in nats, 0 at prompt and padding; (B, T), of classes (B,)."""
    if problem.task.token_logprob is None:
        return -problem.task.loss(logits, batch)
    return problem.task.token_logprob(logits, batch)


def sequence_logprob(problem: TrainSpec, logits: Array, batch: Batch) -> Array:
    """Log-probability of each whole answer in nats, the *sum* over its tokens; (B,)."""
    tokens = token_logprobs(problem, logits, batch)
    return tokens if tokens.ndim == 1 else tokens.sum(axis=1)


def soft_cross_entropy(target: Array, logits: Array) -> Array:
    """- sum of softmax(target) log softmax(logits) over the last axis, in nats; -inf allowed in target."""
    goal, student = (z.astype(jnp.float32) for z in (target, logits))
    return -jnp.sum(jax.nn.softmax(goal, axis=-1) * jax.nn.log_softmax(student, axis=-1), axis=-1)


def answer_mean(values: Array, batch: Batch) -> Array:
    """Weighted mean over examples of the mean over each answer's tokens; (B, T) or (B,) -> ()."""
    return weighted_mean(over_answer(values, batch), batch.weight)


def logits_of(problem: TrainSpec, variables: Variables, batch: Batch) -> Array:
    """Logits of a batch in evaluation mode."""
    return problem.model.apply(variables, batch.inputs, train=False)[0].logits


def weighted_likelihood(problem: TrainSpec, logits: Array, batch: Batch, weight: Callable[[Array], Array]) -> Array:
    """Mean of ``weight(p) log p`` over answer tokens with p their probabilities; no gradient through the weights."""
    logprobs = token_logprobs(problem, logits, batch)
    return answer_mean(weight(jnp.exp(jax.lax.stop_gradient(logprobs))) * logprobs, batch)


def beside_retained(
    problem: TrainSpec,
    static: dict,
    hp: dict,
    lose: Callable,
    *,
    keep: Callable | None = None,
    extra: Callable | None = None,
    mask: Callable | None = None,
) -> Method:
    """The fold "descend ``forget_weight x lose(F) + retain_weight x keep(R)``"; ``forget_weight`` is 1 if not in hp.

    Args:
        problem: model and task.
        static: ``optimizer`` and ``momentum``.
        hp: ``lr``, ``retain_weight`` and, where the method has one, ``forget_weight``.
        lose: ``(student variables, trained, batch) -> ()``, in evaluation mode.
        keep: ``(student variables, trained, batch, key) -> ((), new model state)``; by default the mean loss, in
            training mode.
        extra: as of `gradient_method`.
        mask: as of `gradient_method`.
    """

    def likelihood(student, trained, batch, key):
        return mean_loss(problem, student, batch, key, train=True)

    def loss(params, trained, batches, key):
        student = {"params": params, "state": trained.state}
        lost = lose(student, trained, batches.forget)
        kept, state = (keep or likelihood)(student, trained, batches.retain, key)
        return hp.get("forget_weight", 1.0) * lost + hp["retain_weight"] * kept, state

    return gradient_method(descent(static, hp), loss, extra=extra, mask=mask)


def beside_plan(forget_cost: float = 1.0, retain_cost: float = 1.0) -> Callable[..., Plan]:
    """The plan "``epochs`` passes over the request, beside each of its batches one of retained data"."""
    return functools.partial(epochs_over_request, forget_cost=forget_cost, retain_cost=retain_cost)

"""CE-U: cross-entropy to the model's own distribution with the true token removed; no retained data, no teacher.

Yang 2025 (arXiv 2503.01224): on the request, descend the cross-entropy from q = softmax of the model's *present*
logits with the true token's at minus infinity, held fixed, to the model. The gradient at the logits is p - q, bounded
whatever p is, where ascent's vanishes on what is memorised: no ``bound``. `delete` has the same target of the frozen
original. ``skip``: answer tokens left out at the beginning (the paper: the first one, which is often a function word);
default 0, since answers here may be a single token; a class is one. Variant: a mean over each answer's tokens, then
over examples. Batch statistics in evaluation mode, so that passes over the request alone do not overwrite them.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from unlearn_jax.errors import InputError
from unlearn_jax.methods.delete import without_true_class
from unlearn_jax.methods.support.common import (
    BOTH,
    EARLIER,
    LANGUAGE,
    RATE,
    RULE,
    TUNED,
    MethodSpec,
    TrainSpec,
    descent,
    gradient_method,
)
from unlearn_jax.methods.support.sequences import answer_mean, logits_of, soft_cross_entropy
from unlearn_jax.population.plans import epochs_over_request
from unlearn_jax.tasks import answer_tokens
from unlearn_jax.types import NOT_ANSWER, Batch, Method


def skipped(batch: Batch, count: int) -> Batch:
    """The batch without the first ``count`` tokens of each answer among its targets.

    Raises:
        InputError: tokens of a class are to be skipped.
    """
    if count and batch.targets.ndim == 1:
        raise InputError("ceu.skip leaves nothing of a class, an answer of one token: give 0.")
    if not count:
        return batch
    early = jnp.cumsum(answer_tokens(batch), axis=1) <= count
    return batch._replace(targets=jnp.where(early, jnp.asarray(NOT_ANSWER, batch.targets.dtype), batch.targets))


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Descent on the forget stream towards the model without the true token."""

    def loss(params, trained, batches, key):
        batch = skipped(batches.forget, static["skip"])
        logits = logits_of(problem, {"params": params, "state": trained.state}, batch)
        target = lax.stop_gradient(without_true_class(logits, batch.targets))
        return answer_mean(soft_cross_entropy(target, logits), batch), trained.state

    return gradient_method(descent(static, hp), loss)


ENTRY = MethodSpec(
    name="ceu",
    paper="Yang 2025, arXiv 2503.01224 (CE-U)",
    rule="on the request, cross-entropy to the model's own softmax with the true token removed",
    needs=frozenset({"forget"}),
    build=build,
    plan=epochs_over_request,
    numeric={"lr": 3e-5},
    static={"epochs": 10, "batch": 128, "pieces": 12, "optimizer": "adam", "momentum": 0.9, "skip": 0},
    batch_stats="none",
    presets={
        "small": TUNED,
        "small_text": ({"pieces": 1, "lr": 4e-4}, RULE),
        "small_conv": ({"pieces": 1, "lr": 3e-5}, RULE),
        "small_transformer": ({"pieces": 1, "lr": 1e-4}, EARLIER),
        "cifar": (
            {"pieces": 0, "lr": 1e-4},
            "ours, not tuned: the paper is on text; a third of the small scale's rate",
        ),
        "language": (LANGUAGE[0] | {"pieces": 0}, LANGUAGE[1] + "; no token skipped, as answers here are a few tokens"),
    },
    notes="retain-free",
    reads=BOTH,
    space=(RATE,),
)

"""DELETE: distil the original's own distribution with the true class removed; no retained data.

Zhou et al. 2025 (arXiv 2503.23751). On the request, descend KL(q || p_w) with q = softmax of the frozen original's
logits after the true class's is set to minus infinity: the probability mass of the true class goes to the others in the
proportion in which the original held them. Mean over examples. Batch statistics in evaluation mode (the paper's option
to freeze them), so that passes over the request alone do not overwrite them.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

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
    weighted_mean,
)
from unlearn_jax.methods.support.parts import divergence, frozen
from unlearn_jax.population.plans import FORWARD, epochs_over_request
from unlearn_jax.tasks import over_answer
from unlearn_jax.types import Array, Method


def without_true_class(logits: Array, targets: Array) -> Array:
    """Logits (B, ..., K) with minus infinity at the true class (B, ...); a target below 0 has none."""
    return jnp.where(jax.nn.one_hot(targets, logits.shape[-1], dtype=jnp.bool_), -jnp.inf, logits)


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Descent on the forget stream towards the original without the true class."""

    def loss(params, trained, batches, key):
        batch = batches.forget
        target = without_true_class(frozen(problem, trained.extra, batch.inputs).logits, batch.targets)
        student = {"params": params, "state": trained.state}
        logits = problem.model.apply(student, batch.inputs, key=key, train=False)[0].logits
        return weighted_mean(over_answer(divergence(target, logits), batch), batch.weight), trained.state

    return gradient_method(descent(static, hp), loss, extra=lambda key, variables: variables)


ENTRY = MethodSpec(
    name="delete",
    paper="Zhou et al. 2025, arXiv 2503.23751 (DELETE)",
    rule="on the request, distil the original's softmax with the true class removed",
    needs=frozenset({"forget", "teacher"}),
    build=build,
    plan=functools.partial(epochs_over_request, forget_cost=1.0 + FORWARD),
    numeric={"lr": 3e-4, "weight_decay": 0.0},
    static={"epochs": 10, "batch": 128, "pieces": 1, "optimizer": "sgd", "momentum": 0.9},
    batch_stats="none",
    presets={
        "small": TUNED,
        "small_conv": ({"lr": 1.5e-4}, EARLIER),
        "small_transformer": ({"lr": 1e-4, "optimizer": "adam"}, EARLIER),
        "small_text": ({"lr": 4e-4, "optimizer": "adam"}, RULE),
        "cifar": ({"pieces": 0, "lr": 0.01}, "the paper's: 10 epochs of SGD at .01, momentum .9"),
        "language": (LANGUAGE[0] | {"pieces": 0}, LANGUAGE[1]),
    },
    notes="retain-free",
    reads=BOTH,
    space=(RATE,),
)

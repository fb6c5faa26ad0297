"""LFSSD: selective synaptic dampening without labels or a loss.

Foster et al. 2024 (arXiv 2402.10695, loss-free SSD). As SSD, with importance = mean over examples of the absolute
gradient of the squared norm of the logits, which needs no label; of language, its mean over the positions where a
token of the answer is due. These importances differ less between request and training data than squared gradients of
the loss do, hence the smaller ``level``; SSD's bound N / n_F holds as well.
Batch statistics in evaluation mode and unchanged.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from unlearn_jax.methods.ssd import check, importance_fold, plan
from unlearn_jax.methods.support.common import BOTH, RULE, TUNED, MethodSpec, Span, TrainSpec
from unlearn_jax.tasks import over_answer
from unlearn_jax.types import Method


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Importance by the output's sensitivity."""

    def sensitivity(variables, example):
        def size(params):
            logits = problem.model.apply(variables | {"params": params}, example.inputs, train=False)[0].logits
            return over_answer(jnp.sum(jnp.square(logits), axis=-1), example)[0]

        return jax.tree.map(jnp.abs, jax.grad(size)(variables["params"]))

    return importance_fold(problem, static, hp, sensitivity)


ENTRY = MethodSpec(
    name="lfssd",
    paper="Foster et al. 2024, arXiv 2402.10695 (loss-free SSD)",
    rule="dampen weights to which the request's output norm is more sensitive than that of all data",
    needs=frozenset({"forget", "retain"}),
    build=build,
    plan=plan,
    numeric={"alpha": 0.0, "level": 0.036, "scale": 1.0},
    static={"batch": 128, "micro": 0},
    batch_stats="none",
    presets={
        "small": TUNED,
        "small_conv": ({"level": 0.1}, RULE),
        "small_text": ({"level": 0.012}, RULE),
        "cifar": ({}, "ours: as for small images"),
        "language": ({}, "ours: as for small images"),
    },
    notes="label-free; one shot; alpha by the size of the request",
    check=check,
    reads=BOTH,
    space=(Span("level", 0.1, 10.0), Span("scale", 0.3, 3.0)),
)

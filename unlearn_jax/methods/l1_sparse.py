"""l1-sparse: fine-tune with a penalty on the absolute weights that fades to zero.

Jia et al. 2023 (arXiv 2304.04934). Descend ``l(R) + alpha (1 - t/T) |w|_1`` on the retained data, with t the update
and T their number; the last share ``tail`` of the updates has no penalty. Batch statistics in training mode.
"""

from __future__ import annotations

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
    Span,
    TrainSpec,
    descent,
    gradient_method,
    mean_loss,
)
from unlearn_jax.population.plans import epochs_over_retained
from unlearn_jax.types import Method


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Descent on the retain stream with the fading penalty."""

    def loss(params, trained, batches, key):
        value, state = mean_loss(problem, {"params": params, "state": trained.state}, batches.retain, key, train=True)
        size = sum(jnp.sum(jnp.abs(x)) for x in jax.tree.leaves(params))
        until = 1.0 - static["tail"]
        fade = jnp.maximum(until - batches.progress, 0.0) / max(until, 1e-12)
        return value + hp["alpha"] * fade * size, state

    return gradient_method(descent(static, hp), loss)


ENTRY = MethodSpec(
    name="l1_sparse",
    paper="Jia et al. 2023, arXiv 2304.04934",
    rule="fine-tune with an l1 penalty that decays linearly to zero",
    needs=frozenset({"retain"}),
    build=build,
    plan=epochs_over_retained,
    numeric={"lr": 0.01, "alpha": 1e-3, "weight_decay": 5e-4},
    static={"epochs": 10, "batch": 128, "tail": 0.0, "optimizer": "sgd", "momentum": 0.9},
    presets={
        "small": TUNED,
        "small_conv": ({"alpha": 0.02}, EARLIER),
        "small_transformer": ({"alpha": 0.02, "lr": 1e-3, "optimizer": "adam"}, EARLIER),
        "small_text": ({"alpha": 0.02, "lr": 3e-4, "optimizer": "adam"}, RULE),
        "cifar": (
            {"lr": 0.01, "alpha": 5e-4, "batch": 256},
            "10 epochs of SGD at .01 by batches of 256, alpha 5e-4; the public default alpha .2 collapses the model",
        ),
        "language": (LANGUAGE[0] | {"alpha": 5e-4}, LANGUAGE[1] + "; alpha as for CIFAR"),
    },
    reads=BOTH,
    space=(RATE, Span("alpha", 0.1, 10.0)),
)

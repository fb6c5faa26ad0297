"""UNDIAL: distil the original's own distribution with the true token's logit lowered; no retained data.

Dong et al. 2024 (arXiv 2402.10052): on the request, descend the cross-entropy from softmax(z_original - beta
onehot(true)) to the student, mean over the answer's tokens. The target is fixed, so training on it converges: no
``bound``. `delete` is the limit of beta to infinity. The published beta of 10 is for logits of language models; margins
on digits are 10 to 15, so that it asks there for more than can be had without retained data, and the scale small has 5,
which is reached and then stops. ``pieces`` as of `grad_diff`. The public code's mean is over prompt and padding too;
here they are masked. Batch statistics in evaluation mode, so that passes over the request alone do not overwrite them.
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
    Span,
    TrainSpec,
    descent,
    gradient_method,
)
from unlearn_jax.methods.support.parts import frozen
from unlearn_jax.methods.support.sequences import answer_mean, logits_of, soft_cross_entropy
from unlearn_jax.population.plans import FORWARD, epochs_over_request
from unlearn_jax.types import Method


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Descent on the forget stream towards the lowered original."""

    def loss(params, trained, batches, key):
        batch = batches.forget
        logits = logits_of(problem, {"params": params, "state": trained.state}, batch)
        true = jax.nn.one_hot(batch.targets, logits.shape[-1], dtype=jnp.float32)  # all 0 where nothing is due
        target = frozen(problem, trained.extra, batch.inputs).logits - hp["beta"] * true
        return answer_mean(soft_cross_entropy(target, logits), batch), trained.state

    return gradient_method(descent(static, hp), loss, extra=lambda key, variables: variables)


ENTRY = MethodSpec(
    name="undial",
    paper="Dong et al. 2024, arXiv 2402.10052",
    rule="on the request, distil the original's softmax with the true token's logit lowered by beta",
    needs=frozenset({"forget", "teacher"}),
    build=build,
    plan=functools.partial(epochs_over_request, forget_cost=1.0 + FORWARD),
    numeric={"lr": 3e-4, "beta": 5.0},
    static={"epochs": 10, "batch": 128, "pieces": 12, "optimizer": "adam", "momentum": 0.9},
    batch_stats="none",
    presets={
        "small": TUNED,
        "small_text": ({"beta": 10.0, "pieces": 1, "lr": 5e-4}, RULE),
        "small_conv": ({"beta": 10.0, "pieces": 1, "lr": 3e-5}, RULE),
        "small_transformer": ({"beta": 10.0, "pieces": 1, "lr": 1e-4}, EARLIER),
        "cifar": (
            {"beta": 10.0, "pieces": 0, "lr": 1e-4},
            "ours, not tuned: the paper is on text; a third of the small scale's rate",
        ),
        "language": (
            LANGUAGE[0] | {"beta": 10.0, "pieces": 0, "lr": 1e-4},
            "public language benchmarks: 10 epochs of Adam at 1e-4, batches of 32; beta 10 as there",
        ),
    },
    notes="retain-free",
    reads=BOTH,
    space=(RATE, Span("beta", 0.1, 3.0)),
)

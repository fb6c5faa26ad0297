"""SatImp: ascent weighted by how little a token is forgotten yet and by how much it matters, beside retained data.

Yang et al. 2025 (arXiv 2505.11953): minimise ``forget_weight x mean over F of p^beta1 (1 - p)^beta2 log p +
retain_weight l(R)``, token by token, without a gradient through the weights. p^beta1 spares what is forgotten
(saturation), so there is no ``bound``; (1 - p)^beta2 spares what is certain (importance), so that a perfectly
memorised token, p = 1 in float32, does not move; beta2 = 0 is `wga`. Variant: a mean over each answer's tokens, then
over examples. Batch statistics in evaluation mode on the request, in training mode on the retained batch.
"""

from __future__ import annotations

from unlearn_jax.methods.support.common import (
    BOTH,
    EARLIER,
    FORGET_WEIGHT,
    LANGUAGE,
    RATE,
    RULE,
    TUNED,
    MethodSpec,
    TrainSpec,
)
from unlearn_jax.methods.support.sequences import beside_plan, beside_retained, logits_of, weighted_likelihood
from unlearn_jax.types import Method


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Weighted ascent on F beside descent on R."""

    def lose(student, trained, batch):
        weight = lambda p: p ** hp["beta1"] * (1.0 - p) ** hp["beta2"]
        return weighted_likelihood(problem, logits_of(problem, student, batch), batch, weight)

    return beside_retained(problem, static, hp, lose)


ENTRY = MethodSpec(
    name="satimp",
    paper="Yang et al. 2025, arXiv 2505.11953 (SatImp)",
    rule="ascend the request's loss by tokens weighted p^beta1 (1 - p)^beta2, descend the loss on retained data",
    needs=frozenset({"forget", "retain"}),
    build=build,
    plan=beside_plan(),
    numeric={"lr": 0.01, "beta1": 5.0, "beta2": 1.0, "forget_weight": 0.1, "retain_weight": 1.0},
    static={"epochs": 10, "batch": 128, "pieces": 12, "optimizer": "adam", "momentum": 0.9},
    presets={
        "small": TUNED,
        "small_text": ({"pieces": 1, "lr": 3e-4}, RULE),
        "small_conv": ({"pieces": 1, "lr": 3e-3}, EARLIER),
        "small_transformer": ({"pieces": 1, "lr": 1e-4}, EARLIER),
        "cifar": (
            {"pieces": 0, "lr": 1e-4},
            "ours, not tuned: the paper is on text; a rate of Adam that larger networks bear",
        ),
        "language": (
            LANGUAGE[0] | {"pieces": 0, "epochs": 5},
            "public language benchmarks: 5 epochs of Adam at 1e-5, batches of 32; betas 5 and 1, weights .1 and 1",
        ),
    },
    reads=BOTH,
    space=(RATE, FORGET_WEIGHT),
)

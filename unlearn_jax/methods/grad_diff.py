"""Gradient difference: climb the loss of the request and descend that of retained data, in one sum.

Liu et al. 2022 (arXiv 2203.12817), in the form of TOFU (Maini et al. 2024, arXiv 2401.06121): minimise ``-
forget_weight l(F) + retain_weight l(R)`` over epochs of the request, beside each batch of which stands one of retained
data; both weights are 1. Where F and R are alike, as with copies that stay, the two gradients cancel. It is
`neggrad_plus` with other weights and with the request setting the length. The published ascent is unbounded, ``bound``
inf; by default an example stops counting once its loss is above ``bound`` x ln K. Lengths at small scale are those of
TOFU's forget10, 10 passes of a dozen batches (400 statements by 32): the request is split into ``pieces`` whatever its
size. With both weights 1, as published, the retained batch does not hold the rest, so the scale small has 3 on retained
data. Batch statistics in evaluation mode on the request, in training mode on the retained batch.
"""

from __future__ import annotations

import math

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
    bounded_loss,
)
from unlearn_jax.methods.support.sequences import beside_plan, beside_retained, logits_of
from unlearn_jax.types import Method


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Ascent on F beside descent on R."""

    def climb(student, trained, batch):
        return -bounded_loss(problem, logits_of(problem, student, batch), batch, hp["bound"])

    return beside_retained(problem, static, hp, climb)


ENTRY = MethodSpec(
    name="grad_diff",
    paper="Liu et al. 2022, arXiv 2203.12817; Maini et al. 2024, arXiv 2401.06121 (TOFU)",
    rule="ascend the loss of the request and descend that of retained data",
    needs=frozenset({"forget", "retain"}),
    build=build,
    plan=beside_plan(),
    numeric={"lr": 3e-3, "forget_weight": 1.0, "retain_weight": 3.0, "bound": 1.0},
    static={"epochs": 10, "batch": 128, "pieces": 12, "optimizer": "adam", "momentum": 0.9},
    presets={
        "small": TUNED,
        "small_conv": ({"retain_weight": 1.0, "pieces": 1, "lr": 3e-4}, EARLIER),
        "small_transformer": ({"retain_weight": 1.0, "pieces": 1, "lr": 3e-4}, EARLIER),
        "small_text": ({"retain_weight": 1.0, "pieces": 1, "lr": 2e-3}, RULE),
        "cifar": (
            {"retain_weight": 1.0, "pieces": 0, "bound": math.inf, "lr": 1e-4},
            "ours, not tuned: the paper is on text; a third of the small scale's rate",
        ),
        "language": (
            LANGUAGE[0] | {"retain_weight": 1.0, "pieces": 0, "bound": math.inf},
            LANGUAGE[1] + "; both weights 1",
        ),
    },
    reads=BOTH,
    space=(RATE, FORGET_WEIGHT),
)

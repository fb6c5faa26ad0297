"""SimNPO: negative preference without a reference model, on the mean log-probability of an answer's tokens.

Fan et al. 2024 (arXiv 2410.07163): minimise ``forget_weight x -(2 / beta) mean over F of log sigmoid(beta (l - delta))
+ retain_weight l(R)`` with l the mean loss over an answer's tokens. Where `npo` compares with the original, whatever
it knew of the answer, here an example stops pushing once its own loss is some 1 / beta above delta, so there is no
``bound``. delta stands inside the factor beta, as in public benchmarks (the paper's margin is beta delta). Batch
statistics in evaluation mode on the request, in training mode on the retained batch.
"""

from __future__ import annotations

import jax

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
    weighted_mean,
)
from unlearn_jax.methods.support.sequences import beside_plan, beside_retained, logits_of
from unlearn_jax.types import Method


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Length-normalised negative preference on F beside descent on R."""

    def lose(student, trained, batch):
        losses = problem.task.loss(logits_of(problem, student, batch), batch)
        values = -2.0 / hp["beta"] * jax.nn.log_sigmoid(hp["beta"] * (losses - hp["delta"]))
        return weighted_mean(values, batch.weight)

    return beside_retained(problem, static, hp, lose)


ENTRY = MethodSpec(
    name="simnpo",
    paper="Fan et al. 2024, arXiv 2410.07163",
    rule="descend -(2 / beta) log sigmoid(beta (mean token loss - delta)) on the request, the loss on retained data",
    needs=frozenset({"forget", "retain"}),
    build=build,
    plan=beside_plan(),
    numeric={"lr": 0.01, "beta": 4.5, "delta": 0.0, "forget_weight": 0.125, "retain_weight": 1.0},
    static={"epochs": 10, "batch": 128, "pieces": 12, "optimizer": "adam", "momentum": 0.9},
    presets={
        "small": TUNED,
        "small_text": ({"pieces": 1, "lr": 1.5e-3, "forget_weight": 3.0}, RULE),
        "small_conv": ({"pieces": 1, "lr": 5e-3}, EARLIER),
        "small_transformer": ({"pieces": 1, "lr": 3e-3}, EARLIER),
        "cifar": (
            {"pieces": 0, "lr": 1e-4},
            "ours, not tuned: the paper is on text; a rate of Adam that larger networks bear",
        ),
        "language": (LANGUAGE[0] | {"pieces": 0}, LANGUAGE[1] + "; beta 4.5, delta 0 and weights .125 and 1 as there"),
    },
    reads=BOTH,
    space=(RATE, FORGET_WEIGHT),
)

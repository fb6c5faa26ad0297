"""KL minimisation: climb the loss of the request while staying near the original on retained data.

The baseline "KL minimisation" of TOFU (Maini et al. 2024, arXiv 2401.06121), GradDiff with KL in later comparisons:
minimise ``- forget_weight l(F) + retain_weight KL(original || s)`` with the divergence, over the whole vocabulary, at
the retained answers' tokens. As `grad_diff` but for the retained term, which asks for the original's distribution and
not for the true answer. TOFU's divergence is over all tokens of a retained text; here the prompt is masked, as
everywhere. An example stops counting once its loss is above ``bound`` x ln K; the published rule is inf. ``pieces`` as
of `grad_diff`. Batch statistics in evaluation mode on the request and in the original, in training mode on the retained
batch.
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
from unlearn_jax.methods.support.parts import distillation, frozen
from unlearn_jax.methods.support.sequences import beside_plan, beside_retained, logits_of
from unlearn_jax.population.plans import FORWARD
from unlearn_jax.types import Method


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Ascent on F beside distillation of the original on R."""

    def climb(student, trained, batch):
        return -bounded_loss(problem, logits_of(problem, student, batch), batch, hp["bound"])

    def stay(student, trained, batch, key):
        outputs, state = problem.model.apply(student, batch.inputs, key=key, train=True)
        teacher = frozen(problem, trained.extra, batch.inputs).logits
        return distillation(teacher, outputs.logits, batch), state

    return beside_retained(problem, static, hp, climb, keep=stay, extra=lambda key, variables: variables)


ENTRY = MethodSpec(
    name="kl_retain",
    paper="Maini et al. 2024, arXiv 2401.06121 (TOFU, KL minimisation)",
    rule="ascend the loss of the request, keep KL(original || s) small on retained data",
    needs=frozenset({"forget", "retain", "teacher"}),
    build=build,
    plan=beside_plan(retain_cost=1.0 + FORWARD),
    numeric={"lr": 3e-4, "forget_weight": 1.0, "retain_weight": 4.0, "bound": 1.0},
    static={"epochs": 10, "batch": 128, "pieces": 12, "optimizer": "adam", "momentum": 0.9},
    presets={
        "small": TUNED,
        "small_text": ({"retain_weight": 1.0, "pieces": 1, "lr": 2e-3}, RULE),
        "small_conv": ({"retain_weight": 1.0, "pieces": 1, "lr": 3e-4}, EARLIER),
        "small_transformer": ({"retain_weight": 1.0, "pieces": 1, "lr": 1e-4}, EARLIER),
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

"""NPO: preference optimisation with the requested answers as what is not preferred, beside retained data.

Zhang et al. 2024 (arXiv 2404.05868), the variant with the retained loss (NPO-RT): minimise ``(2 / beta) mean over F of
log(1 + (p / p_original)^beta) + retain_weight l(R)`` with p the probability of the *whole* answer, so the ratio's
logarithm is a sum over tokens, not their mean; ``l(R)`` is, as everywhere, the mean over tokens. As beta goes to 0 the
gradient of the first term tends to that of `gradient_ascent` on summed log-probabilities; at any other beta an
example's ascent is weighted by ``2 r / (1 + r)`` with r = (p / p_original)^beta, which is 1 at the start and falls to 0
as the answer is forgotten, so there is no ``bound``. The published beta of .1 is for answers of dozens of tokens, whose
log-probability is a sum: for a class, one token, the weight would still be .54 at a loss of 10 nats, far beyond chance,
so the scale small has 1. ``pieces`` as of `grad_diff`. Batch statistics in evaluation mode on the request and in the
original, in training mode on the retained batch.
"""

from __future__ import annotations

import jax

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
    weighted_mean,
)
from unlearn_jax.methods.support.parts import frozen
from unlearn_jax.methods.support.sequences import beside_plan, beside_retained, logits_of, sequence_logprob
from unlearn_jax.population.plans import FORWARD
from unlearn_jax.types import Array, Method


def repulsion(ratio: Array, beta: Array | float) -> Array:
    """``(2 / beta) log(1 + exp(beta ratio))`` of log-ratios in nats; (B,) -> (B,), finite for any ratio."""
    return -2.0 / beta * jax.nn.log_sigmoid(-beta * ratio)


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Negative preference on F beside descent on R."""

    def lose(student, trained, batch):
        logprob = sequence_logprob(problem, logits_of(problem, student, batch), batch)
        before = sequence_logprob(problem, frozen(problem, trained.extra, batch.inputs).logits, batch)
        return weighted_mean(repulsion(logprob - before, hp["beta"]), batch.weight)

    return beside_retained(problem, static, hp, lose, extra=lambda key, variables: variables)


ENTRY = MethodSpec(
    name="npo",
    paper="Zhang et al. 2024, arXiv 2404.05868 (NPO-RT)",
    rule="descend (2 / beta) log(1 + (p / p_original)^beta) on the request and the loss on retained data",
    needs=frozenset({"forget", "retain", "teacher"}),
    build=build,
    plan=beside_plan(forget_cost=1.0 + FORWARD),
    numeric={"lr": 1e-3, "beta": 1.0, "retain_weight": 1.0},
    static={"epochs": 10, "batch": 128, "pieces": 12, "optimizer": "adam", "momentum": 0.9},
    presets={
        "small": TUNED,
        "small_conv": ({"beta": 0.1, "pieces": 1, "lr": 3e-4}, EARLIER),
        "small_transformer": ({"beta": 0.1, "pieces": 1, "lr": 1e-4}, EARLIER),
        "small_text": ({"beta": 0.1, "pieces": 1, "lr": 9e-4}, RULE),
        "cifar": (
            {"beta": 0.1, "pieces": 0, "lr": 1e-4},
            "ours, not tuned: the paper is on text; a third of the small scale's rate",
        ),
        "language": (LANGUAGE[0] | {"beta": 0.1, "pieces": 0}, LANGUAGE[1] + "; beta .1 and weight 1 as there"),
    },
    reads=BOTH,
    space=(RATE, Span("beta", 0.3, 30.0)),
)

"""WGA: weighted gradient ascent, each token's ascent weighted by its own probability, beside retained data.

Wang et al. 2025 (arXiv 2502.19301): minimise ``mean over F of p^beta log p + retain_weight l(R)``, token by token,
without a gradient through the weights p^beta. A token that is forgotten stops pushing, so there is no ``bound``;
beta = 0 is `grad_diff`. Variant: a mean over each answer's tokens, then over examples (published: over all tokens of a
batch), so that every example counts alike. Batch statistics in evaluation mode on the request, in training mode on the
retained batch.
"""

from __future__ import annotations

from unlearn_jax.methods.support.common import BOTH, EARLIER, LANGUAGE, RATE, RULE, TUNED, MethodSpec, Span, TrainSpec
from unlearn_jax.methods.support.sequences import beside_plan, beside_retained, logits_of, weighted_likelihood
from unlearn_jax.types import Method


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Weighted ascent on F beside descent on R."""

    def lose(student, trained, batch):
        logits = logits_of(problem, student, batch)
        return weighted_likelihood(problem, logits, batch, lambda p: p ** hp["beta"])

    return beside_retained(problem, static, hp, lose)


ENTRY = MethodSpec(
    name="wga",
    paper="Wang et al. 2025, arXiv 2502.19301 (WGA)",
    rule="ascend the request's loss by tokens weighted p^beta, descend the loss on retained data",
    needs=frozenset({"forget", "retain"}),
    build=build,
    plan=beside_plan(),
    numeric={"lr": 3e-3, "beta": 1.0, "retain_weight": 1.0},
    static={"epochs": 10, "batch": 128, "pieces": 12, "optimizer": "adam", "momentum": 0.9},
    presets={
        "small": TUNED,
        "small_text": ({"pieces": 1}, RULE),
        "small_conv": ({"pieces": 1, "lr": 3e-3}, EARLIER),
        "small_transformer": ({"pieces": 1, "lr": 3e-3}, EARLIER),
        "cifar": (
            {"pieces": 0, "lr": 1e-4},
            "ours, not tuned: the paper is on text; a rate of Adam that larger networks bear",
        ),
        "language": (
            LANGUAGE[0] | {"pieces": 0, "epochs": 5},
            "public language benchmarks: 5 epochs of Adam at 1e-5, batches of 32; beta and weight 1 as there",
        ),
    },
    reads=BOTH,
    space=(RATE, Span("beta", 0.1, 5.0)),
)

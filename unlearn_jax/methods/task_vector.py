"""Task-vector negation: fine-tune a copy on the request, then go as far in the opposite direction.

Ilharco et al. 2023 (arXiv 2212.04089): with w_F the weights after fine-tuning the original w_0 on the request alone,
return ``w_0 - alpha (w_F - w_0)``. Neither step reads retained data: what they share with the request is in the vector.
On a request that is already memorised the loss to fine-tune on is almost nil; Adam's steps do not shrink with it, so
the rate and ``epochs`` set the vector's length and ``alpha`` scales it. Batch statistics in evaluation mode and
unchanged.
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
    descent,
    gradient_method,
    mean_loss,
)
from unlearn_jax.population.plans import epochs_over_request
from unlearn_jax.types import Method


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Descent on the forget stream, at the end mirrored at the original."""

    def loss(params, trained, batches, key):
        return mean_loss(problem, {"params": params, "state": trained.state}, batches.forget, None, train=False)

    fold = gradient_method(descent(static, hp), loss, extra=lambda key, variables: variables["params"])

    def end(trained):
        against = lambda old, new: old - hp["alpha"] * (new - old)
        return {"params": jax.tree.map(against, trained.extra, trained.params), "state": trained.state}

    return fold._replace(finish=end)


ENTRY = MethodSpec(
    name="task_vector",
    paper="Ilharco et al. 2023, arXiv 2212.04089 (negation)",
    rule="fine-tune on the request, then move the original's weights alpha times as far the other way",
    needs=frozenset({"forget"}),
    build=build,
    plan=epochs_over_request,
    numeric={"lr": 3e-4, "alpha": 1.0},
    static={"epochs": 10, "batch": 128, "pieces": 12, "optimizer": "adam", "momentum": 0.9},
    batch_stats="none",
    presets={
        "small": TUNED,
        "small_text": ({"pieces": 1, "lr": 9e-4}, RULE),
        "small_conv": ({"pieces": 1, "lr": 3e-4}, EARLIER),
        "small_transformer": ({"pieces": 1, "lr": 3e-4}, EARLIER),
        "cifar": (
            {"pieces": 0, "lr": 1e-5, "alpha": 1.0},
            "the paper's rate for image models, 1e-5, with Adam; alpha, searched there, not tuned",
        ),
        "language": (LANGUAGE[0] | {"pieces": 0}, LANGUAGE[1] + "; alpha 1, the most that the paper tries"),
    },
    notes="retain-free",
    reads=BOTH,
    space=(RATE, Span("alpha", 0.1, 3.0)),
)

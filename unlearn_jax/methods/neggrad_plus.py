"""NegGrad+: descend on the retained data and ascend on the request in one weighted loss.

Kurmanji et al. 2023 (arXiv 2302.09880), baseline: minimise ``alpha l(R) - (1 - alpha) l(F)``, alpha = .95, 10 epochs;
the request's stream is cycled beside the retained one. An example stops counting once its loss is above ``bound`` x ln
K; the published rule is ``bound`` inf, by which a whole class of digits is driven to a margin of -100 and what remains
to 91%. The published SGD at .01 leaves a memorised request as it is on digits, for the reason given in
`gradient_ascent`, and so does alpha = .95 with Adam: the small-scale defaults are Adam and .8. Batch statistics in
evaluation mode, as published.
"""

from __future__ import annotations

import functools
import math

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
    bounded_loss,
    descent,
    gradient_method,
    mean_loss,
)
from unlearn_jax.population.plans import epochs_over_retained
from unlearn_jax.types import Method


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Descent on R and ascent on F together."""

    def loss(params, trained, batches, key):
        variables = {"params": params, "state": trained.state}
        retain, _ = mean_loss(problem, variables, batches.retain, key, train=False)
        outputs, _ = problem.model.apply(variables, batches.forget.inputs, train=False)
        forget = bounded_loss(problem, outputs.logits, batches.forget, hp["bound"])
        return hp["alpha"] * retain - (1.0 - hp["alpha"]) * forget, trained.state

    return gradient_method(descent(static, hp), loss)


ENTRY = MethodSpec(
    name="neggrad_plus",
    paper="Kurmanji et al. 2023, arXiv 2302.09880 (baseline)",
    rule="SGD on alpha l(R) - (1 - alpha) l(F)",
    needs=frozenset({"forget", "retain"}),
    build=build,
    plan=functools.partial(epochs_over_retained, forget_cost=1.0),
    batch_stats="none",
    numeric={"lr": 3e-4, "alpha": 0.8, "bound": 1.0},
    static={"epochs": 10, "batch": 128, "optimizer": "adam", "momentum": 0.9},
    presets={
        "small": TUNED,
        "small_transformer": ({"lr": 3e-3}, EARLIER),
        "small_text": ({"lr": 1e-4, "alpha": 0.5}, RULE),
        "cifar": (
            {"lr": 0.01, "alpha": 0.95, "optimizer": "sgd", "bound": math.inf},
            "10 epochs of SGD at .01, alpha .95, unbounded, in the SCRUB comparison",
        ),
        "language": (
            LANGUAGE[0] | {"alpha": 0.95, "bound": math.inf},
            LANGUAGE[1] + "; alpha and no bound as published",
        ),
    },
    reads=BOTH,
    space=(RATE, Span("alpha", 0.5, 0.99, False)),
)

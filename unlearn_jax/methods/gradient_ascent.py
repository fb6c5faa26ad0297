"""Gradient ascent (NegGrad): climb the loss of the request.

Golatkar et al. 2020 (arXiv 1911.04933), Thudi et al. 2022. The rule is unbounded: the loss has no maximum, so the
number of steps decides everything. Default variant ``bound=1``: an example stops counting when its loss passes ln K,
where the model is as wrong as chance; ``bound=inf`` is the published rule. ``pieces`` as of `grad_diff`. On a memorised
request the gradient is so small that SGD does nothing up to a rate of .1 on digits and destroys the model at 1, so the
default follows Adam; ``optimizer=sgd`` is the published one. Batch statistics in evaluation mode, so that passes over
the request alone do not overwrite them.
"""

from __future__ import annotations

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
)
from unlearn_jax.population.plans import epochs_over_request
from unlearn_jax.types import Method


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Ascent on the forget stream."""

    def loss(params, trained, batches, key):
        variables = {"params": params, "state": trained.state}
        outputs, _ = problem.model.apply(variables, batches.forget.inputs, key=key, train=False)
        return -bounded_loss(problem, outputs.logits, batches.forget, hp["bound"]), trained.state

    return gradient_method(descent(static, hp), loss)


ENTRY = MethodSpec(
    name="gradient_ascent",
    paper="Golatkar et al. 2020, arXiv 1911.04933 (NegGrad)",
    rule="ascend the loss of the request, up to chance level",
    needs=frozenset({"forget"}),
    build=build,
    plan=epochs_over_request,
    batch_stats="none",
    numeric={"lr": 2e-5, "bound": 1.0},
    static={"epochs": 10, "batch": 128, "pieces": 12, "optimizer": "adam", "momentum": 0.0},
    presets={
        "small": TUNED,
        "small_conv": ({"pieces": 1, "lr": 1e-4}, EARLIER),
        "small_transformer": ({"pieces": 1, "lr": 1e-4}, EARLIER),
        "small_text": ({"pieces": 1, "lr": 3e-4}, RULE),
        "cifar": (
            {
                "pieces": 0,
                "lr": 1e-4,
                "epochs": 5,
                "batch": 256,
                "optimizer": "sgd",
                "momentum": 0.9,
                "bound": math.inf,
            },
            "5 epochs of SGD at 1e-4 in batches of 256, unbounded, in the SalUn comparison, which searches the rate",
        ),
        "language": (LANGUAGE[0] | {"pieces": 0}, LANGUAGE[1]),
    },
    reads=BOTH,
    space=(RATE, Span("bound", 0.3, 10.0)),
)

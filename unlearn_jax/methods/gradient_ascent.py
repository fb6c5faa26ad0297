"""Gradient ascent (NegGrad): climb the loss of the request.

Golatkar et al. 2020 (arXiv 1911.04933), Thudi et al. 2022. The rule is unbounded: the loss has no maximum, so the
number of steps decides everything. Default variant ``bound=1``: an example stops counting when its loss passes
ln K, where the model is as wrong as chance; ``bound=inf`` is the published rule. On a memorised request the gradient
is so small that published SGD rates do nothing and larger ones destroy the model, so the default follows Adam, at the
largest of 1e-4, 3e-4, 1e-3, 3e-3 that kept 98% accuracy on the retained digits (random targets, another seed, no
oracle); ``optimizer=sgd`` is the published one. Batch statistics in evaluation mode, so that passes over the request
alone do not overwrite them.
"""

from __future__ import annotations

from unlearn_jax.methods.common import LANGUAGE, Entry, Problem, Recipe, bounded_loss, descent, gradient_method
from unlearn_jax.population.plans import Plan, Sizes, passes, uniform_plan
from unlearn_jax.types import Method


def build(problem: Problem, static: dict, hp: dict) -> Method:
    """Ascent on the forget stream."""

    def loss(params, trained, batches, key):
        variables = {"params": params, "state": trained.state}
        outputs, _ = problem.model.apply(variables, batches.forget.inputs, key=key, train=False)
        return -bounded_loss(problem, outputs.logits, batches.forget, hp["bound"]), trained.state

    return gradient_method(descent(static, hp), loss)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """``epochs`` passes over the request."""
    batch = min(static["batch"], max(sizes.forget, 1))
    return uniform_plan(static["epochs"] * passes(sizes.forget, batch), forget_batch=batch)


ENTRY = Entry(
    name="gradient_ascent",
    paper="Golatkar et al. 2020, arXiv 1911.04933 (NegGrad)",
    rule="ascend the loss of the request, up to chance level",
    needs=frozenset({"forget"}),
    build=build,
    plan=plan,
    batch_stats="none",
    numeric={"lr": 3e-4, "bound": 1.0},
    static={"epochs": 10, "batch": 128, "optimizer": "adam", "momentum": 0.0},
    presets={
        "cifar": (
            {"lr": 1e-4, "epochs": 5, "optimizer": "sgd"},
            "5 epochs of SGD at 1e-4; the comparisons search from 1e-5 to .1",
        ),
        "language": LANGUAGE,
    },
)

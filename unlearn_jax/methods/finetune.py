"""Fine-tune: descend on the retained data only and hope that the request is forgotten on the way.

The baseline of Golatkar et al. 2020 (arXiv 1911.04933) and of most papers since. Defaults: 10 epochs of SGD with
momentum .9 at .01 (the setting of the l1-sparse and SalUn comparisons). Batch statistics in training mode.
"""

from __future__ import annotations

from unlearn_jax.methods.common import LANGUAGE, Entry, Problem, Recipe, descent, gradient_method, retained_loss
from unlearn_jax.population.plans import Plan, Sizes, passes, uniform_plan
from unlearn_jax.types import Method


def build(problem: Problem, static: dict, hp: dict) -> Method:
    """Descent on the retain stream."""
    loss = retained_loss(problem)

    return gradient_method(descent(static, hp), loss)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """``epochs`` passes over the retained data."""
    return uniform_plan(static["epochs"] * passes(sizes.retain, static["batch"]), retain_batch=static["batch"])


ENTRY = Entry(
    name="finetune",
    paper="Golatkar et al. 2020, arXiv 1911.04933 (baseline)",
    rule="SGD on the retained data from the original weights",
    needs=frozenset({"retain"}),
    build=build,
    plan=plan,
    numeric={"lr": 0.01, "weight_decay": 5e-4},
    static={"epochs": 10, "batch": 128, "optimizer": "sgd", "momentum": 0.9},
    presets={
        "cifar": ({}, "10 epochs of SGD at .01, as in the l1-sparse and SalUn comparisons"),
        "language": LANGUAGE,
    },
)

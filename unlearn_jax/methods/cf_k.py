"""CF-k: catastrophic forgetting of the last k groups of layers: fine-tune them alone on retained data.

Goel et al. 2022 (arXiv 2201.06640). As EU-k, from the original weights of those groups. Batch statistics in evaluation
mode, so that all before them stays bit-identical.
"""

from __future__ import annotations

from unlearn_jax.methods.common import LANGUAGE, Entry, Problem, Recipe
from unlearn_jax.methods.eu_k import last_layers_fold
from unlearn_jax.population.plans import Plan, Sizes, epochs_over_retained
from unlearn_jax.types import Method


def build(problem: Problem, static: dict, hp: dict) -> Method:
    """Descent on the retain stream that moves the last k groups alone."""
    return last_layers_fold(problem, static, hp)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """``epochs`` passes over the retained data."""
    return epochs_over_retained(sizes, static)


ENTRY = Entry(
    name="cf_k",
    paper="Goel et al. 2022, arXiv 2201.06640 (CF-k)",
    rule="fine-tune the last k groups of layers alone on the retained data",
    needs=frozenset({"retain"}),
    build=build,
    plan=plan,
    numeric={"lr": 0.01, "weight_decay": 5e-4},
    static={"epochs": 10, "batch": 128, "k": 1, "optimizer": "sgd", "momentum": 0.9},
    batch_stats="none",
    presets={
        "cifar": ({}, "10 epochs of SGD at .01, as for fine-tuning in the comparisons"),
        "language": LANGUAGE,
    },
    notes="features keep the request's influence",
)

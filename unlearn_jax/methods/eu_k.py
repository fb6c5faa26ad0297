"""EU-k: exact unlearning of the last k groups of layers: re-initialise them and train them alone on retained data.

Goel et al. 2022 (arXiv 2201.06640). Everything before the last k groups stays bit-identical to the original, so the
features keep what they learned from the request: a cheap baseline, and a negative control for influence. Groups are the
model's top-level layers in the order in which it applies them; the head is one. Batch statistics in evaluation mode;
those of re-initialised groups are a new model's too.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from unlearn_jax.methods.common import LANGUAGE, TUNED, Entry, Problem, Recipe, descent, gradient_method, retained_loss
from unlearn_jax.methods.parts import depth_order, fresh, last_groups
from unlearn_jax.population.plans import Plan, Sizes, epochs_over_retained
from unlearn_jax.types import Method


def last_layers_fold(problem: Problem, static: dict, hp: dict) -> Method:
    """Descent on the retain stream that moves the last k groups alone, from where they are."""
    loss = retained_loss(problem, train=False)

    live = lambda trained: last_groups(problem, trained.params, static["k"])
    return gradient_method(descent(static, hp), loss, mask=live)


def build(problem: Problem, static: dict, hp: dict) -> Method:
    """The same from a new initialisation of those groups."""
    fold = last_layers_fold(problem, static, hp)

    def init(key, variables):
        params = variables["params"]
        live = last_groups(problem, params, static["k"])
        new = fresh(problem, jax.random.fold_in(key, 1))
        mixed = jax.tree.map(lambda on, a, b: jnp.where(on > 0, b, a), live, params, new["params"])
        order = depth_order(problem.model, problem.example.shape, str(problem.example.dtype))
        inside = lambda path: any(getattr(part, "key", None) in order[-static["k"] :] for part in path)
        pick = lambda path, a, b: b if inside(path) else a
        state = jax.tree_util.tree_map_with_path(pick, variables["state"], new["state"])
        return fold.init(key, variables | {"params": mixed, "state": state})

    return Method(init, fold.update, fold.finish)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """``epochs`` passes over the retained data."""
    return epochs_over_retained(sizes, static)


ENTRY = Entry(
    name="eu_k",
    paper="Goel et al. 2022, arXiv 2201.06640 (EU-k)",
    rule="re-initialise the last k groups of layers and train them alone on the retained data",
    needs=frozenset({"retain"}),
    build=build,
    plan=plan,
    numeric={"lr": 0.01, "weight_decay": 5e-4},
    static={"epochs": 20, "batch": 128, "k": 1, "optimizer": "sgd", "momentum": 0.9},
    batch_stats="none",
    presets={
        "small": TUNED,
        "cifar": ({"lr": 0.01, "epochs": 30}, "the rate of the comparisons; longer than CF-k, as published"),
        "language": LANGUAGE,
    },
    notes="features keep the request's influence",
)

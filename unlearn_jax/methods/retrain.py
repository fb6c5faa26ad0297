"""Retrain: train a fresh model on what is kept; the literature's gold standard of exact unlearning.

The same fold trains every reference population: only the index tables differ. The starting variables are not read.
"""

from __future__ import annotations

import jax
import optax

from unlearn_jax.methods.common import Entry, Problem, Recipe, gradient_method, mean_loss
from unlearn_jax.population.plans import Plan, Sizes, uniform_plan
from unlearn_jax.types import Method


def schedule(recipe: Recipe, lr) -> optax.Schedule:
    """The learning rate as a function of the update."""
    if recipe.schedule == "constant":
        return optax.constant_schedule(lr)
    warm = max(1, recipe.steps // 10)
    return optax.warmup_cosine_decay_schedule(0.0, lr, warm, recipe.steps, 0.0)


def optimizer(recipe: Recipe, lr, weight_decay) -> optax.GradientTransformation:
    """The recipe's optimizer with decoupled weight decay."""
    rate = schedule(recipe, lr)
    if recipe.optimizer == "adamw":
        return optax.adamw(rate, weight_decay=weight_decay)
    return optax.chain(
        optax.trace(decay=recipe.momentum, nesterov=True),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(rate),
    )


def build(problem: Problem, static: dict, hp: dict) -> Method:
    """Training from a fresh initialisation on the retain stream; batch statistics in training mode."""

    def loss(params, trained, batches, key):
        variables = {"params": params, "state": trained.state}
        return mean_loss(problem, variables, batches.retain, key, train=True)

    fold = gradient_method(optimizer(problem.recipe, hp["lr"], hp["weight_decay"]), loss)

    def init(key: jax.Array, variables):
        return fold.init(key, problem.model.init(jax.random.fold_in(key, 1), problem.example))

    return Method(init, fold.update, fold.finish)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """The recipe's steps, whatever the size of the set."""
    return uniform_plan(recipe.steps, retain_batch=recipe.batch)


ENTRY = Entry(
    name="retrain",
    paper="reference (gold standard of the unlearning literature)",
    rule="train from a fresh initialisation on the retained data",
    needs=frozenset({"retain", "fresh_init"}),
    build=build,
    plan=plan,
    numeric={"lr": Recipe().lr, "weight_decay": Recipe().weight_decay},
    static={},
)

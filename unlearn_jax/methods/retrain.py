"""Retrain: train a fresh model on what is kept; the literature's gold standard of exact unlearning.

The same fold trains every reference population: only the index tables differ. The starting variables are not read.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from unlearn_jax.methods.support.common import BOTH, MethodSpec, Recipe, TrainSpec, gradient_method, retained_loss
from unlearn_jax.population.plans import Plan, Sizes, uniform_plan
from unlearn_jax.types import Method


def rates(recipe: Recipe) -> np.ndarray:
    """Multiplier of the learning rate at each update: constant, or a linear warm-up and a cosine to zero."""
    at = np.arange(recipe.steps) + 1.0
    if recipe.schedule == "constant":
        return np.ones(recipe.steps)
    warm = max(1, recipe.steps // 10)
    fall = 0.5 * (1.0 + np.cos(np.pi * np.clip((at - warm) / max(recipe.steps - warm + 1, 1), 0.0, 1.0)))
    return np.where(at < warm, at / warm, fall)


def optimizer(recipe: Recipe, lr, weight_decay) -> optax.GradientTransformation:
    """The recipe's optimizer with decoupled weight decay."""
    if recipe.optimizer == "adamw":
        return optax.adamw(lr, weight_decay=weight_decay)
    return optax.chain(
        optax.trace(decay=recipe.momentum, nesterov=True),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(lr),
    )


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Training from a fresh initialisation on the retain stream; batch statistics in training mode."""
    loss = retained_loss(problem)
    fold = gradient_method(optimizer(problem.recipe, hp["lr"], hp["weight_decay"]), loss)

    def init(key: jax.Array, variables):
        return fold.init(
            key, problem.model.init(jax.random.fold_in(key, 1), jnp.zeros(problem.example.shape, problem.example.dtype))
        )

    return Method(init, fold.update, fold.finish)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """The recipe's steps, whatever the size of the set."""
    return uniform_plan(recipe.steps, retain_batch=recipe.batch, rate=rates(recipe))


ENTRY = MethodSpec(
    name="retrain",
    paper="reference (gold standard of the unlearning literature)",
    rule="train from a fresh initialisation on the retained data",
    needs=frozenset({"retain", "fresh_init"}),
    build=build,
    plan=plan,
    numeric={"lr": Recipe().lr, "weight_decay": Recipe().weight_decay},
    static={},
    presets=dict.fromkeys(("small", "cifar", "language"), ({}, "the recipe's")),
    reads=BOTH,
    space=(),
)

"""Langevin unlearning: noisy training on everything, then the same noisy training on what stays.

Chien et al. 2024 (arXiv 2401.10371). Projected noisy gradient descent ``w <- Pi(w - lr (g + l2 w) + sqrt(2 lr) noise
N(0, I))`` onto the ball of ``radius`` learns on all data; unlearning goes on with the retained data alone, and the
Renyi divergence to retraining decays with the steps. The certificate needs *training* with noise as well (and a
smooth, strongly convex loss), so this protocol trains its own originals by the same rule, with the recipe's number of
steps and batch; for networks the certificate does not hold. Batch statistics in training mode.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import optax

from unlearn_jax.data.augment import augmentation
from unlearn_jax.methods.support.common import (
    BOTH,
    TUNED,
    Context,
    MethodSpec,
    Span,
    Trained,
    TrainSpec,
    bind_shared,
    follow,
    mean_loss,
    phased_method,
)
from unlearn_jax.methods.support.parts import fresh, normal_like
from unlearn_jax.population.plans import epochs_over_retained, uniform_plan
from unlearn_jax.population.program import Fold
from unlearn_jax.trees import tree_add, tree_dot, tree_scale
from unlearn_jax.types import Method, Variables


def noisy_descent(problem: TrainSpec, static: dict, from_scratch: bool) -> Method:
    """Projected noisy gradient descent on the retain stream."""
    lr, walker = static["lr"], optax.sgd(static["lr"])

    def init(key, variables):
        start = fresh(problem, jax.random.fold_in(key, 1)) if from_scratch else variables
        return Trained(start["params"], start["state"], walker.init(start["params"]))

    def update(key, trained, batches):
        def loss(params):
            value, state = mean_loss(
                problem, {"params": params, "state": trained.state}, batches.retain, jax.random.fold_in(key, 0), True
            )
            return value + 0.5 * static["l2"] * tree_dot(params, params), state

        (value, state), grads = jax.value_and_grad(loss, has_aux=True)(trained.params)
        params, moments = follow(walker, grads, trained, batches.rate)
        noise = normal_like(jax.random.fold_in(key, 1), params)
        params = tree_add(params, noise, (2.0 * lr) ** 0.5 * static["noise"])
        size = jnp.sqrt(tree_dot(params, params))
        params = tree_scale(params, jnp.minimum(1.0, static["radius"] / jnp.maximum(size, 1e-12)))
        return Trained(params, state, moments), value

    return phased_method(init, [update])


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Noisy descent from where training ended."""
    return noisy_descent(problem, static, False)


@functools.lru_cache(maxsize=16)
def _training(problem: TrainSpec, static: tuple) -> Fold:
    build = lambda hp, shared: noisy_descent(bind_shared(problem, shared), dict(static), True)
    return Fold(build, augmentation(problem.recipe.augment))


def begin(context: Context, static: dict, start: Variables) -> tuple[Variables, tuple[float, float]]:
    """Originals trained with noise on everything; not counted, as they stand for the original training."""
    fold = _training(context.problem, tuple(sorted(static.items())))
    recipe = context.problem.recipe
    plan = uniform_plan(recipe.steps, retain_batch=recipe.batch)
    return context.train("langevin_original", fold, plan, context.everything), (0.0, 0.0)


plan = epochs_over_retained

ENTRY = MethodSpec(
    name="langevin",
    paper="Chien et al. 2024, arXiv 2401.10371",
    rule="train with projected noisy gradient descent, and go on with it on the retained data",
    needs=frozenset({"retain", "protocol", "fresh_init"}),
    build=build,
    plan=plan,
    numeric={},
    static={"epochs": 10, "batch": 128, "lr": 0.1, "noise": 1e-3, "l2": 1e-4, "radius": 100.0},
    presets={
        "small": ({}, "ours: large steps of little noise, so that the original learns; not tuned"),
        "small_text": TUNED,
        "cifar": ({"lr": 0.05}, "ours: half the rate of the small scale; not tuned"),
    },
    notes="compared with originals of the usual recipe; no certificate for networks",
    begin=begin,
    reads=BOTH,
    space=(Span("noise", values=(0.0001, 0.01)),),
)

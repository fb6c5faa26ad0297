"""Boundary shrink: give each requested example the label that lies nearest across the decision boundary.

Chen et al. 2023 (arXiv 2303.11570). The nearest incorrect label is that of a one-step adversarial neighbour ``x +
epsilon sign(grad_x l)`` under the *frozen* original; descend cross-entropy to it on the request alone. ``epsilon`` is
in pixel units of [0, 1]. Where the step does not cross a boundary, the neighbour's most likely wrong class is taken.
Batch statistics in evaluation mode.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from unlearn_jax.methods.common import TUNED, Entry, Problem, Recipe, descent, gradient_method, mean_loss
from unlearn_jax.methods.parts import frozen, pixels
from unlearn_jax.population.plans import FORWARD, Plan, Sizes, epochs_over_request
from unlearn_jax.types import Array, Batch, Method, Variables


def signed_step(problem: Problem, variables: Variables, batch: Batch, epsilon: Array | float) -> Array:
    """``x + epsilon sign(grad_x l)``, clipped to [0, 1] (the fast gradient sign method); (B, ...) float32."""
    images = pixels(batch.inputs)

    def unsure(x):  # the loss is a rising function of it, but has no slope left where the model is certain
        return -jnp.sum(problem.task.margin(problem.model.apply(variables, x, train=False)[0].logits, batch))

    slope = jax.grad(unsure)(images)
    return jnp.clip(images + epsilon * jnp.sign(slope), 0.0, 1.0)


def nearest_wrong_label(problem: Problem, variables: Variables, batch: Batch, epsilon: Array | float) -> Array:
    """(B,) most likely wrong class of the adversarial neighbour."""
    logits = frozen(problem, variables, signed_step(problem, variables, batch, epsilon)).logits
    true = jnp.arange(logits.shape[-1])[None, :] == batch.targets[:, None]
    return jnp.argmax(jnp.where(true, -jnp.inf, logits), axis=-1).astype(batch.targets.dtype)


def build(problem: Problem, static: dict, hp: dict) -> Method:
    """Descent on the forget stream towards the nearest wrong labels."""

    def loss(params, trained, batches, key):
        labels = nearest_wrong_label(problem, trained.extra, batches.forget, hp["epsilon"])
        student = {"params": params, "state": trained.state}
        return mean_loss(problem, student, batches.forget._replace(targets=labels), key, train=False)

    return gradient_method(descent(static, hp), loss, extra=lambda key, variables: variables)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """``epochs`` passes over the request."""
    return epochs_over_request(sizes, static, forget_cost=2.0 + FORWARD)


ENTRY = Entry(
    name="boundary_shrink",
    paper="Chen et al. 2023, arXiv 2303.11570 (boundary shrink)",
    rule="on the request, fit the label of the adversarial neighbour under the original",
    needs=frozenset({"forget", "teacher"}),
    build=build,
    plan=plan,
    numeric={"lr": 4e-4, "epsilon": 0.1, "weight_decay": 0.0},
    static={"epochs": 10, "batch": 128, "optimizer": "sgd", "momentum": 0.9},
    batch_stats="none",
    presets={"small": TUNED, "cifar": ({"lr": 1e-5}, "10 epochs; the published searches span rates from 1e-8 up")},
    notes="retain-free; images only",
)

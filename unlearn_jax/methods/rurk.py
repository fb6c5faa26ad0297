"""RURK: fine-tune on retained data while unlearning to recognise the request *and its perturbed neighbours*.

Hsu et al. 2026 (arXiv 2601.22359), which shows that perturbed requested samples are still recognised after unlearning.
Known from its abstract; this variant descends ``l(R) - weight (l(F + e))`` with ``e`` uniform in the ball of radius
``radius`` of pixel units (mean over examples and ``draws``), an example ceasing to count once its loss passes
``bound`` x ln K. Batch statistics in training mode on the retained batch, evaluation mode on the perturbed request.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from unlearn_jax.methods.support.common import (
    EARLIER,
    RATE,
    TUNED,
    MethodSpec,
    Recipe,
    Span,
    TrainSpec,
    bounded_loss,
    descent,
    gradient_method,
    mean_loss,
)
from unlearn_jax.methods.support.parts import pixels
from unlearn_jax.population.plans import Plan, Sizes, epochs_over_retained
from unlearn_jax.types import Array, Method


def in_ball(key: Array, images: Array, radius: Array | float) -> Array:
    """Points drawn uniformly from the Euclidean ball of ``radius`` around each image; (B, ...)."""
    direction, length = jax.random.split(key)
    moved = jax.random.normal(direction, images.shape, images.dtype).reshape(len(images), -1)
    moved = moved / jnp.linalg.norm(moved, axis=1, keepdims=True)
    share = jax.random.uniform(length, (len(images), 1)) ** (1.0 / moved.shape[1])
    return images + (radius * share * moved).reshape(images.shape)


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Descent on the retained batch and bounded ascent on perturbed requested examples."""

    def loss(params, trained, batches, key):
        student, images = {"params": params, "state": trained.state}, pixels(batches.forget.inputs)
        retain, state = mean_loss(problem, student, batches.retain, jax.random.fold_in(key, 0), train=True)

        def recognised(key):
            logits = problem.model.apply(student, in_ball(key, images, hp["radius"]), train=False)[0].logits
            return bounded_loss(problem, logits, batches.forget, hp["bound"])

        keys = jax.random.split(jax.random.fold_in(key, 1), static["draws"])
        return retain - hp["weight"] * jnp.mean(jax.vmap(recognised)(keys)), state

    return gradient_method(descent(static, hp), loss)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """``epochs`` passes over the retained data, the request cycled beside them."""
    return epochs_over_retained(sizes, static, forget_cost=float(static["draws"]))


ENTRY = MethodSpec(
    name="rurk",
    paper="Hsu et al. 2026, arXiv 2601.22359",
    rule="fine-tune on the retained data, with bounded ascent on perturbed requested examples",
    needs=frozenset({"forget", "retain", "pixels"}),
    build=build,
    plan=plan,
    numeric={"lr": 1e-3, "weight": 0.5, "radius": 0.5, "bound": 1.0, "weight_decay": 0.0},
    static={"epochs": 10, "batch": 128, "draws": 2, "optimizer": "adam", "momentum": 0.9},
    presets={
        "small": TUNED,
        "small_conv": ({"lr": 3e-3}, EARLIER),
        "cifar": ({"lr": 3e-4, "radius": 0.03 * 3072**0.5}, "ours: a gentle rate, perturbations of .03 a pixel value"),
    },
    notes="variant from the abstract; images only",
    space=(RATE, Span("weight", 0.1, 3.0)),
)

"""CFW: shake the convolution weights with noise, then fine-tune on the retained data by a weighted cross-entropy.

Third place of the NeurIPS 2023 unlearning challenge (as described in Cadet et al. 2024, arXiv 2410.01276). Variant: the
noise is ``noise`` times each kernel's own standard deviation; per-class weights that multiply an already averaged loss
act as one scalar, ``class_weight``. The request is not read. Models without convolutions: the dense kernels before the
head. Batch statistics in training mode.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from unlearn_jax.methods.common import LANGUAGE, TUNED, Entry, Problem, Recipe, descent, gradient_method, mean_loss
from unlearn_jax.methods.parts import convolutions, normal_like
from unlearn_jax.population.plans import Plan, Sizes, epochs_over_retained
from unlearn_jax.types import Method


def build(problem: Problem, static: dict, hp: dict) -> Method:
    """Descent on the retain stream from the shaken weights."""

    def loss(params, trained, batches, key):
        value, state = mean_loss(problem, {"params": params, "state": trained.state}, batches.retain, key, train=True)
        return hp["class_weight"] * value, state

    fold = gradient_method(descent(static, hp), loss)

    def init(key, variables):
        params = variables["params"]
        shaken = jax.tree.map(
            lambda w, on, n: w + on * hp["noise"] * jnp.std(w) * n,
            params,
            convolutions(problem, params),
            normal_like(key, params),
        )
        return fold.init(key, variables | {"params": shaken})

    return Method(init, fold.update, fold.finish)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """``epochs`` passes over the retained data."""
    return epochs_over_retained(sizes, static)


ENTRY = Entry(
    name="cfw",
    paper="NeurIPS 2023 challenge, 3rd; Cadet et al. 2024, arXiv 2410.01276",
    rule="add noise to the convolution weights, then fine-tune on the retained data",
    needs=frozenset({"retain"}),
    build=build,
    plan=plan,
    numeric={"lr": 0.01, "noise": 0.6, "class_weight": 1.0, "weight_decay": 5e-4},
    static={"epochs": 10, "batch": 128, "optimizer": "sgd", "momentum": 0.9},
    presets={
        "small": TUNED,
        "cifar": ({"lr": 7e-4, "epochs": 4}, "the entry's: noise .6, 4 epochs at 7e-4"),
        "language": LANGUAGE,
    },
    notes="noise relative to each kernel's spread",
)

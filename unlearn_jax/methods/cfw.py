"""CFW: shake the convolution weights with noise and fine-tune on the retained data, with a small shake near the end.

Third place of the NeurIPS 2023 unlearning challenge (as described in Cadet et al. 2024, arXiv 2410.01276, and
reproduced with it): noise of size ``noise`` before ``epochs`` passes of weighted cross-entropy over the retained data,
noise of size ``last_noise`` before the last of them; the rate falls along a cosine, in steps of an epoch. The request
is not read. Batch statistics in training mode.

Variants: both noises are in units of each kernel's own standard deviation, where the entry's .6 and .005 are absolute,
and all convolutions are shaken, where the reproduction finds those outside of blocks alone, of ResNet-18 the first. Its
class weights multiply an already averaged loss, so they act as one scalar, ``class_weight``, which is about 1 for
weights that balance the classes. Models without convolutions: the dense kernels before the head.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.methods.support.common import (
    BOTH,
    EARLIER,
    RATE,
    RULE,
    MethodSpec,
    Recipe,
    Span,
    TrainSpec,
    descent,
    gradient_method,
    mean_loss,
    phased_method,
)
from unlearn_jax.methods.support.parts import convolutions, normal_like
from unlearn_jax.population.plans import Plan, Sizes, cosine, passes, phased_plan
from unlearn_jax.types import Array, Method, PyTree

SHAKE, FIT = 0, 1


def shaken(problem: TrainSpec, key: Array, params: PyTree, size: Array | float) -> PyTree:
    """Parameters with noise of ``size`` x its own standard deviation on every convolution kernel."""
    return jax.tree.map(
        lambda w, on, n: w + on * size * jnp.std(w) * n, params, convolutions(problem, params), normal_like(key, params)
    )


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Descent on the retain stream from the shaken weights, and the last shake."""

    def loss(params, trained, batches, key):
        value, state = mean_loss(problem, {"params": params, "state": trained.state}, batches.retain, key, train=True)
        return hp["class_weight"] * value, state

    fold = gradient_method(descent(static, hp), loss)

    def init(key, variables):
        return fold.init(key, variables | {"params": shaken(problem, key, variables["params"], hp["noise"])})

    def shake(key, trained, batches):
        moved = shaken(problem, key, trained.params, hp["last_noise"])
        return trained._replace(params=moved), jnp.float32(0.0)

    return phased_method(init, [shake, fold.update])


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """``epochs`` passes over the retained data, the rate a cosine of the epoch; a shake before the last of several."""
    epochs, whole = static["epochs"], passes(sizes.retain, static["batch"])
    phases, rate = np.full(epochs * whole, FIT), np.repeat(cosine(epochs), whole)
    if epochs > 1:
        last = (epochs - 1) * whole
        phases, rate = np.insert(phases, last, SHAKE), np.insert(rate, last, rate[last])
    return phased_plan(
        phases,
        forget_batch=0,
        retain_batch=static["batch"],
        forget_cost=(0.0, 0.0),
        retain_cost=(0.0, 1.0),
        rate=rate,
    )


ENTRY = MethodSpec(
    name="cfw",
    paper="NeurIPS 2023 challenge, 3rd; Cadet et al. 2024, arXiv 2410.01276",
    rule="add noise to the convolution weights, then fine-tune on the retained data, with a little noise once more",
    needs=frozenset({"retain"}),
    build=build,
    plan=plan,
    numeric={"lr": 0.02, "noise": 1.2, "last_noise": 0.005, "class_weight": 1.0, "weight_decay": 5e-4},
    static={"epochs": 10, "batch": 128, "optimizer": "sgd", "momentum": 0.9},
    presets={
        "small": ({}, "the rule above for lr; noise by the earlier one"),
        "small_conv": ({"lr": 0.01, "noise": 0.6}, RULE),
        "small_text": ({"lr": 6e-3}, RULE),
        "small_transformer": ({"lr": 3e-3, "optimizer": "adam"}, EARLIER),
        "cifar": (
            {"lr": 7e-4, "noise": 0.6, "epochs": 4, "batch": 64},
            "the entry's: noises .6 and .005, here of each kernel's spread, 4 epochs at 7e-4 in batches of 64",
        ),
        "language": (
            {"lr": 1e-3, "noise": 0.6, "epochs": 10, "batch": 32, "optimizer": "adam", "weight_decay": 0.0},
            "noise as published; ours: Adam at 1e-3, a training rate, as the shaken weights must be repaired",
        ),
    },
    notes="noise relative to each kernel's spread, on all convolutions",
    reads=BOTH,
    space=(RATE, Span("noise", 0.1, 2.0)),
)

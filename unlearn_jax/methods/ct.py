"""CT: transpose every convolution kernel's spatial axes, then fine-tune on the retained data.

Fifth place of the NeurIPS 2023 unlearning challenge (convolution transpose; as described in Cadet et al. 2024, arXiv
2410.01276, where it is among the two best, and reproduced with it). Through the ``epochs`` passes the rate falls along
a cosine, in steps of an epoch. The request is not read. Variant for models without convolutions: square dense kernels
before the head are transposed. Batch statistics in training mode.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.methods.support.common import (
    EARLIER,
    RATE,
    RULE,
    TUNED,
    MethodSpec,
    Recipe,
    TrainSpec,
    descent,
    gradient_method,
    retained_loss,
)
from unlearn_jax.methods.support.parts import convolutions
from unlearn_jax.population.plans import Plan, Sizes, cosine, epochs_over_retained, passes
from unlearn_jax.types import Array, Method, PyTree


def transposed(problem: TrainSpec, params: PyTree) -> PyTree:
    """Parameters with the two spatial axes of every convolution kernel (kh, kw, in, out) exchanged."""

    def one(w: Array, chosen: Array) -> Array:
        if w.ndim < 2 or w.shape[0] != w.shape[1]:
            return w
        return jnp.where(chosen > 0, jnp.swapaxes(w, 0, 1), w)

    return jax.tree.map(one, params, convolutions(problem, params))


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Descent on the retain stream from the transposed weights."""
    loss = retained_loss(problem)
    fold = gradient_method(descent(static, hp), loss)

    def init(key, variables):
        return fold.init(key, variables | {"params": transposed(problem, variables["params"])})

    return Method(init, fold.update, fold.finish)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """``epochs`` passes over the retained data, the rate a cosine of the epoch."""
    rate = np.repeat(cosine(static["epochs"]), passes(sizes.retain, static["batch"]))
    return epochs_over_retained(sizes, static, rate=rate)


ENTRY = MethodSpec(
    name="ct",
    paper="NeurIPS 2023 challenge, 5th; Cadet et al. 2024, arXiv 2410.01276",
    rule="transpose the convolution kernels, then fine-tune on the retained data",
    needs=frozenset({"retain"}),
    build=build,
    plan=plan,
    numeric={"lr": 0.1, "weight_decay": 5e-4},
    static={"epochs": 10, "batch": 128, "optimizer": "sgd", "momentum": 0.9},
    presets={
        "small": TUNED,
        **dict.fromkeys(("small_conv", "small_transformer"), ({"lr": 5e-3}, EARLIER)),
        "small_text": ({"lr": 5e-3}, RULE),
        "cifar": ({"lr": 1e-3, "epochs": 3, "batch": 64}, "the entry's: 3 epochs at 1e-3 in batches of 64"),
    },
    notes="square dense kernels where there is no convolution",
    space=(RATE,),
)

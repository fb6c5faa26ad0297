"""JiT: make the outputs around each requested example insensitive to the input; no retained data, no labels.

Foster et al. 2024 (arXiv 2402.01401). Descend the local Lipschitz estimate
``mean over n noises of |f(x) - f(x + e)|_2 / |e|_2``, ``e ~ N(0, noise^2)`` in pixel units of [0, 1], over the request.
The outputs f are the logits; plain descent, as published, whose steps shrink with the ratio. Variants: the ratio is
differentiated through both outputs (the authors' code holds f(x + e) constant) and averaged over the batch (theirs:
summed), and noisy images are not clipped to the range of the batch. Batch statistics in evaluation mode.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from unlearn_jax.methods.support.common import (
    RATE,
    RULE,
    TUNED,
    MethodSpec,
    Recipe,
    Span,
    TrainSpec,
    descent,
    gradient_method,
    weighted_mean,
)
from unlearn_jax.methods.support.parts import pixels
from unlearn_jax.population.plans import Plan, Sizes, epochs_over_request
from unlearn_jax.types import Array, Batch, Method, Variables


def sensitivity(problem: TrainSpec, variables: Variables, batch: Batch, key: Array, noise: Array, draws: int) -> Array:
    """(B,) mean over ``draws`` of |f(x) - f(x + e)| / |e|."""
    images = pixels(batch.inputs)
    apply = lambda x: problem.model.apply(variables, x, train=False)[0].logits
    at = apply(images)

    def ratio(key):
        moved = noise * jax.random.normal(key, images.shape, images.dtype)
        size = jnp.sqrt(jnp.sum(moved.reshape(len(moved), -1) ** 2, axis=1))
        gap = jnp.sqrt(jnp.sum((apply(images + moved) - at) ** 2, axis=1) + 1e-12)
        return gap / jnp.maximum(size, 1e-12)

    return jnp.mean(jax.vmap(ratio)(jax.random.split(key, draws)), axis=0)


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Descent on the forget stream."""

    def loss(params, trained, batches, key):
        student, batch = {"params": params, "state": trained.state}, batches.forget
        slopes = sensitivity(problem, student, batch, key, hp["noise"], static["draws"])
        return weighted_mean(slopes, batch.weight), trained.state

    return gradient_method(descent(static, hp), loss)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """``epochs`` passes over the request; each example is passed through the model ``draws + 1`` times."""
    return epochs_over_request(sizes, static, forget_cost=1.0 + static["draws"])


ENTRY = MethodSpec(
    name="jit_lipschitz",
    paper="Foster et al. 2024, arXiv 2402.01401 (JiT)",
    rule="on the request, reduce the change of the outputs per unit of input noise",
    needs=frozenset({"forget", "pixels"}),
    build=build,
    plan=plan,
    numeric={"lr": 0.01, "noise": 0.1, "weight_decay": 0.0},
    static={"epochs": 10, "batch": 128, "pieces": 1, "draws": 8, "optimizer": "sgd", "momentum": 0.0},
    batch_stats="none",
    presets={
        "small": TUNED,
        "small_conv": ({"lr": 3e-4}, RULE),
        "cifar": (
            {"pieces": 0, "lr": 0.04, "noise": 0.01, "epochs": 1, "draws": 25},
            "the authors' code for random samples: one pass, 25 noises of .01, SGD at 3e-4 on sums over 128",
        ),
    },
    notes="retain-free and label-free; images only",
    space=(RATE, Span("noise", 0.3, 3.0)),
)

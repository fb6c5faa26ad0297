"""RNI: before every epoch of fine-tuning, add noise to a few random tensors.

Seventh place of the NeurIPS 2023 unlearning challenge (random noise injection; as described in Cadet et al. 2024,
arXiv 2410.01276): N(0, noise^2) on ``tensors`` randomly chosen weight tensors at the start of each epoch on the
retained data. The request is not read. Batch statistics in training mode.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.methods.common import (
    LANGUAGE,
    TUNED,
    Entry,
    Problem,
    Recipe,
    descent,
    gradient_method,
    phased_method,
    retained_loss,
)
from unlearn_jax.methods.parts import normal_like
from unlearn_jax.population.plans import Plan, Sizes, passes, phased_plan
from unlearn_jax.types import Method

SHAKE, FIT = 0, 1


def build(problem: Problem, static: dict, hp: dict) -> Method:
    """Shake, then descend on the retain stream."""
    loss = retained_loss(problem)
    fold = gradient_method(descent(static, hp), loss)

    def shake(key, trained, batches):
        leaves, structure = jax.tree.flatten(trained.params)
        order = jax.random.permutation(jax.random.fold_in(key, 0), len(leaves))
        noise = jax.tree.leaves(normal_like(jax.random.fold_in(key, 1), trained.params))
        chosen = (order < static["tensors"]).astype(jnp.float32)
        moved = [w + hp["noise"] * chosen[i] * n for i, (w, n) in enumerate(zip(leaves, noise))]
        return trained._replace(params=jax.tree.unflatten(structure, moved)), jnp.float32(0.0)

    return phased_method(fold.init, [shake, fold.update])


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """``epochs`` times a shake and a pass over the retained data."""
    whole = passes(sizes.retain, static["batch"])
    return phased_plan(
        np.asarray(([SHAKE] + [FIT] * whole) * static["epochs"]),
        forget_batch=0,
        retain_batch=static["batch"],
        forget_cost=(0.0, 0.0),
        retain_cost=(0.0, 1.0),
    )


ENTRY = Entry(
    name="rni",
    paper="NeurIPS 2023 challenge, 7th; Cadet et al. 2024, arXiv 2410.01276",
    rule="fine-tune on the retained data with noise on a few random tensors before every epoch",
    needs=frozenset({"retain"}),
    build=build,
    plan=plan,
    numeric={"lr": 0.01, "noise": 0.04, "weight_decay": 5e-4},
    static={"epochs": 9, "batch": 128, "tensors": 9, "optimizer": "sgd", "momentum": 0.9},
    presets={
        "small": TUNED,
        "cifar": ({"lr": 2e-4}, "the entry's: noise .04 on 9 tensors, 9 epochs at 2e-4"),
        "language": LANGUAGE,
    },
)

"""Boundary shrink: give each requested example the label that lies nearest across the decision boundary.

Chen et al. 2023 (arXiv 2303.11570). The nearest incorrect label is that of a one-step adversarial neighbour ``x +
epsilon sign(grad_x l)`` under the *frozen* original, found once in a first pass over the request; descend cross-entropy
to it on the request alone. ``epsilon`` is in pixel units of [0, 1]. Variant: where the step does not cross a boundary,
the neighbour's most likely wrong class is taken (the public code then fits the true label), and batch statistics are in
evaluation mode (theirs: training mode).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.methods.support.attacks import keep, recall, room
from unlearn_jax.methods.support.common import (
    EARLIER,
    RATE,
    TUNED,
    MethodSpec,
    Recipe,
    Span,
    Trained,
    TrainSpec,
    descent,
    gradient_method,
    mean_loss,
    phased_method,
)
from unlearn_jax.methods.support.parts import frozen, pixels
from unlearn_jax.population.plans import FORWARD, Plan, Sizes, passes, phased_plan, request_batch, request_batches
from unlearn_jax.types import Array, Batch, Method, Variables

BUILD, FIT = 0, 1


def signed_step(problem: TrainSpec, variables: Variables, batch: Batch, epsilon: Array | float) -> Array:
    """``x + epsilon sign(grad_x l)``, clipped to [0, 1] (the fast gradient sign method); (B, ...) float32."""
    images = pixels(batch.inputs)

    def unsure(x):  # the loss is a rising function of it, but has no slope left where the model is certain
        return -jnp.sum(problem.task.margin(problem.model.apply(variables, x, train=False)[0].logits, batch))

    slope = jax.grad(unsure)(images)
    return jnp.clip(images + epsilon * jnp.sign(slope), 0.0, 1.0)


def nearest_wrong_label(problem: TrainSpec, variables: Variables, batch: Batch, epsilon: Array | float) -> Array:
    """(B,) most likely wrong class of the adversarial neighbour."""
    logits = frozen(problem, variables, signed_step(problem, variables, batch, epsilon)).logits
    true = jnp.arange(logits.shape[-1])[None, :] == batch.targets[:, None]
    return jnp.argmax(jnp.where(true, -jnp.inf, logits), axis=-1).astype(batch.targets.dtype)


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Find the nearest wrong labels, then descend on the forget stream towards them."""
    optimizer = descent(static, hp)

    def init(key, variables):
        kept = room(static["slots"], jax.ShapeDtypeStruct((), jnp.int32))
        return Trained(variables["params"], variables["state"], optimizer.init(variables["params"]), kept)

    def find(key, trained, batches):
        original = {"params": trained.params, "state": trained.state}  # not moved yet
        labels = nearest_wrong_label(problem, original, batches.forget, hp["epsilon"])
        return trained._replace(extra=keep(trained.extra, batches.forget, labels)), jnp.float32(0.0)

    def loss(params, trained, batches, key):
        batch = batches.forget._replace(targets=recall(trained.extra, batches.forget))
        return mean_loss(problem, {"params": params, "state": trained.state}, batch, key, train=False)

    return phased_method(init, [find, gradient_method(optimizer, loss).update])


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """A pass over the request for its labels, then ``epochs`` passes."""
    split = sizes, static["batch"], static["pieces"]
    batch = request_batch(*split)
    scan = passes(sizes.forget, batch)
    return phased_plan(
        np.repeat([BUILD, FIT], [scan, static["epochs"] * request_batches(*split)]),
        forget_batch=batch,
        retain_batch=0,
        forget_cost=(1.0 + FORWARD, 1.0),
        retain_cost=(0.0, 0.0),
        forget_pass=scan,
    )


ENTRY = MethodSpec(
    name="boundary_shrink",
    paper="Chen et al. 2023, arXiv 2303.11570 (boundary shrink)",
    rule="on the request, fit the label of the adversarial neighbour under the original",
    needs=frozenset({"forget", "pixels"}),
    build=build,
    plan=plan,
    numeric={"lr": 2e-4, "epsilon": 0.1, "weight_decay": 0.0},
    static={"epochs": 10, "batch": 128, "pieces": 1, "optimizer": "sgd", "momentum": 0.9, "slots": 0},
    batch_stats="none",
    presets={
        "small": TUNED,
        "small_conv": ({"lr": 1e-4}, EARLIER),
        "cifar": ({"pieces": 0, "lr": 1e-5}, "the public code: 10 epochs of SGD at 1e-5 with momentum .9, steps of .1"),
    },
    notes="retain-free; images only",
    space=(RATE, Span("epsilon", 0.3, 3.0)),
)

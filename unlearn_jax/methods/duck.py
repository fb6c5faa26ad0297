"""DUCK: push the request's features to the nearest wrong class centroid, and keep fitting retained data.

Cotogni et al. 2023 (arXiv 2312.02052). Centroids: mean features of each class of the retained data under the original
(one exact pass, evaluation mode). For each requested example the nearest centroid of another class, in cosine distance
under the original, is fixed; then descend ``forget_weight (1 - cos(features, centroid)) + retain_weight l(R)``, the
retained logits divided by ``temperature``. The paper stops when the request's accuracy meets the test's; here the plan
stops. Batch statistics in training mode on the retained batch, evaluation mode on the request.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from unlearn_jax.methods.common import (
    LANGUAGE,
    TUNED,
    Entry,
    Problem,
    Recipe,
    Trained,
    descent,
    gradient_method,
    phased_method,
    weighted_mean,
)
from unlearn_jax.methods.parts import frozen
from unlearn_jax.population.plans import FORWARD, Plan, Sizes, passes, phased_plan, request_batch
from unlearn_jax.types import Array, Method

GATHER, FIT = 0, 1


def cosines(a: Array, b: Array) -> Array:
    """Cosine of every row of a (B, D) with every row of b (K, D); (B, K), 0 for a row of zeros."""
    unit = lambda x: x / jnp.sqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), 1e-12))
    return unit(a) @ unit(b).T


def nearest_wrong(features: Array, centroids: Array, targets: Array) -> Array:
    """(B,) class other than the true one whose centroid (K, D) has the largest cosine with the features (B, D)."""
    found = cosines(features, centroids)
    return jnp.argmax(jnp.where(jnp.arange(found.shape[1])[None, :] == targets[:, None], -jnp.inf, found), axis=1)


def build(problem: Problem, static: dict, hp: dict) -> Method:
    """Gather the centroids, then move the request's features to them."""
    optimizer = descent(static, hp)
    features = lambda variables, inputs: problem.model.apply(variables, inputs, train=False)[0].features

    def init(key, variables):
        width = jax.eval_shape(features, variables, jnp.zeros(problem.example.shape, problem.example.dtype)).shape[-1]
        sums = jnp.zeros((problem.num_classes, width))
        extra = {"original": variables, "centroids": sums}  # sums: a scale does not change a cosine
        return Trained(variables["params"], variables["state"], optimizer.init(variables["params"]), extra)

    def gather(key, trained, batches):
        batch = batches.retain
        own = jnp.arange(problem.num_classes)[:, None] == batch.targets[None, :]
        rows = jnp.where(own, batch.weight[None, :], 0.0)
        found = rows @ frozen(problem, trained.extra["original"], batch.inputs).features
        return trained._replace(extra=trained.extra | {"centroids": trained.extra["centroids"] + found}), jnp.float32(0)

    def loss(params, trained, batches, key):
        student, forget, retain = {"params": params, "state": trained.state}, batches.forget, batches.retain
        centroids = trained.extra["centroids"]
        before = frozen(problem, trained.extra["original"], forget.inputs).features
        goal = lax.stop_gradient(centroids[nearest_wrong(before, centroids, forget.targets)])
        now = features(student, forget.inputs)
        away = weighted_mean(1.0 - jnp.diagonal(cosines(now, goal)), forget.weight)
        outputs, state = problem.model.apply(student, retain.inputs, key=key, train=True)
        held = weighted_mean(problem.task.loss(outputs.logits / hp["temperature"], retain), retain.weight)
        return hp["forget_weight"] * away + hp["retain_weight"] * held, state

    return phased_method(init, [gather, gradient_method(optimizer, loss).update])


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """One pass for the centroids, then ``epochs`` over the retained data, the request cycled beside them."""
    scan = passes(sizes.retain, static["batch"])
    return phased_plan(
        np.repeat([GATHER, FIT], [scan, static["epochs"] * scan]),
        forget_batch=request_batch(sizes, static["batch"]),
        retain_batch=static["batch"],
        forget_cost=(0.0, 1.0 + FORWARD),
        retain_cost=(FORWARD, 1.0),
        retain_pass=scan,
    )


ENTRY = Entry(
    name="duck",
    paper="Cotogni et al. 2023, arXiv 2312.02052",
    rule="pull the request's features to the nearest wrong class centroid, fit the retained data",
    needs=frozenset({"forget", "retain", "teacher"}),
    build=build,
    plan=plan,
    numeric={"lr": 1e-3, "forget_weight": 1.5, "retain_weight": 1.5, "temperature": 2.0, "weight_decay": 5e-4},
    static={"epochs": 10, "batch": 128, "optimizer": "adam", "momentum": 0.9},
    presets={
        "small": TUNED,
        "cifar": ({"lr": 5e-4}, "both weights 1.5, temperature 2, Adam at 5e-4, from memory of the paper"),
        "language": LANGUAGE,
    },
    notes="no stopping by accuracy",
)

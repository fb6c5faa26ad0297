"""RFE: forget as far as remote retained data allow, then project updates so that adjacent retained data are spared.

Cheng et al. 2026 (arXiv 2603.26569). Phase 1, an augmented Lagrangian: ascend the request's loss subject to l(remote)
<= l0 + ``tolerance``, with multiplier updates at ``dual_lr`` and penalty ``rho``. Phase 2 goes on ascending with the
part of each update removed that would raise the loss of *adjacent* retained data, and a pull of the latter's feature
distribution to the original's (squared 2-Wasserstein distance of Gaussians with diagonal covariance, weight ``w2``).
Adjacent: the share ``adjacent`` of each retained batch whose original features have the largest cosine with any
requested example of the update; remote: the others. Variants of ours: the split by batch, the Gaussian distance, and
``bound`` (an example stops counting at ``bound`` x ln K). Batch statistics in evaluation mode throughout.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.methods.duck import cosines
from unlearn_jax.methods.support.common import (
    RATE,
    TUNED,
    MethodSpec,
    Recipe,
    Span,
    Trained,
    TrainSpec,
    bounded_loss,
    descent,
    follow,
    phased_method,
    weighted_mean,
)
from unlearn_jax.methods.support.parts import frozen
from unlearn_jax.population.plans import FORWARD, Plan, Sizes, phased_plan, request_batch
from unlearn_jax.trees import tree_add, tree_dot
from unlearn_jax.types import Array, Batches, Method, Outputs, PyTree, Variables

CONSTRAIN, PROJECT = 0, 1


def without_rise(update: PyTree, gradient: PyTree) -> PyTree:
    """An update less its component along a loss's gradient, where that component would raise the loss."""
    along = tree_dot(update, gradient) / jnp.maximum(tree_dot(gradient, gradient), 1e-12)
    return tree_add(update, gradient, -jnp.maximum(along, 0.0))


def gaussian_distance(a: Array, b: Array, weight: Array) -> Array:
    """Squared 2-Wasserstein distance of Gaussians with the weighted means and variances of rows of a and b (B, D)."""
    share = (weight / jnp.maximum(weight.sum(), 1e-12))[:, None]
    mean = lambda x: jnp.sum(share * x, axis=0, keepdims=True)
    spread = lambda x: jnp.sqrt(mean(jnp.square(x - mean(x))) + 1e-6)
    return jnp.sum(jnp.square(mean(a) - mean(b)) + jnp.square(spread(a) - spread(b)))


def adjacent_part(problem: TrainSpec, original: Variables, batches: Batches, share: float) -> tuple[Outputs, Array]:
    """Original outputs on the retained batch, and weights (B,) of its adjacent part: 1 for the ``share`` of it whose
    original features have the largest cosine with any requested example of the update, else 0."""
    forget, retain = (frozen(problem, original, b.inputs) for b in (batches.forget, batches.retain))
    near = jnp.where(batches.forget.weight[None, :] > 0, cosines(retain.features, forget.features), -1.0)
    near = jnp.where(batches.retain.weight > 0, near.max(axis=1), -2.0)
    count = max(1, round(share * near.shape[0]))
    return retain, (near >= jnp.sort(near)[-count]).astype(jnp.float32)


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """The two phases; ``extra`` holds the original and the multiplier."""
    optimizer = descent(static, hp)
    outputs = lambda params, trained, batch: problem.model.apply(
        {"params": params, "state": trained.state}, batch.inputs, train=False
    )[0]

    def init(key, variables):
        extra = {"original": variables, "multiplier": jnp.float32(hp["multiplier"])}
        return Trained(variables["params"], variables["state"], optimizer.init(variables["params"]), extra)

    def split(trained, batches):
        return adjacent_part(problem, trained.extra["original"], batches, static["adjacent"])

    def constrain(key, trained, batches):
        before, adjacent = split(trained, batches)
        remote = batches.retain.weight * (1.0 - adjacent)
        level = weighted_mean(problem.task.loss(before.logits, batches.retain), remote)

        def loss(params):
            ascent = bounded_loss(problem, outputs(params, trained, batches.forget).logits, batches.forget, hp["bound"])
            held = problem.task.loss(outputs(params, trained, batches.retain).logits, batches.retain)
            excess = weighted_mean(held, remote) - level - hp["tolerance"]
            pressed = jnp.maximum(trained.extra["multiplier"] + hp["rho"] * excess, 0.0)
            return -ascent + (pressed**2 - trained.extra["multiplier"] ** 2) / (2.0 * hp["rho"]), excess

        (value, excess), grads = jax.value_and_grad(loss, has_aux=True)(trained.params)
        params, moments = follow(optimizer, grads, trained, batches.rate)
        multiplier = jnp.maximum(trained.extra["multiplier"] + hp["dual_lr"] * excess, 0.0)
        return Trained(params, trained.state, moments, trained.extra | {"multiplier": multiplier}), value

    def project(key, trained, batches):
        before, adjacent = split(trained, batches)
        weight = batches.retain.weight * adjacent

        def loss(params):
            ascent = bounded_loss(problem, outputs(params, trained, batches.forget).logits, batches.forget, hp["bound"])
            moved = gaussian_distance(outputs(params, trained, batches.retain).features, before.features, weight)
            return -ascent + hp["w2"] * moved

        def spared(params):
            logits = outputs(params, trained, batches.retain).logits
            return weighted_mean(problem.task.loss(logits, batches.retain), weight)

        value, grads = jax.value_and_grad(loss)(trained.params)
        moved, moments = follow(optimizer, grads, trained, batches.rate)
        update = without_rise(tree_add(moved, trained.params, -1.0), jax.grad(spared)(trained.params))
        params = tree_add(trained.params, update)  # what the optimizer returns is projected, as Adam turns a gradient
        return Trained(params, trained.state, moments, trained.extra), value

    return phased_method(init, [constrain, project])


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """``steps`` updates of each phase."""
    return phased_plan(
        np.repeat([CONSTRAIN, PROJECT], static["steps"]),
        forget_batch=request_batch(sizes, static["batch"]),
        retain_batch=static["batch"],
        forget_cost=(1.0 + FORWARD, 1.0 + FORWARD),
        retain_cost=(1.0 + FORWARD, 2.0 + FORWARD),
    )


ENTRY = MethodSpec(
    name="rfe",
    paper="Cheng et al. 2026, arXiv 2603.26569",
    rule="constrained ascent that spares remote retained data, then ascent projected to spare adjacent ones",
    needs=frozenset({"forget", "retain", "teacher"}),
    build=build,
    plan=plan,
    numeric={
        "lr": 1e-4,
        "tolerance": 0.05,
        "multiplier": 1.0,
        "dual_lr": 0.05,
        "rho": 1.0,
        "w2": 1.0,
        "bound": 1.0,
    },  # fmt: skip
    static={"steps": 100, "batch": 128, "adjacent": 0.2, "optimizer": "adam", "momentum": 0.9},
    batch_stats="none",
    presets={
        "small": TUNED,
        "small_text": TUNED,
        "cifar": ({"lr": 3e-4}, "100 steps, tolerance .05, rho 1, dual rate .05, W2 weight 1"),
    },
    notes="split by batch; Gaussian feature distance",
    space=(RATE, Span("tolerance", 0.1, 10.0)),
)

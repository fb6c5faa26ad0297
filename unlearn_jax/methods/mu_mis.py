"""MU-Mis: withdraw a sample's contribution by making its own class's logit as insensitive to it as the others'.

Cheng et al. 2026 (arXiv 2402.15109). What a sample gave to the training shows in the slope of its class's logit at its
input. Descend, over the request, the mean of ``|d f_c / d x|^2 - |d f_c' / d x|^2`` with c the true class and c'
another, drawn anew at every showing; slopes per unit of the pixels' range [0, 1]. No retained data and no teacher. The
loss has no least value: the paper stops once the other classes' slopes, which fall first, have come back, that is,
once their norm over the request is above the least norm so far and above ``recovery`` times that at the start. Here
the norm is looked at after each pass, over the classes drawn in it, and a member that has stopped stays. Adam for the
paper's SGD, whose steps grow with a loss that has no bound; the paper's variant with weights is left out. Second
derivatives: a network of relus has them almost everywhere. Batch statistics in evaluation mode and unchanged.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.methods.random_label import wrong_labels
from unlearn_jax.methods.support.common import (
    MILDER,
    RATE,
    TUNED,
    MethodSpec,
    Recipe,
    Span,
    Trained,
    TrainSpec,
    descent,
    finish,
    follow,
    phased_method,
    weighted_mean,
)
from unlearn_jax.methods.support.parts import pixels
from unlearn_jax.population.plans import Plan, Sizes, passes, phased_plan, request_batch
from unlearn_jax.trees import tree_select
from unlearn_jax.types import Array, Batch, Method, Variables

START, FIT, LOOK = 0, 1, 2


class Slopes(NamedTuple):
    """What decides when a member stops; squared slopes of the other classes, summed over a pass."""

    start: Array  # at the original weights
    now: Array  # in this pass so far
    least: Array  # of all passes
    stopped: Array


def squared_slopes(problem: TrainSpec, variables: Variables, batch: Batch, labels: Array) -> Array:
    """(B,) squared norm of the slope of each example's logit of class ``labels`` (B,) at its input."""

    def chosen(images):
        logits = problem.model.apply(variables, images, train=False)[0].logits
        return jnp.sum(jnp.take_along_axis(logits, labels[:, None], axis=1))

    slope = jax.grad(chosen)(pixels(batch.inputs))
    return jnp.sum(slope.reshape(len(slope), -1) ** 2, axis=1)


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Descent on the forget stream until the other classes' slopes have recovered."""
    optimizer = descent(static, hp)

    def init(key, variables):
        none = jnp.float32(0.0)
        slopes = Slopes(none, none, jnp.float32(jnp.inf), jnp.bool_(False))
        params = variables["params"]
        return Trained(params, variables["state"], optimizer.init(params), slopes)

    def apart(params, trained, batch, key):
        variables = {"params": params, "state": trained.state}
        other = wrong_labels(key, batch, problem.num_classes, False)
        of_label, others = (squared_slopes(problem, variables, batch, c) for c in (batch.targets, other))
        return weighted_mean(of_label - others, batch.weight), jnp.sum(others * batch.weight)

    def start(key, trained, batches):
        value, others = apart(trained.params, trained, batches.forget, key)
        slopes = trained.extra._replace(start=trained.extra.start + others)
        return trained._replace(extra=slopes), value

    def fit(key, trained, batches):
        slope = jax.value_and_grad(apart, has_aux=True)
        (value, others), grads = slope(trained.params, trained, batches.forget, key)
        moved = follow(optimizer, grads, trained, batches.rate)
        kept = (trained.params, trained.optimizer)
        params, moments = tree_select(trained.extra.stopped, kept, moved)
        slopes = trained.extra._replace(now=trained.extra.now + others)
        return Trained(params, trained.state, moments, slopes), value

    def look(key, trained, batches):
        slopes = trained.extra
        back = (slopes.now > slopes.least) & (slopes.now > hp["recovery"] ** 2 * slopes.start)
        slopes = Slopes(slopes.start, jnp.float32(0.0), jnp.minimum(slopes.least, slopes.now), slopes.stopped | back)
        return trained._replace(extra=slopes), jnp.float32(0.0)

    return phased_method(init, [start, fit, look], finish)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """A pass over the request for the slopes at the start, then at most ``epochs`` passes, each looked at."""
    batch = request_batch(sizes, static["batch"])
    scan = passes(sizes.forget, batch)
    return phased_plan(
        np.asarray([START] * scan + ([FIT] * scan + [LOOK]) * static["epochs"]),
        forget_batch=batch,
        retain_batch=0,
        forget_cost=(2.0, 4.0, 0.0),  # a slope is a gradient evaluation, that of its square two
        retain_cost=(0.0, 0.0, 0.0),
        forget_pass=scan,
    )


ENTRY = MethodSpec(
    name="mu_mis",
    paper="Cheng et al. 2026, arXiv 2402.15109 (MU-Mis)",
    rule="on the request, lower the input slope of the true class's logit and raise that of another's",
    needs=frozenset({"forget", "pixels"}),
    build=build,
    plan=plan,
    numeric={"lr": 0.001, "recovery": 1.0},
    static={"epochs": 50, "batch": 128, "optimizer": "adam", "momentum": 0.9},
    batch_stats="none",
    presets={
        "small": TUNED,
        "small_conv": ({"lr": 3e-4}, MILDER),
        "cifar": ({"lr": 1e-4}, "ours, not tuned: the paper's rates could not be had"),
    },
    notes="retain-free; images only",
    space=(RATE, Span("recovery", 0.1, 10.0)),
)

"""Certified removal of a linear head: one Newton step on a strongly convex objective, with a bound on what it leaves.

Guo et al. 2020 (arXiv 1911.03030). The features stay the original's. A head of one-versus-rest logistic regressions is
trained to its optimum by Newton's method on all data, ``sum_i log(1 + exp(-y_i w.x_i)) + n l2/2 |w|^2 + b.w`` with b
drawn from N(0, sigma^2), on features scaled to norm at most 1; removal adds ``H_R^-1 (n_F l2 w + sum over F of grad)``.
The gradient left is at most `gradient_residual_bound`, and `certified_epsilon` turns it into (epsilon, delta). The head
replaces the network's last layer, so its margins are those of K binary classifiers.

What the certificate leaves out: it is a classifier's, and releasing K of them composes (`heads`); the features are the
original's, which has seen the request; and the norm by which they are scaled is the largest on all data, the request
included, while a head trained without it might be scaled otherwise.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.methods.support.common import RULE, MethodSpec, Recipe, Span, TrainSpec, phased_method
from unlearn_jax.methods.support.parts import solve as solved
from unlearn_jax.population.plans import FORWARD, Plan, Sizes, passes, phased_plan
from unlearn_jax.types import Array, Batch, Method, Variables

MEASURE_F, MEASURE_R, TRAIN_F, TRAIN_R, FIT, KEEP, DROP, REMOVE = range(8)


class Head(NamedTuple):
    """K logistic regressions on D features, and the sums of one pass."""

    variables: Variables
    weights: Array  # (K, D)
    noise: Array  # (K, D)
    largest: Array  # () largest feature norm
    gradient: Array  # (K, D)
    hessian: Array  # (K, D, D)
    counts: Array  # (2,) examples seen in this pass, of F and R


def gradient_residual_bound(features: np.ndarray, step: np.ndarray, smoothness: float = 0.25) -> float:
    """Largest gradient norm that one removal step can leave (corollary 1 of the paper), in loss units.

    Args:
        features: (n, D) of what stays, each of norm at most 1.
        step: (D,) the Newton step of one classifier.
        smoothness: Lipschitz constant of the loss's second derivative; 1/4 is the paper's for logistic regression.
    """
    spectral = np.linalg.norm(features, 2)
    return float(smoothness * spectral * np.linalg.norm(step) * np.linalg.norm(features @ step))


def certified_epsilon(bound: float, sigma: float, delta: float = 1e-4, heads: int = 1) -> float:
    """Epsilon of (epsilon, delta)-certified removal when the objective had noise of scale ``sigma`` (theorem 3).

    Args:
        bound: on the gradient left, the largest of any head.
        sigma: scale of the noise.
        delta: of all heads together.
        heads: classifiers released together, whose epsilons and deltas add up (basic composition).
    """
    return heads * bound * math.sqrt(2.0 * math.log(1.5 * heads / delta)) / sigma


def _terms(head: Head, features: Array, batch: Batch) -> tuple[Array, Array]:
    """Gradient (K, D) and Hessian (K, D, D) of the summed logistic losses of a batch."""
    signs = jnp.where(jnp.arange(head.weights.shape[0])[:, None] == batch.targets[None, :], 1.0, -1.0)
    scores = head.weights @ features.T
    live = batch.weight[None, :]
    slope = -signs * jax.nn.sigmoid(-signs * scores) * live
    bend = jax.nn.sigmoid(scores) * jax.nn.sigmoid(-scores) * live
    return slope @ features, jnp.einsum("kb,bd,be->kde", bend, features, features)


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Measure the features, train the head on everything, then remove the request."""

    def init(key, variables):
        if "head" not in variables["params"]:
            raise InputError("this model has no layer called 'head': certified_removal needs a last linear layer.")
        width, classes = variables["params"]["head"]["kernel"].shape
        noise = hp["sigma"] * jax.random.normal(key, (classes, width))
        zero = jnp.zeros((classes, width))
        return Head(variables, zero, noise, jnp.float32(1e-6), zero, jnp.zeros((classes, width, width)), jnp.zeros(2))

    def features(head, batch):
        return problem.model.apply(head.variables, batch.inputs, train=False)[0].features

    def measure(part):
        def update(key, head, batches):
            batch = getattr(batches, part)
            norms = jnp.where(batch.weight > 0, jnp.linalg.norm(features(head, batch), axis=1), 0.0)
            return head._replace(largest=jnp.maximum(head.largest, norms.max(initial=0.0))), jnp.float32(0.0)

        return update

    def gather(part, slot, curved):
        def update(key, head, batches):
            batch = getattr(batches, part)
            gradient, hessian = _terms(head, features(head, batch) / head.largest, batch)
            return head._replace(
                gradient=head.gradient + gradient,
                hessian=head.hessian + (hessian if curved else 0.0),
                counts=head.counts.at[slot].add(batch.weight.sum()),
            ), jnp.linalg.norm(gradient)

        return update

    def solve(head, gradient, count):
        matrix = head.hessian + count * hp["l2"] * jnp.eye(head.weights.shape[1])[None]
        step = jax.vmap(solved)(matrix, gradient)
        clear = {"gradient": jnp.zeros_like(head.gradient), "hessian": jnp.zeros_like(head.hessian)}
        return head._replace(**clear, counts=jnp.zeros(2)), step

    def fit(key, head, batches):
        count = jnp.maximum(head.counts.sum(), 1.0)
        gradient = head.gradient + count * hp["l2"] * head.weights + head.noise
        cleared, step = solve(head, gradient, count)
        return cleared._replace(weights=head.weights - step), jnp.linalg.norm(gradient)

    def remove(key, head, batches):
        forgotten, kept = head.counts[0], jnp.maximum(head.counts[1], 1.0)
        gradient = head.gradient + forgotten * hp["l2"] * head.weights
        cleared, step = solve(head, gradient, kept)
        return cleared._replace(weights=head.weights + step), jnp.linalg.norm(step)

    def keep(key, head, batches):  # the Hessian of what stays, without its gradient
        summed, loss = gather("retain", 1, True)(key, head, batches)
        return summed._replace(gradient=head.gradient), loss

    def end(head):
        layer = head.variables["params"]["head"]
        kernel = (head.weights.T / head.largest).astype(layer["kernel"].dtype)
        new = {"kernel": kernel} | {name: jnp.zeros_like(x) for name, x in layer.items() if name != "kernel"}
        return head.variables | {"params": head.variables["params"] | {"head": new}}

    train = [gather("forget", 0, True), gather("retain", 1, True)]
    branches = [measure("forget"), measure("retain"), *train, fit, keep, gather("forget", 0, False), remove]
    return phased_method(init, branches, end)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """A pass to scale the features, ``steps`` Newton steps on everything, then the removal; forward passes only."""
    batch = min(static["batch"], max(sizes.forget, 1))
    f, r = passes(sizes.forget, batch), passes(sizes.retain, static["batch"])
    train = ([TRAIN_F] * f + [TRAIN_R] * r + [FIT]) * static["steps"]
    phases = [MEASURE_F] * f + [MEASURE_R] * r + train + [KEEP] * r + [DROP] * f + [REMOVE]
    cost = lambda *on: tuple(FORWARD if phase in on else 0.0 for phase in range(8))
    return phased_plan(
        np.asarray(phases),
        forget_batch=batch,
        retain_batch=static["batch"],
        forget_cost=cost(MEASURE_F, TRAIN_F, DROP),
        retain_cost=cost(MEASURE_R, TRAIN_R, KEEP),
        forget_pass=f,
        retain_pass=r,
    )


ENTRY = MethodSpec(
    name="certified_removal",
    paper="Guo et al. 2020, arXiv 1911.03030",
    rule="one Newton step on a noisy, strongly convex linear head, with a bound on the gradient left",
    needs=frozenset({"forget", "retain", "head"}),
    build=build,
    plan=plan,
    numeric={"l2": 1e-3, "sigma": 0.1},
    static={"batch": 128, "steps": 8},
    batch_stats="none",
    presets={
        "small": ({}, "ours: noise small against the sum of a thousand losses"),
        "small_text": ({"l2": 3e-4}, RULE),
        "cifar": ({"l2": 2e-4, "sigma": 10.0}, "the paper's SVHN features: l2 2e-4, sigma 10"),
    },
    notes="certifies a head given the features, which still know the request; K heads compose to K epsilon at K delta",
    space=(Span("l2", 0.1, 100.0), Span("sigma", 0.01, 3.0)),
)

"""SFRon: forget on fast weights, repair on retained data, follow slowly; salient weights, fading coefficients.

Huang et al. 2024 (arXiv 2409.19732, unified gradient-based unlearning with remain geometry). Three parts: (1) each
round takes an ascent step on the request, then ``inner`` descent steps on retained data from there, and the slow
weights move a share ``slow`` of the way to the result (published setting: 1), which approximates a step that the
retained curvature preconditions; (2) within a batch an example's ascent is weighted by ``l^-fade``, divided by the
weights' mean, so that what is forgotten stops pushing; the batch's by ``alpha``, which has to be the larger the better
the request is memorised, for a gradient is about as small as its loss; (3) the ascent's gradient is kept only at
weights whose squared gradient on the request is at least ``threshold`` times that on retained data, then clipped to
norm ``clip``. The published ascent fades but does not end, and a request of a whole class, which no retained example
holds back, is driven hundreds of nats below chance; an example whose loss is above ``bound`` x ln K therefore stops
pushing, inf being the published rule. Ascent and repair share one optimizer with its momentum; half a cosine over the
repairs takes the rate and, as a factor of its own, ``alpha`` to zero. Variants: squared gradients are of single
examples (the authors' code: of batches), losses below 1e-6 count as that (theirs: a loss of 0 takes all the weight),
the slow weights move once a round (theirs: at every step), and batch statistics are in evaluation mode for the ascent
(theirs: training mode).
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from unlearn_jax.methods.support.common import (
    BOTH,
    RATE,
    RULE,
    TUNED,
    MethodSpec,
    Recipe,
    Span,
    Trained,
    TrainSpec,
    descent,
    follow,
    mean_loss,
    phased_method,
    unforgotten,
    weighted_mean,
)
from unlearn_jax.methods.support.parts import loss_gradient, sum_over_examples, zeros_like
from unlearn_jax.population.plans import Plan, Sizes, cosine, passes, phased_plan, request_batch
from unlearn_jax.trees import tree_add, tree_dot, tree_scale
from unlearn_jax.types import Array, Method, PyTree

SCORE_F, SCORE_R, ASCEND, REPAIR, FOLLOW = range(5)


def faded(losses: Array, weight: Array, fade: Array | float) -> Array:
    """(B,) ``l^-fade`` over its mean on the live examples of a batch, without a gradient of its own."""
    weights = jnp.maximum(lax.stop_gradient(losses), 1e-6) ** -fade
    return weights / jnp.maximum(weighted_mean(weights, weight), 1e-12)


def clipped(gradient: PyTree, norm: Array | float) -> PyTree:
    """The gradient, shortened to a Euclidean norm over all leaves where it is longer."""
    length = jnp.sqrt(tree_dot(gradient, gradient))
    return tree_scale(gradient, jnp.minimum(1.0, norm / jnp.maximum(length, 1e-12)))


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Score the weights, then rounds of ascent, repair and slow following; ``params`` are the fast weights."""
    optimizer = descent(static, hp)

    def init(key, variables):
        params, zero = variables["params"], zeros_like(variables["params"])
        extra = {"slow": params, "forget": zero, "retain": zero, "counts": jnp.zeros(2)}
        return Trained(params, variables["state"], optimizer.init(params), extra)

    def score(part, slot):
        def update(key, trained, batches):
            batch, variables = getattr(batches, part), {"params": trained.params, "state": trained.state}
            one = lambda e: jax.tree.map(jnp.square, loss_gradient(problem, variables, e._replace(weight=jnp.ones(1))))
            total = tree_add(trained.extra[part], sum_over_examples(one, batch, static["micro"]))
            counts = trained.extra["counts"].at[slot].add(batch.weight.sum())
            return trained._replace(extra=trained.extra | {part: total, "counts": counts}), jnp.float32(0.0)

        return update

    def ascend(key, trained, batches):
        batch, counts = batches.forget, jnp.maximum(trained.extra["counts"], 1.0)

        def loss(params):
            student = {"params": params, "state": trained.state}
            losses = problem.task.loss(problem.model.apply(student, batch.inputs, train=False)[0].logits, batch)
            live = unforgotten(problem, losses, hp["bound"])
            value = weighted_mean(live * faded(losses, batch.weight, hp["fade"]) * losses, batch.weight)
            return -hp["alpha"] * batches.rate * value

        salient = lambda g, f, r: jnp.where(f / counts[0] >= hp["threshold"] * r / counts[1], g, 0.0)
        value, grads = jax.value_and_grad(loss)(trained.params)
        grads = clipped(jax.tree.map(salient, grads, trained.extra["forget"], trained.extra["retain"]), hp["clip"])
        params, moments = follow(optimizer, grads, trained, batches.rate)
        return trained._replace(params=params, optimizer=moments), value

    def repair(key, trained, batches):
        loss = lambda p: mean_loss(problem, {"params": p, "state": trained.state}, batches.retain, key, train=True)
        (value, state), grads = jax.value_and_grad(loss, has_aux=True)(trained.params)
        params, moments = follow(optimizer, grads, trained, batches.rate)
        return Trained(params, state, moments, trained.extra), value

    def slowly(key, trained, batches):
        slow = jax.tree.map(lambda a, b: a + hp["slow"] * (b - a), trained.extra["slow"], trained.params)
        return trained._replace(params=slow, extra=trained.extra | {"slow": slow}), jnp.float32(0.0)

    return phased_method(init, [score("forget", 0), score("retain", 1), ascend, repair, slowly])


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """A pass over each set for the scores, then ``rounds`` of an ascent step, ``inner`` repairs and the slow move."""
    batch, inner = request_batch(sizes, static["batch"]), static["inner"]
    scan, whole = passes(sizes.forget, batch), passes(sizes.retain, static["batch"])
    fall = cosine(static["rounds"] * inner).reshape(static["rounds"], inner)
    rates = np.concatenate([fall[:, :1], fall, fall[:, -1:]], axis=1)  # an ascent has the rate of the repair behind it
    return phased_plan(
        np.asarray([SCORE_F] * scan + [SCORE_R] * whole + [ASCEND, *[REPAIR] * inner, FOLLOW] * static["rounds"]),
        forget_batch=batch,
        retain_batch=static["batch"],
        forget_cost=(1.0, 0.0, 1.0, 0.0, 0.0),
        retain_cost=(0.0, 1.0, 0.0, 1.0, 0.0),
        forget_pass=scan,
        retain_pass=whole,
        rate=np.concatenate([np.ones(scan + whole), rates.ravel()]),
    )


ENTRY = MethodSpec(
    name="sfron",
    paper="Huang et al. 2024, arXiv 2409.19732",
    rule="masked, fading ascent on fast weights, repair on retained data, slow weights follow",
    needs=frozenset({"forget", "retain"}),
    build=build,
    plan=plan,
    numeric={
        "lr": 3e-3,
        "alpha": 1e4,
        "slow": 1.0,
        "fade": 0.5,
        "threshold": 1.0,
        "clip": 7.0,
        "bound": 1.0,
        "weight_decay": 5e-4,
    },
    static={"rounds": 20, "inner": 5, "batch": 128, "micro": 0, "optimizer": "sgd", "momentum": 0.9},
    presets={
        "small": TUNED,
        "small_text": ({"lr": 0.1}, RULE),
        "cifar": (
            {"lr": 0.01, "alpha": 25.0, "rounds": 300, "bound": math.inf},
            "the authors' code on CIFAR-10: 1,500 repairs, an ascent every fifth, unbounded",
        ),
        "language": (
            {"lr": 1e-5, "alpha": 500.0, "rounds": 60, "batch": 32, "optimizer": "adam", "bound": math.inf},
            "Adam at 1e-5 and batches of 32 as public language benchmarks; alpha of the authors' Tiny ImageNet",
        ),
    },
    notes="slow weights move once a round",
    reads=BOTH,
    space=(RATE, Span("alpha", 0.01, 3.0)),
)

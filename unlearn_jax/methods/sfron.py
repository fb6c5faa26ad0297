"""SFRon: forget on fast weights, repair on retained data, follow slowly; salient weights, fading coefficients.

Huang et al. 2024 (arXiv 2409.19732, unified gradient-based unlearning with remain geometry). Three parts: (1) each
round takes an ascent step on the request, then ``inner`` descent steps on retained data from there, and moves the slow
weights a share ``slow`` of the way to the result, which approximates a step that the retained curvature preconditions;
(2) an example's ascent is weighted by ``1 / (1 + loss)^fade``, so that what is forgotten stops pushing; (3) the ascent
moves only weights whose squared gradient on the request is at least ``threshold`` times that on retained data. Known in
outline; the weighting and the threshold are this variant's. Batch statistics in training mode on retained batches,
evaluation mode else.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from unlearn_jax.methods.common import (
    TUNED,
    Entry,
    Problem,
    Recipe,
    Trained,
    descent,
    follow,
    mean_loss,
    phased_method,
    weighted_mean,
)
from unlearn_jax.methods.parts import loss_gradient, sum_over_examples, zeros_like
from unlearn_jax.population.plans import Plan, Sizes, passes, phased_plan
from unlearn_jax.trees import tree_add
from unlearn_jax.types import Method

SCORE_F, SCORE_R, ASCEND, REPAIR, FOLLOW = range(5)


def build(problem: Problem, static: dict, hp: dict) -> Method:
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
            return weighted_mean(lax.stop_gradient(1.0 + losses) ** -hp["fade"] * losses, batch.weight)

        def move(w, g, f, r):
            salient = f / counts[0] >= hp["threshold"] * r / counts[1]
            return w + hp["forget_lr"] * jnp.where(salient, g, 0.0)

        value, grads = jax.value_and_grad(loss)(trained.params)
        moved = jax.tree.map(move, trained.params, grads, trained.extra["forget"], trained.extra["retain"])
        return trained._replace(params=moved), value

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
    batch = min(static["batch"], max(sizes.forget, 1))
    scan, whole = passes(sizes.forget, batch), passes(sizes.retain, static["batch"])
    round_ = [ASCEND] + [REPAIR] * static["inner"] + [FOLLOW]
    return phased_plan(
        np.asarray([SCORE_F] * scan + [SCORE_R] * whole + round_ * static["rounds"]),
        forget_batch=batch,
        retain_batch=static["batch"],
        forget_cost=(1.0, 0.0, 1.0, 0.0, 0.0),
        retain_cost=(0.0, 1.0, 0.0, 1.0, 0.0),
        forget_pass=scan,
        retain_pass=whole,
    )


ENTRY = Entry(
    name="sfron",
    paper="Huang et al. 2024, arXiv 2409.19732",
    rule="masked, fading ascent on fast weights, repair on retained data, slow weights follow",
    needs=frozenset({"forget", "retain"}),
    build=build,
    plan=plan,
    numeric={
        "lr": 0.01,
        "forget_lr": 0.25,
        "slow": 0.5,
        "fade": 1.0,
        "threshold": 1.0,
        "weight_decay": 5e-4,
    },  # fmt: skip
    static={"rounds": 20, "inner": 5, "batch": 128, "micro": 16, "optimizer": "sgd", "momentum": 0.0},
    presets={
        "small": TUNED,
        "cifar": ({"rounds": 200, "forget_lr": 0.1}, "ours: about five passes over the retained data"),
    },
    notes="variant in outline of the paper",
)

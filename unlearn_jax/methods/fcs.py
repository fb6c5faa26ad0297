"""FCS: forget by flat predictions, then alternate repelling the request from retained outputs and fitting the latter.

First place of the NeurIPS 2023 unlearning challenge (team fanchuan; rule as described in Cadet et al. 2024, arXiv
2410.01276). One pass descends KL(uniform || p) on the request. Then ``rounds`` rounds of: a contrast pass over the
request that descends the mean of ``-log softmax over retained examples of (z_F . z_R / 1.15)`` with the retained
logits fixed; and a pass of cross-entropy over the retained data. Three optimizers (SGD, momentum .9) with their own
rates; the contrast rate falls along a cosine. Batch statistics in training mode on retained batches, evaluation mode
on the request.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.methods.support.common import (
    RATE,
    RULE,
    TUNED,
    MethodSpec,
    Recipe,
    Span,
    Trained,
    TrainSpec,
    mean_loss,
    phased_method,
    sgd,
    weighted_mean,
)
from unlearn_jax.methods.support.parts import divergence, frozen
from unlearn_jax.methods.support.phases import staged
from unlearn_jax.population.plans import FORWARD, Plan, Sizes, cosine, passes, phased_plan, request_batch
from unlearn_jax.types import Method

FLATTEN, REPEL, FIT = 0, 1, 2
TEMPERATURE = 1.15


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """The three kinds of pass."""
    student = lambda params, trained: {"params": params, "state": trained.state}
    forget_logits = lambda params, trained, batch: (
        problem.model.apply(student(params, trained), batch.inputs, train=False)[0].logits
    )

    def flatten(params, trained, batches, key):
        logits = forget_logits(params, trained, batches.forget)
        return weighted_mean(divergence(jnp.zeros_like(logits), logits), batches.forget.weight), trained.state

    def repel(params, trained, batches, key):
        forget, retain = batches.forget, batches.retain
        kept = frozen(problem, student(params, trained), retain.inputs).logits
        alike = forget_logits(params, trained, forget) @ kept.T / TEMPERATURE
        live = jnp.where(retain.weight > 0, 0.0, -1e9)[None, :]
        losses = -(jax.nn.log_softmax(alike + live, axis=1) @ retain.weight) / jnp.maximum(retain.weight.sum(), 1e-12)
        return weighted_mean(losses, forget.weight), trained.state

    def fit(params, trained, batches, key):
        return mean_loss(problem, student(params, trained), batches.retain, key, train=True)

    decay = (0.0, 0.0, hp["weight_decay"])
    rates = (hp["flatten_lr"], hp["repel_lr"], hp["lr"])
    first, branches = staged([sgd(r, 0.9, d) for r, d in zip(rates, decay)], [flatten, repel, fit])
    init = lambda key, variables: Trained(variables["params"], variables["state"], first(variables["params"]))
    return phased_method(init, branches)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """One flattening pass over the request, then ``rounds`` of a contrast pass and a pass over the retained data."""
    batch = request_batch(sizes, static["batch"])
    scan, whole, rounds = passes(sizes.forget, batch), passes(sizes.retain, static["batch"]), static["rounds"]
    phases = np.asarray([FLATTEN] * scan + ([REPEL] * scan + [FIT] * whole) * rounds)
    rate = np.ones(len(phases))
    rate[phases == REPEL] = cosine(rounds * scan, 1e-6 / 3e-4)
    return phased_plan(
        phases,
        forget_batch=batch,
        retain_batch=static["batch"],
        forget_cost=(1.0, 1.0, 0.0),
        retain_cost=(0.0, FORWARD, 1.0),
        rate=rate,
        forget_pass=scan,
    )


ENTRY = MethodSpec(
    name="fcs",
    paper="NeurIPS 2023 challenge, 1st; Cadet et al. 2024, arXiv 2410.01276",
    rule="flatten predictions on the request, then alternate contrast against and cross-entropy on retained data",
    needs=frozenset({"forget", "retain"}),
    build=build,
    plan=plan,
    numeric={"lr": 0.03, "flatten_lr": 1e-3, "repel_lr": 1e-4, "weight_decay": 1e-2},
    static={"rounds": 8, "batch": 128},
    presets={
        "small": TUNED,
        "small_text": ({"lr": 0.1}, RULE),
        "cifar": (
            {"lr": 4e-3, "flatten_lr": 5e-3, "repel_lr": 3e-4, "batch": 256},
            "the entry's: 5e-3, 3e-4 along a cosine, and 1e-3 x batch / 64",
        ),
    },
    notes="optimizers taken as SGD with momentum .9",
    space=(RATE, Span("repel_lr", 0.03, 3.0)),
)

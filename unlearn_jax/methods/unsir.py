"""UNSIR: learn noise that maximises the forgotten class's loss, impair the model on it, then repair on retained data.

Tarun et al. 2023 (arXiv 2111.08947). ``noises`` images, labelled by the slots of a request batch, start from N(0, 1)
and descend ``-l(noise, class) + penalty |noise|^2`` under the frozen original; one impair pass trains on it under the
forgotten class's label beside retained data, at ``lr``; one repair pass trains on retained data alone with a new
optimizer, at ``repair`` times ``lr``. Made for requests of whole classes. Adam at .02 and .01 as in the authors'
notebook (``optimizer=sgd`` with momentum at these rates forgets as well and costs digits a fifth of the retained
data). Variants: every update holds ``noises`` images beside ``batch`` retained ones (theirs: an epoch over 20 copies of
256 and 1,000 images a class). Batch statistics in training mode on retained batches, evaluation mode on the noise
(theirs: training mode).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from unlearn_jax.methods.support.common import (
    RATE,
    RULE,
    MethodSpec,
    Recipe,
    Span,
    Trained,
    TrainSpec,
    descent,
    mean_loss,
    phased_method,
    retained_loss,
)
from unlearn_jax.methods.support.phases import staged
from unlearn_jax.population.plans import Plan, Sizes, passes, phased_plan, request_batch
from unlearn_jax.types import Method

NOISE, IMPAIR, REPAIR = 0, 1, 2


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Learn the noise, impair, repair."""
    learner = optax.adam(hp["noise_lr"])
    walkers = [descent(static, hp), descent(static, hp | {"lr": hp["lr"] * hp["repair"]})]

    def init(key, variables):
        shape = jnp.zeros((static["noises"], *problem.example.shape[1:]))
        noise = jax.random.normal(key, shape.shape)
        labels, weight = jnp.zeros(static["noises"], jnp.int32), jnp.zeros(static["noises"])
        extra = {"noise": noise, "moments": learner.init(noise), "labels": labels, "weight": weight}
        return Trained(variables["params"], variables["state"], moments(variables["params"]), extra)

    def slots_of(batches):
        return jnp.arange(static["noises"]) % batches.forget.weight.shape[0]

    def learn(key, trained, batches):
        original = {"params": trained.params, "state": trained.state}  # not moved yet
        labels = batches.forget.targets[slots_of(batches)].astype(jnp.int32)
        weight = batches.forget.weight[slots_of(batches)]  # nothing to impair where nothing was requested

        def objective(noise):
            batch = batches.forget._replace(inputs=noise, targets=labels, weight=weight)
            size = jnp.mean(jnp.sum(jnp.square(noise).reshape(len(noise), -1), axis=1))
            return -mean_loss(problem, original, batch, None, train=False)[0] + hp["penalty"] * size

        value, slope = jax.value_and_grad(objective)(trained.extra["noise"])
        with jax.numpy_dtype_promotion("standard"):
            moved, learned = learner.update(slope, trained.extra["moments"])
        extra = {"noise": trained.extra["noise"] + moved, "moments": learned, "labels": labels, "weight": weight}
        return trained._replace(extra=extra), value

    def impaired(params, trained, batches, key):
        variables, extra = {"params": params, "state": trained.state}, trained.extra
        noisy = batches.forget._replace(inputs=extra["noise"], targets=extra["labels"], weight=extra["weight"])
        spoiled = mean_loss(problem, variables, noisy, None, train=False)[0]
        held, state = mean_loss(problem, variables, batches.retain, key, train=True)
        share = static["noises"] / (static["noises"] + batches.retain.weight.shape[0])
        return share * spoiled + (1.0 - share) * held, state

    moments, walks = staged(walkers, [impaired, retained_loss(problem)])
    return phased_method(init, [learn, *walks])


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """``noise_steps`` updates of the noise, then ``epochs`` impair and as many repair passes over the retained data."""
    batch, fits = request_batch(sizes, static["batch"]), static["epochs"] * passes(sizes.retain, static["batch"])
    noise = static["noises"] / batch
    return phased_plan(
        np.repeat([NOISE, IMPAIR, REPAIR], [static["noise_steps"], fits, fits]),
        forget_batch=batch,
        retain_batch=static["batch"],
        forget_cost=(noise, noise, 0.0),
        retain_cost=(0.0, 1.0, 1.0),
    )


ENTRY = MethodSpec(
    name="unsir",
    paper="Tarun et al. 2023, arXiv 2111.08947",
    rule="impair with error-maximising noise under the forgotten class's label, then repair on the retained data",
    needs=frozenset({"forget", "retain", "class", "pixels"}),
    build=build,
    plan=plan,
    numeric={"lr": 0.02, "noise_lr": 0.1, "penalty": 0.1, "repair": 0.5},
    static={"epochs": 1, "batch": 128, "noises": 20, "noise_steps": 40, "optimizer": "adam", "momentum": 0.9},
    presets={
        "small": ({}, "the authors' notebook, with fewer noises"),
        "small_conv": ({"lr": 3e-3}, RULE),
        "cifar": (
            {"noises": 256, "batch": 256},
            "the authors' notebook: Adam, impair at .02, repair at .01, a pass each; 40 steps of noise at .1",
        ),
    },
    notes="reads the request's labels, not its images",
    space=(RATE, Span("penalty", 0.1, 10.0)),
)

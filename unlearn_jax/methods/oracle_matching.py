"""Oracle matching: fit the outputs of models that were truly trained without the samples; an upper bound.

Georgiev et al. 2024 (arXiv 2410.23232). Descend the mean squared difference between the student's logits and those of
a retrained model, on the request and on retained examples. ``target=retrain``: trained without the request (the
paper); ``target=oracle``: without the whole clusters. Member i fits target model i, which belongs to a population of
its own that is never used for scoring. Shows what any fine-tuning towards the right outputs could reach; it is no
method of practice. Batch statistics in training mode on the retained batch, evaluation mode on the request.
"""

from __future__ import annotations

import functools

import jax.numpy as jnp

from unlearn_jax.errors import choose
from unlearn_jax.methods.support.common import (
    FORGET_WEIGHT,
    LANGUAGE,
    RATE,
    Context,
    MethodSpec,
    TrainSpec,
    descent,
    gradient_method,
    weighted_mean,
)
from unlearn_jax.population.plans import epochs_over_retained
from unlearn_jax.types import Method, Variables

TARGETS = ("oracle", "retrain")


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Descent of the squared error to the target's logits, kept by row from the start."""
    if "target" in static:
        choose("target", static["target"], TARGETS)

    def error(params, trained, batch, key, train):
        student = {"params": params, "state": trained.state}
        outputs, state = problem.model.apply(student, batch.inputs, key=key, train=train)
        gap = jnp.mean(jnp.square(outputs.logits - trained.extra[batch.index]), axis=-1)
        return weighted_mean(gap, batch.weight), state

    def loss(params, trained, batches, key):
        forget, _ = error(params, trained, batches.forget, None, False)
        retain, state = error(params, trained, batches.retain, key, True)
        return hp["forget_weight"] * forget + retain, state

    return gradient_method(descent(static, hp), loss, extra=lambda key, variables: variables["target"])


def begin(context: Context, static: dict, start: Variables) -> tuple[Variables, tuple[float, float]]:
    """Train the targets and keep their logits on every row (N, n, K)."""
    rows = dict(zip(TARGETS, (context.clean, context.kept)))[static["target"]]
    fold, plan, numeric = context.training
    trained = context.train(f"{static['target']}_b", fold, plan, rows, hp=numeric)
    return start | {"target": context.predict(trained)}, (0.0, plan.grad_evals_retain)


plan = functools.partial(epochs_over_retained, forget_cost=1.0)

ENTRY = MethodSpec(
    name="oracle_matching",
    paper="Georgiev et al. 2024, arXiv 2410.23232 (oracle matching)",
    rule="fit the logits of models retrained without the samples, on the request and on retained data",
    needs=frozenset({"forget", "retain", "reference"}),
    build=build,
    plan=plan,
    numeric={"lr": 1e-3, "forget_weight": 1.0, "weight_decay": 0.0},
    static={"epochs": 10, "batch": 128, "target": "oracle", "optimizer": "adam", "momentum": 0.9},
    presets={
        "small": ({}, "ours: Adam at 1e-3; not tuned"),
        "cifar": ({"lr": 5e-4}, "ours; the paper's constants are not published in its abstract"),
        "language": LANGUAGE,
    },
    notes="an upper bound; with target retrain bounded by `retrain`; its cost includes the target's training, which a "
    "budget leaves out",
    begin=begin,
    space=(RATE, FORGET_WEIGHT),
)

"""Bad teacher: agree with a random network on the request and with the original on retained data.

Chundawat et al. 2023 (arXiv 2205.08096). The student descends, on a mixture of the request and a share of the retained
data, the mean over examples of KL(incompetent || s) on F and KL(original || s) on R at temperature ``temperature``,
summed over classes (the public code's mean over batch *and* classes scales the loss by 1/K). The incompetent teacher
is a new initialisation. Both teachers in evaluation mode; the student in training mode on the retained batch, which
alone moves the batch statistics, and in evaluation mode on the request. Variant: each epoch draws its share of R anew.
"""

from __future__ import annotations

import math

import jax

from unlearn_jax.methods.support.common import (
    BOTH,
    EARLIER,
    LANGUAGE,
    RATE,
    RULE,
    TUNED,
    MethodSpec,
    Recipe,
    Span,
    TrainSpec,
    descent,
    gradient_method,
)
from unlearn_jax.methods.support.parts import distillation, fresh, frozen
from unlearn_jax.population.plans import FORWARD, Plan, Sizes, passes, uniform_plan
from unlearn_jax.types import Method


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Distil from two teachers; every example of the mixture counts alike."""

    def loss(params, trained, batches, key):
        student = {"params": params, "state": trained.state}
        forget, retain, t = batches.forget, batches.retain, hp["temperature"]
        lost = problem.model.apply(student, forget.inputs, key=None, train=False)[0].logits
        held, state = problem.model.apply(student, retain.inputs, key=key, train=True)
        bad = distillation(frozen(problem, trained.extra["bad"], forget.inputs).logits, lost, forget, t)
        good = distillation(frozen(problem, trained.extra["good"], retain.inputs).logits, held.logits, retain, t)
        share = forget.weight.shape[0] / (forget.weight.shape[0] + retain.weight.shape[0])
        return share * bad + (1.0 - share) * good, state

    teachers = lambda key, variables: {"good": variables, "bad": fresh(problem, jax.random.fold_in(key, 1))}
    return gradient_method(descent(static, hp), loss, extra=teachers)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """``epochs`` passes over the mixture of F and a share of R; a batch holds both in the mixture's proportion."""
    used = max(1, round(static["retain_share"] * sizes.retain))
    steps = passes(used + sizes.forget, static["batch"])
    batch = lambda size: max(1, math.ceil(size / steps))
    cost = 1.0 + FORWARD
    return uniform_plan(
        static["epochs"] * steps,
        forget_batch=batch(sizes.forget),
        retain_batch=batch(used),
        forget_cost=cost,
        retain_cost=cost,
    )


ENTRY = MethodSpec(
    name="bad_teacher",
    paper="Chundawat et al. 2023, arXiv 2205.08096",
    rule="distil a random network on the request and the original on a share of the retained data",
    needs=frozenset({"forget", "retain", "teacher"}),
    build=build,
    plan=plan,
    numeric={"lr": 3e-5, "temperature": 1.0, "weight_decay": 0.0},
    static={"epochs": 10, "batch": 128, "retain_share": 0.3, "optimizer": "adam", "momentum": 0.9},
    presets={
        "small": TUNED,
        "small_conv": ({"lr": 3e-3}, EARLIER),
        "small_transformer": ({"lr": 3e-3}, EARLIER),
        "small_text": ({"lr": 3e-4}, RULE),
        "cifar": ({"lr": 1e-4, "epochs": 1, "batch": 256}, "the paper's setting: one epoch of Adam at 1e-4"),
        "language": LANGUAGE,
    },
    notes="a mean over examples, not over examples and classes",
    reads=BOTH,
    space=(RATE, Span("temperature", 0.5, 4.0)),
)

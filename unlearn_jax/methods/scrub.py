"""SCRUB: disobey the original model on the request, obey it on the rest, in alternating passes.

Kurmanji et al. 2023 (arXiv 2302.09880). With T the frozen original and s the student, for epochs e = 1..E: a *max* pass
over F for e <= ``max_epochs`` (ascend KL(T || s)), then a *min* pass over R (descend ``gamma l + alpha KL(T || s)``),
so that every epoch, and the method, ends on min. Both KL terms are at temperature ``temperature`` and scaled by its
square. One optimizer (weight decay coupled, as published) serves both kinds of pass; its rate is divided by ten after
the epochs in ``decay``. Student in training mode, teacher in evaluation mode; the max pass leaves the batch statistics
as they are, so that the request is not averaged in (variant).

The paper's small-scale constants are `PUBLISHED_SMALL`; its large-scale ones, `PUBLISHED_LARGE`, are the scale cifar.
The former are not the defaults here. On a request of 30 they make one max update an epoch, the first without a gradient
since student and teacher are still equal, and whatever is forgotten comes from the coupled decay of .1 inside Adam: on
digits the request's margin goes from 15.1 to 15.1 without decay, 10.8 at .01 and 8.6 at .1. The defaults split the
request into ``pieces`` batches, of at most ``forget_batch`` examples, so that an epoch has several max updates and
never more, however large the request; and an example stops counting in the max pass once its loss is above ``bound`` x
ln K. KL(T || s) has no maximum: without that bound the defaults' rate drives a whole class of digits to a margin of
-1,100. In both the published rule is ``pieces`` 0 and ``bound`` inf.
"""

from __future__ import annotations

import math

import numpy as np
from jax import lax

from unlearn_jax.methods.support.common import (
    BOTH,
    EARLIER,
    RATE,
    RULE,
    TUNED,
    MethodSpec,
    Recipe,
    Span,
    TrainSpec,
    descent,
    gradient_method,
    unforgotten,
    weighted_mean,
)
from unlearn_jax.methods.support.parts import distillation, frozen
from unlearn_jax.population.plans import FORWARD, Plan, Sizes, passes, phased_plan, request_batch, request_batches
from unlearn_jax.types import Method

MAX, MIN = 0, 1
PUBLISHED_SMALL = {  # the paper's on its small data sets of a few hundred examples
    "optimizer": "adam", "lr": 5e-4, "weight_decay": 0.1, "alpha": 0.5, "gamma": 1.0, "temperature": 2.0,
    "bound": math.inf, "epochs": 10, "max_epochs": 3, "forget_batch": 32, "pieces": 0, "batch": 128, "decay": (5, 8, 9),
}  # fmt: skip
PUBLISHED_LARGE = {  # and on CIFAR-10; its rate falls after epochs that three epochs do not reach
    "optimizer": "sgd", "lr": 5e-4, "weight_decay": 5e-4, "alpha": 1e-3, "gamma": 0.99, "temperature": 4.0,
    "bound": math.inf, "epochs": 3, "max_epochs": 2, "forget_batch": 32, "pieces": 0, "batch": 128, "decay": (3, 5, 9),
    "momentum": 0.9,
}  # fmt: skip


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """The alternating fold; ``batches.phase`` says which pass the update belongs to."""
    model, task = problem.model, problem.task

    def loss(params, trained, batches, key):
        student = {"params": params, "state": trained.state}

        def ascend(_):
            batch = batches.forget
            logits = model.apply(student, batch.inputs, key=key, train=True)[0].logits
            target = frozen(problem, trained.extra["teacher"], batch.inputs).logits
            live = unforgotten(problem, task.loss(logits, batch), hp["bound"])
            apart = distillation(target, logits, batch._replace(weight=batch.weight * live), hp["temperature"])
            return -apart * weighted_mean(live, batch.weight), trained.state

        def descend(_):
            batch = batches.retain
            outputs, state = model.apply(student, batch.inputs, key=key, train=True)
            target = frozen(problem, trained.extra["teacher"], batch.inputs).logits
            hard = weighted_mean(task.loss(outputs.logits, batch), batch.weight)
            soft = distillation(target, outputs.logits, batch, hp["temperature"])
            return hp["gamma"] * hard + hp["alpha"] * soft, state

        return lax.cond(batches.phase == MAX, ascend, descend, None)

    return gradient_method(descent(static, hp), loss, extra=lambda key, variables: {"teacher": variables})


def epoch_passes(sizes: Sizes, static: dict) -> tuple[int, int]:
    """Updates of one max pass and of one min pass."""
    high = request_batches(sizes, static["forget_batch"], static["pieces"])
    return high, passes(sizes.retain, static["batch"])


def phases(sizes: Sizes, static: dict) -> np.ndarray:
    """(T,) which pass each update belongs to."""
    high, low = epoch_passes(sizes, static)
    epochs = [[MAX] * high * (e < static["max_epochs"]) + [MIN] * low for e in range(static["epochs"])]
    return np.concatenate(epochs).astype(np.int32)


def rates(sizes: Sizes, static: dict) -> np.ndarray:
    """(T,) multiplier of the learning rate: divided by ten after each epoch (counted from 1) in ``decay``."""
    high, low = epoch_passes(sizes, static)
    starts = np.asarray([e * low + min(e, static["max_epochs"]) * high for e in static["decay"]])
    return 0.1 ** np.sum(np.arange(len(phases(sizes, static)))[:, None] >= starts[None, :], axis=1)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """``epochs`` epochs: a max pass, which shows all of F once, while e <= max_epochs; then always a min pass."""
    batch = request_batch(sizes, static["forget_batch"], static["pieces"])
    return phased_plan(
        phases(sizes, static),
        forget_batch=batch,
        retain_batch=static["batch"],
        forget_cost=(1.0 + FORWARD, 0.0),
        retain_cost=(0.0, 1.0 + FORWARD),
        rate=rates(sizes, static),
        forget_pass=passes(sizes.forget, batch),
    )


ENTRY = MethodSpec(
    name="scrub",
    paper="Kurmanji et al. 2023, arXiv 2302.09880",
    rule="alternate: ascend KL(T || s) on the request, descend gamma l + alpha KL(T || s) on the retained data",
    needs=frozenset({"forget", "retain", "teacher"}),
    build=build,
    plan=plan,
    numeric={"lr": 4e-3, "alpha": 0.5, "gamma": 1.0, "temperature": 2.0, "bound": 1.0, "weight_decay": 5e-4},
    static={
        "epochs": 10,
        "max_epochs": 3,
        "forget_batch": 128,
        "pieces": 4,
        "batch": 128,
        "decay": (5, 8, 9),
        "optimizer": "adam",
        "momentum": 0.9,
    },
    presets={
        "small": TUNED,
        "small_conv": ({"lr": 4e-3}, EARLIER),
        "small_transformer": ({"lr": 3e-3}, EARLIER),
        "small_text": ({"lr": 0.01}, RULE),
        "cifar": (PUBLISHED_LARGE, "the paper's large-scale setting on CIFAR-10, all of it"),
        "language": (
            {"lr": 1e-5, "batch": 32, "weight_decay": 0.0},
            "Adam at 1e-5 by batches of 32, the usual setting of public language benchmarks; passes as at small scale",
        ),
    },
    stretched=("max_epochs", "decay"),
    reads=BOTH,
    space=(RATE, Span("alpha", 0.1, 10.0)),
)

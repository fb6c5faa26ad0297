"""SCRUB: disobey the original model on the request, obey it on the rest, in alternating passes.

Kurmanji et al. 2023 (arXiv 2302.09880). With T the frozen original and s the student, for epochs e = 1..E:
a *max* pass over F for e <= ``max_epochs`` (ascend KL(T || s)), then a *min* pass over R (descend
``gamma l + alpha KL(T || s)``), so that every epoch, and the method, ends on min. Both KL terms are at
temperature ``temperature`` and scaled by its square. One Adam (weight decay coupled, as published) serves both kinds
of pass; its rate is divided by ten after the epochs in ``decay``. Defaults are the paper's small-scale ones. Student
in training mode, teacher in evaluation mode; the max pass leaves the batch statistics as they are, so that the
request is not averaged in.
"""

from __future__ import annotations

import numpy as np
import optax
from jax import lax

from unlearn_jax.methods.common import Entry, Problem, Recipe, gradient_method, weighted_mean
from unlearn_jax.methods.parts import distillation, frozen
from unlearn_jax.population.plans import FORWARD, Plan, Sizes, passes, phased_plan
from unlearn_jax.types import Method

MAX, MIN = 0, 1


def build(problem: Problem, static: dict, hp: dict) -> Method:
    """The alternating fold; ``batches.phase`` says which pass the update belongs to."""
    model, task = problem.model, problem.task

    def loss(params, trained, batches, key):
        student = {"params": params, "state": trained.state}

        def ascend(_):
            batch = batches.forget
            logits = model.apply(student, batch.inputs, key=key, train=True)[0].logits
            target = frozen(problem, trained.extra["teacher"], batch.inputs).logits
            return -distillation(target, logits, batch.weight, hp["temperature"]), trained.state

        def descend(_):
            batch = batches.retain
            outputs, state = model.apply(student, batch.inputs, key=key, train=True)
            target = frozen(problem, trained.extra["teacher"], batch.inputs).logits
            hard = weighted_mean(task.loss(outputs.logits, batch), batch.weight)
            soft = distillation(target, outputs.logits, batch.weight, hp["temperature"])
            return hp["gamma"] * hard + hp["alpha"] * soft, state

        return lax.cond(batches.phase == MAX, ascend, descend, None)

    adam = optax.chain(
        optax.add_decayed_weights(hp["weight_decay"]),
        optax.scale_by_adam(),
        optax.scale_by_learning_rate(hp["lr"]),
    )
    return gradient_method(adam, loss, extra=lambda key, variables: {"teacher": variables})


def epoch_passes(sizes: Sizes, static: dict) -> tuple[int, int]:
    """Updates of one max pass and of one min pass."""
    return passes(sizes.forget, static["forget_batch"]), passes(sizes.retain, static["batch"])


def phases(sizes: Sizes, static: dict) -> np.ndarray:
    """(T,) which pass each update belongs to."""
    high, low = epoch_passes(sizes, static)
    epochs = [[MAX] * high * (e < static["max_epochs"]) + [MIN] * low for e in range(static["epochs"])]
    return np.asarray(sum(epochs, []), np.int32)


def rates(sizes: Sizes, static: dict) -> np.ndarray:
    """(T,) multiplier of the learning rate: divided by ten after each epoch (counted from 1) in ``decay``."""
    high, low = epoch_passes(sizes, static)
    starts = np.asarray([e * low + min(e, static["max_epochs"]) * high for e in static["decay"]])
    return 0.1 ** np.sum(np.arange(len(phases(sizes, static)))[:, None] >= starts[None, :], axis=1)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """``epochs`` epochs: a max pass, which shows all of F once, while e <= max_epochs; then always a min pass."""
    return phased_plan(
        phases(sizes, static),
        forget_batch=min(static["forget_batch"], max(sizes.forget, 1)),
        retain_batch=static["batch"],
        forget_cost=(1.0 + FORWARD, 0.0),
        retain_cost=(0.0, 1.0 + FORWARD),
        rate=rates(sizes, static),
        forget_pass=epoch_passes(sizes, static)[0],
    )


ENTRY = Entry(
    name="scrub",
    paper="Kurmanji et al. 2023, arXiv 2302.09880",
    rule="alternate: ascend KL(T || s) on the request, descend gamma l + alpha KL(T || s) on the retained data",
    needs=frozenset({"forget", "retain", "teacher"}),
    build=build,
    plan=plan,
    numeric={"lr": 5e-4, "alpha": 0.5, "gamma": 1.0, "temperature": 2.0, "weight_decay": 0.1},
    static={"epochs": 10, "max_epochs": 3, "forget_batch": 32, "batch": 128, "decay": (5, 8, 9)},
    presets={
        "cifar": (
            {"epochs": 5, "max_epochs": 4, "lr": 5e-4, "temperature": 4.0},
            "5 epochs of which 4 with a max pass, temperature 4, in the RUM comparison",
        ),
        "language": ({"lr": 1e-5, "batch": 32, "weight_decay": 0.0}, "rate and batch of public language benchmarks"),
    },
)

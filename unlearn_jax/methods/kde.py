"""KDE: re-initialise the first and the last layers, then distil the original on the retained data.

Sixth place of the NeurIPS 2023 unlearning challenge (as described in Cadet et al. 2024, arXiv 2410.01276: reset, then
KL and soft cross-entropy). Variant: the first and the last top-level groups are drawn anew; ``epochs`` passes descend
KL(T || s) on the retained data, then as many cross-entropy to the mean of the true label and the original's
prediction. The request is not read. Student in training mode, original in evaluation mode.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.methods.common import (
    LANGUAGE,
    TUNED,
    Entry,
    Problem,
    Recipe,
    descent,
    gradient_method,
    phased_method,
    weighted_mean,
)
from unlearn_jax.methods.parts import depth_order, distillation, fresh, frozen
from unlearn_jax.population.plans import FORWARD, Plan, Sizes, passes, phased_plan
from unlearn_jax.types import Method

DISTIL, SOFTEN = 0, 1


def build(problem: Problem, static: dict, hp: dict) -> Method:
    """Two distillations from a partly new start."""

    def outputs(params, trained, batches, key):
        student = {"params": params, "state": trained.state}
        found, state = problem.model.apply(student, batches.retain.inputs, key=key, train=True)
        return found.logits, frozen(problem, trained.extra, batches.retain.inputs).logits, state

    def distil(params, trained, batches, key):
        logits, target, state = outputs(params, trained, batches, key)
        return distillation(target, logits, batches.retain.weight, hp["temperature"]), state

    def soften(params, trained, batches, key):
        logits, target, state = outputs(params, trained, batches, key)
        hard = problem.task.loss(logits, batches.retain)
        soft = -jnp.sum(jax.nn.softmax(target) * jax.nn.log_softmax(logits), axis=-1)
        return weighted_mean(0.5 * (hard + soft), batches.retain.weight), state

    optimizer = descent(static, hp)
    first, second = gradient_method(optimizer, distil), gradient_method(optimizer, soften)

    def init(key, variables):
        order = depth_order(problem.model, problem.example.shape, str(problem.example.dtype))
        drawn = fresh(problem, jax.random.fold_in(key, 1))["params"]
        params = variables["params"] | {name: drawn[name] for name in (order[0], order[-1])}
        return first.init(key, variables | {"params": params})._replace(extra=variables)

    return phased_method(init, [first.update, second.update])


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """``epochs`` passes of each kind over the retained data."""
    whole = static["epochs"] * passes(sizes.retain, static["batch"])
    return phased_plan(
        np.repeat([DISTIL, SOFTEN], whole),
        forget_batch=0,
        retain_batch=static["batch"],
        forget_cost=(0.0, 0.0),
        retain_cost=(1.0 + FORWARD, 1.0 + FORWARD),
    )


ENTRY = Entry(
    name="kde",
    paper="NeurIPS 2023 challenge, 6th; Cadet et al. 2024, arXiv 2410.01276",
    rule="re-initialise the first and last layers, then distil the original on the retained data",
    needs=frozenset({"retain", "teacher"}),
    build=build,
    plan=plan,
    numeric={"lr": 0.01, "temperature": 1.0, "weight_decay": 5e-4},
    static={"epochs": 5, "batch": 128, "optimizer": "sgd", "momentum": 0.9},
    presets={
        "small": TUNED,
        "cifar": ({"lr": 5e-4, "epochs": 3}, "the entry's 3 and 3 epochs; rate of its neighbours"),
        "language": LANGUAGE,
    },
    notes="which layers and which soft loss are ours",
)

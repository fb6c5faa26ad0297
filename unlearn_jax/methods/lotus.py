"""LoTUS: on the request, distil the original at a temperature that falls as its accuracy nears that on unseen data.

Spartalis et al. 2025 (arXiv 2503.18314; from the public code). Before each epoch the student's accuracy on the request
is compared with the original's on held-out examples: with d the difference, it ends for good at d <= -.01, else
the epoch's temperature is ``exp(alpha d)``. The epoch fits, over a mixture of the request and a share of the retained
data, cross-entropy to samples of the original's softmax: on the request the Gumbel-softmax at that temperature, on
retained data a Gumbel-max draw, one-hot. For a request of a whole class the reference accuracy is 0, as
there; here it is the held-out accuracy times the share of the request whose class stays in the retained data. The
mixture as of `bad_teacher` (each epoch draws its share of R anew). Adam with coupled decay for AdamW. Student in
training mode on the retained batch, which alone moves the batch statistics, in evaluation mode on the request.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.methods import bad_teacher
from unlearn_jax.methods.support.common import (
    MILDER,
    RATE,
    RULE,
    TUNED,
    Context,
    MethodSpec,
    Recipe,
    Span,
    Trained,
    TrainSpec,
    descent,
    gradient_method,
    phased_method,
    weighted_mean,
)
from unlearn_jax.methods.support.parts import frozen
from unlearn_jax.population.plans import FORWARD, Plan, Sizes, passes, phased_plan
from unlearn_jax.trees import tree_select, wide
from unlearn_jax.types import Array, Method, Variables

LOOK, LEAD, FIT = 0, 1, 2


class Epoch(NamedTuple):
    """What an epoch is led by."""

    original: Variables
    reference: Array  # accuracy on unseen data
    right: Array  # requested examples that the student has right, of this look
    count: Array
    temperature: Array
    ended: Array


def gumbel_softmax(key: Array, logits: Array, temperature: Array | float) -> Array:
    """A relaxed sample of softmax(logits): softmax((logits + Gumbel noise) / temperature), any shape (..., K)."""
    drawn = logits + jax.random.gumbel(key, logits.shape, logits.dtype)
    below = drawn - jnp.max(drawn, axis=-1, keepdims=True)  # first, so that a small temperature overflows nothing
    return jax.nn.softmax(below / temperature, axis=-1)


def cross_entropy(target: Array, logits: Array, weight: Array) -> Array:
    """Weighted mean of -sum target log softmax(logits); (B, K), (B, K), (B,) -> ()."""
    target, logits = (x.astype(wide(x.dtype)) for x in (target, logits))
    return weighted_mean(-jnp.sum(target * jax.nn.log_softmax(logits, axis=-1), axis=-1), weight)


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Look at the request, set the temperature, fit the mixture."""
    optimizer, task = descent(static, hp), problem.task

    def init(key, variables):
        original, none = {part: variables[part] for part in ("params", "state")}, jnp.float32(0.0)
        epoch = Epoch(original, variables["unseen"], none, none, jnp.float32(1.0), jnp.bool_(False))
        return Trained(original["params"], original["state"], optimizer.init(original["params"]), epoch)

    def look(key, trained, batches):
        batch, epoch = batches.forget, trained.extra
        logits = problem.model.apply({"params": trained.params, "state": trained.state}, batch.inputs)[0].logits
        right = epoch.right + jnp.sum(task.correct(logits, batch) * batch.weight)
        epoch = epoch._replace(right=right, count=epoch.count + batch.weight.sum())
        return trained._replace(extra=epoch), jnp.float32(0.0)

    def lead(key, trained, batches):
        epoch, none = trained.extra, jnp.float32(0.0)
        above = epoch.right / jnp.maximum(epoch.count, 1.0) - epoch.reference
        ended = epoch.ended | (above <= -hp["patience"])
        temperature = jnp.exp(hp["alpha"] * jnp.maximum(above, -hp["patience"]))
        epoch = epoch._replace(right=none, count=none, temperature=temperature, ended=ended)
        return trained._replace(extra=epoch), above

    def loss(params, trained, batches, key):
        student, forget, retain, epoch = (
            {"params": params, "state": trained.state}, batches.forget, batches.retain, trained.extra,
        )  # fmt: skip
        keys = [jax.random.fold_in(key, i) for i in range(3)]
        lost = problem.model.apply(student, forget.inputs, train=False)[0].logits
        held, state = problem.model.apply(student, retain.inputs, key=keys[0], train=True)
        before = [frozen(problem, epoch.original, batch.inputs).logits for batch in (forget, retain)]
        soft = gumbel_softmax(keys[1], before[0], epoch.temperature)
        drawn = jax.random.categorical(keys[2], before[1], axis=-1)
        hard = jax.nn.one_hot(drawn, held.logits.shape[-1], dtype=held.logits.dtype)
        share = forget.weight.shape[0] / (forget.weight.shape[0] + retain.weight.shape[0])
        away, near = cross_entropy(soft, lost, forget.weight), cross_entropy(hard, held.logits, retain.weight)
        return share * away + (1.0 - share) * near, state

    step = gradient_method(optimizer, loss).update

    def fit(key, trained, batches):
        moved, value = step(key, trained, batches)
        kept = tree_select(trained.extra.ended, trained[:3], moved[:3])
        return Trained(*kept, extra=trained.extra), value

    return phased_method(init, [look, lead, fit])


def begin(context: Context, static: dict, start: Variables) -> tuple[Variables, tuple[float, float]]:
    """Add each member's reference accuracy, (N,)."""
    targets, logits = np.asarray(context.stored.targets), np.asarray(context.predict(start))
    unseen = []
    for i, (rows, kept, heldout) in enumerate(zip(context.requested, context.kept, context.heldout)):
        if not len(heldout):
            raise InputError("lotus compares itself with held-out examples and there are none: hold some out.")
        right = np.mean(logits[i, heldout].argmax(axis=-1) == targets[heldout])
        unseen.append(right * (np.isin(targets[rows], targets[kept]).mean() if len(rows) else 1.0))
    return start | {"unseen": np.asarray(unseen, np.float32)}, (0.0, 0.0)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """Each of ``epochs``: a forward pass over the request, then the mixture by `bad_teacher`'s batches."""
    mixture = bad_teacher.plan(sizes, static | {"epochs": 1}, recipe)
    scan = passes(sizes.forget, mixture.forget_batch)
    return phased_plan(
        np.tile([LOOK] * scan + [LEAD] + [FIT] * mixture.steps, static["epochs"]),
        forget_batch=mixture.forget_batch,
        retain_batch=mixture.retain_batch,
        forget_cost=(FORWARD, 0.0, 1.0 + FORWARD),
        retain_cost=(0.0, 0.0, 1.0 + FORWARD),
        forget_pass=scan,
    )


ENTRY = MethodSpec(
    name="lotus",
    paper="Spartalis et al. 2025, arXiv 2503.18314 (LoTUS)",
    rule="distil the original, on the request at a temperature set by its accuracy against that on unseen data",
    needs=frozenset({"forget", "retain", "teacher", "heldout"}),
    build=build,
    plan=plan,
    numeric={"lr": 0.001, "alpha": 8.0, "patience": 0.01, "weight_decay": 5e-4},
    static={"epochs": 10, "batch": 128, "retain_share": 0.3, "optimizer": "adam", "momentum": 0.9},
    presets={
        "small": TUNED,
        "small_conv": ({"lr": 5e-4}, MILDER),
        "small_transformer": ({"lr": 3e-4}, MILDER),
        "small_text": ({"lr": 3e-4}, RULE),
        "cifar": (
            {"lr": 1e-4, "alpha": 8.0},
            "the authors' code for ResNet-18 on CIFAR-10: 10 epochs at 1e-4, alpha 8; batches of 128",
        ),
    },
    notes="looks at held-out labels to set the temperature; ends by itself",
    begin=begin,
    space=(RATE, Span("alpha", 0.3, 3.0)),
)

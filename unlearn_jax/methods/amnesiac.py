"""Amnesiac unlearning: keep a log of training updates, subtract those of batches that held the request, repair.

Graves et al. 2021 (arXiv 2010.10981). The protocol trains its own originals by the recipe and keeps, for each member,
the sum of parameter updates of all batches with a requested example; unlearning subtracts the sum, then fine-tunes for
``epochs`` passes over the retained data. Where nearly every batch holds a requested example (30 of 1,200 in batches of
128), subtracting undoes nearly all of training: the method was made for rare, local requests, and the repair, which
then has to train anew, is at a rate of training. Training mode throughout; running batch statistics are not subtracted:
they keep what they know of the request but for what the repair overwrites.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.data.augment import augmentation
from unlearn_jax.methods import retrain
from unlearn_jax.methods.support.common import (
    BOTH,
    EARLIER,
    RATE,
    TUNED,
    Context,
    MethodSpec,
    Recipe,
    TrainSpec,
    bind_shared,
    descent,
    gradient_method,
    retained_loss,
)
from unlearn_jax.population.plans import Plan, Sizes, epochs_over_retained
from unlearn_jax.population.program import Fold
from unlearn_jax.trees import tree_add, tree_scale
from unlearn_jax.types import Method, Variables


def logged_training(problem: TrainSpec, hp: dict) -> Method:
    """Training from scratch, less the logged updates at its end; starts from {"request": (n,) 0 or 1 a row}."""
    fold = retrain.build(problem, {}, hp)

    def init(key, variables):
        trained = fold.init(key, variables)
        zero = jax.tree.map(jnp.zeros_like, trained.params)
        return {"trained": trained, "log": zero, "request": variables["request"]}

    def update(key, state, batches):
        trained, value = fold.update(key, state["trained"], batches)
        live = batches.retain.weight > 0
        held = jnp.max(jnp.where(live, state["request"][batches.retain.index], 0.0))
        moved = tree_scale(tree_add(trained.params, state["trained"].params, -1.0), held)
        return state | {"trained": trained, "log": tree_add(state["log"], moved)}, value

    def end(state):
        params = tree_add(state["trained"].params, state["log"], -1.0)
        return {"params": params, "state": state["trained"].state}

    return Method(init, update, end)


@functools.lru_cache(maxsize=16)
def _training(problem: TrainSpec) -> Fold:
    build = lambda hp, shared: logged_training(bind_shared(problem, shared), hp)
    return Fold(build, augmentation(problem.recipe.augment))


def begin(context: Context, static: dict, start: Variables) -> tuple[Variables, tuple[float, float]]:
    """Train with the log and subtract it; neither costs gradient evaluations at the time of the request."""
    request = np.zeros((len(context.kept), context.stored.targets.shape[0]), np.float32)
    for row, rows in zip(request, context.requested):
        row[rows] = 1.0
    _, plan, numeric = context.training
    fold = _training(context.problem)
    role = "amnesiac_original"
    return context.train(role, fold, plan, context.everything, start={"request": request}, hp=numeric), (0.0, 0.0)


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """The repair: descent on the retain stream."""
    loss = retained_loss(problem)

    return gradient_method(descent(static, hp), loss)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """``epochs`` passes over the retained data."""
    return epochs_over_retained(sizes, static)


ENTRY = MethodSpec(
    name="amnesiac",
    paper="Graves et al. 2021, arXiv 2010.10981",
    rule="subtract the logged updates of batches that held the request, then repair on the retained data",
    needs=frozenset({"forget", "retain", "protocol", "fresh_init"}),
    build=build,
    plan=plan,
    numeric={"lr": 0.1, "weight_decay": 5e-4},
    static={"epochs": 5, "batch": 128, "optimizer": "sgd", "momentum": 0.9},
    presets={
        "small": TUNED,
        "small_conv": ({"lr": 0.03}, EARLIER),
        "small_transformer": ({"lr": 3e-3, "optimizer": "adam"}, EARLIER),
        "small_text": TUNED,
        "cifar": ({"lr": 0.01}, "ours: the paper repairs for a few epochs at the training rate"),
        "language": (
            {"lr": 1e-3, "weight_decay": 0.0, "batch": 32, "optimizer": "adam"},
            "ours: a rate of training, since little may be left after the subtraction",
        ),
    },
    notes="the log is kept as one sum; trained by the recipe in a run of its own",
    begin=begin,
    reads=BOTH,
    space=(RATE,),
)

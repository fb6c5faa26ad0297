"""Random label: fit wrong labels on the request and true labels on the retained data.

Graves et al. 2021 (arXiv 2010.10981, as a baseline) and Golatkar et al. 2020; the published code differs in two
details, both offered here. ``redraw=False``: each example's wrong label is drawn once (the SSD comparison);
``redraw=True``: at every update (the SalUn comparison). ``allow_true=False``: the drawn label differs from the true
one; ``True``: it may equal it (SalUn). Loss: ``l(F, random) + retain_weight l(R, true)``; batch statistics in
training mode on the retained batch, evaluation mode on the request.
"""

from __future__ import annotations

from collections.abc import Callable

import jax

from unlearn_jax.methods.common import LANGUAGE, Entry, Problem, Recipe, descent, gradient_method, mean_loss
from unlearn_jax.population.plans import Plan, Sizes, passes, uniform_plan
from unlearn_jax.types import Array, Batch, Method


def wrong_labels(key: Array, batch: Batch, num_classes: int, allow_true: bool) -> Array:
    """A label per example that depends on the key and the example's row alone; (B,) in the targets' dtype."""
    keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(batch.index)
    if allow_true:
        return jax.vmap(lambda k: jax.random.randint(k, (), 0, num_classes))(keys).astype(batch.targets.dtype)
    shift = jax.vmap(lambda k: jax.random.randint(k, (), 1, num_classes))(keys).astype(batch.targets.dtype)
    return (batch.targets + shift) % num_classes


def relabelled_loss(problem: Problem, static: dict, hp: dict, kept_key) -> Callable:
    """The loss ``l(F, random) + retain_weight l(R, true)``; ``kept_key`` finds the kept key's data in the state."""

    def loss(params, trained, batches, key):
        variables = {"params": params, "state": trained.state}
        drawn = key if static["redraw"] else jax.random.wrap_key_data(kept_key(trained))
        labels = wrong_labels(jax.random.fold_in(drawn, 7), batches.forget, problem.num_classes, static["allow_true"])
        forget, _ = mean_loss(problem, variables, batches.forget._replace(targets=labels), None, train=False)
        retain, state = mean_loss(problem, variables, batches.retain, jax.random.fold_in(key, 8), train=True)
        return forget + hp["retain_weight"] * retain, state

    return loss


def build(problem: Problem, static: dict, hp: dict) -> Method:
    """Descent on random labels for F and true labels for R."""
    keep_key = lambda key, variables: jax.random.key_data(key)
    loss = relabelled_loss(problem, static, hp, lambda trained: trained.extra)
    return gradient_method(descent(static, hp), loss, extra=keep_key)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """``epochs`` passes over the retained data, the request cycled beside them."""
    steps = static["epochs"] * passes(sizes.retain, static["batch"])
    return uniform_plan(steps, forget_batch=min(static["batch"], max(sizes.forget, 1)), retain_batch=static["batch"])


ENTRY = Entry(
    name="random_label",
    paper="Golatkar et al. 2020, arXiv 1911.04933; Graves et al. 2021, arXiv 2010.10981",
    rule="SGD on wrong labels for the request and true labels for the retained data",
    needs=frozenset({"forget", "retain"}),
    build=build,
    plan=plan,
    numeric={"lr": 0.01, "retain_weight": 1.0, "weight_decay": 5e-4},
    static={"epochs": 10, "batch": 128, "optimizer": "sgd", "momentum": 0.9, "redraw": False, "allow_true": False},
    presets={
        "cifar": ({"lr": 0.013}, "10 epochs of SGD at .013 to .1 in the SalUn comparison"),
        "language": LANGUAGE,
    },
)

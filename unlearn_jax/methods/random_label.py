"""Random label: fit wrong labels on the request, then true labels on the retained data, pass by pass.

Graves et al. 2021 (arXiv 2010.10981, as a baseline) and Golatkar et al. 2020, in the order of SalUn's public code:
every epoch is a pass over the request that descends ``l(F, random)``, then one over the retained data that descends
``retain_weight l(R, true)``, so that each requested example is shown once an epoch. Both passes are exact and share
one optimizer. The published code differs in two details, both offered here. ``redraw=False``: each example's wrong
label is drawn once (the SSD comparison); ``redraw=True``: at every showing (SalUn). ``allow_true=False``: the drawn
label differs from the true one; ``True``: it may equal it (SalUn). Variant: batch statistics in training mode on the
retained batch, evaluation mode on the request.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np

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
    mean_loss,
    phased_method,
)
from unlearn_jax.population.plans import Plan, Sizes, passes, phased_plan, request_batch
from unlearn_jax.types import Array, Batch, Method

WRONG, TRUE = 0, 1


def wrong_answers(key: Array, batch: Batch, num_classes: int, allow_true: bool, swap: Callable | None) -> Batch:
    """The batch with `wrong_labels`; ``swap``, a task's own, keeps an answer of language among the true one's like."""
    if swap is None:
        return batch._replace(targets=wrong_labels(key, batch, num_classes, allow_true))
    keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(batch.index)
    least = 0 if allow_true else 1
    return swap(batch, jax.vmap(lambda k: jax.random.randint(k, (), least, num_classes))(keys))


def wrong_labels(key: Array, batch: Batch, num_classes: int, allow_true: bool) -> Array:
    """A label per example that depends on the key and the example's row alone; (B,) in the targets' dtype."""
    keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(batch.index)
    if allow_true:
        return jax.vmap(lambda k: jax.random.randint(k, (), 0, num_classes))(keys).astype(batch.targets.dtype)
    shift = jax.vmap(lambda k: jax.random.randint(k, (), 1, num_classes))(keys).astype(batch.targets.dtype)
    return (batch.targets + shift) % num_classes


def label_losses(problem: TrainSpec, static: dict, hp: dict, kept_key: Callable) -> tuple[Callable, Callable]:
    """The losses ``l(F, random)`` and ``retain_weight l(R, true)``; ``kept_key(state)`` is the kept key's data."""

    def wrong(params, trained, batches, key):
        drawn = key if static["redraw"] else jax.random.wrap_key_data(kept_key(trained))
        kinds = problem.num_classes, static["allow_true"], problem.task.swap
        batch = wrong_answers(jax.random.fold_in(drawn, 7), batches.forget, *kinds)
        student = {"params": params, "state": trained.state}
        return mean_loss(problem, student, batch, None, train=False)[0], trained.state

    def true(params, trained, batches, key):
        student = {"params": params, "state": trained.state}
        value, state = mean_loss(problem, student, batches.retain, jax.random.fold_in(key, 8), train=True)
        return hp["retain_weight"] * value, state

    return wrong, true


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Descent on random labels of F and on true labels of R, in turn."""
    losses = label_losses(problem, static, hp, lambda trained: trained.extra)
    keep_key = lambda key, variables: jax.random.key_data(key)
    folds = [gradient_method(descent(static, hp), loss, extra=keep_key) for loss in losses]
    return phased_method(folds[0].init, [fold.update for fold in folds])


def epoch_passes(sizes: Sizes, static: dict) -> tuple[int, int]:
    """Updates of one pass over the request and of one over the retained data."""
    return passes(sizes.forget, request_batch(sizes, static["batch"])), passes(sizes.retain, static["batch"])


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """``epochs`` times an exact pass over the request and one over the retained data."""
    of_forget, of_retain = epoch_passes(sizes, static)
    return phased_plan(
        np.tile(np.repeat([WRONG, TRUE], [of_forget, of_retain]), static["epochs"]),
        forget_batch=request_batch(sizes, static["batch"]),
        retain_batch=static["batch"],
        forget_cost=(1.0, 0.0),
        retain_cost=(0.0, 1.0),
        forget_pass=of_forget,
        retain_pass=of_retain,
    )


ENTRY = MethodSpec(
    name="random_label",
    paper="Golatkar et al. 2020, arXiv 1911.04933; Graves et al. 2021, arXiv 2010.10981",
    rule="every epoch a pass over the request with wrong labels, then one over the retained data with true ones",
    needs=frozenset({"forget", "retain"}),
    build=build,
    plan=plan,
    numeric={"lr": 1e-4, "retain_weight": 1.0, "weight_decay": 5e-4},
    static={
        "epochs": 10,
        "batch": 128,
        "optimizer": "sgd",
        "momentum": 0.9,
        "redraw": False,
        "allow_true": False,
    },  # fmt: skip
    presets={
        "small": TUNED,
        "small_conv": ({"lr": 0.002}, RULE),
        "small_transformer": ({"lr": 3e-3, "optimizer": "adam"}, EARLIER),
        "small_text": ({"lr": 2e-4, "optimizer": "adam"}, RULE),
        "cifar": (
            {"lr": 0.1, "batch": 256, "redraw": True, "allow_true": True},
            "the RUM comparison's: 10 epochs of SGD at .1 in batches of 256, labels as in SalUn's code",
        ),
        "language": LANGUAGE,
    },
    reads=BOTH,
    space=(RATE, Span("retain_weight", 0.3, 3.0)),
)

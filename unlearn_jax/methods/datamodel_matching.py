"""Datamodel matching: predict the logits of a retrained model from datamodels, then fit them.

Georgiev et al. 2024 (arXiv 2410.23232), with datamodels of Ilyas et al. 2022 (arXiv 2202.00622): the logits of x are
linear in which examples were trained on, ``z(x) = z0(x) + sum_i theta_i(x)``; removing F predicts ``z(x) - sum over F
of theta_i(x)``, which the student then fits as in oracle matching. Variant: theta is estimated for the request's
examples alone, by ridge regression over ``models`` trainings on all retained data and a random half of the request;
one set of models serves all members with the same request. What it imitates is `retrain`, which bounds it: only oracle
matching, which is shown what the oracle outputs, is an upper bound of the methods.
"""

from __future__ import annotations

import numpy as np

from unlearn_jax.methods.oracle_matching import build, plan
from unlearn_jax.methods.support.common import FORGET_WEIGHT, LANGUAGE, RATE, Context, MethodSpec
from unlearn_jax.types import Variables


def removal_effect(masks: np.ndarray, outputs: np.ndarray, ridge: float) -> np.ndarray:
    """What leaving out every example changes, by linear datamodels.

    Args:
        masks: (M, F) 1 where model m was trained on example f.
        outputs: (M, ...) outputs of model m.
        ridge: penalty, as a share of the mean squared norm of the centred masks' columns.

    Returns:
        (...) sum over the F examples of their estimated effects.
    """
    centred = masks - masks.mean(axis=0)
    gram = centred.T @ centred
    gram += ridge * np.trace(gram) / len(gram) * np.eye(len(gram))
    flat = outputs.reshape(len(outputs), -1)
    summed = np.linalg.lstsq(gram, np.ones(len(gram)), rcond=None)[
        0
    ]  # (X'X)^-1 is symmetric: 1' theta = (X (X'X)^-1 1)' y
    return ((centred @ summed) @ (flat - flat.mean(axis=0))).reshape(outputs.shape[1:])


def begin(context: Context, static: dict, start: Variables) -> tuple[Variables, tuple[float, float]]:
    """Train the datamodels of each distinct request and keep the predicted logits on every row (N, n, K)."""
    logits = np.asarray(context.predict(start), np.float32)
    fold, plan, numeric = context.training
    target, requests = logits.copy(), {}
    for i, rows in enumerate(context.requested):
        if len(rows):
            requests.setdefault((tuple(rows), tuple(context.kept[i])), []).append(i)
    for number, ((requested, kept), members) in enumerate(requests.items()):
        rng = np.random.default_rng([context.seed, number, 11])
        masks = rng.permuted(np.arange(static["models"])[:, None] % 2 == np.zeros(len(requested)), axis=0)
        requested, kept = np.asarray(requested, np.int32), np.asarray(kept, np.int32)
        rows = [np.sort(np.concatenate([kept, requested[mask]])) for mask in masks]
        trained = context.train(f"datamodel{number}", fold, plan, rows, hp=numeric)
        outputs = np.asarray(context.predict(trained), np.float32)
        target[members] -= removal_effect(masks.astype(np.float32), outputs, static["ridge"])
    models = static["models"] * len(requests) / len(logits)
    return start | {"target": target}, (0.0, models * plan.grad_evals_retain)


ENTRY = MethodSpec(
    name="datamodel_matching",
    paper="Georgiev et al. 2024, arXiv 2410.23232; Ilyas et al. 2022, arXiv 2202.00622",
    rule="fit the logits that datamodels predict for a model without the request",
    needs=frozenset({"forget", "retain", "reference"}),
    build=build,
    plan=plan,
    numeric={"lr": 1e-3, "forget_weight": 1.0, "weight_decay": 0.0},
    static={"epochs": 10, "batch": 128, "models": 128, "ridge": 0.1, "optimizer": "adam", "momentum": 0.9},
    presets={
        "small": ({}, "ours: Adam at 1e-3; not tuned"),
        "cifar": ({"lr": 5e-4}, "ours; the paper uses tens of thousands of models"),
        "language": LANGUAGE,
    },
    notes="imitates retraining, so bounded by `retrain`: no upper bound; datamodels of the request's examples alone; "
    "its cost includes a share of their training, which a budget leaves out",
    begin=begin,
    space=(RATE, FORGET_WEIGHT),
)

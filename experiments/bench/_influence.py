"""Times of the influence estimators on digits, on one core; called by speed.py --influence."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from _timing import timed

REPEATS = 5
TRAIN, QUERIES, L2 = 500, 100, 1e-2


class Case(NamedTuple):
    """One estimator at one size."""

    name: str
    size: str
    limit: float  # seconds that it is meant to take at most, NaN = none
    call: Callable[[], object]


def one_core() -> None:
    """Keep this process, and the threads that JAX will start, on one core; call before JAX starts."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def digits() -> tuple[np.ndarray, np.ndarray]:
    """All 1,797 standardised digits (n, 64) in a random order, and labels."""
    from sklearn.datasets import load_digits

    inputs, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(inputs))
    x = (inputs[order] - inputs.mean(axis=0)) / inputs.std()
    return x.astype(np.float32), labels[order].astype(np.int32)


def cases() -> list[Case]:
    """Every estimator with its models, trained beforehand."""
    import jax
    import jax.numpy as jnp

    from unlearn_jax import influence as of
    from unlearn_jax.models import build_model
    from unlearn_jax.tasks import classification

    x, y = digits()
    train, queries = (
        of.batch_of(x[:TRAIN], y[:TRAIN]),
        of.batch_of(x[TRAIN : TRAIN + QUERIES], y[TRAIN : TRAIN + QUERIES]),
    )
    ones = lambda a: np.concatenate([a, np.ones((len(a), 1))], axis=1)
    fit = of.logistic_fit(ones(x[:TRAIN]), y[:TRAIN], l2=L2)
    softmax, task = build_model("linear", 10, (64,)), classification()
    head = {"kernel": jnp.asarray(fit[:-1], jnp.float32), "bias": jnp.asarray(fit[-1], jnp.float32)}
    flat = {"params": {"head": head}, "state": {}}
    network, problem, data = _network(x, y)
    deep = jax.tree.map(lambda v: v[0], of.train_subsets(problem, data, np.ones((1, len(y)), bool)).variables)
    masks = of.subset_masks(len(y), 64)
    exact = {"labels": "exact", "l2": L2}
    on = lambda function, model, variables, **how: (
        lambda: jax.block_until_ready(function(model, task, variables, train, queries, **how))
    )
    size = f"{TRAIN} x {QUERIES}"
    return [
        Case("influence, exact", f"{size}, softmax regression, 650 weights", 0.3,
             on(of.influence, softmax, flat, l2=L2, damping=0.0)),
        Case("influence, CG", f"{size}, softmax regression", np.nan,
             on(of.influence, softmax, flat, l2=L2, damping=0.0, solver="cg")),
        Case("EK-FAC", f"{size}, softmax regression", 0.3, on(of.ekfac_influence, softmax, flat, **exact)),
        Case("EK-FAC", f"{size}, MLP 64-64-10", 0.3, on(of.ekfac_influence, network, deep, **exact)),
        Case("EK-FAC, sampled labels", f"{size}, MLP 64-64-10", np.nan, on(of.ekfac_influence, network, deep, l2=L2)),
        Case("TRAK", f"{size}, softmax regression", 0.06, on(of.trak, softmax, flat)),
        Case("TRAK", f"{size}, MLP 64-64-10", np.nan, on(of.trak, network, deep)),
        Case("gradient products", f"{size}, MLP 64-64-10", np.nan, on(of.gram, network, deep)),
        Case("64 MLPs on random halves", "64-64-10, 30 epochs of 898 digits", 2.5,
             lambda: of.train_subsets(problem, data, masks)),
    ]  # fmt: skip


def _network(x: np.ndarray, y: np.ndarray):
    """A small perceptron, its problem (30 epochs of half the digits, batches of 64), and the digits."""
    import jax
    import jax.numpy as jnp

    from unlearn_jax.methods.support.common import Recipe, TrainSpec
    from unlearn_jax.models import build_model
    from unlearn_jax.population.run import Stored
    from unlearn_jax.tasks import classification

    model = build_model("mlp", 10, (64,), widths=(64,))
    recipe = Recipe(steps=round(30 * (len(y) // 2) / 64), batch=64, lr=2e-3)
    problem = TrainSpec(model, classification(), jax.ShapeDtypeStruct((1, 64), jnp.float32), 10, recipe)
    return model, problem, Stored(jnp.asarray(x), jnp.asarray(y))


def measure() -> list[dict]:
    """Time every case and print a line each; the rows."""
    rows = []
    print(f"{'estimator':<26} {'train x queries':<44} {'first s':>8} {'then s':>8} {'meant to be under':>18}")
    for case in cases():
        first, seconds = timed(case.call, REPEATS)
        limit = "" if np.isnan(case.limit) else f"{case.limit:.2f}"
        print(f"{case.name:<26} {case.size:<44} {first:>8.2f} {seconds:>8.3f} {limit:>18}", flush=True)
        rows.append({"estimator": case.name, "size": case.size, "first_seconds": first, "seconds": seconds})
    return rows

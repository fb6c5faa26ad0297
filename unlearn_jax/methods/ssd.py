"""SSD: dampen the weights that matter more to the request than to the training data.

Foster et al. 2024 (arXiv 2308.07707). Importance I = mean over examples of the *per-example* squared gradient of the
loss (the public code squares batch means, which depends on batch size and order). Where I_F > alpha I_D, a weight is
multiplied by min(lambda I_D / I_F, 1); D is all training data, the request included. No training. As the request is a
part of D, N I_D >= n_F I_F: no weight can have I_F / I_D above N / n_F, so an ``alpha`` of that size or more changes
nothing, whatever the model (30 of 1,200: 40; a tenth of the data: 10, which is the published alpha, for squares of
batch means), and near copies that stay bring the ratios down further. An ``alpha`` of 0, the default, therefore stands
for ``1 + level (N / n_F - 1)``: at a ``level`` of 0 every weight that matters more to the request than to all data is
dampened, at 1 none. Larger ones of N / n_F or more are refused. Batch statistics in evaluation mode and unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.methods.support.common import BOTH, RULE, TUNED, MethodSpec, Recipe, Span, TrainSpec, phased_method
from unlearn_jax.methods.support.parts import loss_gradient, sum_over_examples, summed_loss, zeros_like
from unlearn_jax.population.plans import Plan, Sizes, passes, phased_plan
from unlearn_jax.trees import tree_add
from unlearn_jax.types import Array, Batch, Method, PyTree, Variables

FORGET, RETAIN = 0, 1


class Importance(NamedTuple):
    """Sums over examples of each weight's importance."""

    variables: Variables
    forget: PyTree
    retain: PyTree
    counts: Array  # (2,) examples summed, of F and of R


def dampened(params: PyTree, forget: PyTree, full: PyTree, alpha: Array | float, scale: Array | float) -> PyTree:
    """Weights after dampening by mean importances on the request and on all data (equation 4 of the paper)."""

    def one(w, f, d):
        return jnp.where(f > alpha * d, jnp.minimum(scale * d / jnp.where(f > 0, f, 1.0), 1.0), 1.0) * w

    return jax.tree.map(one, params, forget, full)


def threshold(hp: dict, count_forget: Array | float, count_all: Array | float) -> Array | float:
    """alpha: as given, or where it is 0 by the size of the request; see above."""
    return jnp.where(hp["alpha"] > 0, hp["alpha"], 1.0 + hp["level"] * (count_all / count_forget - 1.0))


def check(sizes: Sizes, static: dict, hp: dict) -> None:
    """Raise `InputError` for an ``alpha`` at which no weight of any model can change, and a level outside [0, 1)."""
    most = (sizes.forget + sizes.retain) / max(sizes.forget, 1)
    if sizes.forget and hp["alpha"] >= most:
        raise InputError(
            f"alpha is {hp['alpha']:g} and no weight can matter more to {sizes.forget:,} of "
            f"{sizes.forget + sizes.retain:,} examples than {most:.4g} times what it matters to all: "
            "give less, or 0 for an alpha by the size of the request."
        )
    if hp["alpha"] == 0 and not 0 <= hp["level"] < 1:
        raise InputError(f"level is {hp['level']:g}: give 0 or more and less than 1.")


def importance_fold(problem: TrainSpec, static: dict, hp: dict, one: Callable[[Variables, Batch], PyTree]) -> Method:
    """Sum ``one(variables, example)`` over both sets, then dampen."""

    def init(key, variables):
        zero = zeros_like(variables["params"])
        return Importance(variables, zero, zero, jnp.zeros(2))

    def gather(part, state, batch):
        added = sum_over_examples(lambda example: one(state.variables, example), batch, static["micro"])
        total = {part: tree_add(getattr(state, part), added)}
        counts = state.counts.at[FORGET if part == "forget" else RETAIN].add(batch.weight.sum())
        return state._replace(counts=counts, **total), summed_loss(problem, state.variables, batch)

    def end(state):
        of_forget, of_all = jnp.maximum(state.counts[0], 1.0), jnp.maximum(state.counts.sum(), 1.0)
        forget = jax.tree.map(lambda x: x / of_forget, state.forget)
        full = jax.tree.map(lambda f, r: (f + r) / of_all, state.forget, state.retain)
        alpha = threshold(hp, of_forget, of_all)
        return state.variables | {"params": dampened(state.variables["params"], forget, full, alpha, hp["scale"])}

    branches = [
        lambda key, state, batches: gather("forget", state, batches.forget),
        lambda key, state, batches: gather("retain", state, batches.retain),
    ]
    return phased_method(init, branches, end)


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Importance by squared gradients of the loss."""

    def squared(variables, example):
        return jax.tree.map(jnp.square, loss_gradient(problem, variables, example._replace(weight=jnp.ones(1))))

    return importance_fold(problem, static, hp, squared)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """One exact pass over the request and one over the retained data."""
    batch = min(static["batch"], max(sizes.forget, 1))
    scans = passes(sizes.forget, batch), passes(sizes.retain, static["batch"])
    return phased_plan(
        np.repeat([FORGET, RETAIN], scans),
        forget_batch=batch,
        retain_batch=static["batch"],
        forget_cost=(1.0, 0.0),
        retain_cost=(0.0, 1.0),
        forget_pass=scans[0],
        retain_pass=scans[1],
    )


ENTRY = MethodSpec(
    name="ssd",
    paper="Foster et al. 2024, arXiv 2308.07707 (SSD)",
    rule="dampen weights whose Fisher importance for the request exceeds alpha times that for all data",
    needs=frozenset({"forget", "retain"}),
    build=build,
    plan=plan,
    numeric={"alpha": 0.0, "level": 0.25, "scale": 1.0},
    static={"batch": 128, "micro": 0},
    batch_stats="none",
    presets={
        "small": TUNED,
        "small_conv": ({"level": 0.5}, RULE),
        "small_transformer": ({"level": 0.8}, RULE),
        "small_text": TUNED,
        "cifar": ({}, "ours, as small: the paper's alpha of 10 is for squares of batch means; lambda 1 as published"),
        "language": ({}, "as for images; no published setting"),
    },
    notes="per-example squared gradients; one shot; alpha by the size of the request",
    check=check,
    reads=BOTH,
    space=(Span("level", 0.1, 3.0), Span("scale", 0.3, 3.0)),
)

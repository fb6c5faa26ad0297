"""First-order update of Warnecke et al.: step along the difference of gradients that a change of the data makes.

Warnecke et al. 2023 (arXiv 2108.11577): ``w -= tau sum over F of (grad l(new) - grad l(old))``. ``change=relabel``: the
new example has another label, drawn once (the paper corrects labels and features); ``change=delete``: there is no new
example, a single ascent step. Batch statistics in evaluation mode and unchanged.
"""

from __future__ import annotations

from typing import NamedTuple

import jax

from unlearn_jax.errors import choose
from unlearn_jax.methods.random_label import wrong_answers
from unlearn_jax.methods.support.common import (
    BOTH,
    EARLIER,
    RULE,
    TUNED,
    MethodSpec,
    Recipe,
    Span,
    TrainSpec,
    phased_method,
)
from unlearn_jax.methods.support.parts import loss_gradient, summed_loss, zeros_like
from unlearn_jax.population.plans import Plan, Sizes, passes, uniform_plan
from unlearn_jax.trees import tree_add
from unlearn_jax.types import Array, Batch, Method, PyTree, Variables

CHANGES = ("relabel", "delete")


class Gathered(NamedTuple):
    """Sum over the request of the gradients' difference, old - new."""

    variables: Variables
    sum: PyTree
    key: Array


def gradient_change(problem: TrainSpec, variables: Variables, batch: Batch, key: Array, change: str) -> PyTree:
    """Sum over a batch of grad l(old) - grad l(new); ``key`` is key data, by which the new labels are drawn once."""
    old = loss_gradient(problem, variables, batch)
    if change == "delete":
        return old
    drawn = jax.random.wrap_key_data(key)
    new = wrong_answers(drawn, batch, problem.num_classes, False, problem.task.swap)
    return tree_add(old, loss_gradient(problem, variables, new), -1.0)


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Gather the difference over one pass, then step."""
    choose("change", static["change"], CHANGES)

    def init(key, variables):
        return Gathered(variables, zeros_like(variables["params"]), jax.random.key_data(key))

    def gather(key, state, batches):
        moved = gradient_change(problem, state.variables, batches.forget, state.key, static["change"])
        return state._replace(sum=tree_add(state.sum, moved)), summed_loss(problem, state.variables, batches.forget)

    def end(state):
        return state.variables | {"params": tree_add(state.variables["params"], state.sum, hp["tau"])}

    return phased_method(init, [gather], end)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """One exact pass over the request."""
    batch = min(static["batch"], max(sizes.forget, 1))
    scan = passes(sizes.forget, batch)
    scan_plan = uniform_plan(scan, forget_batch=batch, forget_cost=2.0 if static["change"] == "relabel" else 1.0)
    return scan_plan._replace(forget_pass=scan)


ENTRY = MethodSpec(
    name="warnecke_first",
    paper="Warnecke et al. 2023, arXiv 2108.11577 (first order)",
    rule="one step along the gradient difference between corrected and original examples",
    needs=frozenset({"forget"}),
    build=build,
    plan=plan,
    numeric={"tau": 1e-4},
    static={"batch": 128, "change": "relabel"},
    batch_stats="none",
    presets={
        "small": TUNED,
        "small_transformer": ({"tau": 1e-3}, EARLIER),
        "small_conv": ({"tau": 3e-5}, RULE),
        "small_text": ({"tau": 3e-4}, RULE),
        "cifar": ({"tau": 1e-4}, "ours: the paper searches tau by trial"),
        "language": ({"tau": 1e-4, "batch": 32}, "ours: the paper searches tau by trial"),
    },
    notes="retain-free; one shot",
    reads=BOTH,
    space=(Span("tau"),),
)

"""What the arguments of `scores` and `group_influence` are checked for, and what is said when their programs fail."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.errors import InputError, choose
from unlearn_jax.influence.curvature import CURVATURES
from unlearn_jax.influence.per_example import flatten
from unlearn_jax.influence.score_programs import Amounts, Found, Plan, curvature_of, finite_rows
from unlearn_jax.influence.solvers import Solution, failure, indefinite, settings_of
from unlearn_jax.types import Array, Batch, Variables

HELD = 2**25  # numbers that right-hand sides may take at once


def known(value) -> bool:
    """Whether a value can be looked at: it is not traced."""
    return not isinstance(value, jax.core.Tracer)


def prepared(
    model,
    task,
    variables,
    train,
    *,
    solver,
    curvature,
    damping,
    relative_damping,
    l2,
    quantity,
    select,
    key,
    micro,
    options,
) -> tuple[Plan, Amounts]:
    """The plan and the amounts of checked arguments."""
    choose("quantity", quantity, ("loss", "margin"))
    choose("curvature", curvature, CURVATURES)
    valid = {"limit"} if solver == "explicit" else set(settings_of(solver)) - {"key"}
    for name in options:
        choose(f"setting of {solver}", name, valid)
    if not len(train.weight):
        raise InputError("the training batch has no rows: give the rows that the model was trained on.")
    dtype = flatten(variables, select).vector.dtype
    relative = relative_damping is not None
    amount = relative_damping if relative else damping
    if known(amount) and not (np.isfinite(amount) and amount >= 0 and not (relative and amount == 0)):
        raise InputError(f"damping is {amount}: give a number of at least 0 (a relative one above 0).")
    if known(l2) and not (np.isfinite(l2) and l2 >= 0):
        raise InputError(f"weight decay l2 is {l2}: give a number of at least 0.")
    leaves = jax.tree.leaves(variables["params"])
    if all(known(x) for x in leaves) and not all(np.isfinite(np.asarray(x)).all() for x in leaves):
        raise InputError("the parameters are not finite: the model has diverged; train it with a smaller rate.")
    plan = Plan(model, task, solver, curvature, quantity, select, relative, micro, tuple(sorted(options.items())))
    return plan, Amounts(jnp.asarray(amount, dtype), jnp.asarray(l2, dtype), key)


def pieces(batch: Batch, size: int) -> Iterator[tuple[Batch, int]]:
    """Batches of equal length, few enough rows that (P, rows) fits, and how many rows of each are new."""
    count = len(batch.weight)
    number = -(-count // max(1, HELD // size))
    length = -(-count // number)
    if number == 1:
        yield batch, count
        return
    for start in range(0, count, length):
        rows = np.minimum(np.arange(start, start + length), count - 1)
        yield jax.tree.map(lambda x, rows=rows: jnp.asarray(x)[rows], batch), min(length, count - start)


def explain(
    plan: Plan,
    variables: Variables,
    train: Batch,
    queries: Batch,
    found: Found,
    amounts: Amounts,
    masks: Array | None = None,
) -> None:
    """Raise the `InputError` that fits, where scores are not finite; nothing under `jit`."""
    if not known(found.scores) or np.isfinite(np.asarray(found.scores)).all():
        return
    for name, rows, quantity in (("training", train, "loss"), ("query", queries, plan.quantity)):
        bad = np.flatnonzero(~np.asarray(finite_rows(plan, quantity, variables, rows)))
        if bad.size:
            shown = ", ".join(map(str, bad[:5])) + (", ..." if bad.size > 5 else "")
            raise InputError(f"gradients of {name} rows {shown} are not finite: drop or repair these rows.")
    if plan.solver != "explicit":
        solution = Solution(None, found.residual, found.steps, found.converged, found.least)
        raise InputError(failure(plan.solver, solution))
    where = ""
    if masks is not None:
        first = int(np.flatnonzero(~np.asarray(found.converged))[0])
        where, weight = f"without group {first}, ", jnp.asarray(train.weight)
        train = train._replace(weight=weight * (1 - masks[first]).astype(weight.dtype))
    raise InputError(where + indefinite(curvature_of(plan, variables, train, amounts), found.damping))

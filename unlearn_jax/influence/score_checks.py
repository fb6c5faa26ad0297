"""What the arguments of `scores` and `group_influence` are checked for, and the messages when their programs fail."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import ScopeParamShapeError

from unlearn_jax.errors import InputError, choose
from unlearn_jax.influence.checks import check_targets, is_traced
from unlearn_jax.influence.curvature import CURVATURES
from unlearn_jax.influence.per_example import flatten
from unlearn_jax.influence.pieces import among
from unlearn_jax.influence.score_programs import Amounts, Plan, SolvedScores, curvature_of, finite_rows
from unlearn_jax.influence.solvers import Solution, failure, indefinite, settings_of
from unlearn_jax.influence.taps import tappable
from unlearn_jax.types import Array, Batch, Model, Variables

EKFAC = ("draws", "fit", "labels", "variant")  # settings of ekfac
HELD = 2**25  # numbers that right-hand sides may take at once


def prepared(model, task, variables, train, *, solver, options, select, key, micro, **amounts) -> tuple[Plan, Amounts]:
    """The plan and the amounts of checked arguments."""
    valid = {"limit"} if solver == "explicit" else set(settings_of(solver)) - {"key"}
    for name in options:
        choose(f"setting of {solver}", name, valid)
    options = tuple(sorted((name, _plain(name, value)) for name, value in options.items()))
    _checked(model, variables, train, **amounts)
    relative, l2 = amounts["relative_damping"] is not None, amounts["l2"]
    amount = amounts["relative_damping" if relative else "damping"]
    if solver != "explicit" and not is_traced(amount, l2) and amount == 0 and l2 == 0:
        raise InputError(
            f"damping and l2 are 0: {solver} cannot tell a singular curvature; give damping above 0, or take explicit."
        )
    chosen, dtype = _chosen(variables, select)
    plan = Plan(model, task, solver, amounts["curvature"], amounts["quantity"], chosen, relative, micro, options)
    return plan, Amounts(jnp.asarray(amount, dtype), jnp.asarray(l2, dtype), key)


def ekfac_settings(model, task, variables, train, *, options, select, key, micro, **amounts) -> dict[str, Any]:
    """What `ekfac` is called with, of checked arguments; ``select`` becomes a predicate of layers."""
    for name in options:
        choose("setting of ekfac", name, EKFAC)
    _checked(model, variables, train, **amounts)
    named = {name: amounts[name] for name in ("damping", "l2", "quantity")} | dict(key=key, micro=micro)
    if amounts["relative_damping"] is not None:
        named |= dict(damping=0.0, relative_damping=amounts["relative_damping"])
    chosen = _chosen(variables, select)[0]
    layers = None if chosen is None else among(_layers(model, variables, train, chosen))
    return options | named | dict(select=layers)


def _checked(model, variables, train, *, curvature, damping, relative_damping, l2, quantity) -> None:
    """Refuse arguments that no solver takes."""
    choose("quantity", quantity, ("loss", "margin"))
    choose("curvature", curvature, CURVATURES)
    if not len(train.weight):
        raise InputError("the training batch has no rows: give the rows that the model was trained on.")
    relative = relative_damping is not None
    amount = relative_damping if relative else damping
    if not is_traced(amount) and not (np.isfinite(amount) and amount >= 0 and not (relative and amount == 0)):
        raise InputError(f"damping is {amount}: give a number of at least 0 (a relative one above 0).")
    if not is_traced(l2) and not (np.isfinite(l2) and l2 >= 0):
        raise InputError(f"weight decay l2 is {l2}: give a number of at least 0.")
    leaves = jax.tree.leaves(variables["params"])
    if not is_traced(leaves) and not all(np.isfinite(np.asarray(x)).all() for x in leaves):
        raise InputError("the parameters are not finite: the model has diverged; train it with a smaller rate.")
    try:
        _logits(model).eval_shape(variables, jax.tree.map(lambda x: x[:1], train.inputs))
    except ScopeParamShapeError as error:
        raise InputError(
            "the parameters do not have the model's shapes for these inputs: of a population take one member's "
            f"variables (trees.take_members), or use jax.vmap. {error}"
        ) from None
    check_targets(model, variables, train)


@functools.lru_cache(maxsize=64)
def _logits(model: Model) -> Callable:
    return jax.jit(lambda variables, inputs: model.apply(variables, inputs, train=False)[0].logits)


def _plain(name: str, value):
    """A setting as a static number."""
    if is_traced(value):
        raise InputError(f"setting {name} is traced: programs are compiled for it, so give a plain number.")
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        if value.size != 1:
            raise InputError(f"setting {name} is an array {value.shape}: give one number.")
        return value.item()
    return value


def _chosen(variables: Variables, select: Callable[[str], bool] | None) -> tuple[tuple[str, ...] | None, jnp.dtype]:
    """The paths that ``select`` chooses (none = all), and their dtype."""
    paths = []
    if select is None:
        return None, flatten(variables).vector.dtype

    def look(path: str) -> bool:
        paths.extend([path] if select(path) else [])
        return path in paths

    vector = flatten(variables, look).vector
    return tuple(paths), vector.dtype


def _layers(model, variables, train, chosen: tuple[str, ...]) -> tuple[str, ...]:
    """The layers with factors of which all parameters are chosen; `InputError` where only some of a layer's are."""
    every = _chosen(variables, lambda path: True)[0] or ()
    layers = []
    for layer in tappable(model, variables, train):
        leaves = [path for path in every if path.rpartition("/")[0] == layer]
        if set(leaves) <= set(chosen):
            layers.append(layer)
        elif set(leaves) & set(chosen):
            raise InputError(
                f"select chooses some of {', '.join(leaves)}: ekfac takes whole layers, so choose all or none."
            )
    if not layers:
        raise InputError("select chooses no dense or convolutional layer: ekfac has no other parameters.")
    return tuple(layers)


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
    solved: SolvedScores,
    amounts: Amounts,
    masks: Array | None = None,
) -> None:
    """Raise the `InputError` that fits, where scores are not finite; nothing under `jit`."""
    if is_traced(solved.scores) or np.isfinite(np.asarray(solved.scores)).all():
        return
    for name, rows, quantity in (("training", train, "loss"), ("query", queries, plan.quantity)):
        bad = np.flatnonzero(~np.asarray(finite_rows(plan, quantity, variables, rows)))
        if bad.size:
            shown = ", ".join(map(str, bad[:5])) + (", ..." if bad.size > 5 else "")
            raise InputError(f"gradients of {name} rows {shown} are not finite: drop or repair these rows.")
    if plan.solver != "explicit":
        nothing = jnp.zeros((0, 0))  # its answer is not looked at
        solution = Solution(nothing, solved.residual, solved.steps, solved.converged, solved.least)
        raise InputError(failure(plan.solver, solution))
    where = ""
    if masks is not None:
        first = int(np.flatnonzero(~np.asarray(solved.converged))[0])
        where, weight = f"without group {first}, ", jnp.asarray(train.weight)
        train = train._replace(weight=weight * (1 - masks[first]).astype(weight.dtype))
    raise InputError(where + indefinite(curvature_of(plan, variables, train, amounts), solved.damping))

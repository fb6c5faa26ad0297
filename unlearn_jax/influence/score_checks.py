"""What the arguments of `scores` and `group_influence` are checked for, and what is said when their programs fail."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import ScopeParamShapeError
from jax.core import Tracer

from unlearn_jax.errors import InputError, choose
from unlearn_jax.influence.checks import check_targets
from unlearn_jax.influence.curvature import CURVATURES
from unlearn_jax.influence.per_example import flatten
from unlearn_jax.influence.score_programs import Amounts, Plan, SolvedScores, curvature_of, finite_rows
from unlearn_jax.influence.solvers import Solution, failure, indefinite, settings_of
from unlearn_jax.influence.taps import tappable
from unlearn_jax.types import Array, Batch, Model, Variables

EKFAC = ("draws", "fit", "labels", "variant")  # settings of ekfac
HELD = 2**25  # numbers that right-hand sides may take at once


def known(value) -> bool:
    """Whether a value can be looked at: it is not traced."""
    return not isinstance(value, Tracer)


def prepared(model, task, variables, train, *, solver, options, select, key, micro, **given) -> tuple[Plan, Amounts]:
    """The plan and the amounts of checked arguments."""
    valid = {"limit"} if solver == "explicit" else set(settings_of(solver)) - {"key"}
    for name in options:
        choose(f"setting of {solver}", name, valid)
    options = tuple(sorted((name, _plain(name, value)) for name, value in options.items()))
    _checked(model, variables, train, **given)
    relative, l2 = given["relative_damping"] is not None, given["l2"]
    amount = given["relative_damping" if relative else "damping"]
    if solver != "explicit" and known(amount) and known(l2) and amount == 0 and l2 == 0:
        raise InputError(
            f"damping and l2 are 0: {solver} cannot tell a singular curvature; give damping above 0, or take explicit."
        )
    chosen, dtype = _chosen(variables, select)
    plan = Plan(model, task, solver, given["curvature"], given["quantity"], chosen, relative, micro, options)
    return plan, Amounts(jnp.asarray(amount, dtype), jnp.asarray(l2, dtype), key)


def ekfac_settings(model, task, variables, train, *, options, select, key, micro, **given) -> dict[str, Any]:
    """What `ekfac` is called with, of checked arguments; ``select`` becomes a predicate of layers."""
    for name in options:
        choose("setting of ekfac", name, EKFAC)
    _checked(model, variables, train, **given)
    named = {name: given[name] for name in ("damping", "l2", "quantity")} | dict(key=key, micro=micro)
    if given["relative_damping"] is not None:
        named |= dict(damping=0.0, relative_damping=given["relative_damping"])
    chosen = _chosen(variables, select)[0]
    layers = None if chosen is None else _among(_layers(model, variables, train, chosen))
    return options | named | dict(select=layers)


def _checked(model, variables, train, *, curvature, damping, relative_damping, l2, quantity) -> None:
    """Refuse arguments that no solver takes."""
    choose("quantity", quantity, ("loss", "margin"))
    choose("curvature", curvature, CURVATURES)
    if not len(train.weight):
        raise InputError("the training batch has no rows: give the rows that the model was trained on.")
    relative = relative_damping is not None
    amount = relative_damping if relative else damping
    if known(amount) and not (np.isfinite(amount) and amount >= 0 and not (relative and amount == 0)):
        raise InputError(f"damping is {amount}: give a number of at least 0 (a relative one above 0).")
    if known(l2) and not (np.isfinite(l2) and l2 >= 0):
        raise InputError(f"weight decay l2 is {l2}: give a number of at least 0.")
    leaves = jax.tree.leaves(variables["params"])
    if all(known(x) for x in leaves) and not all(np.isfinite(np.asarray(x)).all() for x in leaves):
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
    """The model's logits, traced once for shapes."""
    return jax.jit(lambda variables, inputs: model.apply(variables, inputs, train=False)[0].logits)


def _plain(name: str, value):
    """A setting as a static number."""
    if not known(value):
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
        own = [path for path in every if path.rpartition("/")[0] == layer]
        if set(own) <= set(chosen):
            layers.append(layer)
        elif set(own) & set(chosen):
            raise InputError(
                f"select chooses some of {', '.join(own)}: ekfac takes whole layers, so choose all or none."
            )
    if not layers:
        raise InputError("select chooses no dense or convolutional layer: ekfac has no other parameters.")
    return tuple(layers)


@functools.lru_cache(maxsize=64)
def _among(layers: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether a layer is one of these; the same function for the same layers, by which programs are kept."""
    return lambda name: name in layers


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
    found: SolvedScores,
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
        nothing = jnp.zeros((0, 0))  # its answer is not looked at
        solution = Solution(nothing, found.residual, found.steps, found.converged, found.least)
        raise InputError(failure(plan.solver, solution))
    where = ""
    if masks is not None:
        first = int(np.flatnonzero(~np.asarray(found.converged))[0])
        where, weight = f"without group {first}, ", jnp.asarray(train.weight)
        train = train._replace(weight=weight * (1 - masks[first]).astype(weight.dtype))
    raise InputError(where + indefinite(curvature_of(plan, variables, train, amounts), found.damping))

"""Influence of whole groups of training rows, by one Newton step without them.

A sum of members' scores falls far short for a cluster of near-duplicates, which hold one another up (Koh et al. 2019,
arXiv 1905.13289, on groups). Here the group's own curvature is taken out before it is inverted:
``score[G, q] = g_q . (H_-G + d I)^-1 sum over G of w_i g_i``, ``H_-G = (1/n) sum over the others of w_i C_i + l2 I``:
a Newton step towards the model trained without the group, the normaliser kept; exact where the loss is quadratic.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from unlearn_jax.errors import InputError
from unlearn_jax.influence.checks import check_targets, is_traced
from unlearn_jax.influence.per_example import MICRO
from unlearn_jax.influence.score_checks import explain, prepared
from unlearn_jax.influence.score_programs import group_scores
from unlearn_jax.influence.scores import influence
from unlearn_jax.types import Array, Batch, Model, Task, Variables


def group_influence(
    model: Model,
    task: Task,
    variables: Variables,
    train: Batch,
    queries: Batch,
    groups,
    *,
    curvature_term: bool = True,
    solver: str = "explicit",
    curvature: str = "hessian",
    damping: Array | float = 1e-3,
    relative_damping: float | None = None,
    l2: Array | float = 0.0,
    quantity: str = "loss",
    select: Callable[[str], bool] | None = None,
    key: Array | None = None,
    micro: int = MICRO,
    **options,
) -> Float[Array, "groups q"]:
    """Influence of removing whole groups of training rows on every query, shape (groups, queries).

    Unit as in `influence`: positive = the group helped, score / n = the predicted rise of the query's loss in nats (or
    fall of its margin) when all of the group is removed and the normaliser n kept.

    Args:
        model: and the others as in `influence`.
        task: its task.
        variables: one member's.
        train: n rows with weights.
        queries: any rows.
        groups: a list of arrays of row positions, or a mask (G, n) of 0 and 1; a group without rows scores 0.
        curvature_term: take the group's own curvature out of H before inverting it: one Newton step towards the model
            trained without the group, exact for quadratic losses. False = the sum of the members' scores, which for a
            cluster of near-duplicates falls far short. It solves one system of equations for each group.
        solver: and the others as in `influence`; ``ekfac`` only for sums.
        curvature: of the rows that stay.
        damping: d, absolute.
        relative_damping: d as a share of the mean eigenvalue of the whole set's curvature.
        l2: weight decay.
        quantity: ``loss`` or ``margin``.
        select: restriction to parameters.
        key: random parts.
        micro: rows side by side.
        options: the solver's settings.

    Raises:
        InputError: as in `influence`, and groups that are not positions or masks of the training rows.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from unlearn_jax.influence.per_example import batch_of
        >>> from unlearn_jax.models import build_model
        >>> from unlearn_jax.tasks import classification
        >>> train = batch_of(jnp.array([[0.0], [1.0], [3.0], [3.0]]), jnp.array([0, 0, 1, 1]))
        >>> model = build_model("linear", 2, (1,))
        >>> variables = model.init(jax.random.key(0), train.inputs)
        >>> arguments = model, classification(), variables, train, train, [[2, 3]]
        >>> newton, plain = (group_influence(*arguments, curvature_term=c, l2=0.1) for c in (True, False))
        >>> bool(newton[0, 2] > 1.5 * plain[0, 2])  # a pair holds each other up
        True
    """
    named = dict(curvature=curvature, damping=damping, relative_damping=relative_damping, l2=l2, quantity=quantity)
    named |= dict(select=select, key=key, micro=micro)
    masks = _masks(groups, len(train.weight))
    if not curvature_term:
        scores = influence(model, task, variables, train, queries, solver=solver, **named, **options)
        return masks.astype(scores.dtype) @ scores
    if solver == "ekfac":
        raise InputError("solver 'ekfac' has no curvature to remove a group's from: give curvature_term=False.")
    plan, amounts = prepared(model, task, variables, train, solver=solver, **named, options=options)
    check_targets(model, variables, queries, "queries")
    if not (len(masks) and len(queries.weight)):
        return jnp.zeros((len(masks), len(queries.weight)), amounts.l2.dtype)
    solved = group_scores(plan, variables, train, masks, _positions(masks), queries, amounts)
    explain(plan, variables, train, queries, solved, amounts, masks)
    return solved.scores.T


def _masks(groups, count: int) -> Array:
    """Groups as (G, n) 0 and 1."""
    if hasattr(groups, "ndim") and is_traced(groups):
        return groups
    if hasattr(groups, "ndim") and groups.ndim == 2:
        masks = np.asarray(groups)
        if masks.shape[1] != count or not np.isin(masks, (0, 1)).all():
            raise InputError(f"a mask of groups is {masks.shape}: give 0 and 1, (groups, {count}).")
        return jnp.asarray(masks, jnp.float32)
    masks = np.zeros((len(groups), count), np.float32)
    for number, rows in enumerate(groups):
        rows = np.asarray(rows, np.int64) if np.size(rows) == 0 else np.asarray(rows)
        fine = rows.ndim == 1 and np.issubdtype(rows.dtype, np.integer) and len(np.unique(rows)) == len(rows)
        if not fine or (len(rows) and not (rows.min() >= 0 and rows.max() < count)):
            raise InputError(f"group {number} is no list of different rows from 0 to {count - 1}: give such lists.")
        masks[number, rows] = 1
    return jnp.asarray(masks)


def _positions(masks: Array) -> Array:
    """(G, m) positions of ones in masks (G, n), m the most that a group has, filled up with n; all where unknown."""
    count = masks.shape[1]
    if is_traced(masks):
        return jnp.broadcast_to(jnp.arange(count)[None, :], masks.shape)
    held = np.asarray(masks) > 0
    order = np.argsort(~held, axis=1, kind="stable")[:, : max(1, held.sum(axis=1).max())]
    return jnp.asarray(np.where(np.take_along_axis(held, order, axis=1), order, count), jnp.int32)

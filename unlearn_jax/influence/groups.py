"""Groups of training rows, and masks of which member saw which row: the two inputs that removal and subsets share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64

from unlearn_jax.errors import InputError


def groups_of(clusters) -> list[np.ndarray]:
    """The rows of each cluster, in order of the cluster numbers; (n,) -> a list of row arrays.

    Example:
        >>> [rows.tolist() for rows in groups_of([5, 0, 5])]
        [[1], [0, 2]]
    """
    clusters = np.asarray(clusters)
    if clusters.ndim != 1 or not len(clusters):
        raise InputError(f"clusters are {clusters.shape}: give one number for each example.")
    order = np.argsort(clusters, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(clusters[order])) + 1)


def as_groups(groups, rows: int) -> list[np.ndarray]:
    """Groups as a list of row arrays, None = each row by itself; `InputError` for an empty group or another row."""
    if groups is None:
        return list(np.arange(rows)[:, None])
    rows_by_group = [np.asarray(group) for group in groups]
    if not rows_by_group:
        raise InputError("groups are empty: give at least one array of rows, or none at all for every row by itself.")
    for group in rows_by_group:
        if group.ndim != 1 or not len(group) or not np.issubdtype(group.dtype, np.integer):
            raise InputError(f"a group is {group.dtype} {group.shape}: give each as an array of rows, at least one.")
        if group.min() < 0 or group.max() >= rows or len(np.unique(group)) < len(group):
            raise InputError(f"a group holds rows {group[:5].tolist()}: give rows in [0, {rows}), each once.")
    return rows_by_group


def units_of(examples: int, groups: Sequence | None) -> np.ndarray:
    """(n,) the number of each row's unit."""
    unit = np.arange(examples)
    for group in [] if groups is None else as_groups(groups, examples):
        if (unit[group] != group).any():
            raise InputError("groups overlap: give every row to one group at most.")
        unit[group] = examples + group[0]
    return np.unique(unit, return_inverse=True)[1].reshape(-1)


def equal_shares(total: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    """``total`` in whole parts that differ by one at most, the larger ones at random."""
    return total // parts + rng.permuted(np.arange(parts) < total % parts)


def balanced(masks: np.ndarray, size: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Masks whose rows sum to ``size``: members that have too much give random units to those that have too little."""
    excess = masks.sum(axis=1) - size
    while (excess > 0).any():
        giver, taker = int(excess.argmax()), int(excess.argmin())
        able = np.flatnonzero(masks[giver] & ~masks[taker])  # at least as many as giver has more
        moved = rng.permutation(able)[: min(excess[giver], -excess[taker])]
        masks[giver, moved], masks[taker, moved] = False, True
        excess[giver], excess[taker] = excess[giver] - len(moved), excess[taker] + len(moved)
    return masks


def as_masks(masks, *others: tuple[str, np.ndarray]) -> Bool[np.ndarray, "M n"]:
    """Masks (M, n) as bool; `InputError` unless they are 0 or 1 and every named other array has M rows."""
    masks = np.asarray(masks)
    if masks.ndim != 2 or 0 in masks.shape:
        raise InputError(f"masks are {masks.shape}: give (members, examples) with at least one of each.")
    if masks.dtype != bool and not np.isin(masks, (0, 1)).all():
        raise InputError("masks hold something else than 0 and 1: give 1 where a member was trained on an example.")
    for name, other in others:
        if len(other) != len(masks):
            raise InputError(f"masks are of {len(masks)} members and {name} of {len(other)}: give as many.")
    return masks.astype(bool)


def as_outputs(values, name: str = "outputs") -> tuple[Float64[np.ndarray, "M q"], Bool[np.ndarray, " M"]]:
    """Outputs (M, q) in float64, and (M,) which members have no NaN; `InputError` for another shape or none left."""
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or 0 in values.shape:
        raise InputError(f"{name} are {values.shape}: give (members, queries) with at least one of each.")
    finite = ~np.any(np.isnan(values), axis=1)
    if not finite.any():
        raise InputError(f"{name} of every member hold NaN: all diverged, train them with a lower learning rate.")
    return values, finite


def as_rows(inputs, targets, l2: float, weight) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs (n, d) and weight (n,) in float64 and targets (n,), checked for exact fits."""
    inputs, targets = np.asarray(inputs, np.float64), np.asarray(targets)
    if inputs.ndim != 2 or 0 in inputs.shape or targets.shape != inputs.shape[:1]:
        raise InputError(f"inputs are {inputs.shape} and targets {targets.shape}: give (n, d) and (n,), not empty.")
    weight = np.ones(len(inputs)) if weight is None else np.asarray(weight, np.float64)
    if weight.shape != targets.shape or not (np.isfinite(weight) & (weight >= 0)).all():
        raise InputError(f"weight is {weight.shape} for {len(inputs)} rows: give a finite number from 0 for each.")
    if not np.isfinite(inputs).all() or not np.isfinite(targets).all():
        raise InputError("inputs or targets hold values that are not finite: drop or repair those rows.")
    if not 0 < l2 < np.inf:
        raise InputError(f"l2 is {l2}: give a weight decay above 0, without which the fit need not be unique.")
    return inputs, targets, weight

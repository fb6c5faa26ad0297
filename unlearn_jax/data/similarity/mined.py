"""Similar samples as they are found: the nearest training examples of a target take the place of its copies."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from unlearn_jax.data.similarity.nearest import top_k
from unlearn_jax.errors import InputError, choose

NAME, THRESHOLD = "natural", 0.5
MAX_KEPT = 200  # neighbours remembered of each example


class Mined(NamedTuple):
    """Candidates for targets with their neighbours; no row is in two clusters."""

    rows: np.ndarray  # (k,) training rows, ascending
    near: np.ndarray  # (k, m) training rows, the nearest first


def threshold_of(level: str, default: float = THRESHOLD) -> float | None:
    """The least cosine of level ``natural`` (then ``default``) or ``natural:COSINE``; None for another level.

    Raises:
        InputError: a cosine that is not in (0, 1].
    """
    name, colon, cosine = level.partition(":")
    if name != NAME:
        return None
    try:
        least = float(cosine) if colon else default
    except ValueError:
        least = 0.0
    if not 0 < least <= 1:
        raise InputError(f"similarity '{level}' is not understood: write {NAME}:COSINE with a cosine in (0, 1].")
    return least


def check_level(level: str, constructed: dict, check) -> object:
    """What ``check`` says of a constructed level, or the cosine of ``natural``; `InputError` for an unknown level."""
    choose("similarity", level.partition(":")[0], [*constructed, NAME])
    return threshold_of(level) or check(level)


def mine(embedding, count: int, threshold: float, seed: int) -> Mined:
    """Disjoint clusters of an example and its nearest ones, taken greedily in a seeded random order.

    An example whose `MAX_KEPT` nearest ones are all in other clusters gives none.

    Args:
        embedding: (n, D) rows of unit norm, or of zeros; an array or a SciPy sparse matrix.
        count: neighbours of each candidate, m.
        threshold: the least cosine of a neighbour.
        seed: of the order.
    """
    near = top_k(embedding, MAX_KEPT, at_least=threshold).rows
    used, clusters = np.zeros(len(near), bool), {}
    for row in np.random.default_rng([seed, 6]).permutation(len(near)).tolist():
        nearest = near[row][near[row] >= 0]
        free = nearest[~used[nearest]][:count]
        if not used[row] and len(free) == count:
            used[row], used[free], clusters[row] = True, True, free
    rows = np.asarray(sorted(clusters), np.int64)
    return Mined(rows, np.asarray([clusters[row] for row in rows.tolist()], np.int64).reshape(len(rows), count))

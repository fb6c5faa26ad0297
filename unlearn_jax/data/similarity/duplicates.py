"""The near-duplicate detector: pairs of rows that look alike, and groups of rows around a leader.

Groups are not connected components: where a data set is dense, as Fashion-MNIST is, chains of pairs link whole
classes. Every member of a group here is near the group's first row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from unlearn_jax.errors import InputError

MAX_PAIRS = 200_000_000  # 800 MB


class Pairs(NamedTuple):
    """For each of n rows, the later rows near it: row i's are ``later[start[i]:start[i + 1]]``, ascending."""

    start: np.ndarray  # (n + 1,) int64
    later: np.ndarray  # (pairs,) int32


def near_pairs(embedding: np.ndarray, threshold: float, block: int = 512) -> Pairs:
    """Pairs of rows with cosine >= threshold.

    Args:
        embedding: (n, D) rows of unit norm, or of zeros (near nothing); an array or a SciPy sparse matrix.
        threshold: in (0, 1].
        block: rows compared at a time with all later ones; block x n cosines are in memory at once.

    Raises:
        InputError: a threshold outside (0, 1], or so low that the pairs would fill the memory.
    """
    if not 0 < threshold <= 1:
        raise InputError(f"the duplicate threshold is {threshold}: give a cosine in (0, 1].")
    counts, later, total = np.zeros(embedding.shape[0], np.int64), [np.zeros(0, np.int32)], 0
    for first in range(0, len(counts), block):
        cosine = embedding[first : first + block] @ embedding[first:].T
        cosine = cosine if isinstance(cosine, np.ndarray) else cosine.toarray()
        row, column = np.divmod(np.flatnonzero(cosine >= threshold - 1e-6), cosine.shape[1])
        row, column = row[column > row], column[column > row]
        counts[first : first + block] = np.bincount(row, minlength=len(cosine))
        later.append((column + first).astype(np.int32))
        total += len(column)
        if total > MAX_PAIRS:
            raise InputError(
                f"the duplicate threshold {threshold:g} makes most examples duplicates: give a higher one."
            )
    return Pairs(np.concatenate([[0], np.cumsum(counts)]), np.concatenate(later))


def leader_groups(pairs: Pairs, rows: np.ndarray) -> np.ndarray:
    """Group number of each of ``rows``, in row order by leader clustering.

    A row joins the group of the first leader that it is near; where there is none it becomes a leader itself. So all
    members of a group are near its first row, and no two leaders are near each other.

    Args:
        pairs: of n rows.
        rows: (k,) ascending numbers of the rows that take part.

    Returns:
        (k,) group numbers, from 0.
    """
    rows = np.asarray(rows, np.int64)
    leader = np.full(len(pairs.start) - 1, -1, np.int64)
    for row in rows[pairs.start[rows + 1] > pairs.start[rows]].tolist():
        if leader[row] < 0:
            near = pairs.later[pairs.start[row] : pairs.start[row + 1]]
            leader[near[leader[near] < 0]] = row
    return np.unique(np.where(leader[rows] < 0, rows, leader[rows]), return_inverse=True)[1]


def near_duplicate_groups(embedding: np.ndarray, threshold: float, block: int = 512) -> np.ndarray:
    """`leader_groups` of all rows of an embedding: (n, D) -> (n,) group numbers. Arguments as of `near_pairs`."""
    return leader_groups(near_pairs(embedding, threshold, block), np.arange(len(embedding)))

"""Pairs of rows that are near each other, from lists of nearest rows, and the clusters that pairs make."""

from __future__ import annotations

import numpy as np

from unlearn_jax.data.similarity.nearest import SLACK, Nearest, checked_rows


def mutual(nearest: Nearest) -> np.ndarray:
    """Pairs of rows each of which is among the other's nearest: (pairs, 2) int32, the lower row first, in order.

    Args:
        nearest: of all n rows among themselves.
    """
    edges, size = _edges(nearest), np.int64(len(nearest.rows))
    back = np.isin(edges[:, 1] * size + edges[:, 0], edges[:, 0] * size + edges[:, 1], assume_unique=True)
    kept = edges[back & (edges[:, 0] < edges[:, 1])]
    return kept[np.lexsort((kept[:, 1], kept[:, 0]))].astype(np.int32)


def linked(nearest: Nearest) -> np.ndarray:
    """Pairs of rows at least one of which is among the other's nearest: (pairs, 2) int32, as `mutual` orders them."""
    edges = np.sort(_edges(nearest), axis=1)
    return np.unique(edges, axis=0).astype(np.int32) if len(edges) else edges.astype(np.int32)


def at_least(nearest: Nearest, threshold: float) -> Nearest:
    """The lists without neighbours of a lower cosine; ``within`` counts what is left of them."""
    kept = nearest.cosine >= np.float32(threshold - SLACK)
    rows, cosine = np.where(kept, nearest.rows, -1), np.where(kept, nearest.cosine, -np.inf)
    return Nearest(rows.astype(np.int32), cosine.astype(np.float32), kept.sum(axis=1).astype(np.int32))


def threshold_pairs(embedding, nearest: Nearest, threshold: float) -> np.ndarray:
    """All pairs of rows with cosine >= threshold, also those that are on neither one's list.

    A pair can be on no list only where both lists are full: those rows alone are compared again.

    Args:
        embedding: what ``nearest`` was made of.
        nearest: `top_k` of all rows among themselves, at a threshold of its own that is no higher.
        threshold: in (0, 1].

    Returns:
        (pairs, 2) int32, as `mutual` orders them.

    Raises:
        InputError: a threshold outside (0, 1], or so low that the pairs would fill the memory.
    """
    from unlearn_jax.data.similarity.duplicates import near_pairs

    near = at_least(nearest, threshold)
    pairs, full = linked(near), np.flatnonzero(near.rows[:, -1] >= 0)
    more = near_pairs(checked_rows(embedding, "embedding")[full], threshold)
    first = full[np.repeat(np.arange(len(full)), np.diff(more.start))]
    both = np.concatenate([pairs, np.stack([first, full[more.later]], axis=1).astype(np.int32)])
    return np.unique(both, axis=0)


def clusters(n: int, pairs: np.ndarray) -> np.ndarray:
    """Cluster number of each of n rows: connected components of the pairs, numbered by their first row.

    >>> clusters(5, [[0, 3], [3, 4]]).tolist()
    [0, 1, 2, 0, 0]
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    pairs = np.asarray(pairs, np.int64).reshape(-1, 2)
    graph = coo_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    label = connected_components(graph, directed=False)[1]
    _, first, label = np.unique(label, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[label].astype(np.int32)


def _edges(nearest: Nearest) -> np.ndarray:
    """(row, its near row) of every entry, (edges, 2) int64."""
    count = (nearest.rows >= 0).sum(axis=1)
    return np.stack([np.repeat(np.arange(len(count)), count), nearest.rows[nearest.rows >= 0]], axis=1).astype(np.int64)

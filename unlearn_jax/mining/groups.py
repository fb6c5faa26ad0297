"""From lists of neighbours to clusters: links, components, the refusal of chains, and what is counted of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from unlearn_jax.data.similarity.links import at_least, clusters, linked, mutual
from unlearn_jax.data.similarity.nearest import SLACK, Nearest
from unlearn_jax.errors import InputError
from unlearn_jax.mining.embeddings import Neighbours

RUNGS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 1.0)  # thresholds at which the data are described
ALWAYS_FINE = 20  # a cluster so small is no chain, whatever its share


class Clusters(NamedTuple):
    """Clusters of two or more of n training samples, the largest first, of equals that with the first row."""

    of: np.ndarray  # (n,) int32 number of each sample's cluster, -1 = alone
    sizes: np.ndarray  # (c,) int64
    degree: np.ndarray  # (n,) int64 links of each sample
    pairs: np.ndarray  # (p, 2) int32 linked rows


def cluster(found: Neighbours, threshold: float, *, links_mutual: bool, largest: float) -> Clusters:
    """Connected components of the links.

    Args:
        found: neighbours.
        threshold: least cosine of a link.
        links_mutual: link only where each is on the other's list; else every pair at the threshold.
        largest: share of the samples from which one cluster is refused.

    Raises:
        InputError: one cluster of more than that share (and of more than `ALWAYS_FINE`), with a threshold that does
            not make it; no link at all, with the threshold of the nearest pair.
    """
    near, count = at_least(found.train, threshold), len(found.train.rows)
    link = mutual if links_mutual else linked
    pairs = link(near)
    if not len(pairs):
        raise InputError(_nothing(found, threshold, links_mutual))
    _refuse_chain(found, pairs, threshold, links_mutual, largest)
    if not links_mutual:
        pairs = found.pairs(threshold)  # also those beyond the lists
        _refuse_chain(found, pairs, threshold, links_mutual, largest)
    label = clusters(count, pairs)
    size = np.bincount(label, minlength=count)
    order = np.argsort(-size, kind="stable")  # labels count up with the first row
    order = order[size[order] > 1]
    number = np.full(count, -1, np.int32)
    number[order] = np.arange(len(order))
    return Clusters(number[label], size[order], np.bincount(pairs.ravel(), minlength=count), pairs)


def ladder(found: Neighbours, labels: np.ndarray, test_labels: np.ndarray | None) -> list[dict]:
    """At each of `RUNGS` that was looked at: how many samples have a training neighbour, and how often of their class.

    Args:
        found: neighbours.
        labels: (n,) classes of the training samples.
        test_labels: (t,) of the test samples, none where these were not looked at.
    """
    rows = []
    for rung in RUNGS:
        if rung < found.floor - SLACK:
            continue
        row: dict = {"threshold": rung}
        for split, near, labels_of in (("train", found.train, labels), ("test", found.test, test_labels)):
            if near is None or labels_of is None:
                continue
            has = near.cosine[:, 0] >= np.float32(rung - SLACK)
            same = labels_of[has] == labels[near.rows[has, 0]]
            row |= {split: int(has.sum()), f"{split}_same_label": float(same.mean()) if has.any() else None}
        rows.append(row)
    return rows


def of_test(found: Neighbours, groups: Clusters, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """The cluster of each test sample's nearest training sample, (t,), -1 = alone or too far; and which are near, (t,).

    Args:
        found: neighbours, those of the test samples among them.
        groups: clusters of the training samples.
        threshold: least cosine.
    """
    assert found.test is not None
    near = found.test.cosine[:, 0] >= np.float32(threshold - SLACK)
    return np.where(near, groups.of[found.test.rows[:, 0]], -1), near


def purity(groups: Clusters, labels: np.ndarray) -> np.ndarray:
    """(c,) share of each cluster's samples that are of its most frequent class."""
    inside = groups.of >= 0
    which, counts = np.unique(np.stack([groups.of[inside], labels[inside]], axis=1), axis=0, return_counts=True)
    most = np.zeros(len(groups.sizes), np.int64)
    np.maximum.at(most, which[:, 0], counts)
    return most / np.maximum(groups.sizes, 1)


def same_label_share(groups: Clusters, labels: np.ndarray) -> float:
    """Share of linked pairs that are of one class."""
    return float((labels[groups.pairs[:, 0]] == labels[groups.pairs[:, 1]]).mean())


def _biggest(count: int, pairs: np.ndarray) -> int:
    """Size of the largest component."""
    return int(np.bincount(clusters(count, pairs)).max())


def _refuse_chain(
    neighbours: Neighbours, pairs: np.ndarray, threshold: float, links_mutual: bool, largest: float
) -> None:
    """`InputError` where one component is too large."""
    count = len(neighbours.train.rows)
    most, limit = _biggest(count, pairs), max(largest * count, ALWAYS_FINE)
    if most <= limit:
        return
    link = mutual if links_mutual else linked
    fits = lambda t: _biggest(count, link(at_least(neighbours.train, t))) <= limit
    rungs = [t / 1000 for t in range(int(threshold * 1000) + 1, 1001)]
    low, high = 0, len(rungs)
    while low < high:  # the first that fits; fitting is monotone
        middle = (low + high) // 2
        low, high = (low, middle) if fits(rungs[middle]) else (middle + 1, high)
    fewer = " or a smaller --k" if links_mutual else " or --mutual"
    if low == len(rungs):
        what = f"take another --embedding, or --largest {most / count:.2g}, for most of it are copies of one another"
    else:
        what = f"try --threshold {rungs[low]:g} or more,{fewer}"
    raise InputError(
        f"at a threshold of {threshold:g} one cluster takes in {most:,} of {count:,} training samples, by chains of "
        f"pairs: {what}."
    )


def _nothing(neighbours: Neighbours, threshold: float, links_mutual: bool) -> str:
    """What to say where nothing is linked."""
    near = neighbours.train.cosine[:, 0]
    most = float(near.max(initial=-np.inf))
    if links_mutual and most >= threshold - SLACK:
        return (
            f"no two training samples are each other's neighbours at a threshold of {threshold:g}: give a larger --k."
        )
    if not np.isfinite(most) or neighbours.floor > 0:
        return f"no two training samples are as near as {threshold:g}: give a lower --threshold."
    down = np.floor(most * 100) / 100
    return (
        f"no two training samples are as near as {threshold:g}, the nearest pair has {most:.4f}: "
        f"try --threshold {down:g} or less."
    )


def told(near: Nearest, groups: Clusters, row: int, threshold: float) -> dict:
    """What is said of one training sample: how many are linked to it, the nearest, its cluster."""
    has_neighbour = near.rows[row, 0] >= 0
    return {
        "near": bool(has_neighbour and near.cosine[row, 0] >= np.float32(threshold - SLACK)),
        "links": int(groups.degree[row]),
        "nearest": int(near.rows[row, 0]),
        "similarity": float(near.cosine[row, 0]) if has_neighbour else None,
        "cluster": int(groups.of[row]),
        "cluster_size": int(groups.sizes[groups.of[row]]) if groups.of[row] >= 0 else 1,
    }

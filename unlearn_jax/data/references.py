"""The rows that each reference population trains on, with the duplicate detector of the dedup reference."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from unlearn_jax.data.kinds import KINDS, Made
from unlearn_jax.data.similarity.duplicates import Pairs, leader_groups, near_pairs
from unlearn_jax.data.splits import ExampleTable, RequestRows
from unlearn_jax.errors import InputError


def reference_rows(
    role: str, bench: ExampleTable, rows: RequestRows, member: int, seed: int, groups: np.ndarray | None = None
) -> np.ndarray:
    """Training rows of one member of a reference population.

    Args:
        role: original, retrain, oracle, oracle_b, placebo or dedup.
        bench: stored examples.
        rows: the request's splits.
        member: the member's number, which seeds what the role draws at random.
        seed: of the study.
        groups: for ``dedup``, group number of each row of ``sort(similar + rest)``, see `detected_groups`.

    Raises:
        InputError: a placebo where there are too few images to drop, see `placebo_shortfall`.
    """
    kept = np.concatenate([rows.similar, rows.rest])
    if role == "original":
        return np.sort(rows.everything)
    if role == "retrain":
        return np.sort(kept)
    if role in ("oracle", "oracle_b"):
        return np.sort(rows.rest)
    rng = np.random.default_rng([seed, 2 if role == "placebo" else 3, member])
    if role == "placebo":
        return np.setdiff1d(kept, _same_classes(bench, rows, rng))
    assert groups is not None  # of a dedup population
    kept = np.sort(kept)
    order = rng.permutation(len(kept))
    _, first = np.unique(groups[order], return_index=True)
    return np.sort(kept[order[first]])


def placebo_shortfall(bench: ExampleTable, rows: RequestRows) -> str:
    """Why no placebo can be drawn, a sentence without its full stop; '' where one can.

    A placebo drops as many rest rows of each class as the similar samples have, and keeps at least one. Requests that
    share a class soon leave too few.
    """
    nouns = KINDS[bench.kind].nouns
    for label, count, pool in _strangers(bench, rows):
        if len(pool) <= count:
            return (
                f"placebo cannot drop {count} {nouns} of class {label} and keep one, for it has {len(pool)} other "
                f"{nouns} that could be dropped: ask for fewer copies or targets"
            )
    return ""


def _strangers(bench: ExampleTable, rows: RequestRows) -> list[tuple[int, int, np.ndarray]]:
    """(label, number of similar samples, rest rows) of each class that the similar samples have."""
    labels, counts = np.unique(bench.labels[rows.similar], return_counts=True)
    of_rest = bench.labels[rows.rest]
    return [(int(label), int(count), rows.rest[of_rest == label]) for label, count in zip(labels, counts)]


def _same_classes(bench: ExampleTable, rows: RequestRows, rng) -> np.ndarray:
    """Random rest rows, as many of each class as the similar samples have."""
    if shortfall := placebo_shortfall(bench, rows):
        raise InputError(f"{shortfall}.")
    drawn = [rng.choice(pool, count, replace=False) for _, count, pool in _strangers(bench, rows)]
    return np.concatenate([np.zeros(0, np.int32), *drawn])


class Detection(NamedTuple):
    """What the duplicate detector found among the kept rows."""

    groups: np.ndarray  # group number of each row of sort(similar + rest)
    recall: float  # share of similar samples found to have a near-duplicate of their own cluster; NaN without any
    precision: float  # share of rows in a group whose group is one cluster; NaN without any


def detected_groups(bench: ExampleTable, rows: RequestRows, threshold: float) -> Detection:
    """Near-duplicate groups in what is left after the request is dropped, from the examples alone.

    Each group is a leader, the first of its rows, and rows that are at cosine >= ``threshold`` to it, see
    `leader_groups`. The clusters are used to score the detector, never to find the groups. Recall counts only similar
    samples whose cluster keeps at least two members, since a lone one has no duplicate to be found.

    Raises:
        InputError: a threshold outside (0, 1], or far too low for the data.
    """
    kept = np.sort(np.concatenate([rows.similar, rows.rest]))
    trained, pairs = _pairs(bench, threshold)
    groups = leader_groups(pairs, np.searchsorted(trained, kept))
    size = np.bincount(groups)[groups]
    similar = np.isin(kept, rows.similar)
    cluster = np.where(similar, bench.cluster[kept], -1 - np.arange(len(kept)))
    pairs = np.unique(np.stack([groups, cluster]), axis=1, return_counts=True)
    together = {(g, c): k for (g, c), k in zip(pairs[0].T.tolist(), pairs[1].tolist())}
    same = np.asarray([together[g, c] for g, c in zip(groups.tolist(), cluster.tolist())])
    findable = similar & (np.bincount(cluster[similar], minlength=1)[np.maximum(cluster, 0)] > 1)
    flagged = size > 1
    recall = float(np.mean(same[findable] > 1)) if findable.any() else float("nan")
    precision = float(np.mean(same[flagged] == size[flagged])) if flagged.any() else float("nan")
    return Detection(groups, recall, precision)


_PAIRS: list = []  # the bench last asked about, the threshold, and what `_pairs` found; one entry, to keep memory low


def _pairs(bench: ExampleTable, threshold: float) -> tuple[np.ndarray, Pairs]:
    """All training rows of the bench and the near pairs among them, found once for all levels and requests."""
    if not (
        _PAIRS and _PAIRS[0].inputs is bench.inputs and _PAIRS[0].origin is bench.origin and _PAIRS[1] == threshold
    ):
        trained = np.flatnonzero(bench.origin <= 1)
        part = Made(
            bench.inputs[trained], bench.targets[trained], None if bench.texts is None else bench.texts[trained]
        )
        unrequested = np.flatnonzero(bench.request[trained] < 0)
        _PAIRS[:] = [bench, threshold, (trained, near_pairs(KINDS[bench.kind].embedding(part, unrequested), threshold))]
    return _PAIRS[2]

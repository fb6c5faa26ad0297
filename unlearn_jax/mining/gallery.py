"""The samples that the page of a search shows: the largest clusters, mixed ones, those near test samples, targets."""

from __future__ import annotations

from typing import Any

import numpy as np

from unlearn_jax.data.arrays import Dataset
from unlearn_jax.mining.embeddings import Neighbours, texts_of
from unlearn_jax.mining.groups import Clusters

BLOCKS, SHOWN, TARGETS = 12, 9, 24  # clusters of each kind, samples of each, targets
LETTERS = 300

Item = tuple[str, int, float]  # split, row, how alike it is to the block's first sample


def gallery(
    dataset: Dataset,
    found: Neighbours,
    groups: Clusters,
    purity: np.ndarray,
    test_cluster: np.ndarray | None,
    targets: np.ndarray,
    threshold: float,
) -> dict[str, np.ndarray]:
    """One entry for each sample shown, with its picture or the beginning of its text.

    Returns:
        ``kind`` (largest, mixed, test or target), ``block`` (number within the kind), ``number`` (of the cluster, -1 =
        none), ``size`` (of the cluster), ``split``, ``id``, ``label``, ``similarity`` (to the first of the block, NaN
        for itself), and ``images`` or ``texts``.
    """
    count = len(groups.sizes)
    blocks = [("largest", c, _members(found, groups, c)) for c in range(min(count, BLOCKS))]
    mixed = np.flatnonzero(purity < 1)[:BLOCKS]
    blocks += [("mixed", int(c), _members(found, groups, int(c))) for c in mixed]
    if test_cluster is not None:
        blocks += _near_test(found, groups, threshold)
    blocks += [("target", int(groups.of[row]), _of_target(found, int(row), threshold)) for row in targets[:TARGETS]]
    columns: dict[str, list] = {name: [] for name in ("kind", "block", "number", "size", "split", "row", "similarity")}
    seen: dict[str, int] = {}
    for kind, number, items in blocks:
        place = seen[kind] = seen.get(kind, -1) + 1
        for split, row, alike in items:
            size = int(groups.sizes[number]) if number >= 0 else 1
            for name, value in zip(columns, (kind, place, number, size, split, row, alike)):
                columns[name].append(value)
    return _filled(dataset, columns)


def _members(neighbours: Neighbours, groups: Clusters, number: int) -> list[Item]:
    """The sample of a cluster with most links, then those most like it."""
    rows = np.flatnonzero(groups.of == number)
    hub = int(rows[np.argmax(groups.degree[rows])])
    return [("train", hub, np.nan), *_ordered(neighbours, hub, rows[rows != hub])]


def _ordered(neighbours: Neighbours, first: int, rows: np.ndarray) -> list[Item]:
    """Rows by how alike they are to the first, the most alike first."""
    if not len(rows):
        return []
    alike = neighbours.between(first, rows)
    order = np.argsort(-alike, kind="stable")[: SHOWN - 1]
    return [("train", int(rows[i]), float(alike[i])) for i in order]


def _near_test(neighbours: Neighbours, groups: Clusters, threshold: float) -> list[tuple[str, int, list[Item]]]:
    """The test samples nearest to training samples, each with these."""
    near = neighbours.test
    assert near is not None
    rows = np.argsort(-near.cosine[:, 0], kind="stable")[:BLOCKS]
    blocks = []
    for row in rows[near.cosine[rows, 0] >= threshold - 1e-6].tolist():
        kept = near.cosine[row] >= threshold - 1e-6
        nearest = zip(near.rows[row][kept].tolist(), near.cosine[row][kept].tolist())
        items = [("test", row, np.nan), *(("train", other, alike) for other, alike in nearest)]
        blocks.append(("test", int(groups.of[near.rows[row, 0]]), items[:SHOWN]))
    return blocks


def _of_target(neighbours: Neighbours, row: int, threshold: float) -> list[Item]:
    """A target with its nearest samples, near or not."""
    near = neighbours.train
    kept = near.rows[row] >= 0
    nearest = zip(near.rows[row][kept].tolist(), near.cosine[row][kept].tolist())
    return [("train", row, np.nan), *(("train", other, alike) for other, alike in nearest)][:SHOWN]


def _filled(dataset: Dataset, columns: dict[str, list]) -> dict[str, Any]:
    """The columns as arrays, with ids, classes and what the samples look like."""
    split, rows = np.asarray(columns["split"], dtype=str), np.asarray(columns.pop("row"), np.int64)
    held = {name: np.asarray(values) for name, values in columns.items()}
    ids, labels = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    images, texts = None, np.empty(len(rows), object)
    for name, part in (("train", dataset.train), ("test", dataset.test)):
        mine = split == name
        at = rows[mine]
        ids[mine], labels[mine] = part.ids[at], part.classes[at]
        if dataset.kind == "image":
            images = np.zeros((len(rows), *part.inputs.shape[1:]), part.inputs.dtype) if images is None else images
            images[mine] = part.inputs[at]
        elif mine.any():
            every = texts_of(dataset, name)
            texts[mine] = [every[i][: 2 * LETTERS] for i in at.tolist()]
    held |= {"id": ids, "label": labels, "class_names": np.asarray(dataset.class_names, dtype=str)}
    return held | ({"images": images} if images is not None else {"texts": np.asarray(texts.tolist(), dtype=str)})

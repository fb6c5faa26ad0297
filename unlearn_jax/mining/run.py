"""A search for similar samples: embed, find neighbours, link them into clusters, describe, write."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np

from unlearn_jax.data import load_dataset
from unlearn_jax.data.arrays import Dataset
from unlearn_jax.data.checks import subset
from unlearn_jax.data.kinds import KINDS
from unlearn_jax.data.similarity.nearest import SLACK
from unlearn_jax.errors import InputError
from unlearn_jax.mining import groups as grouping
from unlearn_jax.mining.config import MiningConfig, embedding_of, threshold_of
from unlearn_jax.mining.embeddings import EMBEDDINGS, Asked, Neighbours, by_cosine
from unlearn_jax.mining.gallery import gallery
from unlearn_jax.mining.targets import read_embedding, read_ids
from unlearn_jax.mining.validate import checked
from unlearn_jax.population import checkpoint
from unlearn_jax.population.run import Options
from unlearn_jax.results.recorder import environment, write_json
from unlearn_jax.runtime.archives import read_json
from unlearn_jax.runtime.disk import write_arrays, write_whole
from unlearn_jax.studies.setup import SILENT, Watch

KIND = "neighbours"  # of a manifest


def run_mining(
    config: MiningConfig,
    out: Path,
    *,
    ids: Path | None = None,
    embedding_file: Path | None = None,
    store: Path | None = None,
    command: str = "",
    watch: Watch = SILENT,
    data_dir: Path | None = None,
    **options,
) -> Path:
    """Find the similar samples of a data set, and the clusters that they form.

    Args:
        config: what is looked for.
        out: run folder; may hold an earlier search.
        ids: text file with ids of training samples of interest, one a line.
        embedding_file: .npy with a row for each training sample, or for those and then the test samples, in the data
            set's order, in place of an embedding by name.
        store: where networks and embeddings of texts are kept; default ``populations`` beside the run folder.
        command: for the record.
        watch: progress.
        data_dir: of prepared data.
        options: ``chunk``, ``axis``, ``loop`` of `Options`, for embeddings by networks.

    Returns:
        The folder, holding neighbours.parquet, clusters.parquet, gallery.npz and neighbours.json.

    Raises:
        InputError: bad configuration or files, missing data, no link or one giant cluster at the threshold, a folder
            that holds something else or cannot be written.
    """
    began, from_file = time.time(), embedding_file is not None
    checked(config, embedding_file)
    _refuse_other(out)
    checkpoint.check_writable(out, "--out", keep=False)
    watch.begin("reading data, looking for neighbours")
    dataset = _dataset(config, data_dir, from_file)
    targets = np.zeros(0, np.int64) if ids is None else read_ids(ids, dataset)
    name, threshold = embedding_of(config, from_file), threshold_of(config, from_file)
    settings = Options(**{"axis": "auto", "store": store or out.parent / "populations", **options})
    search = Asked(config, dataset, threshold, settings, watch)
    if embedding_file is not None:
        neighbours = by_cosine(read_embedding(embedding_file, dataset), config.k)
    else:
        neighbours = EMBEDDINGS[name].find(search)
    searched = time.time() - began
    groups = grouping.cluster(neighbours, threshold, links_mutual=config.mutual, largest=config.largest)
    record = {
        "kind": KIND,
        "command": command,
        "config": dataclasses.asdict(config) | {"embedding": name, "threshold": threshold},
        "embedding": _about(name, embedding_file),
        "nouns": KINDS[dataset.kind].nouns,
        **described(dataset, neighbours, groups, targets, threshold),
        "notes": list(neighbours.notes),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "seconds_searching": searched,
        "seconds_total": time.time() - began,
        **environment(),
    }
    return _written(out, dataset, neighbours, groups, targets, threshold, record)


def described(
    dataset: Dataset, found: Neighbours, groups: grouping.Clusters, targets: np.ndarray, threshold: float
) -> dict:
    """What neighbours.json says of the samples found."""
    labels, purity = dataset.train.classes, grouping.purity(groups, dataset.train.classes)
    sizes, counts = np.unique(groups.sizes, return_counts=True)
    test = None
    if found.test is not None:
        which, near = grouping.of_test(found, groups, threshold)
        same = dataset.test.classes[near] == labels[found.test.rows[near, 0]]
        test = {
            "samples": len(near),
            "near": int(near.sum()),
            "same_label": float(same.mean()) if near.any() else None,
            "clusters": len(np.unique(which[which >= 0])),
        }
    linked = int((groups.of >= 0).sum())
    return {
        "samples": len(labels),
        "linked": linked,
        "pairs": len(groups.pairs),
        "pairs_same_label": grouping.same_label_share(groups, labels),
        "clusters": len(groups.sizes),
        "clusters_of_one_label": float((purity == 1).mean()),
        "largest": int(groups.sizes.max(initial=0)),
        "sizes": [[int(size), int(count)] for size, count in zip(sizes, counts)],
        "test": test,
        "ladder": grouping.ladder(found, labels, None if found.test is None else dataset.test.classes),
        "targets": [_target(dataset, found, groups, row, threshold) for row in targets.tolist()],
    }


def _target(dataset: Dataset, neighbours: Neighbours, groups: grouping.Clusters, row: int, threshold: float) -> dict:
    """What is said of a sample of interest."""
    record = grouping.told(neighbours.train, groups, row, threshold)
    nearest = record["nearest"]
    return (
        {"id": int(dataset.train.ids[row])}
        | record
        | {"nearest": int(dataset.train.ids[nearest]) if nearest >= 0 else None}
    )


def _about(name: str, embedding_file: Path | None) -> dict:
    """The embedding in words, and what it measures."""
    if embedding_file is not None:
        return {"about": f"rows of {Path(embedding_file).name}", "measure": "cosine"}
    return {"about": EMBEDDINGS[name].about, "measure": EMBEDDINGS[name].measure}


def _dataset(config: MiningConfig, data_dir: Path | None, from_file: bool) -> Dataset:
    """The data set, or the part of it that is asked for."""
    if from_file and (config.train_size or config.test_size):
        raise InputError("--embedding-file has a row for every sample: leave --train-size and --test-size out.")
    dataset = load_dataset(config.dataset, data_dir=data_dir)
    if config.train_size or config.test_size:
        dataset = subset(dataset, config.train_size or None, config.test_size or None, config.seed)
    return dataset


def _refuse_other(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"'{out}' is a file: give another --out folder.")
    if (out / "manifest.json").exists():
        raise InputError(f"'{out}' holds another kind of run: give another --out folder.")
    if (out / "neighbours.json").exists():
        try:
            ours = read_json(out / "neighbours.json")["kind"] == KIND
        except (OSError, ValueError, KeyError, TypeError):
            ours = False
        if not ours:
            raise InputError(f"'{out}' holds a neighbours.json of something else: give another --out folder.")


def _written(out, dataset, neighbours, groups, targets, threshold, record) -> Path:
    """The run folder; neighbours.json last, so that a folder with one is whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    checkpoint.check_writable(out, "--out")
    measure, purity = record["embedding"]["measure"], grouping.purity(groups, dataset.train.classes)
    which = None if neighbours.test is None else grouping.of_test(neighbours, groups, threshold)[0]
    shown = gallery(dataset, neighbours, groups, purity, which, targets, threshold)
    (out / "neighbours.json").unlink(missing_ok=True)  # what follows belongs to the new one
    pairs, samples = (
        pairs_table(dataset, neighbours, threshold, measure),
        samples_table(dataset, neighbours, groups, measure),
    )
    for name, columns in (("neighbours", pairs), ("clusters", samples)):
        table = pa.table(columns)
        write_whole(out / f"{name}.parquet", lambda path, table=table: pq.write_table(table, path))
    write_arrays(out / "gallery.npz", shown)
    write_json(out / "neighbours.json", record)
    return out


def pairs_table(dataset: Dataset, found: Neighbours, threshold: float, measure: str) -> dict[str, np.ndarray]:
    """A row for each sample and each of its at most k nearest training samples at the threshold, nearest first."""
    columns: dict[str, list] = {name: [] for name in ("split", "id", "neighbour", "rank", measure, "same_label")}
    train = dataset.train
    for split, near, part in (("train", found.train, train), ("test", found.test, dataset.test)):
        if near is None:
            continue
        row, rank = np.nonzero(near.cosine >= np.float32(threshold - SLACK))
        other = near.rows[row, rank]
        values = (np.full(len(row), split), part.ids[row], train.ids[other], (rank + 1).astype(np.int32),
                  near.cosine[row, rank], part.classes[row] == train.classes[other])  # fmt: skip
        for name, value in zip(columns, values):
            columns[name].append(value)
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def samples_table(
    dataset: Dataset, found: Neighbours, groups: grouping.Clusters, measure: str
) -> dict[str, np.ndarray]:
    """A row for each training sample: its cluster (-1 = alone), that one's size, links, and the nearest sample."""
    near, train, inside = found.train, dataset.train, groups.of >= 0
    size = np.where(inside, groups.sizes[np.maximum(groups.of, 0)], 1)
    has_neighbour = near.rows[:, 0] >= 0
    return {
        "id": train.ids,
        "label": train.classes.astype(np.int64),
        "cluster": groups.of,
        "size": size.astype(np.int64),
        "links": groups.degree.astype(np.int64),
        "nearest": np.where(has_neighbour, train.ids[near.rows[:, 0]], -1),
        measure: np.where(has_neighbour, near.cosine[:, 0], np.nan).astype(np.float32),
    }

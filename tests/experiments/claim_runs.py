"""Finished run folders of studies that never ran: margins with means that a test chooses."""

import csv
import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from unlearn_jax.results.tables import FIGURES, KEYS
from unlearn_jax.studies.resolve import resolve

TARGETS, MEMBERS = 12, 16
SPLITS = {"forget": TARGETS, "rest": 8, "test": 8}


def margins(means, seed, members=MEMBERS, noise=0.05):
    """(members, columns) of a population with these mean margins by split; a number is that of the targets."""
    means = means if isinstance(means, dict) else {"forget": means}
    rng = np.random.default_rng(seed)
    parts = [np.broadcast_to(means.get(split, 5.0), (count,)) for split, count in SPLITS.items()]
    return np.concatenate(parts) + rng.normal(0.0, noise, (members, sum(SPLITS.values())))


def write_run(folder, config, levels, figures=()):
    """A run folder.

    Args:
        folder: where.
        config: of the study.
        levels: (copies, gamma) -> {population: what `margins` takes, or an array}.
        figures: rows of summary.csv, {key: value}.
    """
    config = dataclasses.replace(resolve(config).config, resamples=200, num_targets=TARGETS, requests=1)
    axes = resolve(config).axes
    index = {name: np.full(sum(SPLITS.values()), -1) for name in ("request", "cluster", "dataset_id")}
    index["split"] = np.repeat(list(SPLITS), list(SPLITS.values()))
    index["request"][:TARGETS], index["cluster"][:TARGETS] = 0, np.arange(TARGETS)
    index["dataset_id"] = np.arange(sum(SPLITS.values()))
    for place, point in enumerate(axes):
        named = f"copies={point[0]}" + ("" if point[1] is None else f",gamma={point[1]:.3f}")
        inside = folder / "margins" / ("" if point == axes[-1] else named)
        inside.mkdir(parents=True, exist_ok=True)
        for number, (name, means) in enumerate(levels[point].items()):
            made = means if isinstance(means, np.ndarray) else margins(means, [place, number])
            np.save(inside / f"{name}.npy", made)
        pq.write_table(pa.table(index), inside / "index.parquet")
    with (folder / "summary.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*KEYS, *FIGURES], restval="")
        writer.writeheader()
        writer.writerows({"request": "all"} | figure for figure in figures)
    asked = dataclasses.asdict(config)
    (folder / "manifest.json").write_text(json.dumps({"status": "complete", "asked": asked, "config": asked}))
    return folder


def prices(names, copies, gamma=1.0, metric="price_accuracy", split="test", reference="oracle", value=0.0):
    """Rows of summary.csv, of each population the same figure."""
    keys = {"copies": copies, "gamma": gamma, "metric": metric, "split": split, "reference": reference, "value": value}
    rows = []
    for name in names:
        pair, _, setting = name.partition("@")
        method, _, remedy = pair.partition("+")
        rows.append(keys | {"method": method, "remedy": remedy, "setting": setting})
    return rows

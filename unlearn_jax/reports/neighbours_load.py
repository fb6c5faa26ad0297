"""Read the folder of a search for similar samples; every fault is one `InputError`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.reports.influence_load import FAULTS
from unlearn_jax.reports.load import as_pictures
from unlearn_jax.runtime.archives import read_arrays, read_json

AGAIN = "run unlearn-jax neighbours again"
ENTRIES = (
    "config", "embedding", "nouns", "samples", "linked", "pairs", "pairs_same_label", "clusters",
    "clusters_of_one_label", "largest", "sizes", "test", "ladder", "targets", "notes",
)  # fmt: skip
COLUMNS = ("kind", "block", "number", "size", "split", "id", "label", "similarity")


class Search(NamedTuple):
    """Everything that the page shows."""

    path: Path
    told: dict[str, Any]  # neighbours.json
    gallery: dict[str, np.ndarray]
    nearest: dict[str, np.ndarray]  # by split, how near each sample's nearest training sample is, where it is known


def read_search(folder: Path) -> Search:
    """Read the folder; raises `InputError` where it is missing, half-written or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = Path(folder)
    if not (folder / "neighbours.json").is_file():
        raise InputError(f"there is no finished search at {folder}: give the folder that unlearn-jax neighbours wrote.")
    try:
        told = read_json(folder / "neighbours.json")
        if told.get("kind") != "neighbours" or not set(ENTRIES) <= set(told):
            raise ValueError("its neighbours.json is of another kind of run, or not whole")
        measure = told["embedding"]["measure"]
        column = pq.read_table(folder / "clusters.parquet", columns=[measure]).column(measure)
        own = column.to_numpy(zero_copy_only=False)
        pairs = pq.read_table(folder / "neighbours.parquet", columns=["split", "rank", measure])
        first = {name: pairs.column(name).to_numpy(zero_copy_only=False) for name in pairs.column_names}
        nearest = {"train": own[np.isfinite(own)]}
        nearest["test"] = first[measure][(first["split"] == "test") & (first["rank"] == 1)]
        gallery = _gallery(folder / "gallery.npz")
    except FAULTS + (pa.ArrowException,) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"the search in {folder} cannot be read ({reason}): {AGAIN}.") from error
    return Search(folder, told, gallery, nearest)


def _gallery(path: Path) -> dict[str, np.ndarray]:
    """The samples shown, pictures as uint8."""
    held = {name: as_pictures(part) if name == "images" else part for name, part in read_arrays(path).items()}
    shown = held.get("images", held.get("texts"))
    sound = shown is not None and set(COLUMNS) | {"class_names"} <= set(held)
    if not sound or any(len(held[name]) != len(shown) for name in COLUMNS):
        raise ValueError("gallery.npz holds arrays that do not belong together")
    if len(shown) and not 0 <= held["label"].min() <= held["label"].max() < len(held["class_names"]):
        raise ValueError("gallery.npz holds labels without a name")
    return held

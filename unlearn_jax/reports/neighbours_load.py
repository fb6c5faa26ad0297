"""Read the folder of a search for similar samples; every fault is one `InputError`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unlearn_jax.reports.reading import columns_of, gallery_of, manifest_of, present, reading

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
    folder = Path(folder)
    missing = f"there is no finished search at {folder}: give the folder that unlearn-jax neighbours wrote."
    present(folder, ["neighbours.json"], missing)
    with reading(f"the search in {folder} cannot be read", AGAIN):
        told = manifest_of(folder, "neighbours.json", "neighbours", AGAIN, ENTRIES)
        measure = told["embedding"]["measure"]
        own = columns_of(folder / "clusters.parquet", [measure])[measure]
        first = columns_of(folder / "neighbours.parquet", ["split", "rank", measure])
        near = {"train": own[np.isfinite(own)]}
        near["test"] = first[measure][(first["split"] == "test") & (first["rank"] == 1)]
        return Search(folder, told, _gallery(folder / "gallery.npz"), near)


def _gallery(path: Path) -> dict[str, np.ndarray]:
    """The samples shown, pictures as uint8."""
    held = gallery_of(path)
    shown = held.get("images", held.get("texts"))
    whole = set(COLUMNS) | {"class_names"} <= set(held)
    if shown is None or not whole or any(len(held[name]) != len(shown) for name in COLUMNS):
        raise ValueError("gallery.npz holds arrays that do not belong together")
    if len(shown) and not 0 <= held["label"].min() <= held["label"].max() < len(held["class_names"]):
        raise ValueError("gallery.npz holds labels without a name")
    return held

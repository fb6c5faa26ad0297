"""Read the folder of an attribution study into plain Python and NumPy; every fault is one `InputError`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unlearn_jax.reports.reading import Estimate, columns_of, estimate, gallery_of, opened
from unlearn_jax.results.tables import read_csv

TABLES = {  # columns that the page reads
    "removals": ("track", "removed", "estimator", "own", "predicted", "actual", "error"),
    "carriers": ("track", "estimator", "cluster", "own", "similar", "rest", "recall"),
    "memorization": ("track", "estimator", "kind", "memorization", "score"),
    "law": ("cluster", "copies", "model", "effect", "law"),
}
MANIFEST = {  # entries, and what the page reads of each
    "config": ("dataset", "copies", "similarity", "subsets", "repeats"),
    "examples": ("train", "queries", "clusters"),
    "accuracy": (), "estimators": (), "training_seconds": (), "seconds": (),
}  # fmt: skip
GALLERY = ("target", "rows", "scores", "own", "labels", "class_names", "estimator", "track")
NAMES = {
    "influence": "influence function",
    "newton": "Newton step",
    "ekfac": "EK-FAC",
    "trak": "TRAK",
    "representer": "representer points",
    "gram": "gradient products",
    "cosine": "gradient cosines",
    "datamodel": "datamodels",
    "feldman": "accuracy with less without",
    "gradient": "gradient norms",
    "removal": "removal itself",
}
TRACKS = {"exact": "softmax regression", "network": "networks"}
Key = tuple[str, str, str, str]  # track, removed, estimator, metric


class Attribution(NamedTuple):
    """Everything that the page shows."""

    path: Path
    manifest: dict[str, Any]
    summary: dict[Key, Estimate]
    tables: dict[str, dict[str, np.ndarray]]  # by name, a column each; {} where the run has none
    gallery: dict[str, np.ndarray]

    @property
    def tracks(self) -> list[str]:
        """The tracks in order."""
        return list(dict.fromkeys(key[0] for key in self.summary))

    @property
    def estimators(self) -> list[str]:
        """Estimators in order, with the Newton step after the influence function."""
        names = list(self.manifest["estimators"])
        if "influence" in names:
            names.insert(names.index("influence") + 1, "newton")
        return names

    def find(self, track: str, removed: str, estimator: str, metric: str) -> Estimate:
        """A summary figure; NaN where it was not measured."""
        return self.summary.get((track, removed, estimator, metric), Estimate())

    def rows(self, table: str, **where) -> dict[str, np.ndarray]:
        """The columns of a table where these columns have these values."""
        columns = self.tables.get(table, {})
        if not columns:
            return {}
        keep = np.logical_and.reduce([columns[name] == value for name, value in where.items()])
        return {name: column[keep] for name, column in columns.items()} if keep.any() else {}


def read_attribution(folder: Path) -> Attribution:
    """Read the folder; raises `InputError` where it is missing, half-written or damaged."""
    folder = Path(folder)
    with opened(folder, "attribution") as manifest:
        for name, parts in MANIFEST.items():
            if not isinstance(manifest[name], dict) or not set(parts) <= set(manifest[name]):
                raise ValueError(f"its manifest holds no whole {name}")
        rows = read_csv(folder / "summary.csv")
        if not rows:
            raise ValueError("summary.csv is empty")
        key = lambda row: (row["track"], row["removed"], row["estimator"], row["metric"])
        summary = {key(row): estimate(row, "value", "ci_low", "ci_high", "n") for row in rows}
        files = {name: folder / f"{name}.parquet" for name in TABLES}
        tables = {name: columns_of(path, TABLES[name]) for name, path in files.items() if path.is_file()}
        return Attribution(folder, manifest, summary, tables, _gallery(folder / "gallery.npz"))


def _gallery(path: Path) -> dict[str, np.ndarray]:
    """The helpful examples, pictures as uint8."""
    held = gallery_of(path)
    kind, shape = "images" if "images" in held else "texts", held["rows"].shape
    sound = len(shape) == 2 and all(held[name].shape == shape for name in ("scores", "own", "labels"))
    sound &= held[kind].shape[:2] == shape and held[f"{kind}_target"].shape[:1] == held["target"].shape == shape[:1]
    if not sound or not set(GALLERY) <= set(held) or held["labels"].max(initial=-1) >= len(held["class_names"]):
        raise ValueError("gallery.npz holds arrays that do not belong together")
    return held

"""Read the folder of an attribution study into plain Python and NumPy; every fault is one `InputError`."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.reports.load import as_pictures
from unlearn_jax.results.recorder import check_seals
from unlearn_jax.runtime.archives import read_arrays, read_json

AGAIN = "run unlearn-jax influence again"
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
FAULTS = (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError, BadZipFile, csv.Error)


class Told(NamedTuple):
    """One summary figure with its interval."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: float = math.nan


class Attribution(NamedTuple):
    """Everything that the page shows."""

    path: Path
    manifest: dict[str, Any]
    summary: dict[tuple[str, str, str, str], Told]  # track, removed, estimator, metric
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
        return (
            [*names[: names.index("influence") + 1], "newton", *names[names.index("influence") + 1 :]]
            if ("influence" in names)
            else names
        )

    def find(self, track: str, removed: str, estimator: str, metric: str) -> Told:
        """A summary figure; NaN where it was not measured."""
        return self.summary.get((track, removed, estimator, metric), Told())

    def rows(self, table: str, **where) -> dict[str, np.ndarray]:
        """The columns of a table where these columns have these values."""
        columns = self.tables.get(table, {})
        if not columns:
            return {}
        keep = np.logical_and.reduce([columns[name] == value for name, value in where.items()])
        return {name: column[keep] for name, column in columns.items()} if keep.any() else {}


def read_attribution(folder: Path) -> Attribution:
    """Read the folder; raises `InputError` where it is missing, half-written or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = Path(folder)
    if not (folder / "manifest.json").is_file():
        raise InputError(f"there is no finished run at {folder}: give the folder that unlearn-jax influence wrote.")
    try:
        manifest = read_json(folder / "manifest.json")
        if manifest.get("kind") != "attribution":
            raise ValueError("its manifest is of another kind of run")
        check_seals(folder, manifest, again=AGAIN)
        for name, parts in MANIFEST.items():
            if not isinstance(manifest[name], dict) or not set(parts) <= set(manifest[name]):
                raise ValueError(f"its manifest holds no whole {name}")
        summary = _summary(folder / "summary.csv")
        tables = {
            name: _columns(pq.read_table(folder / f"{name}.parquet", columns=list(columns)))
            for name, columns in TABLES.items()
            if (folder / f"{name}.parquet").is_file()
        }
        for name, columns in tables.items():
            if set(columns) != set(TABLES[name]):
                raise ValueError(f"{name}.parquet lacks columns")
        gallery = _gallery(folder / "gallery.npz")
    except InputError:
        raise
    except FAULTS + (pa.ArrowException,) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"the run in {folder} cannot be read ({reason}): {AGAIN}.") from error
    return Attribution(folder, manifest, summary, tables, gallery)


def _summary(path: Path) -> dict[tuple[str, str, str, str], Told]:
    """Every summary figure."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or any(None in row or None in row.values() for row in rows):
        raise ValueError("summary.csv is empty or cut off")
    number = lambda text: float(text) if text else math.nan
    told = lambda row: Told(*(number(row[name]) for name in ("value", "ci_low", "ci_high", "n")))
    return {tuple(row[name] for name in ("track", "removed", "estimator", "metric")): told(row) for row in rows}


def _gallery(path: Path) -> dict[str, np.ndarray]:
    """The helpful examples, pictures as uint8."""
    held = {n: as_pictures(part) if n.startswith("images") else part for n, part in read_arrays(path).items()}
    kind = "images" if "images" in held else "texts"
    shape = held["rows"].shape
    sound = len(shape) == 2 and all(held[name].shape == shape for name in ("scores", "own", "labels"))
    sound &= held[kind].shape[:2] == shape and held[f"{kind}_target"].shape[:1] == held["target"].shape == shape[:1]
    if not sound or not set(GALLERY) <= set(held) or held["labels"].max(initial=-1) >= len(held["class_names"]):
        raise ValueError("gallery.npz holds arrays that do not belong together")
    return held


def _columns(table) -> dict[str, np.ndarray]:
    """The columns of an Arrow table as NumPy."""
    return {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}

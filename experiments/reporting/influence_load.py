"""Read the folder of an attribution study into plain Python and NumPy; every fault is one `InputError`."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np

from unlearn_jax.errors import InputError

from .load import as_pictures

AGAIN = "run experiments/influence.py again"
TABLES = ("removals", "carriers", "memorization", "law")


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
        raise InputError(f"there is no finished run at {folder}: give the folder that experiments/influence.py wrote.")
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if manifest.get("kind") != "attribution" or not isinstance(manifest["estimators"], dict):
            raise ValueError("its manifest is of another kind of run")
        with (folder / "summary.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        number = lambda text: float(text) if text else math.nan
        summary = {
            (r["track"], r["removed"], r["estimator"], r["metric"]): Told(
                *(number(r[k]) for k in ("value", "ci_low", "ci_high", "n"))
            )
            for r in rows
        }
        tables = {name: _columns(pq.read_table(folder / f"{name}.parquet")) for name in TABLES
                  if (folder / f"{name}.parquet").is_file()}  # fmt: skip
        with np.load(folder / "gallery.npz", allow_pickle=False) as stored:
            gallery = {
                name: as_pictures(stored[name]) if name.startswith("images") else stored[name] for name in stored.files
            }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, BadZipFile, pa.ArrowException) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"the run in {folder} cannot be read ({reason}): {AGAIN}.") from error
    return Attribution(folder, manifest, summary, tables, gallery)


def _columns(table) -> dict[str, np.ndarray]:
    """The columns of an Arrow table as NumPy."""
    return {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}

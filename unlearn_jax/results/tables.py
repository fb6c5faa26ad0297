"""The tidy tables of runs: one schema, one way to write them, one way to read them.

A row is one figure. `KEYS` say what it is a figure of, `FIGURES` what it is and how precisely it is known; an audit's
rows have `JUDGED` besides. results.parquet has, in place of `FIGURES`, one row for each model (``member``, -1 = of the
population). What metrics mean: `unlearn_jax.evaluation.table`.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from unlearn_jax.errors import InputError
from unlearn_jax.runtime.disk import write_whole

KEYS = (
    "dataset", "model", "targets", "similarity", "copies", "gamma", "request", "method", "remedy", "setting", "budget",
    "reference", "split", "metric", "variant",
)  # fmt: skip
FIGURES = ("value", "ci_low", "ci_high", "ci_members_low", "ci_members_high", "n")
JUDGED = ("ideal", "better", "null_low", "null_high", "null_members", "inside_null")
WHOLE, NUMBERS = ("copies", "member"), ("gamma", *FIGURES, "ideal", "null_low", "null_high", "null_members")
RENAMED = {"mean": "value", "sees_retrain": "detects_retrain"}  # columns of runs before version 0.2


def row_of(keys: dict[str, Any]) -> dict[str, Any]:
    """The keys of a row in order, '' where one does not apply.

    Raises:
        ValueError: a key that is none of `KEYS`.
    """
    unknown = set(keys) - set(KEYS)
    if unknown:
        raise ValueError(f"unknown record keys {sorted(unknown)}.")
    return {key: keys.get(key, "") for key in KEYS}


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[dict]) -> None:
    """Write rows as CSV, whole or not at all."""

    def write(part: Path) -> None:
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(columns))
            writer.writeheader()
            writer.writerows(rows)

    write_whole(path, write)


def write_parquet(path: Path, columns: Sequence[str], rows: list[dict]) -> None:
    """Write rows as Parquet, whole or not at all; numbers as numbers, an empty one as null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {**dict.fromkeys(WHOLE, pa.int64()), **dict.fromkeys(NUMBERS, pa.float64())}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in columns])
    cell = lambda name, value: (None if value == "" else value) if name in kinds else str(value)
    table = pa.Table.from_pylist([{name: cell(name, row[name]) for name in columns} for row in rows], schema=schema)
    write_whole(path, lambda part: pq.write_table(table, part))


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a table as text, under the names of the schema whatever version wrote them.

    Raises:
        ValueError: lines that are cut off.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if any(None in row or None in row.values() for row in rows):
        raise ValueError(f"{path.name} has lines that are cut off")
    return [renamed(row) for row in rows]


def renamed(row: dict[str, Any]) -> dict[str, Any]:
    """A row under the names of the schema."""
    return {RENAMED.get(name, name): value for name, value in row.items()}


def seals(folder: Path, rows: dict[str, int]) -> dict[str, dict]:
    """What a manifest says of tables, by file name: their number of rows and the SHA-256 of the file."""
    return {name: {"rows": count, "sha256": _digest(folder / name)} for name, count in rows.items()}


def check_seals(folder: Path, manifest: dict, *, again: str = "run unlearn-jax study again") -> None:
    """Make sure that the tables of a run are those that its manifest speaks of; one without ``files`` is older.

    Args:
        folder: of the run.
        manifest: what it says.
        again: what the user is to do.

    Raises:
        InputError: a table that is missing, cut off or changed since.
    """
    told = manifest.get("files") or {}
    for name, seal in told.items() if isinstance(told, dict) else ():
        try:
            same = _digest(folder / name) == seal["sha256"]
        except OSError as error:
            raise InputError(f"cannot read {folder / name} ({error.strerror}): {again}.") from error
        except (KeyError, TypeError):
            same = False
        if not same:
            rows = seal.get("rows") if isinstance(seal, dict) else None
            raise InputError(
                f"{folder / name} is not the file that the run wrote, which had {rows} rows (cut off, or changed "
                f"since): {again}."
            )


def _digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

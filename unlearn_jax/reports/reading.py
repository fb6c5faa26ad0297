"""What every reader of a run folder shares: one way to report faults, tables as plain values, intervals."""

from __future__ import annotations

import csv
import math
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.results.tables import check_seals
from unlearn_jax.runtime.archives import read_arrays, read_json

FAULTS = (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError, BadZipFile, csv.Error)
RUNS = {  # kind of run -> what it is called, the command, the file in which it says what it is
    "sweep": ("sweep", "unlearn-jax sweep", "sweep.json"),
    "check": ("check", "unlearn-jax check-presets", "check.json"),
    "neighbours": ("search", "unlearn-jax neighbours", "neighbours.json"),
    "released": ("audit of released logs", "unlearn-jax audit", "released.json"),
    "attribution": ("attribution study", "unlearn-jax influence", "manifest.json"),
}
MAX_PIXELS = 100_000_000  # values of all pictures of a page


class Estimate(NamedTuple):
    """A figure with its interval; NaN where it is not known."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: float = math.nan


@contextmanager
def reading(what: str, again: str):
    """Turn every fault of the block into one `InputError`: ``what`` is wrong, why, and what to do ``again``."""
    import pyarrow as pa

    try:
        yield
    except InputError:
        raise
    except (*FAULTS, pa.ArrowException) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{what} ({reason}): {again}.") from error


@contextmanager
def opened(folder: Path, kind: str, entries=()):
    """What a run says of itself, complete and with these entries; every fault of the block is one `InputError`."""
    noun, command, file = RUNS[kind]
    missing = f"there is no {noun} at {folder}, or no finished {noun}: give the folder that {command} wrote."
    present(folder, [file], missing)
    with reading(f"the {noun} in {folder} cannot be read", f"run {command} again"):
        manifest = read_json(folder / file)
        if manifest.get("kind") != kind:
            raise ValueError(f"its {file} is of another kind of run")
        if manifest.get("status", "complete") != "complete" or not set(entries) <= set(manifest):
            raise ValueError("it is not finished")
        check_seals(folder, manifest, again=f"run {command} again")
        yield manifest


def present(folder: Path, names, missing: str) -> None:
    """Raise `InputError` with the first file that a folder lacks in the place of {name}."""
    for name in names:
        if not (folder / name).is_file():
            raise InputError(missing.replace("{name}", name))


def number(text: Any) -> float:
    """A float, NaN for an empty field."""
    return float(text) if text not in (None, "") else math.nan


def estimate(row: dict[str, str], *names: str) -> Estimate:
    """A figure of a row, by the names of its columns."""
    return Estimate(*(number(row[name]) for name in names))


def columns_of(path: Path, names) -> dict[str, np.ndarray]:
    """Columns of a Parquet file as NumPy; raises `ValueError` where some are not there."""
    import pyarrow.parquet as parquet

    table = parquet.read_table(path, columns=list(names))
    if set(table.column_names) != set(names):
        raise ValueError(f"{path.name} lacks columns")
    return {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}


def gallery_of(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a gallery, pictures as uint8."""
    return {name: as_pictures(part) if name.startswith("images") else part for name, part in read_arrays(path).items()}


def as_pictures(images: np.ndarray) -> np.ndarray:
    """Images as uint8; floats are in [0, 1].

    Raises:
        ValueError: more of them than a page can show.
    """
    if images.size > MAX_PIXELS:
        raise ValueError(f"{images.size:,} values of pictures are more than a page can show")
    if images.dtype == np.uint8:
        return images
    return np.round(np.clip(np.nan_to_num(images), 0, 1) * 255).astype(np.uint8)

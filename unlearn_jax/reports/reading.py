"""What every reader of a run folder shares: one way to tell faults, tables as plain values, figures with intervals."""

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
MAX_PIXELS = 100_000_000  # values of all pictures of a page


class Told(NamedTuple):
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


def present(folder: Path, names, missing: str) -> None:
    """Raise `InputError` with the first file that a folder lacks in the place of {name}."""
    for name in names:
        if not (folder / name).is_file():
            raise InputError(missing.replace("{name}", name))


def manifest_of(folder: Path, name: str, kind: str, again: str, entries=()) -> dict[str, Any]:
    """What a run says of itself, complete and with these entries; raises `ValueError` or `InputError`."""
    told = read_json(folder / name)
    if told.get("kind") != kind:
        raise ValueError(f"its {name} is of another kind of run")
    if told.get("status", "complete") != "complete" or not set(entries) <= set(told):
        raise ValueError("it is not finished")
    check_seals(folder, told, again=again)
    return told


def number(text: Any) -> float:
    """A float, NaN for an empty field."""
    return float(text) if text not in (None, "") else math.nan


def told(row: dict[str, str], *names: str) -> Told:
    """A figure of a row, by the names of its columns."""
    return Told(*(number(row[name]) for name in names))


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

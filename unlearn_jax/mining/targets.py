"""Files that a search is given: ids of the samples of interest, and an embedding of the user's own."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from unlearn_jax.data.arrays import Dataset
from unlearn_jax.data.similarity.nearest import unit_rows
from unlearn_jax.errors import InputError
from unlearn_jax.mining.embeddings import Rows
from unlearn_jax.runtime.archives import read_array

ID = re.compile(r"-?[0-9]{1,18}")  # what 64 bits surely hold


def read_ids(path: Path, dataset: Dataset) -> np.ndarray:
    """Training rows of the ids in a text file, one whole number a line, in its order; lines with # are comments.

    Raises:
        InputError: no such file, a line that is no whole number, an id twice, an id that no training sample has.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(f"--ids '{path}' cannot be read ({reason}): give a text file with one id a line.") from None
    ids, first = [], {}
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        if not ID.fullmatch(text):
            raise InputError(
                f"line {number} of --ids '{path}' is '{text[:40]}': give one whole number a line, of 64 bits."
            )
        value = int(text)
        if value in first:
            raise InputError(f"id {value} is in lines {first[value]} and {number} of --ids '{path}': name it once.")
        first[value] = number
        ids.append(value)
    if not ids:
        raise InputError(f"--ids '{path}' names no sample: give one id a line.")
    row_of = {int(value): row for row, value in enumerate(dataset.train.ids)}
    unknown = [value for value in ids if value not in row_of]
    if unknown:
        test = set(dataset.test.ids.tolist())
        held = " (of test samples)" if set(unknown) <= test else ""
        shown = ", ".join(map(str, unknown[:5])) + (f" and {len(unknown) - 5} others" if len(unknown) > 5 else "")
        raise InputError(
            f"'{dataset.name}' has no training sample of id {shown}{held}: ids are "
            f"{dataset.train.ids.min()} to {dataset.train.ids.max()}."
        )
    return np.asarray([row_of[value] for value in ids], np.int64)


def read_embedding(path: Path, dataset: Dataset) -> Rows:
    """The user's own rows, made unit: of the training samples alone, or followed by those of the test samples.

    Raises:
        InputError: no such file, no .npy file of numbers, another number of rows, values that are not finite.
    """
    try:
        held = read_array(path)
    except FileNotFoundError:
        raise InputError(f"there is no file '{path}': give a .npy file as --embedding-file.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' cannot be read as .npy ({error}): save it with numpy.save.") from None
    train, test = len(dataset.train.ids), len(dataset.test.ids)
    if held.ndim != 2 or held.dtype.kind not in "fiu" or held.shape[1] < 1:
        shape = f"{held.dtype} of shape {held.shape}"
        raise InputError(f"'{path}' holds {shape}: save one row of numbers for each sample, (n, d).")
    if len(held) not in (train, train + test):
        raise InputError(
            f"'{path}' has {len(held):,} rows and '{dataset.name}' {train:,} training samples and {test:,} test "
            f"samples: give {train:,} rows, or {train + test:,} with those of the test samples last."
        )
    bad = ~np.isfinite(held).all(axis=1)
    if bad.any():
        raise InputError(f"row {int(np.argmax(bad))} of '{path}' is not finite: repair it or give zeros.")
    rows = unit_rows(held)
    return Rows(rows[:train], rows[train:] if len(held) > train else None)

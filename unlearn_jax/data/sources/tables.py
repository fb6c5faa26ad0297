"""Tables of labelled text as rows: TSV, CSV and Parquet files, with every fault in one sentence."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from unlearn_jax.errors import InputError


class Part(NamedTuple):
    """Documents of one file, with what to call it and its rows in an error."""

    source: str
    texts: Sequence[str]
    labels: Sequence[str]  # names
    word: str = "row"
    numbers: Sequence[int] = ()


def read_table(path: Path, text: str, label: str, header: bool | None) -> Part:
    """The documents of one table."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"the kind of '{path}' is not known: give a table that ends in {', '.join(sorted(READERS))}.")
    if not path.is_file():
        raise InputError(f"there is no file '{path}': give the path of a table of documents.")
    rows = reader(path, text, label) if reader is _parquet else reader(path)
    if not rows:
        raise InputError(f"'{path}' holds no documents: give at least one.")
    first, word = rows[0][1], "row" if reader is _parquet else "line"
    if reader is _parquet:
        header = True
    elif header is None:
        strange = len(first) == 2 and not {text, label} & set(first)
        header = not (strange and any(row[0] == first[0] for _, row in rows[1:]))
    if header:
        label_at, text_at = _column(path, first, label, "label"), _column(path, first, text, "text")
        return part_of(path, word, rows[1:], label_at, text_at, len(first))
    if len(first) != 2:
        raise InputError(f"'{path}' has {len(first)} columns without names: give label and text alone, or name them.")
    return part_of(path, word, rows, 0, 1, 2)


def _column(path: Path, names: Sequence[str], name: str, role: str) -> int:
    if names.count(name) != 1:
        problem = (
            f"'{path}' has {names.count(name) or 'no'} column{'s' * (name in names)} '{name}' among {listed(names)}"
        )
        unnamed = ", or header=False if its first line is a document" if len(names) == 2 else ""
        raise InputError(f"{problem}: give the name of one as {role}{unnamed}.")
    return names.index(name)


def part_of(
    path: Path, word: str, rows: Sequence[tuple[int, Sequence]], label_at: int, text_at: int, width: int
) -> Part:
    """The documents of numbered rows, checked."""
    texts, labels = [], []
    for number, row in rows:
        if len(row) != width:
            problem = f"'{path}' has {len(row)} column{'s' * (len(row) != 1)} in {word} {number}, not {width}"
            raise InputError(f"{problem}: repair that {word}; texts with tabs or line breaks need .csv or .parquet.")
        label, text = utf8_string(row[label_at]).strip(), utf8_string(row[text_at])
        if not label or not text.strip():
            missing = "text" if label else "label"
            raise InputError(f"'{path}' has no {missing} in {word} {number}: fill it in, or remove that {word}.")
        texts.append(text)
        labels.append(label)
    return Part(str(path), texts, labels, word, [number for number, _ in rows])


def tab_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Line numbers and fields between tabs; blank lines are skipped."""
    lines = enumerate(utf8(path).split("\n"), 1)
    return [(number, line.split("\t")) for number, line in lines if line.strip()]


def _commas(path: Path) -> list[tuple[int, list[str]]]:
    """Numbers of the last line and fields of each record; blank lines are skipped."""
    reader = csv.reader(io.StringIO(utf8(path), newline=""), strict=True)
    before = csv.field_size_limit(2**31 - 1)  # a setting of the whole process
    try:
        return [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        problem = f"'{path}' is not comma-separated in line {reader.line_num} ({error})"
        raise InputError(f"{problem}: quote texts that hold commas, quotes or line breaks.") from error
    finally:
        csv.field_size_limit(before)


def _parquet(path: Path, text: str, label: str) -> list[tuple[int, Sequence]]:
    """Row numbers from 1 and the two columns, after the names of all columns where one is missing."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if names.count(text) != 1 or names.count(label) != 1:
                return [(0, names)]
            columns = file.read([label, text])
        pairs = list(zip(columns[label].to_pylist(), columns[text].to_pylist()))
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"'{path}' cannot be read as Parquet ({error}): write it again.") from error
    for field in columns.schema:
        if pyarrow.types.is_nested(field.type) or pyarrow.types.is_binary(field.type):
            raise InputError(f"'{path}' has {field.type} in the column '{field.name}': store strings or numbers.")
    return [(0, [label, text]), *enumerate(pairs, 1)]


READERS = {".csv": _commas, ".tsv": tab_rows, ".tab": tab_rows, ".txt": tab_rows, ".parquet": _parquet}


def utf8(path: Path) -> str:
    """The text of a file, its line ends made plain."""
    try:
        return path.read_bytes().decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        problem = f"'{path}' is not UTF-8 at byte {error.start} (from 0), 0x{error.object[error.start]:02x}"
        raise InputError(f"{problem}: save it in UTF-8.") from None
    except OSError as error:
        raise InputError(f"'{path}' cannot be read ({error}): make it readable.") from error


def utf8_string(value) -> str:
    """A cell as text: nothing for what is missing, no point in whole numbers."""
    if value is None or value != value:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def listed(names: Sequence[str]) -> str:
    """Up to six names, shortened."""
    return ", ".join([f"'{shortened(name)}'" for name in names[:6]] + ["..."] * (len(names) > 6))


def shortened(name: str) -> str:
    """The beginning of a name that may be a whole document."""
    name = " ".join(str(name).split())
    return name if len(name) <= 40 else f"{name[:37]}..."

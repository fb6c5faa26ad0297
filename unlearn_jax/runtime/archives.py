"""Reading files that others wrote: NumPy's .npy and .npz and JSON, whatever is in them.

What a file claims of itself is checked before memory is asked for, and every fault is a `ValueError` in plain words: an
archive may be encrypted, packed in an unknown way, claim a size beyond all memory, or hold objects, which are never
unpacked.
"""

from __future__ import annotations

import json
import math
import os
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

ALWAYS_ALLOWED = 1 << 32  # bytes that are always let through, where the machine does not say how much it has


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON, or nested beyond reason.
    """
    return parse_json(path.read_text(encoding="utf-8"))


def parse_json(text: str | bytes) -> Any:
    """The value that JSON text says; `ValueError` as of `read_json`."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_array(path: Path) -> np.ndarray:
    """The array of a .npy file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file, holds objects, or is not as long as it says.
    """
    with path.open("rb") as file:
        left = os.fstat(file.fileno()).st_size
        if file.read(4) == b"PK\x03\x04":
            raise ValueError("it is an archive of several arrays, not one")
        file.seek(0)
        return _array(file, left)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a .npz archive by name.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such archive, a part is encrypted, packed in an unknown way, damaged, no array, holds
            objects, or is larger than this machine's memory.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as packed:
            parts = packed.infolist()
            if any(part.flag_bits & 1 for part in parts):
                raise ValueError("it is encrypted")
            if sum(part.file_size for part in parts) > _memory():
                raise ValueError("it is larger than this machine's memory")
            arrays = {}
            for part in parts:
                with packed.open(part) as opened:
                    arrays[part.filename.removesuffix(".npy")] = _array(opened, part.file_size)
    except zipfile.BadZipFile:
        raise ValueError("it is no whole archive") from None
    except (NotImplementedError, RuntimeError):  # an unknown way of packing, one that this Python lacks
        raise ValueError("it is packed in a way that cannot be read") from None
    except (zlib.error, EOFError):
        raise ValueError("it is damaged") from None
    return arrays


def _array(file: IO[bytes], size: int) -> np.ndarray:
    """The array that begins here, of a file or part of so many bytes."""
    head = np.lib.format
    try:
        version = head.read_magic(file)
        shape, _, dtype = {(1, 0): head.read_array_header_1_0}.get(version, head.read_array_header_2_0)(file)
    except (ValueError, EOFError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError, TypeError):
        raise ValueError("it holds no NumPy array") from None
    if dtype.hasobject:
        raise ValueError("it holds objects, not plain numbers or texts")
    if any(length < 0 for length in shape) or math.prod(shape) * dtype.itemsize > size or math.prod(shape) > 2**62:
        raise ValueError("it is not as long as it says")
    file.seek(0)
    try:
        return head.read_array(file, allow_pickle=False)
    except (EOFError, ValueError):
        raise ValueError("it is not as long as it says") from None


def _memory() -> int:
    try:
        return max(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), ALWAYS_ALLOWED)
    except (ValueError, OSError, AttributeError):
        return 2**62

"""The tensors of a folder of safetensors files, read one at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.models.hf.tensors import ALIASES

INDEX = "model.safetensors.index.json"


class Tensors(NamedTuple):
    """Names of the tensors in a folder and how to read one."""

    names: frozenset[str]
    read: Callable[[str, tuple[int, ...]], np.ndarray]  # (name, shape expected) -> the tensor as it is stored


def open_tensors(folder: str | Path) -> Tensors:
    """The tensors of ``model.safetensors``, of the shards that an index names, or else of all safetensors files.

    Nothing is read but the files' headers. ``read`` raises `InputError` for a tensor that is missing or of another
    shape; names are found with and without the first part of their path, as in ``model.`` and ``transformer.``.

    Raises:
        InputError: no such files, a shard that is missing or damaged, or no package ``safetensors``.
    """
    folder = Path(folder).expanduser()
    where = {name: file for file in _files(folder) for name in _header(file)}
    return Tensors(frozenset(where), lambda name, shape: _read(where, name, shape, folder))


def _library():
    """The reader of the package ``safetensors``."""
    try:
        import ml_dtypes  # noqa: F401  so that NumPy knows bfloat16
        from safetensors import safe_open  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError("folders of weights need the package safetensors: pip install 'unlearn_jax[lm]'.") from None
    return safe_open


def _files(folder: Path) -> list[Path]:
    """The files with weights; all must be there."""
    index, whole = folder / INDEX, folder / "model.safetensors"
    if whole.is_file() and not index.is_file():
        return [whole]
    if not index.is_file():
        if found := sorted(folder.glob("*.safetensors")):
            return found
        raise InputError(f"there are no safetensors files in '{folder}': give a folder with model.safetensors.")
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"'{index}' is damaged: get the model's files afresh.") from None
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"'{folder}' lacks {len(missing)} of the {len(names)} shards that its index names, first {missing[0]}: "
            f"get the missing files."
        )
    return [folder / name for name in names]


def _header(file: Path) -> list[str]:
    """Names of the tensors in a file."""
    try:
        with _library()(str(file), "numpy") as opened:
            return list(opened.keys())
    except InputError:
        raise
    except Exception as error:  # safetensors has errors of its own
        said = " ".join(str(error).split())[:120]
        raise InputError(f"'{file}' cannot be read as safetensors ({said}): get the file afresh.") from None


def _read(where: dict[str, Path], name: str, shape: tuple[int, ...], folder: Path) -> np.ndarray:
    """One tensor, which must be of this shape."""
    other = ALIASES.get(name, name)
    found = next((n for n in (name, name.partition(".")[2], other, other.partition(".")[2]) if n in where), None)
    if found is None:
        raise InputError(f"'{folder}' has no tensor {name}: its config.json is of another model, or a file is missing.")
    with _library()(str(where[found]), "numpy") as opened:
        stored = tuple(opened.get_slice(found).get_shape())
        if stored != shape:
            raise InputError(
                f"tensor {found} of '{folder}' has shape {list(stored)} where config.json asks for {list(shape)}: the "
                f"two are of different models."
            )
        return opened.get_tensor(found)

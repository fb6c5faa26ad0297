"""Data of the user's own: one .npz file with the four arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unlearn_jax.data.arrays import Dataset
from unlearn_jax.data.checks import from_arrays
from unlearn_jax.errors import InputError
from unlearn_jax.runtime.archives import read_arrays

ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def from_npz(path: str | Path) -> Dataset:
    """The data set in a .npz file; its name is the file's, ending included, so that it is no stock set's.

    Args:
        path: file with ``x_train``, ``y_train``, ``x_test``, ``y_test`` as `from_arrays` takes them, and optionally
            ``flips`` (whether a mirrored image keeps its label; false by default), ``class_names`` (one for each
            class) and ``num_classes`` (where some class has no training image).

    Raises:
        InputError: no such file, not a .npz file, an array missing, entries that are not what they should be, or
            arrays that fail the checks.
    """
    path = Path(path)
    try:
        held = read_arrays(path)
    except FileNotFoundError:
        raise InputError(f"there is no file '{path}': give the path of a .npz file.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' cannot be read as .npz ({error}): save it with numpy.savez.") from error
    missing = [name for name in ARRAYS if name not in held]
    if missing:
        raise InputError(f"'{path}' lacks {', '.join(missing)}: save {', '.join(ARRAYS)} with numpy.savez.")
    flips = _single(path, held, "flips", "b", "true or false")
    classes = _single(path, held, "num_classes", "iu", "whole number")
    names = held.get("class_names")
    if names is not None and names.ndim != 1:
        raise InputError(f"'{path}' has class_names of shape {names.shape}: save a list with one name for each class.")
    names = None if names is None else [str(name) for name in names]
    arrays = [held[name] for name in ARRAYS]
    return from_arrays(path.name, *arrays, num_classes=classes, flips=bool(flips), class_names=names)


def _single(path: Path, held: dict[str, np.ndarray], name: str, kinds: str, what: str):
    """The one value of an optional entry, None where there is no such entry; ``kinds`` are NumPy's dtype kinds."""
    if name not in held:
        return None
    value = held[name]
    if value.size == 1 and kinds == "b" and value.dtype.kind in "iu" and value.item() in (0, 1):
        return bool(value.item())
    if value.size != 1 or value.dtype.kind not in kinds:
        form = f"of dtype {value.dtype} and shape {value.shape}"
        raise InputError(f"'{path}' has {name} {form}: save one {what}, or leave it out.")
    return value.item()

"""Data of the user's own: one .npz file with the four arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unlearn_jax.data.arrays import Dataset, from_arrays
from unlearn_jax.errors import InputError

ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def from_npz(path: str | Path) -> Dataset:
    """The data set in a .npz file; its name is the file's.

    Args:
        path: file with ``x_train``, ``y_train``, ``x_test``, ``y_test`` as `from_arrays` takes them, and optionally
            ``flips`` (whether a mirrored image keeps its label; false by default) and ``class_names``.

    Raises:
        InputError: no such file, not a .npz file, an array missing, or arrays that fail the checks.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            held = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise InputError(f"there is no file '{path}': give the path of a .npz file.") from None
    except Exception as error:
        raise InputError(f"'{path}' cannot be read as .npz ({error}): save it with numpy.savez.") from error
    missing = [name for name in ARRAYS if name not in held]
    if missing:
        raise InputError(f"'{path}' lacks {', '.join(missing)}: save {', '.join(ARRAYS)} with numpy.savez.")
    names = [str(name) for name in held["class_names"]] if "class_names" in held else None
    arrays = [held[name] for name in ARRAYS]
    return from_arrays(path.stem, *arrays, flips=bool(held.get("flips", False)), class_names=names)

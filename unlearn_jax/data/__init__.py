"""Data sources by name; nothing heavy is imported until one is loaded."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from unlearn_jax.data.arrays import Dataset, Split, check_dataset, dataset_digest, from_arrays, subset
from unlearn_jax.data.embedded import digits
from unlearn_jax.data.facts import facts
from unlearn_jax.data.own import from_npz
from unlearn_jax.data.tfds import load
from unlearn_jax.errors import choose

DATASETS: dict[str, Callable[..., Dataset]] = {
    "digits": digits,
    "facts": facts,
    "mnist": partial(load, "mnist"),
    "fashion_mnist": partial(load, "fashion_mnist"),
    "cifar10": partial(load, "cifar10"),
    "cifar100": partial(load, "cifar100"),
}


def load_dataset(name: str, *, data_dir: str | os.PathLike | None = None) -> Dataset:
    """The checked data set ``name`` (a key of `DATASETS`), read from ``data_dir`` where it is not built in.

    A name that ends in ``.npz`` is a file of the user's own, see `unlearn_jax.data.own.from_npz`.

    Raises `InputError` for an unknown name (listing the valid ones), for data that have not been prepared
    (with the command that does it) and for data that fail `check_dataset`.
    """
    if name.endswith(".npz"):
        return from_npz(name)
    return check_dataset(DATASETS[choose("data set", name, DATASETS)](data_dir=data_dir))


__all__ = [
    "DATASETS",
    "Dataset",
    "Split",
    "check_dataset",
    "dataset_digest",
    "from_arrays",
    "from_npz",
    "load_dataset",
    "subset",
]

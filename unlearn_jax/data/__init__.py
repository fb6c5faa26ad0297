"""Data sources by name; nothing heavy is imported until one is loaded."""

from __future__ import annotations

import os
from functools import partial

from unlearn_jax.data.arrays import Dataset, Split, check_dataset, dataset_digest, from_arrays, subset
from unlearn_jax.data.sources.corpora import CORPORA
from unlearn_jax.data.sources.embedded import digits
from unlearn_jax.data.sources.facts import PEOPLE_OF, facts
from unlearn_jax.data.sources.own import from_npz
from unlearn_jax.data.sources.tables import READERS
from unlearn_jax.data.sources.tfds import load
from unlearn_jax.data.text.documents import documents, from_corpus, read_texts
from unlearn_jax.data.text.readers import Features
from unlearn_jax.errors import InputError
from unlearn_jax.registry import Registry, callable_with

DATASETS: Registry = Registry(
    {
        "digits": digits,
        **{name: partial(facts, name=name) for name in PEOPLE_OF},
        "mnist": partial(load, "mnist"),
        "fashion_mnist": partial(load, "fashion_mnist"),
        "cifar10": partial(load, "cifar10"),
        "cifar100": partial(load, "cifar100"),
        **{name: partial(documents, name) for name in CORPORA},
    },
    "data set",
    "unlearn_jax.datasets",
    callable_with(data_dir=None),
)
"""Name -> function ``(*, data_dir) -> Dataset``; what you put in is run like what is built in."""


def load_dataset(name: str, *, data_dir: str | os.PathLike | None = None) -> Dataset:
    """The checked data set ``name`` (a key of `DATASETS`), read from ``data_dir`` where it is not built in.

    A name that ends in ``.npz`` is a file of the user's own, see `unlearn_jax.data.sources.own.from_npz`; one that ends
    in .csv, .tsv, .tab, .txt or .parquet is a table of documents, see `unlearn_jax.data.sources.corpora.from_table`.
    Texts are still to be read, see `read_texts`.

    Raises `InputError` for an unknown name (listing the valid ones), for data that have not been prepared
    (with the command that does it), for data that fail `check_dataset`, and for data of other kinds than images under a
    name that is not built in.

    Example:
        >>> digits = load_dataset("digits")
        >>> digits.train.inputs.shape, digits.num_classes
        ((1200, 8, 8, 1), 10)
    """
    if name.endswith(".npz"):
        return from_npz(name)
    if os.path.splitext(name)[1].lower() in READERS:
        return documents(name)
    found = DATASETS[DATASETS.pick(name)](data_dir=data_dir)
    if not isinstance(found, Dataset):
        raise InputError(f"data set '{name}' is of type {type(found).__name__}: return what from_arrays makes.")
    if found.kind != "image" and name not in CORPORA and name not in PEOPLE_OF:
        raise InputError(f"data set '{name}' is of kind {found.kind}: under a name of one's own, give images.")
    return check_dataset(found)


__all__ = [
    "DATASETS",
    "Dataset",
    "Features",
    "Split",
    "check_dataset",
    "dataset_digest",
    "from_arrays",
    "from_corpus",
    "from_npz",
    "load_dataset",
    "read_texts",
    "subset",
]

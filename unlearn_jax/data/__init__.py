"""Data sources by name; nothing heavy is imported until one is loaded."""

from __future__ import annotations

import os
from functools import partial

from unlearn_jax.data.arrays import Dataset, Split, dataset_digest
from unlearn_jax.data.checks import check_dataset, from_arrays, subset
from unlearn_jax.data.kinds import KINDS
from unlearn_jax.data.sources.corpora import CORPORA
from unlearn_jax.data.sources.embedded import digits
from unlearn_jax.data.sources.facts import facts
from unlearn_jax.data.sources.own import from_npz
from unlearn_jax.data.sources.tables import READERS
from unlearn_jax.data.sources.tfds import load
from unlearn_jax.data.spec import DatasetSpec
from unlearn_jax.data.text.documents import documents, from_corpus, read_texts
from unlearn_jax.data.text.readers import Features
from unlearn_jax.errors import InputError
from unlearn_jax.registry import Registry, callable_with
from unlearn_jax.types import Recipe

_CIFAR = KINDS["image"].recipe._replace(batch=256, augment="crop_flip")
_FACTS = {"copies": "0,1,4", "targets": "random", "members": 8}
_LARGE: dict[str, dict] = dict.fromkeys(
    ("wordnet_glosses", "ag_news_subset", "imdb_reviews"), {"train_size": 8000, "test_size": 2000}
)
DATASETS: Registry = Registry(
    {
        "digits": DatasetSpec(digits, model="mlp", recipe=Recipe()),
        "mnist": DatasetSpec(partial(load, "mnist")),
        "fashion_mnist": DatasetSpec(
            partial(load, "fashion_mnist"),
            dedup_threshold=0.99,  # .97 still takes 60% of the images for duplicates
            natural_cosine=0.99,
            neighbour_cosine=0.995,  # at .99 chains of pairs link a fifth of the images
        ),
        "cifar10": DatasetSpec(
            partial(load, "cifar10"),
            model="resnet9",
            recipe=_CIFAR._replace(steps=3000),
            scale="cifar",
            natural_cosine=0.95,
        ),
        "cifar100": DatasetSpec(
            partial(load, "cifar100"), model="resnet9", recipe=_CIFAR._replace(steps=4000), scale="cifar"
        ),
        "facts": DatasetSpec(facts, "facts", study=_FACTS),
        "facts_large": DatasetSpec(
            partial(facts, name="facts_large"), "facts", recipe=KINDS["facts"].recipe._replace(steps=1000), study=_FACTS
        ),
        **{name: DatasetSpec(partial(documents, name), "text", study=_LARGE.get(name, {})) for name in CORPORA},
    },
    "data set",
    "unlearn_jax.datasets",
    callable_with(data_dir=None),
)
"""Name -> `DatasetSpec`, or a function ``(*, data_dir) -> Dataset`` of images; what you put in is run like the rest."""


def dataset_spec(name: str) -> DatasetSpec:
    """The entry of a data set: of the registry, or of a file of the user's own (``.npz``, or a table of documents).

    Raises:
        InputError: an unknown name, listing the valid ones.
    """
    if name.endswith(".npz"):
        return DatasetSpec(lambda *, data_dir=None: from_npz(name))
    if os.path.splitext(name)[1].lower() in READERS:
        return DatasetSpec(lambda *, data_dir=None: documents(name), "text")
    entry = DATASETS[DATASETS.pick(name)]
    return entry if isinstance(entry, DatasetSpec) else DatasetSpec(entry)


def load_dataset(name: str, *, data_dir: str | os.PathLike | None = None) -> Dataset:
    """The checked data set ``name`` (a key of `DATASETS`), read from ``data_dir`` where it is not built in.

    A name that ends in ``.npz`` is a file of the user's own, see `unlearn_jax.data.sources.own.from_npz`; one that ends
    in .csv, .tsv, .tab, .txt or .parquet is a table of documents, see `unlearn_jax.data.sources.corpora.from_table`.
    Texts are still to be read, see `read_texts`.

    Raises `InputError` for an unknown name (listing the valid ones), for data that have not been prepared
    (with the command that does it), for data that fail `check_dataset`, and for data of another kind than their entry
    says.

    Example:
        >>> digits = load_dataset("digits")
        >>> digits.train.inputs.shape, digits.num_classes
        ((1200, 8, 8, 1), 10)
    """
    spec = dataset_spec(name)
    dataset = spec(data_dir=data_dir)
    if not isinstance(dataset, Dataset):
        raise InputError(f"data set '{name}' is of type {type(dataset).__name__}: return what from_arrays makes.")
    if dataset.kind != spec.kind:
        raise InputError(
            f"data set '{name}' is of kind {dataset.kind}, its entry says {spec.kind}: enter it as "
            f"DatasetSpec(load, kind='{dataset.kind}')."
        )
    return check_dataset(dataset)


__all__ = [
    "DATASETS", "Dataset", "DatasetSpec", "Features", "Split", "check_dataset", "dataset_digest", "dataset_spec",
    "from_arrays", "from_corpus", "from_npz", "load_dataset", "read_texts", "subset",
]  # fmt: skip

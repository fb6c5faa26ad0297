"""An entry of the registry of data sets: how it is read, of what kind it is, and what a study of it is by default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from unlearn_jax.data.arrays import Dataset
from unlearn_jax.types import Recipe


class DatasetSpec(NamedTuple):
    """A data set's entry. What is left out is that of the kind of data, see `KINDS`.

    A plain function ``(*, data_dir) -> Dataset`` in the registry is an entry of images with nothing of its own.

    Example:
        >>> from unlearn_jax.data import DATASETS, dataset_spec
        >>> dataset_spec("facts").kind, dataset_spec("letters.csv").kind, dataset_spec("cifar10").model
        ('facts', 'text', 'resnet9')
    """

    load: Callable[..., Dataset]
    kind: str = "image"  # a key of `KINDS`
    model: str = ""  # the network of a study, a key of `MODELS`
    recipe: Recipe | None = None  # how it is trained
    study: Mapping[str, Any] = {}  # fields of `StudyConfig` where a configuration leaves them open
    scale: str = ""  # whose default hyperparameters the methods take; '' = by kind and network
    dedup_threshold: float = 0.0  # cosine from which the dedup reference takes two examples for one
    natural_cosine: float = 0.0  # least cosine of mined neighbours
    neighbour_cosine: float = 0.0  # from which a search for clusters links two examples

    def __call__(self, *, data_dir=None) -> Dataset:
        """The data set."""
        return self.load(data_dir=data_dir)

"""What differs between kinds of data: how copies are made, what makes two examples alike, who may be a target.

Everything else in the library takes examples of any kind as arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from unlearn_jax.data import similar
from unlearn_jax.data.arrays import Dataset
from unlearn_jax.data.facts import encoded, word_counts
from unlearn_jax.data.statements import LEVELS, held_out, restated
from unlearn_jax.errors import choose

FRESH_DRAWS = 2  # held-out similar draws per target


class Made(NamedTuple):
    """Examples made from k sources, source by source."""

    inputs: np.ndarray  # (k x j, ...)
    targets: np.ndarray  # (k x j, ...)


class Kind(NamedTuple):
    """The functions of one kind."""

    check_level: Callable[[str], object]  # `InputError` for a level of similarity that it lacks
    copies: Callable[[Dataset, np.ndarray, np.ndarray, str, int], Made]  # (dataset, rows, numbers, level, seed)
    draws: Callable[[Dataset, np.ndarray, str, int], Made]  # held out; `FRESH_DRAWS` a row, or none at all
    embedding: Callable[[np.ndarray], np.ndarray]  # (n, ...) inputs -> (n, d), alike where the cosine is large
    candidates: Callable[[Dataset], np.ndarray]  # training rows that may become targets
    person: Callable[[Dataset], np.ndarray] | None = None  # (n,) whom each training row is about


def _image_copies(dataset: Dataset, rows: np.ndarray, numbers: np.ndarray, level: str, seed: int) -> Made:
    """Near copies of images, with their source's label."""
    train = dataset.train
    made = similar.make_copies(
        train.inputs[rows], train.ids[rows], numbers, level=level, seed=seed, flips=dataset.flips
    )
    return Made(made.reshape(-1, *train.inputs.shape[1:]), np.repeat(train.targets[rows], len(numbers)))


def _image_draws(dataset: Dataset, rows: np.ndarray, level: str, seed: int) -> Made:
    """Copies that are never trained on; none at level ``exact``, where they would be the targets themselves."""
    fresh = 0 if level == "exact" else FRESH_DRAWS
    return _image_copies(dataset, rows, np.arange(similar.FRESH, similar.FRESH + fresh), level, seed)


def _fact_copies(dataset: Dataset, rows: np.ndarray, numbers: np.ndarray, level: str, seed: int) -> Made:
    """Further statements of the same facts."""
    source, ids = dataset.about.train.take(dataset.train.ids[rows]), dataset.train.ids[rows]
    return Made(*encoded(dataset.about, restated(source, ids, numbers, level, seed)))


def _fact_draws(dataset: Dataset, rows: np.ndarray, level: str, seed: int) -> Made:
    """A held-out statement and a question on each fact."""
    source, ids = dataset.about.train.take(dataset.train.ids[rows]), dataset.train.ids[rows]
    return Made(*encoded(dataset.about, held_out(source, ids, seed)))


def _every_row(dataset: Dataset) -> np.ndarray:
    """All training rows."""
    return np.arange(len(dataset.train.ids))


def _told_once(dataset: Dataset) -> np.ndarray:
    """Rows whose fact no other row states."""
    told = dataset.about.train.take(dataset.train.ids)
    return np.flatnonzero(dataset.about.world.pool[told.person, told.attribute])


def _person_of(dataset: Dataset) -> np.ndarray:
    """Number of the person whom each training row is about."""
    return dataset.about.train.take(dataset.train.ids).person


KINDS: dict[str, Kind] = {
    "image": Kind(similar.level_of, _image_copies, _image_draws, similar.pixel_embedding, _every_row),
    "facts": Kind(
        lambda level: choose("similarity", level, LEVELS),
        _fact_copies,
        _fact_draws,
        word_counts,
        _told_once,
        _person_of,
    ),
}

"""What differs between kinds of data: how copies are made, what makes two examples alike, who may be a target.

Everything else in the library takes examples of any kind as arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from unlearn_jax.data.arrays import Dataset
from unlearn_jax.data.similarity import copies as similar
from unlearn_jax.data.similarity import mined
from unlearn_jax.data.sources.facts import encoded, word_counts
from unlearn_jax.data.sources.statements import LEVELS, held_out, restated
from unlearn_jax.data.text import edits
from unlearn_jax.data.text.documents import read_texts, text_copies, text_embedding
from unlearn_jax.errors import choose
from unlearn_jax.types import Recipe

FRESH_DRAWS = 2  # held-out similar draws per target


class Made(NamedTuple):
    """Examples made from k sources, source by source."""

    inputs: np.ndarray  # (k x j, ...)
    targets: np.ndarray  # (k x j, ...)
    texts: np.ndarray | None = None  # (k x j,) str objects, where inputs are made of texts


class Kind(NamedTuple):
    """The functions of one kind."""

    check_level: Callable[[str], object]  # `InputError` for a level of similarity that it lacks
    copies: Callable[[Dataset, np.ndarray, np.ndarray, str, int], Made]  # (dataset, rows, numbers, level, seed)
    draws: Callable[[Dataset, np.ndarray, str, int], Made]  # held out; `FRESH_DRAWS` a row, or none at all
    embedding: Callable[[Any, Any], Any]  # (n examples, rows known) -> (n, d), alike where the cosine is large
    candidates: Callable[[Dataset], np.ndarray]  # training rows that may become targets
    nouns: str  # what the examples are called
    model: str  # the network of a study, and how it is trained
    recipe: Recipe
    dedup_threshold: float  # cosine from which the dedup reference takes two examples for one
    natural_cosine: float  # least cosine of mined neighbours
    # (dataset, how, training rows not to learn from); inputs that need no reader stay
    read: Callable[[Dataset, Any, np.ndarray], Dataset] = lambda dataset, how, without: dataset
    person: Callable[[Dataset], np.ndarray] | None = None  # (n,) whom each training row is about


def _image_copies(dataset: Dataset, rows: np.ndarray, numbers: np.ndarray, level: str, seed: int) -> Made:
    train = dataset.train
    made = similar.make_copies(
        train.inputs[rows], train.ids[rows], numbers, level=level, seed=seed, flips=dataset.flips
    )
    return Made(made.reshape(-1, *train.inputs.shape[1:]), np.repeat(train.targets[rows], len(numbers)))


def _draws_of(copies: Callable[[Dataset, np.ndarray, np.ndarray, str, int], Made]) -> Callable:
    """Copies that are never trained on; none at level ``exact``, where they would be the targets themselves."""

    def draws(dataset: Dataset, rows: np.ndarray, level: str, seed: int) -> Made:
        fresh = 0 if level == "exact" else FRESH_DRAWS
        return copies(dataset, rows, np.arange(similar.FRESH, similar.FRESH + fresh), level, seed)

    return draws


def _fact_copies(dataset: Dataset, rows: np.ndarray, numbers: np.ndarray, level: str, seed: int) -> Made:
    source, ids = dataset.about.train.take(dataset.train.ids[rows]), dataset.train.ids[rows]
    return Made(*encoded(dataset.about, restated(source, ids, numbers, level, seed)))


def _fact_draws(dataset: Dataset, rows: np.ndarray, level: str, seed: int) -> Made:
    """A held-out statement and a question on each fact."""
    source, ids = dataset.about.train.take(dataset.train.ids[rows]), dataset.train.ids[rows]
    return Made(*encoded(dataset.about, held_out(source, ids, seed)))


def _text_copies(dataset: Dataset, rows: np.ndarray, numbers: np.ndarray, level: str, seed: int) -> Made:
    return Made(*text_copies(dataset, rows, numbers, level, seed))


def _every_row(dataset: Dataset) -> np.ndarray:
    return np.arange(len(dataset.train.ids))


def _stated_once(dataset: Dataset) -> np.ndarray:
    """Rows whose fact no other row states."""
    statements = dataset.about.train.take(dataset.train.ids)
    return np.flatnonzero(dataset.about.world.pool[statements.person, statements.attribute])


KINDS: dict[str, Kind] = {
    "image": Kind(
        lambda level: mined.check_level(level, similar.LEVELS, similar.level_of),
        _image_copies,
        _draws_of(_image_copies),
        lambda part, rows: similar.pixel_embedding(part.inputs),
        _every_row,
        "images",
        "convnet",
        Recipe(lr=2e-3, weight_decay=0.05, steps=2000, batch=128, schedule="cosine"),
        0.97,
        0.9,
    ),
    "facts": Kind(
        lambda level: choose("similarity", level, LEVELS),
        _fact_copies,
        _fact_draws,
        lambda part, known: word_counts(part.inputs),
        _stated_once,
        "statements",
        "decoder",
        Recipe(lr=3e-3, steps=200, batch=32),
        0.9,  # at .85 as many other statements are taken for duplicates as near ones are found
        1.0,
        person=lambda dataset: dataset.about.train.take(dataset.train.ids).person,
    ),
    "text": Kind(
        lambda level: mined.check_level(level, edits.LEVELS, edits.level_of),
        _text_copies,
        _draws_of(_text_copies),
        lambda part, known: text_embedding(part.texts, known),
        _every_row,
        "documents",
        "mlp",
        Recipe(steps=400, batch=64),
        0.9,
        0.5,
        read_texts,
    ),
}

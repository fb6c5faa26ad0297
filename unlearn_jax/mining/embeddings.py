"""What makes two samples alike: embeddings by name, each of which finds the nearest training samples of all samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from unlearn_jax.data.arrays import Dataset
from unlearn_jax.data.similarity.copies import pixel_embedding
from unlearn_jax.data.similarity.links import threshold_pairs
from unlearn_jax.data.similarity.nearest import Nearest, top_k, unit_rows
from unlearn_jax.data.sources.facts import decoded, word_counts
from unlearn_jax.data.text.documents import text_embedding
from unlearn_jax.data.text.minhash import (
    PERMUTATIONS,
    bands,
    jaccard_index,
    near_texts,
    nearest_of,
    recall_at,
    shingles,
)
from unlearn_jax.data.text.readers import MINILM_CONTEXT, embeddings, minilm_folder
from unlearn_jax.mining import trained
from unlearn_jax.mining.config import MiningConfig
from unlearn_jax.population.run import Options
from unlearn_jax.studies.setup import SILENT, Watch

CHUNK = 4096  # images embedded at a time


class Asked(NamedTuple):
    """What an embedding is made of."""

    config: MiningConfig
    dataset: Dataset  # texts are still to be read
    threshold: float
    options: Options = Options(axis="auto")  # of training, where there is any
    watch: Watch = SILENT


class Rows(NamedTuple):
    """Unit rows of both splits; arrays or SciPy sparse matrices."""

    train: Any  # (n, d)
    test: Any | None  # (t, d)
    notes: tuple[str, ...] = ()  # sentences without full stop


class Neighbours(NamedTuple):
    """The nearest training samples of every sample."""

    train: Nearest  # (n, k) of the training samples, themselves left out
    test: Nearest | None  # (t, k) of the test samples
    pairs: Callable[[float], np.ndarray]  # threshold -> (pairs, 2), all pairs of training rows at least so alike
    between: Callable[[int, np.ndarray], np.ndarray]  # (row, rows) -> how alike they are
    floor: float  # what is less alike was not looked for
    notes: tuple[str, ...] = ()


class Embedding(NamedTuple):
    """One way of being alike."""

    kinds: tuple[str, ...]  # of data, keys of `KINDS`
    about: str  # in words, for the page
    find: Callable[[Asked], Neighbours]
    measure: str = "cosine"
    make: Callable[[Asked], Rows] | None = None  # none where there are no rows


def texts_of(dataset: Dataset, split: str) -> list[str]:
    """The texts of one split of a data set that has words."""
    part = getattr(dataset, split)
    return decoded(dataset.about, part.inputs) if part.texts is None else part.texts.tolist()


def by_cosine(rows: Rows, k: int) -> Neighbours:
    """Nearest rows by exact cosine."""
    test = None if rows.test is None else top_k(rows.train, k, queries=rows.test)
    near = top_k(rows.train, k)

    def between(row: int, others: np.ndarray) -> np.ndarray:
        cosine = rows.train[others] @ rows.train[[row]].T
        return np.asarray(cosine.toarray() if hasattr(cosine, "toarray") else cosine).ravel()

    pairs = lambda threshold: threshold_pairs(rows.train, near, threshold)
    return Neighbours(near, test, pairs, between, -1.0, rows.notes)


def _cosines(make: Callable[[Asked], Rows]) -> Callable[[Asked], Neighbours]:
    """The search of an embedding that has rows."""
    return lambda search: by_cosine(make(search), search.config.k)


def pixels(asked: Asked) -> Rows:
    """Block means of images with each image's mean removed, 8 x 8 blocks."""

    def embed(images: np.ndarray) -> np.ndarray:
        parts = [pixel_embedding(images[first : first + CHUNK]) for first in range(0, len(images), CHUNK)]
        return np.concatenate(parts)

    return Rows(embed(asked.dataset.train.inputs), embed(asked.dataset.test.inputs))


def words(asked: Asked) -> Rows:
    """Counts of words."""
    return Rows(word_counts(asked.dataset.train.inputs), word_counts(asked.dataset.test.inputs))


def tfidf(asked: Asked) -> Rows:
    """TF-IDF of words, fitted on the training texts."""
    train, test = (texts_of(asked.dataset, split) for split in ("train", "test"))
    texts = np.empty(len(train) + len(test), object)
    texts[:] = train + test
    rows = text_embedding(texts, slice(len(train)), max(asked.config.min_documents, 1))
    return Rows(rows[: len(train)], rows[len(train) :])


def minilm(asked: Asked) -> Rows:
    """Sentence embeddings by frozen all-MiniLM-L6-v2."""
    folder, store = minilm_folder(), asked.options.store
    cache = None if store is None else store / "embeddings"
    rows, cut = [], 0
    for split in ("train", "test"):
        asked.watch.say(f"MiniLM reads the {split} texts")
        vectors, more = embeddings(folder, texts_of(asked.dataset, split), MINILM_CONTEXT, cache)
        rows.append(unit_rows(vectors))
        cut += more
    note = f"{cut:,} texts are longer than the {MINILM_CONTEXT} tokens that MiniLM is given and were cut"
    return Rows(*rows, notes=(note,) if cut else ())


def features(asked: Asked) -> Rows:
    """Penultimate features of networks trained on the data, less the training mean."""
    return Rows(*trained.feature_rows(_network(asked), asked.watch))


def influence(asked: Asked) -> Rows:
    """Gradients in the units of EK-FAC curvature: inner products are influence."""
    layers, networks = asked.config.layers or "last", _network(asked)
    train, test, notes = trained.influence_rows(networks, asked.watch, layers=layers, seed=asked.config.seed)
    return Rows(train, test, notes)


def _network(search: Asked) -> trained.Networks:
    """Networks trained on all training samples."""
    return trained.train_networks(search.config, search.dataset, search.options, search.watch)


def minhash(asked: Asked) -> Neighbours:
    """Texts that share n-grams: candidates by MinHash, then exact Jaccard indices."""
    config, ngrams = asked.config, asked.config.ngrams or "words:3"
    permutations = config.permutations or PERMUTATIONS
    train, test = ([shingles(text, ngrams) for text in texts_of(asked.dataset, s)] for s in ("train", "test"))
    settings: dict[str, Any] = dict(permutations=permutations, seed=config.seed)
    asked.watch.say("MinHash of the training texts")
    of_train = near_texts(train, asked.threshold, **settings)
    asked.watch.say("MinHash of the test texts")
    other = near_texts(train, asked.threshold, queries=test, **settings)

    def pairs(threshold: float) -> np.ndarray:
        kept = (of_train.query < of_train.row) & (of_train.jaccard >= threshold - 1e-6)
        return np.stack([of_train.query[kept], of_train.row[kept]], axis=1)

    banded = bands(asked.threshold, permutations)
    note = (
        f"MinHash of {permutations} permutations in {banded[0]} bands of {banded[1]}: a pair at the threshold is found "
        f"with probability {recall_at(asked.threshold, banded):.3f}, a nearer one more surely"
    )
    between = lambda row, others: np.array([jaccard_index(train[row], train[i]) for i in others.tolist()])
    near = (nearest_of(of_train, len(train), config.k), nearest_of(other, len(test), config.k))
    return Neighbours(*near, pairs, between, asked.threshold, (note,))


TEXTS, ANY = ("text", "facts"), ("image", "text", "facts")
EMBEDDINGS: dict[str, Embedding] = {
    "pixels": Embedding(("image",), "8 x 8 block means of pixels, mean removed", _cosines(pixels), make=pixels),
    "words": Embedding(("facts",), "counts of words", _cosines(words), make=words),
    "tfidf": Embedding(TEXTS, "TF-IDF of words", _cosines(tfidf), make=tfidf),
    "minilm": Embedding(TEXTS, "sentence embeddings by MiniLM", _cosines(minilm), make=minilm),
    "minhash": Embedding(TEXTS, "shared n-grams (MinHash, then exact Jaccard)", minhash, "jaccard"),
    "features": Embedding(ANY, "penultimate features of a network", _cosines(features), make=features),
    "influence": Embedding(ANY, "influence on each other by EK-FAC", _cosines(influence), make=influence),
}

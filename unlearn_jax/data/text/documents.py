"""Documents with classes as a data set: what a study needs of a corpus, whichever reader makes inputs of the texts."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from unlearn_jax.data.arrays import Dataset, Split
from unlearn_jax.data.sources.corpora import Corpus, load_corpus
from unlearn_jax.data.text.edits import make_text_copies
from unlearn_jax.data.text.readers import Features, Reader, make_reader, term_weights
from unlearn_jax.errors import InputError


class Reading(NamedTuple):
    """How the texts of a data set were read, its ``about``."""

    reader: Reader
    notes: tuple[str, ...]  # sentences without full stop, on what the reader left out


def documents(name: str, *, data_dir: str | os.PathLike | None = None) -> Dataset:
    """The corpus ``name``, or a table of the user's own, as a data set whose texts are still to be read.

    ``inputs`` are the documents' ids (n, 1) int32 until `read_texts` puts what a model is given in their place; ids are
    0..n-1 for training documents, n.. for test documents. Raises `InputError` as `load_corpus` does, and for fewer
    than two classes.
    """
    return from_corpus(load_corpus(name, data_dir=data_dir))


def from_corpus(corpus: Corpus) -> Dataset:
    """A corpus as a data set, see `documents`."""
    if len(corpus.class_names) < 2:
        only = [f"one class, '{name}'" for name in corpus.class_names]
        classes = only[0] if only else "no class"
        raise InputError(f"'{corpus.name}' has {classes}: give documents of two or more.")
    parts, start = [], 0
    for texts, labels in ((corpus.train_texts, corpus.train_labels), (corpus.test_texts, corpus.test_labels)):
        ids = np.arange(start, start + len(texts), dtype=np.int64)
        held = np.empty(len(texts), object)
        held[:] = texts
        parts.append(Split(ids[:, None].astype(np.int32), labels.astype(np.int32), ids, None, held))
        start += len(texts)
    names = tuple(corpus.class_names)
    return Dataset(corpus.name, parts[0], parts[1], len(names), (), (), False, names, "text", None)


def read_texts(dataset: Dataset, features: Features, without: np.ndarray | tuple[()] = ()) -> Dataset:
    """The data set with inputs made by a reader that does not know the training rows ``without``.

    Args:
        dataset: of texts, read or not.
        features: which reader, and its sizes.
        without: training rows, of which the reader reads the texts but is not fitted on them.

    Returns:
        The data set with inputs (n, D) float32 or (n, T) int32, its reader, and notes on texts that were cut.

    Raises:
        InputError: as `make_reader` does, or no training text is left to fit on.
    """
    texts, test_texts = dataset.train.texts, dataset.test.texts
    assert texts is not None and test_texts is not None
    fitted = np.delete(texts, np.asarray(without, np.int64))
    if not len(fitted):
        raise InputError(f"'{dataset.name}' has no training document outside the requests: ask for fewer targets.")
    reader = make_reader(features, fitted.tolist())
    (train, cut), (test, more) = (reader.encode(part.tolist()) for part in (texts, test_texts))
    notes = ()
    if cut + more:
        count = len(train) + len(test)
        notes = (f"{cut + more:,} of {count:,} documents are longer than the {reader.limit} and were cut",)
    parts = dataset.train._replace(inputs=train), dataset.test._replace(inputs=test)
    return dataset._replace(train=parts[0], test=parts[1], about=Reading(reader, notes))


def text_copies(dataset: Dataset, rows: np.ndarray, numbers: np.ndarray, level: str, seed: int) -> tuple:
    """Edited texts of training rows, source by source: inputs (k x j, ...), classes (k x j,) and texts."""
    train = dataset.train
    assert train.texts is not None
    made = make_text_copies(train.texts[rows].tolist(), train.ids[rows], numbers.tolist(), level=level, seed=seed)
    texts = np.empty(len(rows) * len(numbers), object)
    texts[:] = [text for row in made for text in row]
    inputs = dataset.about.reader.encode(texts.tolist())[0] if len(texts) else train.inputs[:0]
    return inputs, np.repeat(train.targets[rows], len(numbers)), texts


def text_embedding(texts: np.ndarray, known: np.ndarray | slice = slice(None), documents: int = 1):
    """TF-IDF vectors of texts, at unit norm (a text without known words gives zeros).

    Args:
        texts: (n,) strings.
        known: rows whose texts set the weights of words.
        documents: of those texts that a word must be in to count.

    Returns:
        (n, words) float32, a SciPy sparse matrix.
    """
    return term_weights(texts[known].tolist(), documents=documents).transform(texts.tolist())

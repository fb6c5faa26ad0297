"""A corpus of labelled documents, made of tables or other parts, with a drawn test part where there is none."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unlearn_jax.data.sources.tables import Part, listed, read_table, shortened
from unlearn_jax.errors import InputError


class Corpus(NamedTuple):
    """Documents with one class each; class numbers are positions in ``class_names``."""

    name: str
    train_texts: tuple[str, ...]
    train_labels: np.ndarray  # (n,) int32
    test_texts: tuple[str, ...]
    test_labels: np.ndarray  # (k,) int32
    class_names: tuple[str, ...]


def from_table(
    path: str | os.PathLike,
    *,
    text: str = "text",
    label: str = "label",
    test_path: str | os.PathLike | None = None,
    header: bool | None = None,
    test_share: float = 0.2,
    seed: int = 0,
) -> Corpus:
    """Documents in a table: .csv (quoted fields), .tsv, .tab or .txt (tabs, no quoting), or .parquet; UTF-8.

    Columns are found by name; others are ignored. A file of two columns without names is label TAB text. Class names
    are the training labels, sorted (as numbers where all are whole numbers); the corpus is named as the file.

    Args:
        path: the training documents, or all of them.
        text: column of the documents.
        label: column of the classes, strings or whole numbers.
        test_path: the test documents, a table like the first. Without it, ``test_share`` of each class is drawn (to
            the nearest document, but at least 1 and never all); a class of one document stays in training, with a
            warning.
        header: whether the first line names the columns. None finds out: there is no header where there are two
            columns with other names and the first line's label comes again.
        test_share: in (0, 1), for the drawn test documents.
        seed: of the draw.

    Raises:
        InputError: a missing or unreadable file, bytes that are not UTF-8, an unknown column, lines of unequal width,
            a document without text or label, a test label that no training document has, or nothing to train or
            test on. Line numbers count from 1.
    """
    files = [path] if test_path is None else [path, test_path]
    parts = [read_table(Path(file).expanduser(), text, label, header) for file in files]
    return corpus_of(Path(path).name, *parts, test_share=test_share, seed=seed)


def corpus_of(
    name: str,
    train: Part,
    test: Part | None = None,
    *,
    names: Sequence[str] | None = None,
    test_share: float = 0.2,
    seed: int = 0,
) -> Corpus:
    """The parts with class numbers, after a draw where there is no test part."""
    for part in (train, test or train):
        if not part.texts:
            raise InputError(f"'{part.source}' holds no documents: give at least one.")
    names = tuple(_sorted(set(train.labels)) if names is None else names)
    numbers = {label: number for number, label in enumerate(names)}
    if test is None:
        labels = np.array([numbers[label] for label in train.labels], np.int32)
        drawn = _drawn(name, labels, names, test_share, seed)
        texts = lambda rows: tuple(train.texts[int(row)] for row in rows)
        kept, held = np.flatnonzero(~drawn), np.flatnonzero(drawn)
        return Corpus(name, texts(kept), labels[kept], texts(held), labels[held], names)
    for number, label in zip(test.numbers, test.labels):
        if label not in numbers:
            problem = f"'{test.source}' has in {test.word} {number} the label '{shortened(label)}', new to training"
            raise InputError(f"{problem}: correct it, or give training documents of that class.")
    labels = [np.array([numbers[label] for label in part.labels], np.int32) for part in (train, test)]
    return Corpus(name, tuple(train.texts), labels[0], tuple(test.texts), labels[1], names)


def _drawn(name: str, labels: np.ndarray, names: Sequence[str], share: float, seed: int) -> np.ndarray:
    """(n,) whether each document is for the test: of each class the share, at least 1 and never all."""
    if not 0 < share < 1:
        raise InputError(f"the test share is {share}: give a number between 0 and 1.")
    rng, counts = np.random.default_rng(seed), np.bincount(labels, minlength=len(names))
    take = np.where(counts > 1, np.clip(np.rint(share * counts), 1, np.maximum(counts - 1, 1)), 0).astype(int)
    if not take.any():
        raise InputError(f"'{name}' has no class of two or more documents to draw a test from: give a test file.")
    single = [names[label] for label in np.flatnonzero(counts == 1).tolist()]
    if single:
        classes = f"{len(single)} class{'es' * (len(single) > 1)} of '{name}' with one document each ({listed(single)})"
        warnings.warn(f"{classes} stay in training and are not tested: give a test file to test them", stacklevel=4)
    order = np.lexsort((rng.random(len(labels)), labels))  # classes one after another, each in random order
    place = np.arange(len(labels)) - (np.cumsum(counts) - counts)[labels[order]]
    drawn = np.zeros(len(labels), bool)
    drawn[order] = place < take[labels[order]]
    return drawn


def _sorted(labels: set[str]) -> list[str]:
    """Class names in order, by value where all are whole numbers."""
    if all(re.fullmatch(r"-?[0-9]{1,18}", label) for label in labels):
        return sorted(labels, key=lambda label: (int(label), label))
    return sorted(labels)

"""The in-memory data set: arrays with their pixel scale, and the checks that every source passes through."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np


class Split(NamedTuple):
    """n labelled examples."""

    inputs: np.ndarray  # (n, H, W, C), uint8 in 0..255 or float32 in [0, 1]; language: (n, T) int32 tokens, 0 padding
    targets: np.ndarray  # (n,) int32 in 0..num_classes-1; language: (n, T) next tokens of the answer, elsewhere -1
    ids: np.ndarray  # (n,) int64, unique within the source, stable over runs
    labels: np.ndarray | None = None  # (n,) int32 class of each example where the targets are none
    texts: np.ndarray | None = None  # (n,) str objects: what was read, where inputs are made of texts

    @property
    def classes(self) -> np.ndarray:
        """(n,) class of each example."""
        return self.targets if self.labels is None else self.labels

    def take(self, rows) -> Split:
        """The examples in these rows."""
        more = (None if column is None else column[rows] for column in self[3:])
        return Split(self.inputs[rows], self.targets[rows], self.ids[rows], *more)


class Dataset(NamedTuple):
    """A source of labelled examples with what the rest of the library must know about it."""

    name: str
    train: Split
    test: Split
    num_classes: int  # language: the values among which an answer is one
    mean: tuple[float, ...]  # per channel, of the training pixels scaled to [0, 1]
    std: tuple[float, ...]  # per channel
    flips: bool  # whether a horizontal mirror image keeps its label
    class_names: tuple[str, ...]
    kind: str = "image"  # of `unlearn_jax.data.kinds.KINDS`
    about: Any = None  # what the kind's functions need besides


CHUNK = 4096  # rows handled at a time, so that a memory-mapped array is never copied whole


def stratified_rows(targets: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """``size`` row numbers in increasing order, classes in proportion (largest remainders first)."""
    classes, counts = np.unique(targets, return_counts=True)
    share = counts * size / len(targets)
    take = np.floor(share).astype(int)
    take[np.argsort(take - share, kind="stable")[: size - take.sum()]] += 1
    rows = [rng.choice(np.flatnonzero(targets == label), n, replace=False) for label, n in zip(classes, take)]
    return np.sort(np.concatenate(rows))


def pixel_stats(inputs: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of (n, H, W, C) images, pixels scaled to [0, 1]."""
    channels = inputs.shape[-1]
    sums = np.zeros((2, channels))
    for start in range(0, len(inputs), CHUNK):
        pixels = np.asarray(inputs[start : start + CHUNK]).reshape(-1, channels)
        if pixels.dtype == np.uint8:  # counting values is exact and takes a third of the time
            values = np.arange(256) / 255
            counts = np.stack([np.bincount(pixels[:, c], minlength=256) for c in range(channels)], axis=1)
            sums += np.stack([values, values**2]) @ counts
        else:
            wide = pixels.astype(np.float64)
            sums += np.stack([wide.sum(axis=0), (wide**2).sum(axis=0)])
    mean, square = sums / inputs[..., 0].size
    std = np.sqrt(np.maximum(square - mean**2, 0.0))
    std[std < 1e-6] = 0.0  # what rounding leaves of a constant channel
    return tuple(map(float, mean)), tuple(map(float, std))


def dataset_digest(dataset: Dataset) -> str:
    """Hexadecimal sha256 of the contents: both splits (values, shapes, dtypes), ``num_classes``, ``flips``.

    The same on every platform; the name and what is derived from the pixels do not enter, nor does what a reader makes
    of texts.
    """
    digest = hashlib.sha256(f"{dataset.num_classes} {bool(dataset.flips)}".encode())
    for split in (dataset.train, dataset.test):
        for array in _contents(split):
            dtype = array.dtype.newbyteorder("<")
            digest.update(f"{dtype.str} {array.shape}".encode())
            for start in range(0, len(array), CHUNK):
                part: Any = np.ascontiguousarray(array[start : start + CHUNK], dtype=dtype)
                digest.update(part)
    return digest.hexdigest()


def _contents(split: Split) -> list[np.ndarray]:
    """The columns that say what a split holds; of texts, their bytes and lengths in place of the inputs."""
    if split.texts is None:
        return [column for column in split if column is not None]
    encoded = [text.encode("utf-8", "surrogatepass") for text in split.texts]
    lengths = np.asarray([len(text) for text in encoded], np.int64)
    return [np.frombuffer(b"".join(encoded), np.uint8), lengths, split.targets, split.ids]

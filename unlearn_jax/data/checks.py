"""Data sets from the user's arrays, parts of data sets, and the checks that every source passes through."""

from __future__ import annotations

import numpy as np

from unlearn_jax.data.arrays import CHUNK, Dataset, Split, pixel_stats, stratified_rows
from unlearn_jax.errors import InputError

MAX_CLASSES = 100_000


def from_arrays(
    name: str,
    train_inputs,
    train_targets,
    test_inputs,
    test_targets,
    *,
    num_classes: int | None = None,
    flips: bool = False,
    class_names=None,
) -> Dataset:
    """A checked `Dataset` from arrays of your own.

    Images are (n, H, W) or (n, H, W, C), uint8 in 0..255 (kept) or floating point in [0, 1] (made float32);
    labels are (n,) integers in 0..num_classes-1. Without ``num_classes`` it is the largest training label + 1, and
    every test label must be a training label too. Ids are row numbers: 0..n-1 for training rows, n.. for test rows.
    Raises `InputError` as `check_dataset` does.

    >>> import numpy as np
    >>> images, labels = np.arange(24, dtype=np.uint8).reshape(6, 2, 2), np.arange(6) % 2
    >>> from_arrays("mine", images[:4], labels[:4], images[4:], labels[4:]).train.inputs.shape
    (4, 2, 2, 1)
    """
    train = _own_split(name, "train", train_inputs, train_targets, 0)
    test = _own_split(name, "test", test_inputs, test_targets, len(train.ids))
    if not len(train.ids) or not len(test.ids):
        _fail(name, "train" if not len(train.ids) else "test", "is empty: give at least one example")
    num_classes = _class_count(name, train, test, num_classes)
    names = tuple(str(i) for i in range(num_classes)) if class_names is None else tuple(class_names)
    dataset = Dataset(name, train, test, num_classes, (), (), flips, names)
    _check_splits(dataset)
    mean, std = pixel_stats(train.inputs)
    return check_dataset(dataset._replace(mean=mean, std=std))


def check_dataset(dataset: Dataset) -> Dataset:
    """Return ``dataset`` unchanged if every field is as `Dataset` and `Split` say.

    Raises `InputError` naming the split and the remedy: wrong rank or dtype, an empty split, row counts that
    differ, NaN pixels, floats outside [0, 1], labels out of range, duplicate ids, a constant channel.
    """
    if dataset.kind != "image":
        return dataset  # made by the library itself
    _check_splits(dataset)
    channels = dataset.train.inputs.shape[3]
    if len(dataset.class_names) != dataset.num_classes:
        raise InputError(
            f"'{dataset.name}' has {dataset.num_classes} classes but {len(dataset.class_names)} class names: "
            "give one name for each class."
        )
    if not len(dataset.mean) == len(dataset.std) == channels:
        raise InputError(f"'{dataset.name}' needs one mean and one std for each of its {channels} channels.")
    if not np.isfinite(dataset.mean).all() or not np.all(np.asarray(dataset.std) > 0):
        _fail(dataset.name, "train", "has a channel whose pixels are all equal: drop that channel")
    return dataset


def subset(dataset: Dataset, train_size: int | None, test_size: int | None, seed: int) -> Dataset:
    """A stratified random part of ``dataset``, of the sizes asked for (None keeps a split whole).

    Classes keep their proportions to within one example; rows keep their order and ids; mean and std are
    those of the rows kept. Raises `InputError` for a size outside 1..n.
    """
    parts = []
    for number, (name, split, size) in enumerate(
        [("train", dataset.train, train_size), ("test", dataset.test, test_size)]
    ):
        count = len(split.ids)
        if size is not None and not 1 <= size <= count:
            _fail(dataset.name, name, f"has {count} examples, not {size}: ask for 1 to {count}")
        rows = np.arange(count)
        if size is not None:
            rows = stratified_rows(split.classes, size, np.random.default_rng([seed, number]))
        parts.append(split.take(rows))
    mean, std = pixel_stats(parts[0].inputs) if dataset.kind == "image" else ((), ())
    return check_dataset(dataset._replace(train=parts[0], test=parts[1], mean=mean, std=std))


def _own_split(name: str, split: str, inputs, targets, first_id: int) -> Split:
    """The user's arrays in the dtypes and rank of `Split`, with row numbers for ids."""
    inputs, targets = np.asarray(inputs), np.asarray(targets)
    if inputs.ndim not in (3, 4):
        _fail(name, split, f"has images of shape {inputs.shape}: give (n, H, W) or (n, H, W, C)")
    inputs = inputs[..., None] if inputs.ndim == 3 else inputs
    if np.issubdtype(inputs.dtype, np.floating):
        with np.errstate(over="ignore"):  # what overflows becomes infinite and is refused below
            inputs = inputs.astype(np.float32)
    if targets.ndim != 1:
        _fail(name, split, f"has labels of shape {targets.shape}: give one whole number for each image, shape (n,)")
    if len(targets) != len(inputs):
        _fail(name, split, f"has {len(inputs)} images and {len(targets)} labels: give as many of each")
    if not np.issubdtype(targets.dtype, np.integer):
        _fail(name, split, f"has labels of dtype {targets.dtype}: give integers in 0..num_classes-1")
    if targets.size and (targets.min() < 0 or targets.max() > np.iinfo(np.int32).max):
        _fail(name, split, f"has labels {targets.min()}..{targets.max()}: number the classes from 0")
    ids = np.arange(first_id, first_id + len(inputs), dtype=np.int64)
    return Split(inputs, targets.astype(np.int32), ids)


def _class_count(name: str, train: Split, test: Split, num_classes: int | None) -> int:
    """The number of classes: the one given, if it can be, or that of the training labels."""
    if num_classes is not None:
        if not 1 <= num_classes <= MAX_CLASSES:
            raise InputError(f"'{name}' has num_classes {num_classes}: give 1 to {MAX_CLASSES}.")
        return int(num_classes)
    largest, count = int(train.targets.max()), len(train.ids)
    if largest >= min(count, MAX_CLASSES):
        problem = f"has label {largest} among {count} images"
        _fail(name, "train", f"{problem}: number the classes from 0 without gaps, or give num_classes")
    unknown = ~np.isin(test.targets, train.targets)
    if unknown.any():
        row = int(np.argmax(unknown))
        problem = f"has label {test.targets[row]} in row {row}, which no training image has"
        _fail(name, "test", f"{problem}: correct the label, or give num_classes if that is meant")
    return largest + 1


def _check_splits(dataset: Dataset) -> None:
    """Check what needs no mean or std, each split and then the two together."""
    for split in ("train", "test"):
        _check_split(dataset.name, split, getattr(dataset, split), dataset.num_classes)
    train, test = dataset.train, dataset.test
    if train.inputs.shape[1:] != test.inputs.shape[1:] or train.inputs.dtype != test.inputs.dtype:
        _fail(
            dataset.name,
            "test",
            f"has images {test.inputs.shape[1:]} {test.inputs.dtype}, train {train.inputs.shape[1:]} "
            f"{train.inputs.dtype}: bring both to one shape and dtype",
        )
    if np.intersect1d(train.ids, test.ids).size:
        _fail(dataset.name, "test", "shares ids with train: number the examples of both splits without repeats")


def _check_split(name: str, split: str, part: Split, num_classes: int) -> None:
    """Check one split; shapes first, so that the later checks can rely on them."""
    inputs, targets, ids = part[:3]
    if inputs.ndim != 4:
        _fail(name, split, f"has images of shape {inputs.shape}: give (n, H, W, C)")
    if targets.ndim != 1 or ids.ndim != 1:
        _fail(name, split, f"has labels {targets.shape} and ids {ids.shape}: give one number for each image")
    if not len(inputs) == len(targets) == len(ids):
        counts = f"{len(inputs)} images, {len(targets)} labels and {len(ids)} ids"
        _fail(name, split, f"has {counts}: give as many of each")
    if not inputs.size:
        _fail(name, split, "is empty: give at least one example")
    if inputs.dtype not in (np.uint8, np.float32):
        _fail(name, split, f"has pixels of dtype {inputs.dtype}: give uint8 in 0..255 or float32 in [0, 1]")
    if targets.dtype != np.int32 or ids.dtype != np.int64:
        _fail(name, split, f"has {targets.dtype} labels and {ids.dtype} ids: make them int32 and int64")
    if inputs.dtype == np.float32:
        _check_floats(name, split, inputs)
    wrong = (targets < 0) | (targets >= num_classes)
    if wrong.any():
        row = int(np.argmax(wrong))
        problem = f"has label {targets[row]} in row {row}, outside 0..{num_classes - 1}"
        _fail(name, split, f"{problem}: correct the label or num_classes")
    if len(np.unique(ids)) != len(ids):
        _fail(name, split, "has duplicate ids: give every example its own")


def _check_floats(name: str, split: str, inputs: np.ndarray) -> None:
    """Check that float pixels are finite and in [0, 1]."""
    for start in range(0, len(inputs), CHUNK):
        pixels = inputs[start : start + CHUNK]
        bad = ~np.isfinite(pixels).all(axis=(1, 2, 3))
        if bad.any():
            row = start + int(np.argmax(bad))
            _fail(name, split, f"has NaN or infinite pixels (first in row {row}): remove or repair those images")
        low, high = pixels.min(), pixels.max()
        if low < 0 or high > 1:
            problem = f"has float pixels from {low:g} to {high:g}"
            _fail(name, split, f"{problem}: scale them to [0, 1], or give uint8 in 0..255")


def _fail(name: str, split: str, problem: str) -> None:
    raise InputError(f"the {split} split of '{name}' {problem}.")

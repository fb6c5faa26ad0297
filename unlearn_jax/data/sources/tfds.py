"""Loads prepared TFDS image sets without TensorFlow, decoding them once into memory-mapped arrays.

Nothing here downloads or prepares: `unlearn_jax.data.sources.prepare` does, when asked.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unlearn_jax.data.arrays import Dataset, Split, pixel_stats
from unlearn_jax.data.sources.stock import STOCK, Stock
from unlearn_jax.errors import InputError, choose
from unlearn_jax.runtime.archives import read_json
from unlearn_jax.runtime.disk import write_array


class PreparedData(NamedTuple):
    """Prepared data on disk."""

    folder: Path
    file_format: str
    sizes: dict[str, int]  # examples of train and test


CACHE = "arrays"  # folder of the decoded arrays, inside the prepared one so that remaking removes it


def load(name: str, *, data_dir: str | os.PathLike | None = None) -> Dataset:
    """The prepared stock set ``name`` (mnist, fashion_mnist, cifar10, cifar100) as uint8 arrays.

    Rows are in the order of the original files, whatever order TFDS stored them in: ids are 0..n-1 for the
    training rows and n.. for the test rows. The number is the stored ``id`` feature where there is one
    (CIFAR); MNIST and Fashion-MNIST store none, so there the order is recovered from TFDS's shuffle, a sort
    by the md5 of split name and row number. CIFAR-100 has its 100 fine labels.

    The first load decodes (about 10 s) and caches ``.npy`` files beside the data, which later loads map into
    memory. Data that TFDS itself prepared in array_record format load alike. ``data_dir`` defaults to
    ``$UNLEARN_JAX_DATA``, else ``~/tensorflow_datasets``. Raises `InputError`, with the command that mends
    it, where there are no such data or they are damaged.
    """
    stock = STOCK[choose("data set", name, STOCK)]
    data = prepared(name, data_dir)
    if data is None:
        where = data_root(data_dir)
        raise InputError(f"no prepared data for '{name}' in {where}: run `{command(name, data_dir)}`.")
    check_format(name, data)
    stamp = _fingerprint(data.folder)
    arrays = _read_cache(data, stamp) or _write_cache(data, stamp, _decode(name, stock, data))
    train = Split(arrays["train_inputs"], arrays["train_targets"], arrays["train_ids"])
    test = Split(arrays["test_inputs"], arrays["test_targets"], arrays["test_ids"] + len(train.ids))
    mean, std = (tuple(map(float, row)) for row in arrays["stats"])
    names = _class_names(data.folder, stock)
    return Dataset(name, train, test, stock.labels["label"], mean, std, stock.flips, names)


def data_root(data_dir: str | os.PathLike | None = None) -> Path:
    """Where prepared data are: ``data_dir``, else ``$UNLEARN_JAX_DATA``, else ``~/tensorflow_datasets``."""
    return Path(data_dir or os.environ.get("UNLEARN_JAX_DATA") or "~/tensorflow_datasets").expanduser()


def prepared(name: str, data_dir: str | os.PathLike | None = None) -> PreparedData | None:
    """The newest complete version of ``name`` under ``data_dir``; None where there is none."""
    versions = []
    for path in (data_root(data_dir) / name).glob("*.*.*/dataset_info.json"):
        number = path.parent.name.split(".")
        if all(part.isdigit() for part in number):
            versions.append((tuple(map(int, number)), path))
    if not versions:
        return None
    path = max(versions)[1]
    try:
        info = read_json(path)
        sizes = {split["name"]: sum(map(int, split["shardLengths"])) for split in info["splits"]}
        sizes = {split: sizes[split] for split in ("train", "test")}
        return PreparedData(path.parent, info.get("fileFormat", "tfrecord"), sizes)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error}): run `{command(name, data_dir)} --force`.") from error


def check_format(name: str, found: PreparedData) -> None:
    """Raise `InputError` unless the data can be read without TensorFlow."""
    if found.file_format != "array_record":
        raise InputError(
            f"{found.folder} is in {found.file_format} format, which only TensorFlow reads: prepare the "
            f"data in another folder with `{command(name, 'DIR')}` and load them from there."
        )


def command(name: str, data_dir: str | os.PathLike | None = None) -> str:
    """The command line that prepares ``name`` into ``data_dir``."""
    where = f" --data-dir {shlex.quote(os.fspath(data_dir))}" if data_dir else ""
    return f"unlearn-jax prepare-data {name} --source PATH{where}"


def import_tfds():
    """TFDS without its import warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_datasets as tfds
    return tfds


def stored_rows(split: str, count: int) -> np.ndarray:
    """(count,) source row of each stored record, for builders whose keys are 0..count-1 (all those here).

    TFDS sorts records by md5(split name + key) read as a number, and changes that only with a major version.
    """
    hashes = [hashlib.md5(f"{split}{row}".encode(), usedforsecurity=False).digest() for row in range(count)]
    return np.array(sorted(range(count), key=hashes.__getitem__), dtype=np.int64)


def _decode(name: str, stock: Stock, data: PreparedData) -> dict[str, np.ndarray]:
    """Read every record of the prepared data into arrays in source order."""
    arrays = {}
    for split, count in data.sizes.items():
        inputs = np.empty((count, *stock.shape), np.uint8)
        targets, ids = np.empty(count, np.int32), stored_rows(split, count)
        try:
            for row, example in enumerate(_records(name, data.folder, split)):
                inputs[row], targets[row] = example["image"], example["label"]
                if stock.numbered:
                    ids[row] = int(example["id"].decode().rpartition("_")[2])
        except Exception as error:  # readers of damaged files fail in many ways
            mend = f"`{command(name, data.folder.parent.parent)} --force`"
            raise InputError(f"{data.folder} cannot be read ({error}): remake it with {mend}.") from error
        order = np.argsort(ids, kind="stable")
        for key, array in (("inputs", inputs), ("targets", targets), ("ids", ids)):
            arrays[f"{split}_{key}"] = array[order]
    arrays["stats"] = np.array(pixel_stats(arrays["train_inputs"]))
    return arrays


def _records(name: str, folder: Path, split: str):
    """The decoded records of one split in stored order."""
    source = import_tfds().data_source(
        f"{name}:{folder.name}", data_dir=folder.parent.parent, split=split, download=False
    )
    return (source[row] for row in range(len(source)))


def _fingerprint(folder: Path) -> str:
    """A hash that changes when data are prepared anew: dataset_info; names, sizes and times of shards."""
    digest = hashlib.sha256((folder / "dataset_info.json").read_bytes())
    for path in sorted(folder.glob("*.array_record*")):
        stat = path.stat()
        digest.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


_KEYS = ("train_inputs", "train_targets", "train_ids", "test_inputs", "test_targets", "test_ids", "stats")


def _read_cache(data: PreparedData, stamp: str) -> dict[str, np.ndarray] | None:
    """The cached arrays, images memory-mapped; None unless all are there, whole and of this fingerprint."""
    arrays = {}
    try:
        for key in _KEYS:
            mode = "r" if "inputs" in key else None
            arrays[key] = np.load(data.folder / CACHE / f"{stamp}-{key}.npy", mmap_mode=mode)
    except (OSError, ValueError, EOFError):
        return None
    whole = all(len(arrays[key]) == data.sizes[key.partition("_")[0]] for key in _KEYS if key != "stats")
    return arrays if whole else None


def _write_cache(data: PreparedData, stamp: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Store ``arrays`` and return them memory-mapped; where nothing can be written, warn."""
    cache = data.folder / CACHE
    try:
        cache.mkdir(exist_ok=True)
        for key, array in arrays.items():
            write_array(cache / f"{stamp}-{key}.npy", array, str(os.getpid()))
        for path in cache.glob("*.npy"):
            if not path.name.startswith(stamp):
                path.unlink(missing_ok=True)
    except OSError as error:
        warnings.warn(f"cannot cache decoded arrays in {cache} ({error}): every load decodes", stacklevel=3)
    return _read_cache(data, stamp) or arrays


def _class_names(folder: Path, stock: Stock) -> tuple[str, ...]:
    """The names we know, else the stored ones, else numbers."""
    if stock.class_names:
        return stock.class_names
    path = folder / "label.labels.txt"
    stored = path.read_text().split("\n") if path.exists() else map(str, range(stock.labels["label"]))
    return tuple(name for name in stored if name)

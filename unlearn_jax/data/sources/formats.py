"""Parses the file formats of the stock image sets: idx, CIFAR binary records, PNG pages with JSON labels."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from unlearn_jax.data.sources.stock import STOCK
from unlearn_jax.errors import InputError
from unlearn_jax.runtime.archives import parse_json


class RawSplit(NamedTuple):
    """n images in source order."""

    images: np.ndarray  # (n, H, W, C) uint8
    labels: dict[str, np.ndarray]  # feature -> (n,) int64


class Raw(NamedTuple):
    """A whole source in memory."""

    train: RawSplit
    test: RawSplit
    class_names: dict[str, tuple[str, ...]]  # feature -> names, where the source has them


Files = dict[str, bytes]


class Layout(NamedTuple):
    """One way in which a set is packed into files."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    parse: Callable[[Files], Raw]


_IDX = (
    *("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    *("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)
_BATCHES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_PAGES = tuple(f"data_batch_{i}.png" for i in range(1, 6))
_PAGE_LABELS = ("train_lables.json", "test_lables.json")  # spelled so in the archive
_NAMES_100 = ("coarse_label_names.txt", "fine_label_names.txt")


def _idx(file: str, content: bytes, rank: int) -> np.ndarray:
    """An unsigned byte array of ``rank`` dimensions from idx bytes."""
    header, magic = 4 + 4 * rank, 0x0800 | rank
    if len(content) >= 4 and (got := int.from_bytes(content[:4], "big")) != magic:
        raise InputError(f"{file} is not an idx file of rank {rank} (magic {got}, not {magic}): get it afresh.")
    shape = [int(size) for size in np.frombuffer(content[4:header], ">u4")] if len(content) >= header else []
    if not shape or len(content) != header + math.prod(shape):
        problem = f"has {len(content)} bytes where its header says {header + math.prod(shape) if shape else header}"
        raise InputError(f"{file} {problem}: it is truncated or damaged, get it afresh.")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _parse_idx(files: Files) -> Raw:
    """MNIST and what follows its format."""
    parts = []
    for prefix in ("train", "t10k"):
        images, labels = (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
        pixels = _idx(images, files[images], 3)[..., None]
        parts.append(RawSplit(pixels, {"label": _idx(labels, files[labels], 1).astype(np.int64)}))
    return Raw(*parts, class_names={})


def _parse_cifar(train: tuple[str, ...], test: str, features: dict[str, str], files: Files) -> Raw:
    """CIFAR records: label bytes (``features``: feature -> file of its names), then 3 planes of 32x32."""
    parts = []
    for names in (train, (test,)):
        for file in names:
            if not files[file] or len(files[file]) % (3072 + len(features)):
                problem = f"has {len(files[file])} bytes, not a multiple of {3072 + len(features)}"
                raise InputError(f"{file} {problem}: it is truncated or of another set, get it afresh.")
        records = np.frombuffer(b"".join(files[file] for file in names), np.uint8)
        records = records.reshape(-1, 3072 + len(features))
        images = records[:, len(features) :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        labels = {feature: records[:, i].astype(np.int64) for i, feature in enumerate(features)}
        parts.append(RawSplit(np.ascontiguousarray(images), labels))
    names = {f: tuple(files[n].decode(errors="replace").splitlines()) for f, n in features.items() if n in files}
    return Raw(
        *parts, class_names={feature: tuple(name for name in listed if name) for feature, listed in names.items()}
    )


def _parse_pages(files: Files) -> Raw:
    """CIFAR-10 as PNG pages: one image a row, 1024 pixels wide; labels in JSON lists."""
    from PIL import Image

    parts = []
    for pages, listed in zip((_PAGES, ("test_batch.png",)), _PAGE_LABELS):
        rows = []
        for file in pages:
            try:
                opened = Image.open(io.BytesIO(files[file]))
                if opened.width != 1024:  # said before it is unpacked
                    raise ValueError(f"it is {opened.width} pixels wide, not 1024")
                page = np.asarray(opened)
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                raise InputError(f"{file} is not a whole PNG image ({error}): get it afresh.") from error
            if page.ndim != 3 or page.shape[1:] != (1024, 3):
                raise InputError(f"{file} has shape {page.shape}, not (n, 1024, 3): get it afresh.")
            rows.append(page.reshape(-1, 32, 32, 3))
        try:
            labels = np.asarray(parse_json(files[listed]))
        except ValueError as error:
            raise InputError(f"{listed} is not a JSON list of labels ({error}): get it afresh.") from error
        parts.append(RawSplit(np.concatenate(rows), {"label": labels}))
    return Raw(*parts, class_names={})


def _cifar10(files: Files) -> Raw:
    return _parse_cifar(_BATCHES, "test_batch.bin", {"label": "batches.meta.txt"}, files)


def _cifar100(files: Files) -> Raw:
    features: dict[str, str] = dict(zip(STOCK["cifar100"].labels, _NAMES_100))
    return _parse_cifar(("train.bin",), "test.bin", features, files)


LAYOUTS = {
    "mnist": (Layout(_IDX, (), _parse_idx),),
    "fashion_mnist": (Layout(_IDX, (), _parse_idx),),
    "cifar10": (
        Layout((*_BATCHES, "test_batch.bin"), ("batches.meta.txt",), _cifar10),
        Layout((*_PAGES, "test_batch.png", *_PAGE_LABELS), (), _parse_pages),
    ),
    "cifar100": (Layout(("train.bin", "test.bin", *_NAMES_100), (), _cifar100),),
}

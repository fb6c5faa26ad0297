"""Finds the files of the stock image sets in folders, archives and .npz, reads and checks them.

Nothing here writes: a source is either understood whole or refused with an `InputError`.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from unlearn_jax.data.sources.formats import LAYOUTS, Files, Raw, RawSplit
from unlearn_jax.data.sources.stock import STOCK, Stock
from unlearn_jax.errors import InputError, choose
from unlearn_jax.runtime.archives import read_arrays


def read_source(name: str, path: str | os.PathLike) -> Raw:
    """The set ``name`` from a folder, an archive (.tar.gz, .tgz), one of its files, or an .npz.

    Raises `InputError` for anything missing, truncated, doubled or out of range.
    """
    stock, path = STOCK[choose("data set", name, STOCK)], Path(path).expanduser()
    if not path.exists():
        raise InputError(f"the source {path} does not exist: give the folder or archive that holds '{name}'.")
    try:
        raw = _from_npz(name, path) if path.suffix == ".npz" else _from_files(name, path)
    except (OSError, tarfile.TarError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({error}): get a fresh copy of it.") from error
    for split, part in (("train", raw.train), ("test", raw.test)):
        _check(path, split, part, stock)
    for feature, names in raw.class_names.items():
        if len(set(names)) != len(names) or len(names) != stock.labels[feature]:
            raise InputError(
                f"{path} names {len(set(names))} classes of '{feature}', not {stock.labels[feature]}: "
                "get a fresh copy of it."
            )
    return raw


def source_help(name: str) -> str:
    """Which files ``--source`` may point to, as part of a sentence."""
    packed = " or ".join(", ".join(layout.required) for layout in LAYOUTS[name])
    npz = "" if name == "cifar100" else ", or an .npz with x_train, y_train, x_test and y_test"
    return f"a folder or .tar.gz with {packed} (.gz of each is fine){npz}"


def _from_files(name: str, path: Path) -> Raw:
    """Parse the first layout whose files are all there."""
    layouts = LAYOUTS[name]
    wanted = {file for layout in layouts for file in layout.required + layout.optional}
    files: Files = dict(_members(path, wanted))
    counts = [sum(file in files for file in layout.required) for layout in layouts]
    for layout, count in zip(layouts, counts):
        if count == len(layout.required):
            return layout.parse(files)
    if not any(counts):
        raise InputError(f"{path} holds no files of '{name}': give {source_help(name)}.")
    closest = layouts[int(np.argmax(counts))]
    missing = [file for file in closest.required if file not in files]
    raise InputError(f"{path} lacks {', '.join(missing)}: put the missing files beside the others.")


def _members(path: Path, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    """(plain name, inflated bytes) of the wanted files of a folder or archive, each at most once."""
    if path.is_file() and path.name.removesuffix(".gz") in wanted:
        path = path.parent
    files: dict[str, bytes | Path] = {}
    for file, content in _in_folder(path) if path.is_dir() else _in_archive(path, wanted):
        if file.removesuffix(".gz") not in wanted:
            continue
        if file in files:
            raise InputError(f"{path} holds {file} twice: give a folder or archive with one copy.")
        files[file] = content
    for file, content in files.items():
        plain = file.removesuffix(".gz")
        if file != plain and plain in files:
            continue  # unpacked beside its archive: one is enough
        content = content.read_bytes() if isinstance(content, Path) else content
        yield plain, content if file == plain else _inflate(file, content)


def _inflate(file: str, content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file} is not a whole .gz file ({error}): get it afresh.") from error


def _in_folder(path: Path) -> Iterator[tuple[str, Path]]:
    """Files of a folder and of two levels below it."""
    for pattern in ("*", "*/*", "*/*/*"):
        for file in sorted(path.glob(pattern)):
            if file.is_file():
                yield file.name, file


def _in_archive(path: Path, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    """The wanted regular files of a tar archive, read in one pass."""
    if not tarfile.is_tarfile(path):
        raise InputError(f"{path} is neither a folder nor a whole tar archive nor an .npz: give one of these.")
    with tarfile.open(path, "r:*") as archive:
        for member in archive:
            file = os.path.basename(member.name)
            if member.isfile() and file.removesuffix(".gz") in wanted:
                opened = archive.extractfile(member)
                assert opened is not None  # it is a regular file
                yield file, opened.read()


def _from_npz(name: str, path: Path) -> Raw:
    """Arrays x_train, y_train, x_test, y_test (or train_images, train_labels, ...)."""
    if len(STOCK[name].labels) > 1:
        raise InputError(f"{path} cannot hold the two labels of '{name}': give {source_help(name)}.")
    try:
        arrays = read_arrays(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a readable .npz of plain arrays ({error}): save it again.") from error
    parts = []
    for split in ("train", "test"):
        keys = [(f"x_{split}", f"y_{split}"), (f"{split}_images", f"{split}_labels")]
        names = next(((x, y) for x, y in keys if x in arrays and y in arrays), None)
        if names is None:
            raise InputError(f"{path} has {', '.join(arrays) or 'no arrays'}: it needs x_{split} and y_{split}.")
        images, labels = arrays[names[0]], arrays[names[1]]
        images = images[..., None] if images.ndim == 3 else images
        labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
        parts.append(RawSplit(_to_uint8(path, names[0], images), {"label": labels}))
    return Raw(*parts, class_names={})


def _to_uint8(path: Path, key: str, images: np.ndarray) -> np.ndarray:
    """Pixels as uint8 where nothing is lost by it: integers in 0..255, or floats that are such over 255."""
    if images.dtype == np.uint8 or not images.size:
        return images
    if images.dtype.kind not in "iuf":
        raise InputError(f"{path}: {key} has dtype {images.dtype}: store uint8 pixels in 0..255.")
    if not np.isfinite(images).all():
        raise InputError(f"{path}: {key} has NaN or infinite pixels: remove or repair those images.")
    scale = 255 if images.dtype.kind == "f" and images.max() <= 1 else 1
    scaled = images.astype(np.float64) * scale
    rounded = np.rint(scaled)
    if rounded.min() < 0 or rounded.max() > 255 or np.abs(scaled - rounded).max() > 1e-3:
        raise InputError(f"{path}: {key} is not whole pixel values in 0..255: store it as uint8.")
    return rounded.astype(np.uint8)


def _check(path: Path, split: str, part: RawSplit, stock: Stock) -> None:
    """Shape, counts and label range of one split."""
    if part.images.shape[1:] != stock.shape:
        problem = f"has {split} images of shape {part.images.shape[1:]}, not {stock.shape}"
        raise InputError(f"{path} {problem}: it holds another set.")
    for feature, labels in part.labels.items():
        if labels.dtype.kind not in "iu" or labels.shape != (len(part.images),):
            problem = f"has {len(part.images)} {split} images but '{feature}' {labels.shape} of {labels.dtype}"
            raise InputError(f"{path} {problem}: give one integer label for each image.")
        if not len(labels):
            raise InputError(f"{path} has an empty {split} split: give at least one example.")
        wrong = (labels < 0) | (labels >= stock.labels[feature])
        if wrong.any():
            problem = f"has {split} {feature} {labels[wrong][0]} in row {int(np.argmax(wrong))}"
            raise InputError(f"{path} {problem}, outside 0..{stock.labels[feature] - 1}: get a fresh copy of it.")

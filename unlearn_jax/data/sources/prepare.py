"""Makes prepared TFDS data (array_record) without TensorFlow, from local files.

TFDS's own builders extract and encode through TensorFlow. Here a builder with the stock name, version and
features is fed arrays that `unlearn_jax.data.sources.raw` has read and checked, so that
``tfds.data_source(name, ...)`` reads the outcome like its own.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from unlearn_jax.data.sources.formats import Raw
from unlearn_jax.data.sources.raw import read_source, source_help
from unlearn_jax.data.sources.stock import STOCK
from unlearn_jax.data.sources.tfds import check_format, command, data_root, import_tfds, prepared
from unlearn_jax.errors import InputError, choose


class Prepared(NamedTuple):
    """What `prepare` left on disk."""

    folder: Path
    made: bool  # False where it was there already
    train: int
    test: int
    seconds: float


Report = Callable[[str, int, int], None]  # (split, examples done, examples in all)


def prepare(
    name: str,
    source: str | os.PathLike | None = None,
    *,
    data_dir: str | os.PathLike | None = None,
    force: bool = False,
    report: Report | None = None,
) -> Prepared:
    """Prepare the stock set ``name`` into ``data_dir`` from ``source``; without one, by TFDS's own download.

    ``source`` is what `unlearn_jax.data.sources.raw.read_source` takes. Data that are there already are kept unless
    ``force``. The folder ``data_dir/name/version`` appears only when complete, and with ``force`` the old one
    stays until then. Without ``report`` TFDS draws no bars either. Raises `InputError` for bad sources and
    unwritable folders; without ``source``, TFDS's download needs TensorFlow.
    """
    start = time.perf_counter()
    choose("data set", name, STOCK)
    root = data_root(data_dir)
    existing = None if force else prepared(name, data_dir)
    if existing is not None:
        check_format(name, existing)
        return Prepared(existing.folder, False, **existing.sizes, seconds=0.0)
    raw = None if source is None else read_source(name, source)
    if raw is None and importlib.util.find_spec("tensorflow") is None:
        raise InputError(
            f"without TensorFlow '{name}' is prepared from files of yours: get {source_help(name)} and run "
            f"`{command(name, data_dir)}`."
        )
    workshop = None
    try:
        root.mkdir(parents=True, exist_ok=True)
        workshop = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=root))
        build = _download(name, workshop, root, report) if raw is None else _build(name, raw, workshop, report)
        folder = root / name / Path(build.data_dir).name
        _move(Path(build.data_dir), folder, workshop / "old")
    except OSError as error:
        problem = f"cannot write to {root} ({error})"
        raise InputError(f"{problem}: free some space or choose another folder with --data-dir.") from error
    finally:
        if workshop is not None:
            shutil.rmtree(workshop, ignore_errors=True)
    sizes = {split: build.info.splits[split].num_examples for split in ("train", "test")}
    return Prepared(folder, True, **sizes, seconds=time.perf_counter() - start)


def _download(name: str, workshop: Path, root: Path, report: Report | None):
    """TFDS's own builder, after it has fetched its files into ``root/downloads`` and prepared them."""
    tfds = import_tfds()
    if report is None:
        tfds.disable_progress_bar()
    try:
        builder = tfds.builder(name, data_dir=workshop)
        builder.download_and_prepare(file_format="array_record", download_dir=root / "downloads")
    except Exception as error:  # network, checksums, disk: all are mended by other files
        problem = f"TFDS could not download and prepare '{name}' ({error})"
        raise InputError(f"{problem}: get {source_help(name)} and give it as --source.") from error
    return builder


def _build(name: str, raw: Raw, workshop: Path, report: Report | None):
    """Our builder, after it has written ``workshop/name/version``."""
    tfds = import_tfds()
    tfds.disable_progress_bar()
    builder = _builder_class(tfds, name, raw, report or (lambda *_: None))(data_dir=workshop)
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    builder.download_and_prepare(file_format="array_record", download_config=config)
    for split, part in (("train", raw.train), ("test", raw.test)):
        if builder.info.splits[split].num_examples != len(part.images):
            raise OSError(f"{builder.info.splits[split].num_examples} of {len(part.images)} {split} rows written")
    return builder


def _builder_class(tfds, name: str, raw: Raw, report: Report):
    stock = STOCK[name]

    def features():
        spec = {"image": tfds.features.Image(shape=stock.shape)}
        for feature, count in stock.labels.items():
            names = raw.class_names.get(feature)
            if names is None and stock.numbered:
                names = stock.class_names or None
            spec[feature] = tfds.features.ClassLabel(**({"names": names} if names else {"num_classes": count}))
        if stock.numbered:
            spec["id"] = tfds.features.Text()
        return tfds.features.FeaturesDict(spec)

    def info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{stock.title}, prepared from local files.",
            features=features(),
            supervised_keys=("image", "label"),
        )

    def splits(self, _):
        return {split: _examples(split, getattr(raw, split), stock.numbered, report) for split in ("train", "test")}

    members = {
        "name": name,
        "VERSION": tfds.core.Version(stock.version),
        "_info": info,
        "_split_generators": splits,
        "_generate_examples": lambda self: None,  # abstract in TFDS; the splits above are generators already
        "_log_download_bytes": lambda self: None,  # they print of downloads and of a folder that will move
        "_log_download_done": lambda self: None,
        "__module__": __name__,
    }
    with tfds.core.registered.skip_registration():
        return type(stock.title, (tfds.core.GeneratorBasedBuilder,), members)


def _examples(split: str, part, numbered: bool, report: Report):
    """(key, example) of one split, reporting as it goes."""
    from PIL import Image

    total = len(part.images)
    for row, pixels in enumerate(part.images):
        if row % 1000 == 0:
            report(split, row, total)
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        example = {"image": image, **{feature: int(labels[row]) for feature, labels in part.labels.items()}}
        if numbered:
            example["id"] = f"{split}_{row:05d}"
        yield row, example
    report(split, total, total)


def _move(made: Path, folder: Path, old: Path) -> None:
    """Put the finished folder ``made`` in its place; what was there goes to ``old``, or back on failure."""
    folder.parent.mkdir(exist_ok=True)
    if folder.exists():
        os.replace(folder, old)
    try:
        os.replace(made, folder)
    except OSError:
        if old.exists():
            os.replace(old, folder)
        raise

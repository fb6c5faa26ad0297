"""Make one stock image set (mnist, fashion_mnist, cifar10, cifar100) readable without TensorFlow.

    unlearn-jax prepare-data fashion_mnist --source FOLDER      # from the original files
    unlearn-jax prepare-data cifar10 --source cifar-10-binary.tar.gz --data-dir data
    unlearn-jax study --dataset fashion_mnist                   # and train on it

Writes array_record data under DATA_DIR/NAME/VERSION, from local files (idx, CIFAR binary, PNG pages, npz), or by
TFDS's own download where no --source is given and TensorFlow is installed.

Cost: 15 s on one CPU core and 150 MB of disk for CIFAR-10 (the decoded cache of the first load adds 180 MB). It should
reach 60000 + 10000 examples (mnist, fashion_mnist) or 50000 + 10000 (cifar10, cifar100); a second run says that the
data are there.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from unlearn_jax.cli.common import command, print_json, watched
from unlearn_jax.data.sources.prepare import Prepared, prepare
from unlearn_jax.data.sources.stock import STOCK


@dataclass(frozen=True)
class Args:
    """Make one stock image set readable."""

    name: Annotated[str, tyro.conf.Positional]
    """mnist, fashion_mnist, cifar10 or cifar100"""
    source: Path | None = None
    """folder, archive or .npz with the original files; by default TFDS downloads them, which needs TensorFlow"""
    data_dir: Path | None = None
    """where to write; default $UNLEARN_JAX_DATA, else ~/tensorflow_datasets"""
    force: bool = False
    """remake data that are there already"""
    quiet: bool = False
    """no progress"""
    json: bool = False
    """print one JSON object instead of the line: name, folder, counts, seconds, and whether it was made now"""


def run(args: Args) -> None:
    """Prepare, with progress, and say what is there."""
    with watched(args.quiet, "examples") as watch:
        watch.begin("reading the files" if args.source else "looking for the data")
        report = None if args.quiet else reporting(watch)
        done = prepare(args.name, args.source, data_dir=args.data_dir, force=args.force, report=report)
    if args.json:
        print_json({"name": args.name, **done._asdict()})
    else:
        how = f"prepared in {done.seconds:.0f} s" if done.made else "already there (--force remakes it)"
        print(f"{args.name}: {done.train} train + {done.test} test examples in {done.folder}, {how}")
    note(args.name, done)


def note(name: str, done: Prepared) -> None:
    """Say on stderr where the counts are not those of the standard set."""
    standard = STOCK[name].rows
    if (done.train, done.test) != standard:
        print(f"note: the standard set has {standard[0]} + {standard[1]} examples", file=sys.stderr)


def reporting(watch):
    """A stage of the progress for each split."""
    begun = []

    def report(split: str, done: int, total: int) -> None:
        if split not in begun:
            begun.append(split)
            watch.stage(split, total)
        watch.advance(done, done)

    return report


main = command(Args, __doc__, run, "nothing is half-written, the same command begins anew")

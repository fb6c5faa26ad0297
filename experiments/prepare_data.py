"""python experiments/prepare_data.py fashion_mnist --source FOLDER

Makes one stock image set (mnist, fashion_mnist, cifar10, cifar100) readable without TensorFlow: array_record
data under DATA_DIR/NAME/VERSION, from local files (idx, CIFAR binary, PNG pages, npz), or by TFDS's own
download where no --source is given and TensorFlow is installed.

Cost: 15 s on one CPU core and 150 MB of disk for CIFAR-10 (the decoded cache of the first load adds 180 MB).
Should reach: 60000 + 10000 examples (mnist, fashion_mnist) or 50000 + 10000 (cifar10, cifar100); a second run
says that the data are there.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from unlearn_jax.data.prepare import prepare
from unlearn_jax.data.stock import STOCK
from unlearn_jax.errors import InputError


@dataclass(frozen=True)
class Args:
    """Settings of one run."""

    name: Annotated[str, tyro.conf.Positional]  # mnist, fashion_mnist, cifar10 or cifar100
    source: Path | None = None  # folder, archive or .npz with the original files
    data_dir: Path | None = None  # default: $UNLEARN_JAX_DATA, else ~/tensorflow_datasets
    force: bool = False  # remake data that are there already


def run(args: Args) -> None:
    """Prepare, with a progress line, and say what is there."""
    done = prepare(args.name, args.source, data_dir=args.data_dir, force=args.force, report=_progress)
    said = f"prepared in {done.seconds:.0f} s" if done.made else "already there (--force remakes it)"
    print(f"{args.name}: {done.train} train + {done.test} test examples in {done.folder}, {said}")
    standard = STOCK[args.name].rows
    if (done.train, done.test) != standard:
        print(f"note: the standard set has {standard[0]} + {standard[1]} examples", file=sys.stderr)


def _progress(split: str, done: int, total: int) -> None:
    """One line on stderr, overwritten as the work goes on."""
    print(f"\r{split} {done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 2 with one line on stderr where the input can be mended."""
    args = tyro.cli(Args, args=argv, description=__doc__)
    try:
        run(args)
    except InputError as error:
        print("error:", *str(error).split(), file=sys.stderr)  # causes may span lines
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

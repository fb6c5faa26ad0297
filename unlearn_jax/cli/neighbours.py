"""Similar samples of a data set: nearest neighbours, the clusters that they form, and a page with them.

    unlearn-jax neighbours                                              # digits, by pixels
    unlearn-jax neighbours --dataset cifar10 --threshold .95
    unlearn-jax neighbours --dataset reuters_r8 --embedding minhash
    unlearn-jax neighbours --dataset mine.npz --embedding-file rows.npy --ids targets.txt

Exact cosines, blocked on the device: no matrix of all pairs is ever made. Writes neighbours.parquet, clusters.parquet,
neighbours.json and the page neighbours.html.

Cost: seconds for digits and Reuters, 20 seconds on 2 CPU cores for all of CIFAR-10. There, 94 of 10,000 test images
should have a training neighbour at .98, and 310 at .95.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from unlearn_jax.cli.common import command, command_line, finish, keep_compiled_programs, watched
from unlearn_jax.mining.config import MiningConfig
from unlearn_jax.reports import write_neighbours_page
from unlearn_jax.runtime.archives import read_json


@dataclass(frozen=True)
class Args:
    """Find the similar samples of a data set."""

    search: tyro.conf.OmitArgPrefixes[MiningConfig] = MiningConfig()
    ids: Path | None = None
    """text file with the ids of training samples of interest, one a line; those without a neighbour are named"""
    embedding_file: Path | None = None
    """.npy with a row for each training sample (and then each test sample), in place of --embedding"""
    out: Path | None = None
    """run folder; default runs/neighbours-DATASET"""
    store: Path | None = None
    """folder of trained networks and embeddings of texts; default "populations" beside the run folder"""
    data_dir: Path | None = None
    """prepared data; default $UNLEARN_JAX_DATA, else ~/tensorflow_datasets"""
    page: bool = True
    """write neighbours.html"""
    quiet: bool = False
    """no progress"""
    json: bool = False
    """print one JSON object instead of the lines: the run folder, the page and what neighbours.json says"""


def run(args: Args) -> None:
    """Search, draw the page, and print the headline."""
    from unlearn_jax.mining import run_mining

    keep_compiled_programs(Path("runs") / "compiled")
    out = args.out or Path("runs") / f"neighbours-{Path(args.search.dataset).stem}"
    with watched(args.quiet) as watch:
        run_mining(
            args.search, out, ids=args.ids, embedding_file=args.embedding_file, store=args.store, watch=watch,
            command=command_line(), data_dir=args.data_dir,
        )  # fmt: skip

    record = lambda: {"run": out, "found": read_json(out / "neighbours.json")}
    finish(args.json, lambda: headline(out), record, (lambda: write_neighbours_page(out)) if args.page else None)


def headline(out: Path) -> str:
    """What was found, in a few lines, from ``neighbours.json``."""
    from unlearn_jax.reports.neighbours_page import findings

    record = read_json(out / "neighbours.json")
    return "\n".join([*findings(record), f"run folder: {out}"])


main = command(Args, __doc__, run)

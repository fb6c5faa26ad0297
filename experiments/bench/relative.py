"""False alarms and power of the relative test, on populations that were really trained.

    python experiments/study.py --methods none --copies 4 --targets random --members 256 --out runs/many
    python experiments/study.py --methods none --copies 4 --targets random --members 256 --batch 64 --out runs/many64
    python experiments/bench/relative.py runs/many runs/many64

Draws studies of 16 members from the two runs' margins. Null studies: the unlearned population is a further original,
of other seeds, or of other batches (the second run); a hit there is a false alarm. Others: margins moved from the
original's to the oracle's but for a residual of .2, .5 or .8, and retraining itself. Cost: 4 minutes for the runs, 2
for the draws.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import tyro
from pyarrow import parquet

from unlearn_jax.cli.common import guarded, parsed, print_json


@dataclass(frozen=True)
class Args:
    """False alarms and power of the relative test."""

    run: tyro.conf.Positional[Path]
    """run folder of a study with many members"""
    other: tyro.conf.Positional[Path]
    """the same study with another --batch"""
    members: int = 16
    """of each population of a study that is drawn"""
    studies: int = 1000
    """that are drawn of each kind"""
    seed: int = 0
    """of the draws"""
    kernel: str = "margins"
    """margins or gaussian"""
    json: bool = False
    """print one JSON object in place of lines"""


def margins(run: Path, name: str) -> np.ndarray:
    """Margins of the targets, (members, targets), at the last level."""
    from unlearn_jax.errors import InputError

    try:
        split = np.asarray(parquet.read_table(run / "margins" / "index.parquet", columns=["split"])["split"])
        return np.load(run / "margins" / f"{name}.npy")[:, split == "forget"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{run} has no margins of {name} ({error}): give the folder of a finished study.") from error


def run(args: Args) -> None:
    """Print the share of studies in which the population is called nearer, with its standard error."""
    from unlearn_jax.metrics.relative import relative_test

    full, none, again = (margins(args.run, name) for name in ("original", "oracle", "retrain"))
    batches = margins(args.other, "original")
    rng, way = np.random.default_rng(args.seed), full.mean(axis=0) - none.mean(axis=0)
    kinds = {"null: other seeds": full, "null: other batches": batches, "retrain": again}
    kinds |= {f"residual {left}": none + left * way for left in (0.2, 0.5, 0.8)}
    rows = []
    for name, pool in kinds.items():
        hits = 0
        for _ in range(args.studies):
            at = [rng.choice(len(full), 2 * args.members, replace=False) for _ in range(2)]
            (first, rest), (theirs, others) = (np.split(places, 2) for places in at)
            unlearned = pool[rest if name == "null: other seeds" else others]  # no member is in two populations
            hits += relative_test(unlearned, none[theirs], full[first], kernel=args.kernel).nearer
        share = hits / args.studies
        error = (share * (1 - share) / args.studies) ** 0.5
        rows.append({"population": name, "nearer": share, "standard_error": error})
    if args.json:
        return print_json({"members": args.members, "studies": args.studies, "kernel": args.kernel, "rows": rows})
    print(f"{'population':<22} called nearer, of {args.studies:,} studies of {args.members} members")
    for row in rows:
        print(f"{row['population']:<22} {row['nearer']:.3f} +- {row['standard_error']:.3f}")


if __name__ == "__main__":
    asked = parsed(Args, __doc__)
    sys.exit(guarded(lambda: run(asked)))

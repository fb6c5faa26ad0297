"""Times of PyTorch libraries at what ``speed.py --influence`` measures: same digits, same sizes, one core.

    pip install torch kronfluence dattri traker scikit-learn    # an environment of its own, without JAX
    python experiments/bench/peers.py
    python experiments/bench/peers.py --loop    # instead: the mlp of speed.py, one training after another
    python experiments/bench/peers.py --json    # one JSON object instead of the table, which goes to stderr

Every library gets all rows in one batch, its bars and logs are off, and what it writes goes to a temporary folder.
Settings without a counterpart here are the library's own. A package that is missing leaves a row without a time.
Cost: about 2 minutes on one core.

What differs from ours:

- kronfluence draws the labels of the Fisher matrix: compare "EK-FAC, sampled labels". It collects garbage between its
  stages, which costs more than all else here; the row with gc.freeze() is about the work alone.
- dattri's EK-FAC takes the true labels. The scores of 0.3.0 are not those of ours with true labels (rank correlation
  .75 and .93); the work is the same.
- dattri's conjugate gradients take a fixed number of steps, ours stop at a relative residual of 1e-4. With 10 its
  scores are off by 2e-2 of their norm, with 25 by 2e-5; ours by 7e-5.
- TRAK there projects unless told otherwise, ours does not. Columns beyond the 500 rows make the kernel singular, so
  a ridge is added.
- The loop and the ensemble use the fused AdamW, the faster one.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib.util
import json
import os
import sys
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import NamedTuple

import _peers as peers
from _peers import L2, MODELS, QUERIES, TRAIN
from _timing import timed

REPEATS = 5
LOOPED = 4  # trainings of the loop that are timed
PACKAGES = {"torch": "torch", "kronfluence": "kronfluence", "dattri": "dattri", "traker": "trak"}  # as imported


class Case(NamedTuple):
    """One estimator of one library at one size."""

    package: str
    name: str
    size: str
    prepare: Callable[[], Callable[[], object]]  # imports the library; what it returns is timed
    times: float = 1.0  # how often the call would have to run for what the row says


def one_core() -> None:
    """Keep this process on one core and PyTorch on one thread."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import torch

    torch.set_num_threads(1)


def cases() -> list[Case]:
    """Every estimator of every library, with its models trained beforehand."""
    import torch

    torch.manual_seed(0)
    x, y = peers.digits()
    both = [torch.utils.data.TensorDataset(x[a:b], y[a:b]) for a, b in ((0, TRAIN), (TRAIN, TRAIN + QUERIES))]
    flat, deep = peers.regression(x[:TRAIN], y[:TRAIN]), peers.trained(x, y, torch.arange(len(x)))
    rows = [
        Case("dattri", "influence, exact", "softmax regression",
             lambda: peers.dattri_influence("IFAttributorExplicit", flat, *both, regularization=L2)),
        Case("dattri", "influence, CG, 10 steps (its default)", "softmax regression",
             lambda: peers.dattri_influence("IFAttributorCG", flat, *both, regularization=L2)),
        Case("dattri", "influence, CG, 25 steps", "softmax regression",
             lambda: peers.dattri_influence("IFAttributorCG", flat, *both, regularization=L2, max_iter=25)),
    ]  # fmt: skip
    for model, size in ((flat, "softmax regression"), (deep, "MLP 64-64-10")):
        rows += [
            Case("kronfluence", "EK-FAC, sampled labels", size, partial(peers.kronfluence_ekfac, model, *both)),
            Case("kronfluence", "EK-FAC, sampled labels, gc.freeze()", size,
                 partial(peers.kronfluence_ekfac, model, *both, frozen=True)),
            Case("dattri", "EK-FAC, true labels", size,
                 partial(peers.dattri_influence, "IFAttributorEKFAC", copy.deepcopy(model), *both, damping=L2)),
            Case("traker", "TRAK, 2,048 columns (its default)", size, partial(peers.traker_trak, model, *both, 2048)),
            Case("traker", "TRAK, 512 columns", size, partial(peers.traker_trak, model, *both, 512)),
            Case("traker", "TRAK, not projected", size, partial(peers.traker_trak, model, *both, 0)),
            Case("dattri", "TRAK, 512 columns (its default)", size, partial(peers.dattri_trak, model, *both)),
        ]  # fmt: skip
    loop = lambda: [peers.trained(x, y, peers.half(len(x))) for _ in range(LOOPED)]
    return rows + [
        Case("torch", f"{MODELS} MLPs, a loop (from {LOOPED})", "64-64-10, 30 epochs", lambda: loop, MODELS / LOOPED),
        Case("torch", f"{MODELS} MLPs, torch.func.vmap", "64-64-10, 30 epochs", lambda: partial(peers.ensemble, x, y)),
    ]


def measure(case: Case) -> dict:
    """Seconds of the first call and the median of the next ones, or what is not installed."""
    try:
        call = case.prepare()
    except ModuleNotFoundError as error:
        return {"missing": str(error.name)}
    first, seconds = timed(call, REPEATS)
    return {"first": first * case.times, "seconds": seconds * case.times}


def table() -> dict:
    """Print a row for each estimator, and return the versions and the rows."""
    one_core()
    versions = {name: version(name) for name, module in PACKAGES.items() if importlib.util.find_spec(module)}
    for name in PACKAGES:
        print(name, versions.get(name, "not installed"))
    print(f"\n{'package':<12} {'estimator':<38} {f'{TRAIN} x {QUERIES}':<20} {'first s':>9} {'then s':>10}")
    rows = []
    for case in cases():
        measured = measure(case)
        took = (
            f"{measured['first']:>9.3f} {measured['seconds']:>10.3f}"
            if "first" in measured
            else f"{measured['missing']} is missing"
        )
        print(f"{case.package:<12} {case.name:<38} {case.size:<20} {took}", flush=True)
        rows.append({"package": case.package, "estimator": case.name, "size": case.size, **measured})
    return {"versions": versions, "rows": rows}


def looped() -> dict:
    """Print and return the speed of a loop of trainings, on one thread and on all."""
    rows = []
    print("torch", version("torch"))
    for threads in sorted({1, os.cpu_count() or 1}):
        rows.append({"threads": threads, "per_second": peers.speed(threads)})
        print(f"digits MLP, one training after another, {threads} threads: {rows[-1]['per_second']:,.0f} samples/s")
    return {"versions": {"torch": version("torch")}, "rows": rows}


def main() -> int:
    """The table; 2 where not even PyTorch and scikit-learn are there."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--loop", action="store_true", help="time the loop of speed.py's mlp instead")
    reader.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    args = reader.parse_args()
    os.environ.setdefault("TQDM_DISABLE", "1")  # before the libraries are imported
    warnings.simplefilter("ignore", FutureWarning)
    missing = [name for name in ("torch", "sklearn") if importlib.util.find_spec(name) is None]
    if missing:
        install = "pip install torch kronfluence dattri traker scikit-learn"
        print(f"error: {' and '.join(missing)} missing: {install}, in an environment of its own.", file=sys.stderr)
        return 2
    with contextlib.redirect_stdout(sys.stderr if args.json else sys.stdout):
        result = looped() if args.loop else table()
    if args.json:
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())

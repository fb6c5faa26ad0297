"""Whether a change of the code changed a figure: eight runs recorded before it, held against the same after it.

    python experiments/bench/golden.py record GOLDEN            # with the code as it is
    python experiments/bench/golden.py check GOLDEN             # after a change; members are read from GOLDEN/store
    python experiments/bench/golden.py check GOLDEN --fresh     # the same, everything trained anew

`record` runs a default study, every method, facts, mined documents with a remedy, an audit, a sweep, an influence run
and a search for neighbours. `check` runs them into a folder of its own and compares every table, array and JSON file,
equal to the bit but for times, versions and paths. Without --fresh it also says whether a stored population was not
found again: the store names a population by what it was trained by, so one that is found was trained by the same
program.

Cost: 25 minutes to record on 2 CPU cores, 12 to check without --fresh. Bits are those of one machine and one version of
JAX: record and check on the same. It should print "equal" for every run, and end with exit code 0.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from unlearn_jax.results.tables import renamed

EXPERIMENTS = Path(__file__).resolve().parents[1]
SWEEP = "sweep.py --method scrub --hp lr=log:1e-4:1e-1:8 alpha=.1,.5 --seeds 8 --copies 4"
RUNS = {
    "default": "study.py",
    "methods": "study.py --methods all --copies 4 --members 8",
    "facts": "study.py --dataset facts --members 4",
    "text": "study.py --benchmark text-natural-small --members 8 --remedies expand",
    "audit": "audit.py {runs}/default",
    "sweep": SWEEP,
    "influence": "influence.py",
    "neighbours": "neighbours.py",
}
TIMES = ("seconds", "started", "finished", "since", "compile_seconds", "seconds_total", "seconds_searching")
ABOUT = ("command", "git_commit", "git_dirty", "versions", "files", "run_folder", "store", "study_folder")
TABLES = (".csv", ".json", ".parquet", ".npy", ".npz")


def main() -> int:
    """Record or check; exit code 1 where a figure differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("record", "check"))
    parser.add_argument("folder", type=Path, help="where the recorded runs are")
    parser.add_argument("--fresh", action="store_true", help="check: train everything anew")
    parser.add_argument("--only", nargs="+", choices=tuple(RUNS), default=list(RUNS), help="these runs alone")
    parser.add_argument("--out", type=Path, help="check: keep the new runs here; by default they are thrown away")
    args = parser.parse_args()
    if args.what == "record":
        for name in args.only:
            run(name, args.folder, args.folder / "store")
        return 0
    if not (args.folder / "store").is_dir():
        parser.error(f"{args.folder} holds no recorded runs: record them first.")
    with tempfile.TemporaryDirectory() as scratch:
        return check(args.only, args.folder, args.out or Path(scratch), args.fresh)


def run(name: str, folder: Path, store: Path) -> None:
    """One of the runs, into folder/name."""
    script, *options = RUNS[name].format(runs=folder).split()
    where = ["--out", folder / name, "--store", store, "--quiet"]
    command = [sys.executable, EXPERIMENTS / script, *options, *where]
    print(f"{name}: {RUNS[name]}", flush=True)
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} ended with exit code {done.returncode}:\n{done.stderr[-2000:]}")


def check(names: list[str], golden: Path, out: Path, fresh: bool) -> int:
    """Run anew and compare; 1 where anything differs."""
    store, bad = out / "store", False
    if not fresh:
        shutil.copytree(golden / "store", store, dirs_exist_ok=True)
    for name in names:
        before = stored(store)
        run(name, out, store)
        lines = list(differences(golden / name, out / name))
        if not fresh and (new := stored(store) - before):
            lines.append(f"{len(new)} populations were not found in the store, such as {min(new)}")
        print("\n".join(f"   {line}" for line in lines) or "   equal", flush=True)
        bad |= bool(lines)
    return int(bad)


def stored(store: Path) -> set[str]:
    """Names of the populations in a store."""
    return {path.name for path in store.iterdir() if path.is_dir()} if store.is_dir() else set()


def differences(old: Path, new: Path) -> Iterator[str]:
    """A line for each file that is missing, new, or of other figures."""
    names = [{str(p.relative_to(at)) for p in at.rglob("*") if p.suffix in TABLES} for at in (old, new)]
    for name in sorted(names[0] ^ names[1]):
        yield f"{name} is {'missing' if name in names[0] else 'new'}"
    for name in sorted(names[0] & names[1]):
        mine, theirs = (content(at / name) for at in (old, new))
        keys = [key for key in mine.keys() | theirs.keys() if not same(mine.get(key), theirs.get(key))]
        if keys:
            key = min(keys)
            yield f"{name}: {len(keys)} of {len(mine)} entries differ ({key}: {mine.get(key)}, {theirs.get(key)})"


def content(path: Path) -> dict:
    """A file as one dictionary from where a value stands to what it is, without times and paths."""
    if path.suffix == ".npy":
        return {"": np.load(path)}
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return dict(arrays)
    if path.suffix == ".parquet":
        import pyarrow.parquet as parquet

        return _rows(parquet.read_table(path).to_pylist())
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return _rows(list(csv.DictReader(file)))
    return dict(_leaves(json.loads(path.read_text()), ""))


def _rows(rows: list[dict]) -> dict:
    """A table's cells, under today's names; an empty cell says as much as a column that is not there."""
    return {
        f"row {number}, {name}": value
        for number, row in enumerate(map(renamed, rows))
        if row.get("metric") not in TIMES
        for name, value in row.items()
        if name not in TIMES and value not in ("", None)
    }


def _leaves(value, where: str) -> Iterator[tuple[str, object]]:
    """The leaves of a JSON value with where they stand."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if inner is None:
        yield where, value
        return
    for key, child in inner:
        if key not in TIMES + ABOUT:
            yield from _leaves(child, f"{where}/{key}")


def same(a, b) -> bool:
    """Whether two values have the same bits; two NaN are the same."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return type(a) is type(b) and (a == b or (a != a and b != b))


if __name__ == "__main__":
    sys.exit(main())

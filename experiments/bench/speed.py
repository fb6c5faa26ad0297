"""How fast a population trains, beside a plain loop of separate jitted trainings and the device's own peak.

    python experiments/bench/speed.py                       # digits MLP, small ConvNet, tiny GPT, N = 1, 8, 32
    python experiments/bench/speed.py --cases small_net,wide_net,gpt_128,gpt_384 --dtype bfloat16 --no-loop  # GPU
    python experiments/bench/speed.py --save speed.json     # keep the rows; the next run says what changed
    python experiments/bench/speed.py --spread              # one device, several, members over devices, two processes
    python experiments/bench/speed.py --audits              # how long the metrics take, on random margins
    python experiments/bench/speed.py --influence           # how long the influence estimators take, on one core
    python experiments/bench/speed.py --neighbours          # how long exact nearest neighbours of 50,000 rows take

Speeds are model-samples a second (model-tokens for language) after compilation, medians of 5; population and loop are
measured in turn. GFLOP/s are three forward passes an example by XLA's own count, and their share is of a plain square
product in the same dtype on all devices. Compile time is apart.

Cost: about 4 minutes on 2 CPU cores. It should reach, on 2 cores, 1.8 times the loop's model-samples per second from
N = 8 on for the MLP (docs/performance.md has the measured table).
"""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path

import _audits
import _influence
import _neighbours
import _populations as populations
import _spread
import tyro

from unlearn_jax.cli.common import Hosts, command, join, print_json, use_every_core
from unlearn_jax.runtime.archives import read_json

SPEEDS = ("per_second", "seconds")  # of a row: what is compared with an earlier run


@dataclass(frozen=True)
class Args:
    """Model-samples per second of populations and of a plain loop."""

    cases: str = ",".join(populations.LAPTOP)
    """what to train, with commas: mlp, convnet, gpt; for accelerators small_net, wide_net, gpt_128, gpt_384"""
    members: str = ""
    """population sizes, with commas; empty = each case's own"""
    steps: int = 0
    """updates of each training; 0 = the case's own"""
    batch: int = 0
    """batch size; 0 = the case's own"""
    dtype: str = "float32"
    """compute dtype: float32 or bfloat16; weights stay float32"""
    chunk: int = 0
    """members in one program; 0 = by backend"""
    axis: str = "auto"
    """vmap, map, auto or measured"""
    data_devices: int = 1
    """devices that hold one member together"""
    hosts: tyro.conf.OmitArgPrefixes[Hosts] = Hosts()
    loop: bool = True
    """measure the loop of separate trainings as well; not by several processes"""
    spread: bool = False
    """measure the cases (N = 8) on one device, on several and by two processes of this machine instead"""
    audits: bool = False
    """measure the metrics of the audits instead"""
    influence: bool = False
    """measure the influence estimators instead, on one core"""
    neighbours: bool = False
    """measure the search for nearest neighbours instead, on one device"""
    quiet: bool = False
    """no table while measuring; with --json or --save"""
    json: bool = False
    """print one JSON object instead of the table, which goes to stderr: device, versions and the rows"""
    save: Path | None = None
    """also write the rows to this file; if it is there already, say first how they compare with those in it"""


def run(args: Args) -> None:
    """Measure, print a table, compare with the last one."""
    from unlearn_jax.results.recorder import write_json

    sizes, before = checked(args), earlier(args.save)
    shown = io.StringIO() if args.quiet else sys.stderr if args.json else sys.stdout
    with contextlib.redirect_stdout(shown):
        where, rows = _spread.measure(args) if args.spread else here(args, sizes)
        for text in changes(rows, before):
            print(text)
    if args.save:
        write_json(args.save, where | {"rows": rows})
    if args.json:
        print_json(where | {"rows": rows})


def here(args: Args, sizes: list[int]) -> tuple[dict, list[dict]]:
    """Device and versions, and the rows that this process measures; of several processes only the first goes on."""
    from unlearn_jax.results.recorder import environment
    from unlearn_jax.runtime import multihost

    join(args.hosts)
    if args.influence:
        _influence.one_core()
    elif not args.neighbours:
        use_every_core()
    where = environment()
    measured = _influence if args.influence else _neighbours if args.neighbours else _audits
    others = args.audits or args.influence or args.neighbours
    versions = ", ".join(f"{name} {where['versions'][name]}" for name in ("jax", "flax", "optax", "python"))
    print(f"{where['device']}, {where['devices']} JAX devices, {versions}", end="")
    print(f"; median of {(measured if others else populations).REPEATS}")
    rows = measured.measure() if others else trained(args, sizes)
    if not multihost.is_first():
        raise SystemExit(0)
    return where, rows


def trained(args: Args, sizes: list[int]) -> list[dict]:
    """A printed row for each case and population size."""
    import jax

    from unlearn_jax.population.sharding import check_data_devices

    check_data_devices(args.data_devices)
    far, most = jax.default_backend() != "cpu", populations.peak(args.dtype)
    print(f"a plain product in {args.dtype}: {most / 1e9:,.0f} GFLOP/s")
    print(populations.heading())
    rows = []
    for name in names(args.cases):
        case = populations.CASES[name]
        built = populations.build(case, args.dtype, args.steps, args.batch)
        alone = populations.loop(built) if args.loop else None
        for members in sizes or ((case.far[1],) if far and case.far[1] else case.members):
            rows.append(populations.measure(name, members, built, alone, args, most))
            print(populations.line(rows[-1]), flush=True)
    return rows


def names(cases: str) -> list[str]:
    """Names between commas."""
    return [name.strip() for name in cases.split(",") if name.strip()]


def earlier(path: Path | None) -> list[dict]:
    """The rows of an earlier run; none where there is no file.

    Raises:
        InputError: a file that no benchmark wrote.
    """
    from unlearn_jax.errors import InputError

    if path is None or not path.exists():
        return []
    try:
        rows = read_json(path)["rows"]
        return [dict(row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"'{path}' is no table of this script: give another --save file.") from None


def changes(rows: list[dict], before: list[dict]) -> list[str]:
    """What became faster or slower than in the earlier rows, a line a row that both have."""
    measured = ("seconds", "ratio", "share", "flops", "speed")
    key = lambda row: tuple((k, v) for k, v in row.items() if isinstance(v, str | int) and not k.startswith(measured))
    earlier, lines = {key(row): row for row in before}, []
    for row in rows:
        was, name = earlier.get(key(row)), next((s for s in SPEEDS if s in row), None)
        if was and name and was.get(name):
            factor = row[name] / was[name] if name == "per_second" else was[name] / row[name]
            lines.append(f"{' '.join(str(v) for _, v in key(row))}: {factor:.2f} times as fast as the last time")
    return lines


def checked(args: Args) -> list[int]:
    """The population sizes, none = the cases' own, if everything asked can be followed; nothing is measured before."""
    from unlearn_jax.errors import InputError, choose
    from unlearn_jax.models.layers import DTYPES
    from unlearn_jax.population.checkpoint import check_writable
    from unlearn_jax.studies.hyperparameters import check_size, numbers

    if not names(args.cases):
        raise InputError(f"--cases is empty: give some of {', '.join(populations.CASES)}.")
    for name in names(args.cases):
        choose("case", name, populations.CASES)
    choose("dtype", args.dtype, DTYPES)
    sizes = numbers(args.members, "members") if args.members else []
    if args.members and (not sizes or min(sizes) < 1):
        raise InputError(f"--members is '{args.members}': give population sizes of at least 1, such as 1,8.")
    choose("axis", args.axis, ("auto", "vmap", "map", "measured"))
    if args.spread and (args.hosts.coordinator or args.data_devices > 1):
        raise InputError("--spread goes through processes and data devices itself: leave out the options for them.")
    for name in ("steps", "chunk", "batch"):
        if getattr(args, name) < 0:
            raise InputError(f"--{name} is {getattr(args, name)}: give at least 0.")
        check_size(f"--{name}", getattr(args, name))
    for size in sizes:
        check_size("--members", size)
    if args.quiet and not (args.json or args.save):
        raise InputError("--quiet leaves nothing to read: add --json, or --save FILE.")
    if args.save:
        check_writable(args.save.parent, "--save", keep=False)
    return sizes


if __name__ == "__main__":
    sys.exit(command(Args, __doc__, run)())

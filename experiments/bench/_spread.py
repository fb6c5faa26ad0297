"""The same population on one device, on several, with members split over devices, and by several processes.

Each layout is a process (or several, which meet over loopback) of its own that runs the benchmark for one case, since a
process cannot change how many devices it has. All of them are on this machine: what a network between hosts costs is
seen only there, with the same script and ``--coordinator`` (docs/scaling.md).
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import _populations as populations

from unlearn_jax.cli.common import cores
from unlearn_jax.runtime.archives import read_json

MEMBERS = 8  # where no other number is asked for


class Layout(NamedTuple):
    """How the devices are used."""

    processes: int
    devices: int  # of each process
    data_devices: int = 1  # devices that hold one member together


def layouts(have: int) -> list[Layout]:
    """One process on 1, 2, 4, ... devices, all with members in two halves, and two processes that share them."""
    single = [Layout(1, 2**k) for k in range(have.bit_length()) if 2**k < have] + [Layout(1, have)]
    return single + ([Layout(1, have, 2), Layout(2, have // 2)] if have % 2 == 0 else [])


def available() -> tuple[str, int]:
    """Platform and devices of this machine, asked for in a process of its own, which frees them again."""
    ask = "import jax; print(jax.default_backend(), jax.local_device_count())"
    answer = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    platform, count = answer.stdout.split()
    return platform, min(cores(), 16) if platform == "cpu" else int(count)


def measure(args) -> tuple[dict, list[dict]]:
    """Device and versions, and a printed row for each case and layout.

    Raises:
        InputError: one device alone, or a TPU, whose devices processes of one host cannot share out.
    """
    from unlearn_jax.errors import InputError

    platform, have = available()
    if have < 2 or platform not in ("cpu", "gpu"):
        raise InputError(f"--spread needs several CPU cores or GPUs, and this machine has {have} of kind '{platform}'.")
    print(heading(), flush=True)
    rows: list[dict] = []
    for name in [name.strip() for name in args.cases.split(",") if name.strip()]:
        alone = None
        for layout in layouts(have):
            where, row = _measured(name, layout, platform, args)
            alone = alone or row["per_second"]
            rows.append(row | {"speedup": row["per_second"] / alone})
            print(line(rows[-1]), flush=True)
    print(f"{where['device']}, jax {where['versions']['jax']}; median of {populations.REPEATS}")
    return where, rows


def _measured(name: str, layout: Layout, platform: str, args) -> tuple[dict, dict]:
    """Device and versions, and the row that the benchmark writes for one case in one layout."""
    members = args.members or str(populations.CASES[name].far[1] if platform != "cpu" else MEMBERS) or str(MEMBERS)
    values = {"cases": name, "members": members, "steps": args.steps, "batch": args.batch, "dtype": args.dtype}
    values |= {"chunk": args.chunk, "axis": args.axis, "data-devices": layout.data_devices}
    options = [part for key, value in values.items() for part in (f"--{key}", str(value))]
    with tempfile.TemporaryDirectory() as folder:
        rows_file = Path(folder) / "rows.json"
        command = [
            sys.executable,
            str(Path(__file__).with_name("speed.py")),
            *options,
            "--no-loop",
            "--save",
            str(rows_file),
        ]
        _together(command, layout, platform)
        where = read_json(rows_file)
    (row,) = where.pop("rows")
    used = {"processes": layout.processes, "devices": layout.processes * layout.devices}
    return where, row | used | {"data_devices": layout.data_devices}


def _together(command: list[str], layout: Layout, platform: str) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{one.getsockname()[1]}"
    started = []
    for index in range(layout.processes):
        first = index * layout.devices
        devices = (
            {"JAX_NUM_CPU_DEVICES": str(layout.devices)}
            if platform == "cpu"
            else {"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(first, first + layout.devices)))}
        )
        meet = ["--coordinator", address, "--num-processes", str(layout.processes), "--process-id", str(index)]
        full = command + (meet if layout.processes > 1 else [])
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(full, env=os.environ | devices, **pipes))
    errors = [process.communicate()[1] for process in started]
    bad = [text for process, text in zip(started, errors) if process.returncode]
    if bad:
        raise RuntimeError(f"a benchmark of {layout} failed:\n{bad[0]}")


def heading() -> str:
    """The line above the rows."""
    heads = ("case", "N", "processes", "devices", "of a member", "population/s", "times one", "compile, s")
    return "{:<10}{:>5}{:>11}{:>9}{:>13}{:>14}{:>11}{:>12}".format(*heads)


def line(row: dict) -> str:
    """A row of the printed table."""
    return (
        f"{row['case']:<10}{row['members']:>5}{row['processes']:>11}{row['devices']:>9}{row['data_devices']:>13}"
        f"{row['per_second']:>14,.0f}{row['speedup']:>11.2f}{row['compile_seconds']:>12.1f}"
    )

"""What the scripts share: bad input becomes one line and exit code 2, and progress is one live line."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from unlearn_jax import disk, stopping
from unlearn_jax.errors import InputError


@dataclass(frozen=True)
class Hosts:
    """Processes that run one job together, each started with the same command (docs/scaling.md)."""

    coordinator: str = ""
    """HOST:PORT of process 0, or auto where the cluster tells (SLURM, Open MPI, GKE, TPU pods); none = one process"""
    num_processes: int | None = None
    """how many processes there are, where the cluster does not tell"""
    process_id: int | None = None
    """which one this is, from 0, where the cluster does not tell"""


def join(asked: Hosts) -> None:
    """Meet the other processes, if there are any; call before JAX starts.

    Raises:
        InputError: numbers without a coordinator; see `unlearn_jax.hosts.start`.
    """
    from unlearn_jax import hosts

    if asked.coordinator:
        hosts.start(asked.coordinator, asked.num_processes, asked.process_id)
    elif asked.num_processes is not None or asked.process_id is not None:
        raise InputError("--num-processes and --process-id need --coordinator: give HOST:PORT of process 0.")


def use_every_core() -> None:
    """Make each CPU core a device of its own, so that members are spread over cores; call before JAX starts.

    Two devices on two cores train a population of small networks 2.4 times as fast as one device with two threads
    (docs/performance.md). Without effect on accelerators, or where the user chose a number already.
    """
    import jax

    if "JAX_NUM_CPU_DEVICES" not in os.environ and "device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", min(cores(), 16))


def cores() -> int:
    """CPU cores that this process may use."""
    ask = getattr(os, "sched_getaffinity", None)
    return len(ask(0)) if ask else os.cpu_count() or 1


def keep_compiled_programs(folder: Path) -> None:
    """Persistent compilation cache, where compiling is slow enough to matter."""
    import jax

    if jax.default_backend() != "cpu":
        jax.config.update("jax_compilation_cache_dir", str(folder.resolve()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 2.0)


def guarded(run: Callable[[], object]) -> int:
    """Exit code of ``run``, with one line on stderr where it is not 0.

    2 where the user can mend the input or free space; 143 or 130 where the run was asked to stop by SIGTERM or Ctrl-C,
    which it does as soon as the updates in hand are kept. A second signal ends the process at once.
    """
    try:
        with stopping.listening(_told):
            run()
    except InputError as error:
        print("error:", *str(error).split(), file=sys.stderr)  # a cause may span lines
        return 2
    except OSError as error:
        if not disk.is_full(error):
            raise
        where = f" (writing to '{error.filename}')" if error.filename else ""
        print(f"error: the disk is full{where}; what is stored is kept: free space, run the same command.",
              file=sys.stderr)  # fmt: skip
        return 2
    except KeyboardInterrupt as stopped:
        print("stopped; what is trained is kept, the same command continues.", file=sys.stderr)
        return 128 + getattr(stopped, "signum", signal.SIGINT)
    return 0


def _told(signum: int) -> None:
    """Say that a signal was heard; from within its handler, so past Python's buffers."""
    os.write(2, b"\nstopping: keeping what is trained; a second signal ends at once.\n")


@contextmanager
def watched(quiet: bool):
    """A study's `Watch` that draws members done, examples per second and time left while the block runs."""
    from unlearn_jax.setup import Watch

    if quiet:
        yield Watch()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<16}"), BarColumn(24), MofNCompleteColumn(), TextColumn("members"),
        TextColumn("{task.fields[rate]:>14}"), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    bar, current = Progress(*columns, console=Console(stderr=True), refresh_per_second=4), {}
    try:

        def stage(label: str, members: int) -> None:
            bar.start()  # not before: bad input is to be the only line that is printed
            current.update(task=bar.add_task(label, total=members, rate=""), start=time.perf_counter(), base=0, seen=0)

        def advance(done: float, examples: int) -> None:
            if examples < current["seen"]:  # the next chunk counts from zero
                current["base"] += current["seen"]
            current["seen"] = examples
            rate = (current["base"] + examples) / max(time.perf_counter() - current["start"], 1e-9)
            trained = current["base"] + examples > 0  # else read back from the store, or a method without updates
            shown = f"{rate:,.0f} ex/s" if trained else "no training"
            bar.update(current["task"], completed=round(done, 1), rate=shown)

        yield Watch(stage, advance, lambda text: bar.console.print(text))
    finally:
        if current:
            bar.stop()

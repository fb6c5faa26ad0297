"""What the scripts share: hosts and devices, exit codes with one line about bad input, and results as JSON."""

from __future__ import annotations

import errno
import json
import math
import os
import shlex
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from unlearn_jax.cli.options import called, parsed, unread
from unlearn_jax.cli.progress import leave, watched
from unlearn_jax.errors import InputError
from unlearn_jax.runtime import disk, signals

__all__ = [
    "Hosts", "command", "command_line", "cores", "finish", "guarded", "interval", "join", "json_of",
    "keep_compiled_programs", "parsed", "print_json", "rows_of", "use_every_core", "watched",
]  # fmt: skip


T = TypeVar("T")
STOPPING = b"\nstopping: keeping what is trained; a second signal ends at once.\n"
KEPT = "what is trained is kept, the same command continues"
# what is wrong with a path: no such thing (any more), a folder for a file or the reverse, too long, not allowed
AMISS = {
    errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.EACCES,
    errno.EPERM, errno.EROFS, errno.ELOOP,
}  # fmt: skip


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
        InputError: numbers without a coordinator; see `unlearn_jax.runtime.joining.start`.
    """
    from unlearn_jax.runtime import joining

    if asked.coordinator:
        joining.start(asked.coordinator, asked.num_processes, asked.process_id)
    elif asked.num_processes is not None or asked.process_id is not None:
        raise InputError("--num-processes and --process-id need --coordinator: give HOST:PORT of process 0.")


def command_line() -> str:
    """The command that this process was called with, as it can be typed again."""
    return f"{called()} {shlex.join(sys.argv[1:])}".strip()


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
    """Persistent compilation cache, where compiling is slow enough to matter and JAX has none already."""
    import jax

    if jax.default_backend() != "cpu" and not getattr(jax.config, "jax_compilation_cache_dir", None):
        jax.config.update("jax_compilation_cache_dir", str(folder.resolve()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 2.0)


def command(kind: type[T], doc: str | None, run: Callable[[T], object], kept: str = KEPT) -> Callable[..., int]:
    """``main(argv)`` of a command: do what the words ask for, None = those of this process; the exit code.

    Args:
        kind: the dataclass of its options.
        doc: its docstring, with which the help begins.
        run: what it does with the options.
        kept: as of `guarded`.
    """

    def main(argv: list[str] | None = None) -> int:
        args = parsed(kind, doc, argv)
        return guarded(lambda: run(args), kept)

    return main


def _tell_of_stopping(signum: int) -> None:
    """Write to stderr from within a handler, so past Python's buffers, and past live lines, which go at once."""
    if not leave(STOPPING.decode().strip()):
        os.write(2, STOPPING)


def guarded(run: Callable[[], object], kept: str = KEPT) -> int:
    """Exit code of ``run``, with one line on stderr where it is not 0.

    2 where the user can mend the input or free space; 143 or 130 where the run was asked to stop by SIGTERM or Ctrl-C,
    which it does as soon as the updates in hand are kept. A second signal ends the process at once.
    """
    try:
        with signals.listening(_tell_of_stopping):
            run()
    except InputError as error:
        print("error:", *str(error).split(), file=sys.stderr)  # a cause may span lines
        return 2
    except BrokenPipeError:
        unread()
    except OSError as error:
        if error.errno in AMISS and error.filename:
            where = str(error.filename)
            where = where if len(where) < 90 else f"{where[:40]}...{where[-40:]}"
            print(f"error: '{where}' cannot be used ({error.strerror}): give another name, or put right what is there.",
                  file=sys.stderr)  # fmt: skip
            return 2
        if not disk.is_full(error):
            raise
        where = f" (writing to '{error.filename}')" if error.filename else ""
        print(f"error: the disk is full{where}; what is stored is kept: free space, run the same command.",
              file=sys.stderr)  # fmt: skip
        return 2
    except MemoryError as error:
        reason = " ".join(str(error).split()).rstrip(".") or "no more is to be had"
        print(f"error: there is not enough memory ({reason}): ask for less, or for fewer at once.", file=sys.stderr)
        return 2
    except RuntimeError as error:
        _alone(error)
        raise
    except KeyboardInterrupt as stopped:
        print(f"stopped; {kept}.", file=sys.stderr)
        return 128 + getattr(stopped, "signum", signal.SIGINT)
    return 0


def _alone(error: RuntimeError) -> None:
    """End the process with one sentence where another one of its run is gone: JAX would wait for it, and then abort."""
    from unlearn_jax.runtime import joining

    if joining.is_gone(error):
        print("error:", joining.GONE, file=sys.stderr, flush=True)
        os._exit(1)


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a table that a script wrote as CSV, with numbers as numbers."""
    from unlearn_jax.results.tables import read_csv

    return [{name: _typed(text) for name, text in row.items()} for row in read_csv(path)]


def _typed(text: str) -> Any:
    """A cell: a whole number, a number, or what it says."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text, text)


def interval(row: dict[str, str]) -> str:
    """A figure of a table with its interval."""
    return f"{float(row['value']):6.2f} [{float(row['ci_low']):.2f}, {float(row['ci_high']):.2f}]"


def print_json(told: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    print(json_of(told))


def json_of(told: dict[str, Any]) -> str:
    """One JSON object; paths become text, and what is not finite null, as JSON has no word for it."""
    plain = lambda value: (
        {str(k): plain(v) for k, v in value.items()} if isinstance(value, dict)
        else [plain(v) for v in value] if isinstance(value, list | tuple)
        else None if isinstance(value, float) and not math.isfinite(value)
        else str(value) if isinstance(value, Path) else value
    )  # fmt: skip
    return json.dumps(plain(told), allow_nan=False)


def finish(
    as_json: bool, headline: Callable[[], str], told: Callable[[], dict], draw: Callable[[], Path] | None, name="page"
) -> None:
    """End a command on stdout: its headline and where the page is, or all of it as one JSON object.

    Args:
        as_json: print the object in place of lines.
        headline: the lines.
        told: the object, to which the page is added.
        draw: draws the page; None = there is none.
        name: what the page is called.
    """
    if not as_json:
        print(headline())
    page = draw() if draw else None
    if as_json:
        print_json(told() | {"page": page})
    elif page:
        print(f"{name}: {page}")

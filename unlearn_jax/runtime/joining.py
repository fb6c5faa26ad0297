"""Joining the processes of one run: who is where, whether they reach one another, and the end when one has gone.

`unlearn_jax.runtime.multihost` has what joined processes tell one another.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import signal
import socket
import time

import jax

from unlearn_jax.errors import InputError
from unlearn_jax.runtime.multihost import several

HEARTBEAT, SHUTDOWN = 100, 30  # seconds after which a silent process counts as dead; that one waits for the others
GONE = (
    "another process of this run has ended, or cannot be reached any more; what is stored is kept: give the same "
    "command again, to any number of processes."
)


def start(coordinator: str, processes: int | None = None, index: int | None = None, *, patience: int = 300) -> None:
    """Join the processes of a run; before JAX has looked for devices.

    Args:
        coordinator: ``HOST:PORT`` of process 0, or ``auto`` where the cluster tells (SLURM, Open MPI, GKE, TPU pods).
        processes: how many there are; None = as the cluster says.
        index: which one this is, from 0; None = as the cluster says.
        patience: seconds to wait for the others.

    Raises:
        InputError: a cluster that does not tell, numbers that cannot be, or others that did not come.
    """
    _check_numbers(coordinator, processes, index)
    jax.config.update("jax_enable_preemption_service", False)  # it would keep a stopped process from ending
    where = None if coordinator == "auto" else coordinator
    bind = bind_address(where) if where and index == 0 else None
    if where and index == 0:
        _check_port(where, bind)
    elif where and index is not None:
        _check_reachable(where, index, patience)
    try:
        jax.distributed.initialize(
            where,
            processes,
            index,
            initialization_timeout=patience,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=SHUTDOWN,
            coordinator_bind_address=bind,
        )
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"the cluster does not tell who takes part ({error}): give --coordinator HOST:PORT, --num-processes and "
            "--process-id."
        ) from error
    except RuntimeError as error:
        raise InputError(
            f"the {processes or ''} processes did not find one another at '{coordinator}' ({_first_line(error)}): "
            "start all of them with the same --coordinator, whose port is free and open."
        ) from error
    _end_in_words()


def _check_numbers(coordinator: str, processes: int | None, index: int | None) -> None:
    """Raise `InputError` where the place of process 0, or the numbers of the processes, cannot be."""
    named = processes is not None, index is not None
    if coordinator != "auto" and not all(named) and any(named):
        raise InputError("--num-processes and --process-id go together: give both, or neither on a cluster that tells.")
    if processes is not None and index is not None and not 0 <= index < processes:
        raise InputError(f"--process-id is {index} of {processes} processes: give 0 to {processes - 1}.")
    if coordinator != "auto" and not coordinator.rpartition(":")[2].isdigit():
        raise InputError(f"--coordinator is '{coordinator}': give HOST:PORT of process 0, or auto on a cluster.")


def bind_address(coordinator: str) -> str | None:
    """The one address that process 0 is to listen on; None = on all of its host, as JAX does.

    It is the address that the others use, where this host has it and it is not a name's loopback address: many
    hosts know their own name as 127.0.1.1, where no other could reach them.

    Example:
        >>> bind_address("127.0.0.1:1234")
        '127.0.0.1:1234'
    """
    host, _, port = coordinator.rpartition(":")
    if os.environ.get("JAX_COORDINATOR_BIND_ADDRESS"):
        return None
    try:
        places = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, place = places[0]
        address = ipaddress.ip_address(str(place[0]).partition("%")[0])
        if address.is_loopback and host.strip("[]") not in (place[0], "localhost"):
            return None
        with socket.socket(family) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((place[0], 0))
    except (OSError, OverflowError, ValueError):  # a name or address that is another host's, as behind a router
        return None
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _check_port(coordinator: str, bound: str | None) -> None:
    """Raise `InputError` where process 0 cannot listen: JAX would end the process."""
    port, at = coordinator.rpartition(":")[2], bound.rpartition(":")[0].strip("[]") if bound else ""
    try:
        with socket.socket(socket.AF_INET6 if ":" in at else socket.AF_INET) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((at, int(port)))
    except (OSError, OverflowError) as error:
        raise InputError(
            f"process 0 cannot listen on port {port} ({error}): give --coordinator another port."
        ) from None


def _check_reachable(coordinator: str, index: int, patience: float) -> None:
    """Raise `InputError` where this process cannot reach process 0 in time: JAX would end the process."""
    host, _, port = coordinator.rpartition(":")
    until = time.monotonic() + patience
    while True:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=5):
                return
        except (OSError, OverflowError) as error:
            if time.monotonic() > until:
                raise InputError(
                    f"process {index} cannot reach process 0 at '{coordinator}' ({error}): start process 0 too, with "
                    "the same --coordinator, an address of its host that the others can reach."
                ) from None
        time.sleep(0.2)


def _end_in_words() -> None:
    """Have the process end with a sentence and exit code 1 where JAX ends it, as it does when another one has gone.

    JAX calls ``abort`` then, from a thread of its own, after some lines about it; nothing of Python sees that.
    """
    with contextlib.suppress(OSError, AttributeError):
        handle = ctypes.CDLL(None).signal
        handle.restype = ctypes.c_void_p
        handle(int(signal.SIGABRT), _ON_ABORT)


def _aborted(_: int) -> None:
    """End this process; nothing half-written is left."""
    os.write(2, b"\nerror: JAX ended this process, as the lines above say; most often " + GONE.encode() + b"\n")
    os._exit(1)


_ON_ABORT = ctypes.CFUNCTYPE(None, ctypes.c_int)(_aborted)


def is_gone(error: BaseException) -> bool:
    """Whether an error is what a process meets when another one of its run has ended."""
    words = ("UNAVAILABLE", "Gloo", "heartbeat", "coordination service", "Connection closed by peer", "Barrier failed")
    return several() and isinstance(error, jax.errors.JaxRuntimeError) and any(one in str(error) for one in words)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__

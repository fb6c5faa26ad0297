"""Several processes that run one program: who writes, what all must agree on, and arrays that lie on all of them.

Every process runs the same Python; the devices of all of them make one mesh. Process 0 alone touches the store and the
run folder, and the others wait for its word. Words go through the service that `jax.distributed` starts, not through
the devices: a device waits 30 seconds for the other side of a collective on a CPU, and process 0 may score for an hour.
So every exchange between devices begins with a meeting there. One process alone waits for nobody.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import json
import os
import socket
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from unlearn_jax.errors import InputError
from unlearn_jax.runtime.signals import Stopped
from unlearn_jax.types import PyTree

PATIENCE = 7 * 24 * 3600 * 1000  # ms; a process that has died is noticed by its heartbeat, long before
HEARTBEAT, SHUTDOWN = 100, 30  # seconds after which a silent process counts as dead; that one waits for the others
GONE = (
    "another process of this run has ended, or cannot be reached any more; what is stored is kept: give the same "
    "command again, to any number of processes."
)
_COUNT = [0]  # words exchanged so far, the same number on every process


def start(coordinator: str, processes: int | None = None, index: int | None = None, *, patience: int = 300) -> None:
    """Join the processes of a run; before JAX has looked for devices.

    Args:
        coordinator: ``HOST:PORT`` of process 0, or ``auto`` where the cluster tells (SLURM, Open MPI, GKE, TPU pods).
        processes: how many there are; told by the cluster where None.
        index: which one this is, from 0; told by the cluster where None.
        patience: seconds to wait for the others.

    Raises:
        InputError: a cluster that does not tell, numbers that cannot be, or others that did not come.
    """
    broadcast = processes is not None, index is not None
    if coordinator != "auto" and not all(broadcast) and any(broadcast):
        raise InputError("--num-processes and --process-id go together: give both, or neither on a cluster that tells.")
    if processes is not None and index is not None and not 0 <= index < processes:
        raise InputError(f"--process-id is {index} of {processes} processes: give 0 to {processes - 1}.")
    if coordinator != "auto" and not coordinator.rpartition(":")[2].isdigit():
        raise InputError(f"--coordinator is '{coordinator}': give HOST:PORT of process 0, or auto on a cluster.")
    jax.config.update("jax_enable_preemption_service", False)  # it would keep a stopped process from ending
    where = None if coordinator == "auto" else coordinator
    own = bind_address(where) if where and index == 0 else None
    if where and index is not None:
        _check_reachable(where, index, patience, own)
    try:
        with _ending_in_words():
            jax.distributed.initialize(
                where,
                processes,
                index,
                initialization_timeout=patience,
                heartbeat_timeout_seconds=HEARTBEAT,
                shutdown_timeout_seconds=SHUTDOWN,
                coordinator_bind_address=own,
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


def bind_address(coordinator: str) -> str | None:
    """The one address that process 0 is to listen on; None = on all of its host, as JAX does.

    It is the address that the others are told, where this host has it and it is not a name's loopback address: many
    hosts know their own name as 127.0.1.1, where no other could reach them.

    Example:
        >>> bind_address("127.0.0.1:1234")
        '127.0.0.1:1234'
    """
    host, _, port = coordinator.rpartition(":")
    if os.environ.get("JAX_COORDINATOR_BIND_ADDRESS"):
        return None
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, place = found[0]
        address = ipaddress.ip_address(str(place[0]).partition("%")[0])
        if address.is_loopback and host.strip("[]") not in (place[0], "localhost"):
            return None
        with socket.socket(family) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((place[0], 0))
    except (OSError, OverflowError, ValueError):  # a name or address that is another host's, as behind a router
        return None
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _check_reachable(coordinator: str, index: int, patience: float, own: str | None) -> None:
    """Raise `InputError` where process 0 cannot listen, or another one cannot reach it: JAX would end the process."""
    host, _, port = coordinator.rpartition(":")
    host, until = host.strip("[]"), time.monotonic() + patience
    if index == 0:
        at = own.rpartition(":")[0].strip("[]") if own else ""
        try:
            with socket.socket(socket.AF_INET6 if ":" in at else socket.AF_INET) as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.bind((at, int(port)))
        except (OSError, OverflowError) as error:
            raise InputError(
                f"process 0 cannot listen on port {port} ({error}): give --coordinator another port."
            ) from None
    while index:
        try:
            with socket.create_connection((host, int(port)), timeout=5):
                return
        except (OSError, OverflowError) as error:
            if time.monotonic() > until:
                raise InputError(
                    f"process {index} cannot reach process 0 at '{coordinator}' ({error}): start process 0 too, with "
                    "the same --coordinator, an address of its host that the others can reach."
                ) from None
        time.sleep(0.2)


@contextlib.contextmanager
def _ending_in_words():
    """Have JAX's client, begun in the block, end the process with a sentence where it would with a stack of C++.

    It ends it when another process has gone. JAX takes no function to be called then, so the client's maker is given
    one for a while; and where jaxlib cannot call it (0.10: the status has no Python form), it throws, which ends in the
    handler that is set here too. Where neither can be had, JAX ends the process as it does.
    """
    try:
        from jax._src.lib import _jax  # pyright: ignore[reportPrivateImportUsage]

        make = _jax.get_distributed_runtime_client
    except (ImportError, AttributeError):
        yield
        return

    def made(*args, **more):
        try:
            return make(*args, missed_heartbeat_callback=_alone, **more)
        except TypeError:  # no such argument
            return make(*args, **more)

    _jax.get_distributed_runtime_client = made
    try:
        yield
    finally:
        _jax.get_distributed_runtime_client = make
    with contextlib.suppress(OSError, AttributeError):
        set_terminate = ctypes.CDLL("libstdc++.so.6")._ZSt13set_terminatePFvvE
        set_terminate.restype = ctypes.c_void_p
        set_terminate(_TERMINATE)


def _alone(*_) -> None:
    """End this process, of which another one is gone, with one sentence; nothing half-written is left."""
    os.write(2, b"\nerror: " + GONE.encode() + b"\n")
    os._exit(1)


_TERMINATE = ctypes.CFUNCTYPE(None)(_alone)


def is_gone(error: BaseException) -> bool:
    """Whether an error is what a process meets when another one of its run has ended."""
    words = ("UNAVAILABLE", "Gloo", "heartbeat", "coordination service", "Connection closed by peer", "Barrier failed")
    return several() and isinstance(error, jax.errors.JaxRuntimeError) and any(one in str(error) for one in words)


def _first_line(error: Exception) -> str:
    """What an error says, in short."""
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


def several() -> bool:
    """Whether this process is one of several."""
    return jax.process_count() > 1


def is_first() -> bool:
    """Whether this process writes: process 0 of several, or the only one."""
    return jax.process_index() == 0


def _service() -> Any:
    """The service that processes exchange words through; JAX has no public name for it, Orbax uses it likewise."""
    from jax._src import distributed

    return distributed.global_state.client


def _number() -> int:
    """The number of this word, the same on every process because all run the same program."""
    _COUNT[0] += 1
    return _COUNT[0]


def barrier() -> None:
    """Wait until every process is here."""
    if several():
        _service().wait_at_barrier(f"unlearn_jax/{_number()}", PATIENCE)


def from_process_zero(fn: Callable[[], Any]) -> Any:
    """What ``fn()`` gives process 0, which alone calls it, on every process; its error likewise.

    The value goes through JSON, so tuples come back as lists where there are several processes.
    """
    if not several():
        return fn()
    name, failure = f"unlearn_jax/{_number()}", None
    if is_first():
        try:
            word = {"value": fn()}
        except BaseException as error:
            failure, word = error, _as_word(error)
        _service().key_value_set(name, json.dumps(word))
    else:
        word = json.loads(_service().blocking_key_value_get(name, PATIENCE))
    if failure is not None:
        raise failure
    if "error" in word:
        raise _as_error(word)
    return word["value"]


def _as_word(error: BaseException) -> dict:
    """An error as the others are told of it."""
    number = error.errno if isinstance(error, OSError) else None
    kind = "input" if isinstance(error, InputError) else "system" if number is not None else "other"
    if isinstance(error, Stopped):
        kind, number = "stopped", int(error.signum)
    said = error.strerror if isinstance(error, OSError) else str(error)
    return {"error": said or type(error).__name__, "kind": kind, "errno": number}


def _as_error(word: dict) -> BaseException:
    """An error of process 0, to be raised here."""
    if word["kind"] == "input":
        return InputError(word["error"])
    if word["kind"] == "stopped":
        return Stopped(word["errno"])
    if word["kind"] == "system":
        return OSError(word["errno"], word["error"])
    return RuntimeError(f"process 0 stopped: {word['error']}")


def assert_equal(value: str, what: str) -> None:
    """Make sure that every process has the same ``value``.

    Raises:
        InputError: on every process, if one has another than process 0.
    """
    if not several():
        return
    name = f"unlearn_jax/{_number()}"
    _service().key_value_set(f"{name}/{jax.process_index()}", value)
    barrier()
    found = {int(key.rpartition("/")[2]): one for key, one in _service().key_value_dir_get(name)}
    others = sorted(index for index, one in found.items() if one != found[0])
    if others:
        raise InputError(
            f"process {', '.join(map(str, others))} has another {what} than process 0: start every process with the "
            "same command, code, package versions and data."
        )


def largest(value: float) -> float:
    """The largest of what the processes have."""
    if not several():
        return value
    name = f"unlearn_jax/{_number()}"
    _service().key_value_set(f"{name}/{jax.process_index()}", repr(float(value)))
    barrier()
    return max(float(one) for _, one in _service().key_value_dir_get(name))


def broadcast(tree: PyTree | None, like: PyTree) -> PyTree:
    """A tree of NumPy arrays that process 0 has, on every process, bit by bit.

    Args:
        tree: on process 0; not looked at elsewhere.
        like: shapes and dtypes, the same on every process.
    """
    if not several():
        return tree
    from jax.experimental import multihost_utils

    shapes, structure = jax.tree.flatten(like)
    sizes = [int(np.prod(x.shape)) * np.dtype(x.dtype).itemsize for x in shapes]
    raw = np.zeros(sum(sizes), np.uint8)  # bytes, since what is broadcast is summed and -0.0 + 0.0 is 0.0
    if is_first():
        parts = [np.ascontiguousarray(x).reshape(-1).view(np.uint8) for x in jax.tree.leaves(tree)]
        raw = np.concatenate([raw[:0], *parts])
    barrier()
    raw = np.asarray(multihost_utils.broadcast_one_to_all(raw))
    parts = np.split(raw, np.cumsum(sizes)[:-1])
    leaves = [part.view(x.dtype).reshape(x.shape) for part, x in zip(parts, shapes)]
    return jax.tree.unflatten(structure, leaves)


def placed(tree: PyTree, shardings: PyTree) -> PyTree:
    """Arrays that every process has, on the devices of a mesh, whichever processes these belong to.

    Args:
        tree: arrays of this host, the same on every process; typed keys too.
        shardings: one sharding, or a tree of them with a leaf for each array.
    """
    if not several():
        return jax.device_put(tree, shardings)
    leaves, structure = jax.tree.flatten(tree)
    each = [shardings] * len(leaves) if isinstance(shardings, NamedSharding) else jax.tree.leaves(shardings)
    return jax.tree.unflatten(structure, [_put(x, sharding) for x, sharding in zip(leaves, each, strict=True)])


def _put(x, sharding: NamedSharding) -> jax.Array:
    """One array on the devices of all processes; each process hands over what its own devices hold."""
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_put(jax.random.key_data(x), sharding), impl=jax.random.key_impl(x))
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
        return jax.device_put(x, sharding)
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def gathered(tree: PyTree) -> PyTree:
    """The whole of arrays that lie on any devices, as NumPy on every process."""
    if not several():
        return jax.tree.map(np.asarray, tree)
    from jax.experimental import multihost_utils

    barrier()
    return jax.tree.map(np.asarray, multihost_utils.process_allgather(tree, tiled=True))

"""Several processes that run one program: who writes, what all must agree on, and arrays that lie on all of them.

Every process runs the same Python; the devices of all of them make one mesh. Process 0 alone touches the store and the
run folder, and the others wait for its word. Words go through the devices, and every exchange between these begins with
a meeting at the service that `jax.distributed` starts: a device waits 30 seconds for the other side of a collective on
a CPU, and process 0 may score for an hour. One process alone waits for nobody.
"""

from __future__ import annotations

import json
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
_COUNT = [0]  # meetings so far, the same number on every process


def several() -> bool:
    """Whether this process is one of several."""
    return jax.process_count() > 1


def is_first() -> bool:
    """Whether this process writes: process 0 of several, or the only one."""
    return jax.process_index() == 0


def _number() -> int:
    """The number of this meeting, the same on every process because all run the same program."""
    _COUNT[0] += 1
    return _COUNT[0]


def barrier() -> None:
    """Wait until every process is here."""
    if several():
        from orbax.checkpoint import multihost

        multihost.get_barrier_sync_fn()(key=f"unlearn_jax/{_number()}", timeout_ms=PATIENCE)


def from_process_zero(fn: Callable[[], Any]) -> Any:
    """What ``fn()`` gives process 0, which alone calls it, on every process; its error likewise.

    The value goes through JSON, so tuples come back as lists where there are several processes.
    """
    if not several():
        return fn()
    failure, text = None, b""
    if is_first():
        try:
            text = json.dumps({"value": fn()}).encode()
        except BaseException as error:
            failure, text = error, json.dumps(_as_word(error)).encode()
    word = json.loads(_from_all(text)[0])
    if failure is not None:
        raise failure
    if "error" in word:
        raise _as_error(word)
    return word["value"]


def _as_word(error: BaseException) -> dict:
    """An error as it is sent to the others."""
    number = error.errno if isinstance(error, OSError) else None
    kind = "input" if isinstance(error, InputError) else "system" if number is not None else "other"
    if isinstance(error, Stopped):
        kind, number = "stopped", int(error.signum)
    text = error.strerror if isinstance(error, OSError) else str(error)
    return {"error": text or type(error).__name__, "kind": kind, "errno": number}


def _as_error(word: dict) -> BaseException:
    """An error of process 0, to be raised here."""
    if word["kind"] == "input":
        return InputError(word["error"])
    if word["kind"] == "stopped":
        return Stopped(word["errno"])
    if word["kind"] == "system":
        return OSError(word["errno"], word["error"])
    return RuntimeError(f"process 0 stopped: {word['error']}")


def _from_all(word: bytes) -> list[bytes]:
    """What each process gives here, by its index."""
    from jax.experimental import multihost_utils

    barrier()
    sizes = multihost_utils.process_allgather(np.int32(len(word)))
    room = max(64, 1 << int(max(sizes) - 1).bit_length())  # one of few lengths, each of which is compiled once
    padded = np.frombuffer(word.ljust(room, b"\0"), np.uint8)
    return [one.tobytes()[:size] for one, size in zip(multihost_utils.process_allgather(padded), sizes)]


def assert_equal(value: str, what: str) -> None:
    """Make sure that every process has the same ``value``.

    Raises:
        InputError: on every process, if one has another than process 0.
    """
    if not several():
        return
    values = _from_all(value.encode())
    others = [index for index, one in enumerate(values) if one != values[0]]
    if others:
        raise InputError(
            f"process {', '.join(map(str, others))} has another {what} than process 0: start every process with the "
            "same command, code, package versions and data."
        )


def largest(value: float) -> float:
    """The largest of what the processes have."""
    if not several():
        return value
    return max(map(float, _from_all(repr(float(value)).encode())))


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

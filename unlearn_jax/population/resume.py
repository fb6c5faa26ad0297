"""The state of a chunk in training, kept every few minutes, so that a long chunk need not start again.

Updates are applied in segments of a few seconds. At the end of one the state may be written to ``midway`` in the
store, under the chunk's digest and the number of updates done; a later run of the same program on the same inputs goes
on from there, bit for bit on the same devices. It is taken away when the chunk is done.
"""

from __future__ import annotations

import contextlib
import functools
import re
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.population import checkpoint
from unlearn_jax.runtime import multihost, signals
from unlearn_jax.types import PyTree

ABANDONED = 30 * 24 * 3600.0  # seconds after which a state is abandoned
STATE = re.compile(r"[0-9a-f]{32}\.[0-9a-f]{16}-\d+")  # a chunk's name and the updates done
LONGEST = 5.0  # seconds that a segment should take at most, so that a run that is asked to stop does so soon
SHORTEST, GROWTH = 2.5, 32  # seconds that it is to take at least, for a call costs up to an update beside its own
# (temporaries are touched for the first time); times as many updates as the one before at most


def name_of(parts: list[str], at: np.ndarray) -> str:
    """A chunk's name: the digest of the first of the parts that it trains, and one of all and its members."""
    return f"{parts[0][:32]}.{checkpoint.digest_of(*parts, at)[:16]}"


class Place(NamedTuple):
    """Where and how often a chunk's state is kept."""

    store: Path
    name: str  # of the chunk
    minutes: float  # between two times; 0 = only when the run is asked to stop
    members: int  # of the chunk; what its program has beyond them is padding to the devices, and is not kept


def follow(
    advance: Callable[[PyTree, int, int], PyTree],
    carry: PyTree,
    steps: int,
    segments: int,
    place: Place | None = None,
    tick: Callable[[float], None] | None = None,
) -> tuple[PyTree, float]:
    """Apply all updates to a chunk, going on from where it is kept.

    Args:
        advance: ``(carry, start, stop) -> carry`` after updates start to stop - 1; may use up the carry it is given.
        carry: the state before the first update, on the devices.
        steps: updates.
        segments: number of segments, for progress; fewer where they are shorter than `SHORTEST`, more than `LONGEST`.
        place: where the state is kept; None = nowhere.
        tick: called with the share of the updates done after each segment.

    Returns:
        The state after the last update; seconds to add to the time that this call took, so that it is the time that
        training took: those of earlier runs, less those spent on writing.

    Raises:
        Stopped: the run was asked to stop; the state is kept.
    """
    carry, done, aside = _resumed(place, carry)
    full = max(1, -(-steps // segments))
    size, began, kept = full if full < 8 else full // 8, time.perf_counter(), time.perf_counter()
    while done < steps:
        clock, stop = time.perf_counter(), min(done + size, steps)
        carry = jax.block_until_ready(advance(carry, done, stop))
        now, done = time.perf_counter(), stop
        if tick is not None:
            tick(done / steps)
        signum = int(multihost.largest(signals.asked()))  # whichever process was asked
        decided = functools.partial(_decided, place, size, full, now - clock, now - kept)
        size, keep = multihost.from_process_zero(decided)  # all processes do alike
        if done < steps and (keep or signum):
            if place is not None:
                _keep(place, carry, done, aside + now - began)
            if signum:
                raise signals.Stopped(signum)
            kept = time.perf_counter()
            aside -= kept - now
    return carry, aside


def _decided(place: Place | None, size: int, full: int, took: float, since: float) -> tuple[int, bool]:
    """Updates of the next segment, and whether the state is to be kept."""
    each = max(took / size, 1e-9)
    longest = min(max(full, int(SHORTEST / each)), int(LONGEST / each), GROWTH * size)
    return max(1, longest), place is not None and 0 < place.minutes * 60 <= since


def clear(place: Place | None) -> None:
    """Take away what is kept of a chunk."""
    if place is not None:
        _drop(place.store, f"{place.name}-*")


def forget(store: Path, digest: str) -> None:
    """Take away what a killed run has left of a chunk whose first part, of this digest, is stored."""
    _drop(store, f"{digest[:32]}.*")


def _drop(store: Path, names: str) -> None:
    """Take away the states of these names, what is half-written, and the folder where nothing else is in it."""
    folder = store / "midway"
    if not multihost.is_first() or not folder.exists():
        return
    checkpoint.sweep(folder)
    for old in folder.glob(names):
        shutil.rmtree(old, ignore_errors=True)
    with contextlib.suppress(OSError):  # others are kept there
        folder.rmdir()


def _folder(place: Place) -> Path:
    return place.store / "midway"


def _states(place: Place) -> list[Path]:
    """What is kept of a chunk, the latest first."""
    states = [path for path in _folder(place).glob(f"{place.name}-*") if path.name.rpartition("-")[2].isdecimal()]
    return sorted(states, key=lambda path: int(path.name.rsplit("-", 1)[1]), reverse=True)


def _keep(place: Place, carry: PyTree, done: int, seconds: float) -> None:
    """Write the state, then take away older ones; where there is no room for it, say so."""
    leaves = [leaf[: place.members] for leaf in multihost.gathered([_plain(leaf) for leaf in jax.tree.leaves(carry)])]
    kept = {"leaves": {f"{i:05}": leaf for i, leaf in enumerate(leaves)}, "seconds": np.float64(seconds)}
    if failed := multihost.from_process_zero(lambda: _written(place, f"{place.name}-{done}", kept)):
        warnings.warn(f"the state of members in training could not be kept ({failed}).", stacklevel=2)


def _written(place: Place, name: str, kept: PyTree) -> str:
    """Write a state in the place of older ones; '' or why it could not be."""
    older = _states(place)
    for _ in range(3):
        try:
            checkpoint.save_tree(_folder(place), name, kept)
            break
        except FileNotFoundError:  # another run found the folder empty and took it away just then
            continue
        except OSError as error:
            return error.strerror or str(error)
    else:
        return "the folder was taken away"
    states = [path for path in _folder(place).iterdir() if STATE.fullmatch(path.name)]
    long_ago = [path for path in states if time.time() - path.stat().st_mtime > ABANDONED]
    for path in [*older, *long_ago]:
        if path.name != name:
            shutil.rmtree(path, ignore_errors=True)
    return ""


def _resumed(place: Place | None, carry: PyTree) -> tuple[PyTree, int, float]:
    """The latest state that can be read, the updates done and the seconds they took; else what is given, 0 and 0."""
    leaves, structure = jax.tree.flatten(carry)
    kept = _read(place, len(leaves)) if place is not None and multihost.is_first() else None
    done, seconds = multihost.from_process_zero(lambda: (0, 0.0) if kept is None else (kept[1], kept[2]))
    if not done or place is None:  # nothing is done where nothing is kept
        return carry, 0, 0.0
    shape = lambda leaf: jax.ShapeDtypeStruct((place.members, *leaf.shape[1:]), leaf.dtype)
    plain = [_plain(leaf) for leaf in leaves]
    values = multihost.broadcast(kept and kept[0], [shape(leaf) for leaf in plain])
    padded = [one[np.minimum(np.arange(len(leaf)), place.members - 1)] for one, leaf in zip(values, plain)]
    values = multihost.placed(padded, [leaf.sharding for leaf in plain])
    return jax.tree.unflatten(structure, [_like(leaf, value) for leaf, value in zip(leaves, values)]), done, seconds


def _read(place: Place, count: int) -> tuple[list[np.ndarray], int, float] | None:
    """Leaves, updates done and seconds of the latest state that can be read, or None."""
    for path in _states(place):
        kept = checkpoint.load_tree(path.parent, path.name)
        if kept is not None and len(kept["leaves"]) == count:
            leaves = [kept["leaves"][name] for name in sorted(kept["leaves"])]
            return leaves, int(path.name.rsplit("-", 1)[1]), float(kept["seconds"])
    return None


def _plain(leaf: jax.Array) -> jax.Array:
    """Numbers in place of typed keys."""
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def _like(leaf: jax.Array, value: jax.Array) -> jax.Array:
    """A typed key again where ``leaf`` is one."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.device_put(jax.random.wrap_key_data(value, impl=jax.random.key_impl(leaf)), leaf.sharding)
    return value

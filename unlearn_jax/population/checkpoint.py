"""Chunks of trained members on disk, found again by the digest of everything that made them (Orbax lives here)."""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import json
import logging
import shutil
import sys
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.population.folders import check_writable, locked, mine, sweep
from unlearn_jax.runtime import disk
from unlearn_jax.types import PyTree

__all__ = [
    "check_writable", "digest_of", "load_chunk", "load_tree", "locked", "save_chunk", "save_tree", "sweep",
]  # fmt: skip


SETTLING = 0.5  # seconds that threads are given after a write that failed


def digest_of(*parts) -> str:
    """Hex SHA-256 over strings and pytrees of arrays, dtypes and shapes included."""
    state = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            state.update(part.encode())
            continue
        leaves, structure = jax.tree.flatten(part)
        state.update(str(structure).encode())
        for leaf in leaves:
            if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                leaf = jax.random.key_data(leaf)
            array = np.ascontiguousarray(np.asarray(leaf))
            state.update(f"{array.dtype}{array.shape}".encode())
            state.update(array.tobytes())
    return state.hexdigest()


def _checksum(name: str, tree: PyTree) -> bytes:
    """32 bytes that change with any bit of any leaf, and with the name, which is a digest of what made them."""
    return bytes.fromhex(digest_of(name, jax.tree.leaves(tree)))


def save_chunk(store: Path, digest: str, tree: PyTree, note: dict) -> None:
    """Write one chunk under its digest; it appears whole or not at all, also where others write the same one.

    Raises:
        OSError: there is no room for it, ``ENOSPC`` whatever says so.
    """
    save_tree(store, digest[:32], tree)
    note = note | {"bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(tree))}
    text = json.dumps(note, indent=1, default=str)
    disk.write_whole(store / f"{digest[:32]}.json", lambda path: path.write_text(text, encoding="utf-8"), mine())


def save_tree(folder: Path, name: str, tree: PyTree) -> None:
    """Write arrays under a name, as `save_chunk`."""
    from orbax.checkpoint import v1 as ocp

    tree = jax.tree.map(np.asarray, tree)
    whole = {
        "tree": tree,
        "checksum": np.frombuffer(_checksum(name, tree), np.uint8),
    }  # Orbax does not notice a flipped bit
    sweep(folder)
    staged = folder / f".{name}-{mine()}"
    hook = sys.unraisablehook
    sys.unraisablehook = functools.partial(_but_closed_loops, hook)
    try:
        with _quiet():
            save = ocp.save if hasattr(ocp, "save") else ocp.save_pytree
            (save if jax.process_count() == 1 else _save_alone)(staged.resolve(), whole)
        _place(staged, folder / name)
        sys.unraisablehook = hook
    except Exception as error:  # the hook stays: threads of Orbax are still at it, most of them for a moment
        time.sleep(SETTLING)
        raise (disk.full(folder) if disk.is_full(error) else error) from error
    finally:
        for left in (staged, *folder.glob(f"{glob.escape(staged.name)}.orbax*")):
            shutil.rmtree(left, ignore_errors=True)


def _but_closed_loops(hook, what) -> None:
    """Tell of exceptions that are ignored, but of threads that still write when Orbax has given up: nothing new."""
    if not (what.exc_type is RuntimeError and str(what.exc_value) == "Event loop is closed"):
        hook(what)


@contextlib.contextmanager
def _quiet():
    """Without Orbax's words on its own deprecations, on restoring without shardings, and on what it raises anyway."""
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _place(staged: Path, target: Path) -> None:
    """Move a folder to its place; one that is there already stays if it can be read."""
    with contextlib.suppress(OSError):
        staged.rename(target)
        return
    try:
        _read(target)
    except Exception:
        shutil.rmtree(target, ignore_errors=True)
        with contextlib.suppress(OSError):  # another process was quicker
            staged.rename(target)


def _save_alone(path: Path, tree: PyTree) -> None:
    """Write a tree where this is one of several processes, of which the others know nothing of it.

    By Orbax's first interface: the second one asks all processes, whatever its options say, whether they write to one
    folder (orbax-checkpoint 0.12). What it leaves is read by either.
    """
    import orbax.checkpoint as ocp

    how = ocp.options.MultiprocessingOptions(**_only_here())
    handler = ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(multiprocessing_options=how),
        pytree=ocp.PyTreeCheckpointHandler(multiprocessing_options=how),
    )
    with ocp.Checkpointer(handler, multiprocessing_options=how) as writer:
        writer.save(path, args=ocp.args.Composite(pytree=ocp.args.PyTreeSave(tree)))


def _only_here() -> dict:
    """Options by which Orbax waits for no other process."""
    index = jax.process_index()
    return {"primary_host": index, "active_processes": {index}, "barrier_sync_key_prefix": f"process{index}"}


def _read_alone(ocp):
    """Orbax's settings for reading where this is one of several processes; none where it is the only one."""
    if jax.process_count() == 1:
        return contextlib.nullcontext()
    context = ocp.Context()
    for name, value in _only_here().items():
        setattr(context.multiprocessing, name, value)
    return context


def load_chunk(store: Path, digest: str) -> PyTree | None:
    """The chunk saved under ``digest`` as NumPy arrays, or None where there is none that can be read."""
    return load_tree(store, digest[:32])


def load_tree(folder: Path, name: str) -> PyTree | None:
    """Arrays saved under a name, as `load_chunk`."""
    if not (folder / name).exists():
        return None
    try:
        return _read(folder / name)
    except Exception as error:
        warnings.warn(f"saved members {name} cannot be read ({error}); training them again.", stacklevel=3)
        return None


def _read(target: Path) -> PyTree:
    """The arrays of a folder; raises whatever it is that keeps them from being what was written."""
    from orbax.checkpoint import v1 as ocp

    with _quiet(), _read_alone(ocp):
        load = ocp.load if hasattr(ocp, "load") else ocp.load_pytree
        whole = jax.tree.map(np.asarray, load(target.resolve()))
    tree, sealed = whole["tree"], whole["checksum"].tobytes()
    if sealed == _checksum(target.name, tree):
        return tree
    if sealed == bytes.fromhex(digest_of(jax.tree.leaves(tree))):
        raise ValueError("an earlier version wrote them, whose checksum does not say which members they are")
    raise ValueError("they are not what was written under this name")

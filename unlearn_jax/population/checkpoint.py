"""Chunks of trained members on disk, found again by the digest of everything that made them (Orbax lives here)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.types import PyTree


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
            if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                leaf = jax.random.key_data(leaf)
            array = np.ascontiguousarray(np.asarray(leaf))
            state.update(f"{array.dtype}{array.shape}".encode())
            state.update(array.tobytes())
    return state.hexdigest()


def _checksum(tree: PyTree) -> bytes:
    """32 bytes that change with any bit of any leaf."""
    return bytes.fromhex(digest_of(jax.tree.leaves(tree)))


def check_writable(folder: Path, option: str = "--out", *, keep: bool = True) -> Path:
    """Make ``folder`` and prove that a file can be written there; without ``keep``, take away again what was made.

    Raises:
        InputError: it cannot; names ``option``, by which the user gives another folder.
    """
    made = [part for part in (folder, *folder.parents) if not part.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot write to '{folder}' ({error.strerror}): give another {option} folder.") from error
    finally:
        for part in made if not keep else ():
            with contextlib.suppress(OSError):
                part.rmdir()
    return folder


@contextlib.contextmanager
def locked(folder: Path):
    """Hold ``folder`` for this process while the block runs; a killed process lets go of it by itself.

    Raises:
        InputError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on this platform
        yield
        return
    path = folder / ".lock"
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"another run is writing to '{folder}': wait for its end, or give another --out folder."
            ) from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def save_chunk(store: Path, digest: str, tree: PyTree, note: dict) -> None:
    """Write one chunk under its digest; it appears whole or not at all, whoever else writes the same one."""
    from orbax.checkpoint import v1 as ocp

    tree = jax.tree.map(np.asarray, tree)
    whole = {"tree": tree, "checksum": np.frombuffer(_checksum(tree), np.uint8)}  # Orbax does not notice a flipped bit
    _sweep(store)
    staged = store / f".{digest[:32]}-{platform.node()}-{os.getpid()}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Orbax warns about its own deprecations between versions
        save = ocp.save if hasattr(ocp, "save") else ocp.save_pytree
        save(staged.resolve(), whole)
    _place(staged, store / digest[:32], lambda: load_chunk(store, digest) is not None)
    (store / f"{digest[:32]}.json").write_text(json.dumps(note, indent=1, default=str))


def _place(staged: Path, target: Path, readable: Callable[[], bool]) -> None:
    """Move a folder to its place; one that is there already stays if it can be read."""
    with contextlib.suppress(OSError):
        staged.rename(target)
        return
    if not readable():
        shutil.rmtree(target, ignore_errors=True)
        with contextlib.suppress(OSError):  # another process was quicker
            staged.rename(target)
            return
    shutil.rmtree(staged, ignore_errors=True)


def _sweep(store: Path) -> None:
    """Take away what processes of this machine that are gone left half-written."""
    for left in store.glob(f".*-{platform.node()}-*"):
        number = left.name.split(".orbax")[0].rsplit("-", 1)[1]
        if number.isdigit() and not _alive(int(number)):
            shutil.rmtree(left, ignore_errors=True)


def _alive(process: int) -> bool:
    """Whether a process of this machine exists."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def load_chunk(store: Path, digest: str) -> PyTree | None:
    """The chunk saved under ``digest`` as NumPy arrays, or None where there is none that can be read."""
    from orbax.checkpoint import v1 as ocp

    target = store / digest[:32]
    if not target.exists():
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # restoring without shardings is what is wanted here
            load = ocp.load if hasattr(ocp, "load") else ocp.load_pytree
            whole = jax.tree.map(np.asarray, load(target.resolve()))
        if whole["checksum"].tobytes() != _checksum(whole["tree"]):
            raise ValueError("they are not what was written")
        return whole["tree"]
    except Exception as error:
        warnings.warn(f"saved members {target.name} cannot be read ({error}); training them again.", stacklevel=2)
        return None

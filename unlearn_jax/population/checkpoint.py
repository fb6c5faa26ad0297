"""Chunks of trained members on disk, found again by the digest of everything that made them (Orbax lives here)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import platform
import shutil
import time
import warnings
from pathlib import Path

import jax
import numpy as np

from unlearn_jax import disk
from unlearn_jax.errors import InputError
from unlearn_jax.types import PyTree

ABANDONED = 48 * 3600.0  # seconds after which what is half-written is nobody's, whatever machine wrote it


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
        sweep(folder)
        probe = folder / f".probe-{_mine()}"
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
    with contextlib.ExitStack() as opened:
        while True:
            file = opened.enter_context(path.open("a+"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise InputError(
                    f"another run is writing to '{folder}'{file.read(200)}: wait for its end, or give another --out "
                    "folder."
                ) from None
            except OSError as error:
                warnings.warn(f"'{folder}' cannot be locked ({error.strerror}): start one run at a time.", stacklevel=3)
            if _still(file, path):  # else the last one to hold it has taken it away meanwhile
                break
        file.truncate(0)
        file.write(f" (process {os.getpid()} on {platform.node()})")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _still(file, path: Path) -> bool:
    """Whether an open file is the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def save_chunk(store: Path, digest: str, tree: PyTree, note: dict) -> None:
    """Write one chunk under its digest; it appears whole or not at all, whoever else writes the same one.

    Raises:
        OSError: there is no room for it, ``ENOSPC`` whatever says so.
    """
    save_tree(store, digest[:32], tree)
    note = note | {"bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(tree))}
    text = json.dumps(note, indent=1, default=str)
    disk.write_whole(store / f"{digest[:32]}.json", lambda path: path.write_text(text, encoding="utf-8"), _mine())


def save_tree(folder: Path, name: str, tree: PyTree) -> None:
    """Write arrays under a name, as `save_chunk`."""
    from orbax.checkpoint import v1 as ocp

    tree = jax.tree.map(np.asarray, tree)
    whole = {"tree": tree, "checksum": np.frombuffer(_checksum(tree), np.uint8)}  # Orbax does not notice a flipped bit
    sweep(folder)
    staged = folder / f".{name}-{_mine()}"
    try:
        with _quiet():
            save = ocp.save if hasattr(ocp, "save") else ocp.save_pytree
            (save if jax.process_count() == 1 else _save_alone)(staged.resolve(), whole)
        _place(staged, folder / name)
    except Exception as error:
        raise (disk.full(folder) if disk.is_full(error) else error) from error
    finally:
        for left in folder.glob(f"{staged.name}*"):
            shutil.rmtree(left, ignore_errors=True)


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


def _mine() -> str:
    """How what this process has half-written is marked."""
    return f"{platform.node()}-{os.getpid()}"


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


def sweep(folder: Path) -> None:
    """Take away what processes that are gone left half-written: of this machine, or untouched for long."""
    for left in folder.glob(".*"):
        *_, host, number = left.name.split(".orbax")[0].rsplit("-", 2) if left.name.count("-") >= 2 else ("", "")
        if not number.isdigit():
            continue
        gone = left.name.split(".orbax")[0].endswith(f"-{platform.node()}-{number}") and not _alive(int(number))
        with contextlib.suppress(OSError):
            if gone or time.time() - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def _alive(process: int) -> bool:
    """Whether a process of this machine exists."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


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
    if whole["checksum"].tobytes() != _checksum(whole["tree"]):
        raise ValueError("they are not what was written")
    return whole["tree"]

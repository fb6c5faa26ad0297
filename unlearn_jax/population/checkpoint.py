"""Chunks of trained members on disk, found again by the digest of everything that made them (Orbax lives here)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
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


def check_writable(folder: Path) -> Path:
    """Make ``folder`` and prove that a file can be written there.

    Raises:
        InputError: it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot write to '{folder}' ({error.strerror}): give another --out folder.") from error
    return folder


def save_chunk(store: Path, digest: str, tree: PyTree, note: dict) -> None:
    """Write one chunk under its digest; it appears whole or not at all."""
    from orbax.checkpoint import v1 as ocp

    tree = jax.tree.map(np.asarray, tree)
    whole = {"tree": tree, "checksum": np.frombuffer(_checksum(tree), np.uint8)}  # Orbax does not notice a flipped bit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Orbax warns about its own deprecations between versions
        target = store / digest[:32]
        if target.exists():
            shutil.rmtree(target)
        save = ocp.save if hasattr(ocp, "save") else ocp.save_pytree
        save(target.resolve(), whole)
    (store / f"{digest[:32]}.json").write_text(json.dumps(note, indent=1, default=str))


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

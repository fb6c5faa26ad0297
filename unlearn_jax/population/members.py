"""Who the members are: their keys, their index tables, and grids of numeric hyperparameters."""

from __future__ import annotations

import itertools
import zlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.types import Array


class Tables(NamedTuple):
    """Each member's sets as padded lists of rows among the stored examples; leading axis N."""

    kept: Array  # (N, L) int32
    kept_count: Array  # (N,) int32, live entries of each row of ``kept``
    requested: Array  # (N, M) int32
    requested_count: Array  # (N,) int32
    weight: Array | None = None  # (N, n) float32 weight of each stored example; None = 1 everywhere
    weight_requested: Array | None = None  # the same where it is asked to be forgotten; None = as ``weight``


def role_number(role: str) -> int:
    """A stable 31-bit number for a role's name."""
    return zlib.crc32(role.encode()) & 0x7FFFFFFF


def member_keys(seed: int, role: str, members: int) -> Array:
    """Keys ``fold_in(fold_in(root, role), member)``: (N,) typed keys, prefix-stable in N.

    The role is part of the key, so that two populations are independent even where their data are equal.

    Example:
        >>> member_keys(0, "oracle", 4).shape
        (4,)
    """
    root = jax.random.fold_in(jax.random.key(seed), role_number(role))
    return jax.vmap(lambda i: jax.random.fold_in(root, i))(jnp.arange(members))


def make_tables(kept: list[np.ndarray], requested: list[np.ndarray] | None = None, *, pad_to: int = 0) -> Tables:
    """Index tables from one array of rows per member.

    Args:
        kept: N arrays of rows that member i trains on (or retains).
        requested: N arrays of rows that member i is asked to forget; none = empty sets.
        pad_to: least length of the ``kept`` table, so that populations share one program.

    Raises:
        InputError: a member with nothing to train on.

    Example:
        >>> tables = make_tables([np.arange(5), np.arange(3)], [np.array([7]), np.array([8])])
        >>> tables.kept.shape, tables.kept_count.tolist(), tables.requested.tolist()
        ((2, 5), [5, 3], [[7], [8]])
    """
    requested = requested if requested is not None else [np.zeros(0, np.int32)] * len(kept)
    if min(len(rows) for rows in kept) == 0:
        raise InputError("a member has no training example left: ask for fewer targets.")

    def padded(rows: list[np.ndarray], least: int) -> tuple[Array, Array]:
        length = max(least, 1, *(len(r) for r in rows))
        table = np.zeros((len(rows), length), np.int32)
        for i, r in enumerate(rows):
            table[i, : len(r)] = r
        return jnp.asarray(table), jnp.asarray([len(r) for r in rows], jnp.int32)

    return Tables(*padded(kept, pad_to), *padded(requested, 1))


def grid(values: dict[str, list[float]]) -> list[dict[str, float]]:
    """Every combination of the named values, first name slowest; ``[{}]`` for no names.

    Example:
        >>> grid({"lr": [0.1, 0.2], "alpha": [1.0]})
        [{'lr': 0.1, 'alpha': 1.0}, {'lr': 0.2, 'alpha': 1.0}]
    """
    return [dict(zip(values, point)) for point in itertools.product(*values.values())]


def setting_name(point: dict) -> str:
    """How a grid point is written in the records: ``alpha=0.5,lr=0.01,decay=5+8``; '' for the defaults."""

    def text(value) -> str:
        if isinstance(value, tuple):
            return "+".join(map(str, value))
        if isinstance(value, float):
            return f"{value:g}" if float(f"{value:g}") == value else repr(value)
        return str(value).lower()

    return ",".join(f"{name}={text(value)}" for name, value in point.items())

"""The nearest rows of an embedding by exact cosine, without the matrix of all cosines, and clusters of linked rows.

Blocks of queries meet blocks of rows on the device; a running top-k is all that is kept of them.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.types import Array

SLACK = 1e-6  # of float32: a cosine of .9 - SLACK is at least .9
COLUMNS = 4  # blocks of rows that a block of queries meets at a time


class Nearest(NamedTuple):
    """The k nearest of n rows for each of q queries, nearest first; of equal cosines the lower row number first."""

    rows: np.ndarray  # (q, k) int32 row numbers; -1 where there are fewer
    cosine: np.ndarray  # (q, k) float32; -inf where there are fewer
    within: np.ndarray  # (q,) int32: how many of the n rows come into question, the listed ones among them


def top_k(
    embedding,
    k: int,
    *,
    queries=None,
    at_least: float = -1.0,
    block: int = 1024,
    exclude_self: bool | np.ndarray | None = None,
) -> Nearest:
    """The k rows of largest cosine for each query; exact up to float32, and the same in every run.

    Args:
        embedding: (n, d) rows of norm 1, or of zeros, which are near nothing; an array or a SciPy sparse matrix.
        k: neighbours of each query, at least 1; it may exceed n.
        queries: (q, d) rows of the same kind; none = the rows of ``embedding`` themselves.
        at_least: the least cosine of a neighbour.
        block: queries compared at a time, with `COLUMNS` times as many rows.
        exclude_self: True leaves out row i for query i; an array (q,) of row numbers leaves out that row of each
            query (-1: none). By default True where there are no ``queries``.

    Raises:
        InputError: k or block below 1, no columns or other columns in the queries than in the rows, rows that are
            not of norm 1 or not finite, row numbers in ``exclude_self`` that are not there.

    Example:
        >>> import numpy as np
        >>> rows = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> top_k(rows, 1).rows.tolist()
        [[1], [2], [1]]
    """
    if k < 1 or block < 1:
        raise InputError(f"{k} nearest rows in blocks of {block} were asked for: give at least 1 of each.")
    rows = checked_rows(embedding, "embedding")
    wanted = rows if queries is None else checked_rows(queries, "queries")
    if wanted.shape[1] != rows.shape[1]:
        raise InputError(
            f"the queries have {wanted.shape[1]} columns and the embedding {rows.shape[1]}: embed both alike."
        )
    excluded = _left_out(exclude_self, queries is None, len_of(wanted), len_of(rows))
    width = min(COLUMNS * block, max(len_of(rows), 1))
    if len_of(rows) == 0 or len_of(wanted) == 0:
        return _padded([], len_of(wanted), k)
    find = _sparse if hasattr(rows, "tocsr") else _dense
    parts = find(
        rows, wanted, excluded, min(k, len_of(rows)), np.float32(at_least - SLACK), min(block, len_of(wanted)), width
    )
    return _padded(parts, len_of(wanted), k)


def len_of(rows) -> int:
    """Number of rows of an array or a sparse matrix."""
    return rows.shape[0]


def unit_rows(rows) -> np.ndarray:
    """Rows divided by their norms: (n, d) of any numbers -> (n, d) float32; rows of zeros stay."""
    wide = np.asarray(rows, np.float64).reshape(len(rows), -1)
    norm = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.divide(wide, norm, out=np.zeros_like(wide), where=norm > 0).astype(np.float32)


def checked_rows(rows: Any, name: str) -> Any:
    """The rows as float32, a sparse matrix as CSR; `InputError` unless each is of norm 1 or of zeros."""
    sparse = hasattr(rows, "tocsr")
    rows = rows.tocsr().astype(np.float32) if sparse else np.asarray(rows)
    if rows.ndim != 2 or rows.shape[1] < 1:
        raise InputError(f"the {name} has shape {rows.shape}: give one row of numbers for each example, (n, d).")
    square = np.asarray(rows.power(2).sum(axis=1)).ravel() if sparse else np.einsum("nd,nd->n", rows, rows)
    wrong = ~((np.abs(square - 1) < 1e-3) | (square == 0))  # also of NaN
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(f"row {row} of the {name} has norm {square[row] ** 0.5:g}: divide rows by their norms.")
    return rows if sparse else rows.astype(np.float32, copy=False)


def _left_out(exclude: bool | np.ndarray | None, same: bool, count: int, size: int) -> np.ndarray:
    """Row left out of each query's neighbours, (q,) int32; -1 = none."""
    if exclude is None or isinstance(exclude, bool | np.bool_):
        if exclude and not same and count > size:
            raise InputError(f"there are {count} queries and {size} rows: name the row that is each query's own.")
        return np.arange(count, dtype=np.int32) if (same if exclude is None else exclude) else np.full(count, -1, "i4")
    excluded = np.asarray(exclude)
    if (
        excluded.shape != (count,)
        or excluded.dtype.kind not in "iu"
        or (count and (excluded.min() < -1 or excluded.max() >= size))
    ):
        raise InputError(
            f"exclude_self does not fit: give one row number, -1 to {size - 1}, for each of {count} queries."
        )
    return excluded.astype(np.int32)


def _padded(parts: list, count: int, k: int) -> Nearest:
    """The blocks' results in one, without surplus queries, with k columns."""
    rows, cosine = np.full((count, k), -1, np.int32), np.full((count, k), -np.inf, np.float32)
    within, start = np.zeros(count, np.int32), 0
    for part in parts:
        nearest, live = np.asarray(part[0]), min(len(part[0]), count - start)
        rows[start : start + live, : nearest.shape[1]] = nearest[:live]
        cosine[start : start + live, : nearest.shape[1]] = np.asarray(part[1])[:live]
        within[start : start + live] = np.asarray(part[2])[:live]
        start += live
    rows[np.isneginf(cosine)] = -1
    return Nearest(rows, cosine, within)


def _blocks(size: int, block: int):
    """Row numbers of each block, the last one padded with -1."""
    for first in range(0, size, block):
        at = np.arange(first, first + block, dtype=np.int32)
        yield np.where(at < size, at, -1)


def _meet(best: Nearest, cosine: Array, columns: Array, own: Array, least: Array) -> Nearest:
    """A running top-k after a further block of cosines (q, w); columns (w,) are row numbers, -1 = absent.

    `lax.top_k` puts the first of equals first, and earlier rows come first.
    """
    fits = (columns >= 0)[None] & (columns[None] != own[:, None]) & (cosine >= least)
    cosine = jnp.where(fits, cosine, -jnp.inf)
    found, place = jax.lax.top_k(cosine, min(best.rows.shape[1], cosine.shape[1]))
    both = jnp.concatenate([best.cosine, found], axis=1)
    rows = jnp.concatenate([best.rows, columns[place]], axis=1)
    kept, place = jax.lax.top_k(both, best.rows.shape[1])
    traced: Any = jnp.take_along_axis(rows, place, axis=1), kept, best.within + fits.sum(axis=1, dtype=jnp.int32)
    return Nearest(*traced)


def _nothing(count: int, k: int) -> Nearest:
    """The running top-k before the first block."""
    rows, cosine = jnp.full((count, k), -1, jnp.int32), jnp.full((count, k), -jnp.inf, jnp.float32)
    traced: Any = rows, cosine, jnp.zeros(count, jnp.int32)
    return Nearest(*traced)


@functools.partial(jax.jit, static_argnames="k")
def _one_block(rows: Array, numbers: Array, asked: Array, own: Array, least: Array, k: int) -> Nearest:
    """Nearest of a block of queries among (blocks, w, d) rows, whose numbers are (blocks, w)."""

    def step(best: Nearest, part: tuple) -> tuple:
        cosine = jnp.matmul(asked, part[0].T, precision="highest")
        return _meet(best, cosine, part[1], own, least), None

    return jax.lax.scan(step, _nothing(len(asked), k), (rows, numbers))[0]


def _dense(
    rows: np.ndarray, queries: np.ndarray, excluded: np.ndarray, k: int, least: np.float32, block: int, width: int
):
    """Results of all blocks of queries."""
    zero, other = ~np.any(rows, axis=1), ~np.any(queries, axis=1)
    numbers = np.stack(list(_blocks(len(rows), width)))
    held = jnp.asarray(rows[np.maximum(numbers, 0)])
    numbers = jnp.asarray(np.where(zero[np.maximum(numbers, 0)], -1, numbers))
    parts = []
    for at in _blocks(len(queries), block):
        at = np.maximum(at, 0)
        limit = np.where(other[at], np.inf, least).astype(np.float32)[:, None]
        parts.append(_one_block(held, numbers, queries[at], excluded[at], limit, k))
    return parts


_join = jax.jit(_meet)


def _sparse(rows, queries, excluded: np.ndarray, k: int, least: np.float32, block: int, width: int):
    """Results of all blocks of queries; SciPy multiplies, the device chooses."""
    zero, other = (np.asarray(abs(part).sum(axis=1)).ravel() == 0 for part in (rows, queries))
    columns = [(at, rows[np.maximum(at, 0)].T.tocsr()) for at in _blocks(rows.shape[0], width)]
    parts = []
    for at in _blocks(queries.shape[0], block):
        at, best = np.maximum(at, 0), _nothing(block, k)
        limit = np.where(other[at], np.inf, least).astype(np.float32)[:, None]
        for number, part in columns:
            number = np.where(zero[np.maximum(number, 0)], -1, number)
            best = _join(best, (queries[at] @ part).toarray(), number, excluded[at], limit)
        parts.append(best)
    return parts

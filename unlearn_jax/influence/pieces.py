"""Examples' gradients in pieces: tapped layers by their factors, the remaining parameters as rows; and in blocks.

What `gram`, `tracin`, `projection` and `trak` share, with their checks of what they are given.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from unlearn_jax.errors import InputError
from unlearn_jax.influence.checks import is_traced
from unlearn_jax.influence.per_example import example_gradients, flatten
from unlearn_jax.influence.taps import (
    Factors,
    example_shapes,
    layer_factors,
    layer_gram,
    layer_square_norms,
    tappable,
    untapped,
)
from unlearn_jax.trees import wide
from unlearn_jax.types import Array, Batch, Model, PyTree, Task, Variables

ROOM = 2**26  # numbers that a block of examples may take up
BLOCK = 512  # examples in a block at most


class Layout(NamedTuple):
    """Which parameters go by layers' factors and which by per-example gradients."""

    layers: tuple[str, ...]  # paths of layers
    rest: tuple[str, ...]  # paths of leaves


class Pieces(NamedTuple):
    """What inner products of n examples' gradients are made of."""

    factors: dict[str, Factors]
    rest: Array  # (n, R)


def leaves_by(variables: Variables, select: Callable[[str], bool] | None) -> Callable[[str], bool] | None:
    """A predicate of leaves' paths like ``select``, the same function for the same leaves: programs are kept by it."""
    return None if select is None else among(tuple(name for name in untapped(variables, {}) if select(name)))


def layers_by(variables: Variables, select: Callable[[str], bool] | None) -> Callable[[str], bool] | None:
    """The same of layers' paths, which are those of their leaves without the last part."""
    names = dict.fromkeys(name.rpartition("/")[0] for name in untapped(variables, {}))
    return None if select is None else among(tuple(name for name in names if select(name)))


@functools.lru_cache(maxsize=256)
def among(names: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether a path is one of the names; the same function for the same names, by which programs are kept."""
    return frozenset(names).__contains__


def layout_of(
    model: Model, variables: Variables, batch: Batch, select: Callable[[str], bool] | None = None, exact: bool = True
) -> Layout:
    """The layout of the leaves that ``select`` chooses; a layer goes by its factors if all its leaves are chosen.

    Raises `InputError` where nothing is chosen, or without ``exact`` no layer that can be tapped.
    """
    names = untapped(variables, {})
    chosen = {name for name in names if select is None or select(name)}
    missing = {name.rpartition("/")[0] for name in names if name not in chosen}
    layers = tuple(name for name in tappable(model, variables, batch) if name not in missing)
    rest = tuple(name for name in names if name in chosen and name.rpartition("/")[0] not in layers)
    if not exact and not layers:
        raise InputError("no dense or convolutional layer can be tapped: use exact=True, or a select that fits.")
    if not chosen:
        raise InputError(f"select chooses none of the parameters: they are {', '.join(names)}.")
    return Layout(layers, rest if exact else ())


def pieces_of(
    model: Model, task: Task, variables: Variables, batch: Batch, layout: Layout, *, quantity: str, micro: int
) -> Pieces:
    """Factors and remaining gradients of a batch; the factors' memory is theirs alone, whatever ``micro``."""
    kinds: dict[str, Any] = dict(quantity=quantity, micro=micro)
    factors = {}
    if layout.layers:
        factors = layer_factors(model, task, variables, batch, select=lambda name: name in layout.layers, **kinds)
    if not layout.rest:
        return Pieces(factors, jnp.zeros((len(batch.weight), 0), score_dtype(variables)))
    chosen = lambda name: name in layout.rest
    return Pieces(factors, example_gradients(model, task, variables, batch, select=chosen, **kinds))


def score_dtype(variables: Variables) -> jnp.dtype:
    """The dtype of scores: float64 where the parameters are, else float32."""
    return wide(flatten(variables).vector.dtype)


def inner_products(train: Pieces, queries: Pieces, dtype) -> Array:
    """(n, q) inner products of gradients."""
    with jax.default_matmul_precision("highest"):
        total = train.rest.astype(dtype) @ queries.rest.astype(dtype).T
        for name, factors in train.factors.items():
            total = total + layer_gram(factors, queries.factors[name]).astype(dtype)
    return total


def square_norms(pieces: Pieces, dtype) -> Array:
    """(n,) squared norms of gradients (ghost norms)."""
    with jax.default_matmul_precision("highest"):
        total = jnp.square(pieces.rest.astype(dtype)).sum(axis=1)
        for factors in pieces.factors.values():
            total = total + layer_square_norms(factors).astype(dtype)
    return total


def over_blocks(of: Callable[[Batch], PyTree], batch: Batch, size: int) -> PyTree:
    """``of(block)`` for blocks of at most ``size`` examples of equal length, joined along the leading axis."""
    count = len(batch.weight)
    blocks = math.ceil(count / size)
    if blocks <= 1:
        return of(batch)
    rows = math.ceil(count / blocks)
    index = np.minimum(np.arange(blocks * rows), count - 1).reshape(blocks, rows)
    done = lax.map(lambda at: of(jax.tree.map(lambda x: jnp.asarray(x)[at], batch)), jnp.asarray(index))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], done)


def block_size(pieces: Callable[[Batch], Pieces], batch: Batch, block: int | None) -> int:
    """``block``, or how many examples fit into `ROOM` with their factors and one layer's gradients."""
    if block is not None:
        if block < 1:
            raise InputError(f"block is {block}: give a number of examples of at least 1.")
        return block
    shapes = jax.eval_shape(pieces, example_shapes(batch))
    held = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    layers = [(f.inputs.shape[1], f.inputs.shape[2] * f.slopes.shape[2]) for f in shapes.factors.values()]
    whole = max((size for positions, size in layers if positions > 1), default=0)
    return max(1, min(BLOCK, ROOM // max(1, held + whole)))


def check_sets(train: Batch, queries: Batch | None = None) -> None:
    """Raise `InputError` for train rows that are none, or for batches whose parts differ in length."""
    for name, batch in (("train", train),) + (() if queries is None else (("queries", queries),)):
        lengths = {len(part) for part in (batch.inputs, batch.targets, batch.weight)}
        if len(lengths) > 1:
            raise InputError(
                f"{name} has inputs, targets and weights of lengths {sorted(lengths)}: give as many of each."
            )
    if len(train.weight) == 0:
        raise InputError("train has no rows: give at least one training example to score.")


def finite(values: Array, rows: str = "train rows", columns: str = "queries") -> Array:
    """The values (n, q) or (n,) if all are finite, or are not known yet; else an `InputError` that names the rows."""
    if is_traced(values) or bool(jnp.isfinite(values).all()):
        return values
    bad = ~np.isfinite(np.asarray(values)).reshape(len(values), -1)
    by_row = bad.all(axis=1)
    where = f"of all {rows}" if by_row.all() else f"of {rows} {_listed(np.flatnonzero(by_row))}"
    if not by_row.any():
        where = f"of {columns} {_listed(np.flatnonzero(bad.any(axis=0)))}"
    raise InputError(f"gradients {where} are not finite: drop or repair those examples, or use a model that converged.")


def _listed(numbers) -> str:
    """The first few of some numbers, for a sentence."""
    return ", ".join(map(str, numbers[:8])) + (" and others" if len(numbers) > 8 else "")

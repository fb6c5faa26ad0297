"""Random projections of gradients that keep inner products: dense +-1, dense Gaussian, or a layer's two sides apart.

Dense projections [Johnson & Lindenstrauss, 1984; +-1: Achlioptas, 2003] are drawn in blocks from the key and never
stored whole. The factored one is that of LoGra [Choe et al., 2024, arXiv 2405.13954]: what goes into a layer and the
slopes at what comes out are projected apart, so that no (n, P) array is made; it equals a dense projection by the
Kronecker product of the two. Its matrices are always random signs, where LoGra may take principal components.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from unlearn_jax.errors import InputError, choose
from unlearn_jax.influence.checks import check_targets
from unlearn_jax.influence.per_example import MICRO, example_gradients
from unlearn_jax.influence.pieces import check_sets, finite, layout_of, leaves_by, over_blocks, pieces_of, score_dtype
from unlearn_jax.influence.taps import Factors
from unlearn_jax.trees import wide
from unlearn_jax.types import Array, Batch, Model, Task, Variables

DENSE = ("rademacher", "gaussian")
KINDS = (*DENSE, "factored")
DRAWN = 2**20  # entries of a projection drawn at once


def draw(key: Array, rows: int, dim: int, kind: str = "rademacher", dtype=jnp.float32) -> Array:
    """A random matrix (rows, dim) with independent entries of mean 0 and variance 1 / dim."""
    if choose("projection", kind, DENSE) == "gaussian":
        return jax.random.normal(key, (rows, dim), dtype) * jnp.asarray(dim**-0.5, dtype)
    bits = jax.random.bits(key, (math.ceil(rows * dim / 32), 1), jnp.uint32) >> jnp.arange(32, dtype=jnp.uint32)[None]
    signs = (bits & 1).reshape(-1)[: rows * dim].reshape(rows, dim)
    return jnp.where(signs == 1, jnp.asarray(dim**-0.5, dtype), jnp.asarray(-(dim**-0.5), dtype))


def project(gradients: Array, dim: int, key: Array, *, kind: str = "rademacher") -> Float[Array, "n {dim}"]:
    """Gradients (n, P) times a random (P, dim) matrix: (n, dim), whose inner products are unbiased.

    The matrix depends on the key, P, dim and the kind alone, so train rows and queries are projected alike by one key;
    it is drawn in blocks of about a million entries. An inner product's standard deviation over keys is at most
    ``sqrt(2 / dim)`` times the product of the two norms.

    Args:
        gradients: (n, P).
        dim: columns of the result, at least 1.
        key: typed random key; may be used again.
        kind: ``rademacher`` (+-1 / sqrt(dim)) or ``gaussian``.

    Raises:
        InputError: a dim below 1, an unknown kind.

    Example:
        >>> shorter = project(jnp.ones((3, 1000)), 64, jax.random.key(0))
        >>> shorter.shape, 500 < float(shorter[0] @ shorter[1]) < 1500
        ((3, 64), True)
    """
    _check_dim(dim)
    choose("projection", kind, DENSE)
    dtype, size = wide(gradients.dtype), gradients.shape[1]
    rows = min(size, max(1, DRAWN // dim))

    def part(block, columns: Array) -> Array:
        matrix = draw(jax.random.fold_in(key, block), columns.shape[1], dim, kind, dtype)
        return jnp.matmul(columns.astype(dtype), matrix, precision="highest")

    def add(block, total: Array) -> Array:
        return total + part(block, lax.dynamic_slice_in_dim(gradients, block * rows, rows, axis=1))

    whole = size // rows if rows else 0
    total = jnp.zeros((len(gradients), dim), dtype)
    total = add(0, total) if whole == 1 else lax.fori_loop(0, whole, add, total)
    return total + part(whole, gradients[:, whole * rows :]) if whole * rows < size else total


def project_factors(factors: Factors, dim_in: int, dim_out: int, key: Array, *, kind: str = "rademacher") -> Array:
    """One layer's gradients, both sides projected apart: (n, dim_in * dim_out), whose inner products are unbiased.

    The same as ``project`` by the Kronecker product of `side_matrices`. A side that is no longer than its dim stays as
    it is, without noise.

    Args:
        factors: a layer's, of n examples with T positions, I inputs (bias included) and O outputs.
        dim_in: columns for the inputs, at least 1; I or above = not projected.
        dim_out: columns for the outputs, at least 1; O or above = not projected.
        key: typed random key; may be used again.
        kind: ``rademacher`` or ``gaussian``.

    Raises:
        InputError: a dim below 1, an unknown kind.

    Example:
        >>> factors = Factors(jnp.ones((5, 2, 100)), jnp.ones((5, 2, 30)))
        >>> project_factors(factors, 8, 4, jax.random.key(0)).shape
        (5, 32)
    """
    shape, dtype = (factors.inputs.shape[-1], factors.slopes.shape[-1]), wide(factors.slopes.dtype)
    left, right = side_matrices(key, shape, (dim_in, dim_out), kind=kind, dtype=dtype)
    with jax.default_matmul_precision("highest"):
        inputs = factors.inputs.astype(dtype) if left is None else factors.inputs.astype(dtype) @ left
        slopes = factors.slopes if right is None else factors.slopes @ right
        return jnp.einsum("nti,nto->nio", inputs, slopes).reshape(len(inputs), -1)


def side_matrices(key: Array, shape, dims, *, kind: str = "rademacher", dtype=jnp.float32) -> list[Array | None]:
    """The two matrices (I, dim_in) and (O, dim_out) of `project_factors`; none for a side that is not projected."""
    keys = [jax.random.fold_in(key, side) for side in range(2)]
    for dim in dims:
        _check_dim(dim)
    return [None if d >= size else draw(k, size, d, kind, dtype) for k, size, d in zip(keys, shape, dims)]


def sides(dim: int, shape: tuple[int, int]) -> tuple[int, int]:
    """How ``dim`` columns are shared out to a layer's sides (I, O): alike where both are long enough."""
    first = min(shape[0], math.isqrt(dim))
    second = min(shape[1], dim // first)
    return min(shape[0], dim // second), second


def projected_gradients(
    model: Model,
    task: Task,
    variables: Variables,
    batch: Batch,
    *,
    dim: int,
    key: Array,
    kind: str = "rademacher",
    quantity: str = "loss",
    select: Callable[[str], bool] | None = None,
    micro: int = MICRO,
) -> Float[Array, "n k"]:
    """Every example's gradient, projected; (n, k). Gradients are made ``micro`` at a time and never kept.

    Args:
        model: the model.
        task: its task.
        variables: one member's.
        batch: n examples; the weight plays no part.
        dim: columns. k = dim; with ``factored`` each tapped layer has up to ``dim`` columns of its own, shared out to
            its two sides, and so have the remaining parameters together: k is their sum.
        key: typed random key; the same for train rows and queries.
        kind: ``rademacher``, ``gaussian`` or ``factored`` (signs for both sides; no layer's gradients are made).
        quantity: ``loss`` or ``margin``.
        select: restriction to parameters, see `gram`.
        micro: examples side by side.

    Raises:
        InputError: a dim below 1, unknown names, no rows, lengths that differ, labels that the model does not have.

    Example:
        >>> from unlearn_jax.influence.per_example import batch_of
        >>> from unlearn_jax.models import build_model
        >>> from unlearn_jax.tasks import classification
        >>> model, batch = build_model("mlp", 3, (20,), widths=(16,)), batch_of(jnp.ones((4, 20)), jnp.zeros(4, int))
        >>> variables = model.init(jax.random.key(0), batch.inputs)
        >>> kinds = dict(dim=9, key=jax.random.key(1), kind="factored")
        >>> projected_gradients(model, classification(), variables, batch, **kinds).shape  # two layers
        (4, 18)
    """
    check_sets(batch)
    _check_dim(dim)
    choose("projection", kind, KINDS)
    check_targets(model, variables, batch, "batch")
    run = _program(model, task, dim, kind, quantity, leaves_by(variables, select), micro)
    return finite(run(variables, batch, key), "rows", "columns")


@functools.lru_cache(maxsize=64)
def _program(model, task, dim, kind, quantity, select, micro):
    kinds = dict(quantity=quantity, micro=micro)

    def dense(variables, key, rows: Batch) -> Array:
        return project(example_gradients(model, task, variables, rows, select=select, **kinds), dim, key, kind=kind)

    def factored(variables, key, layout, rows: Batch) -> Array:
        pieces = pieces_of(model, task, variables, rows, layout, **kinds)
        columns, dtype = [], score_dtype(variables)
        for number, name in enumerate(sorted(pieces.factors)):
            factors = pieces.factors[name]
            dims = sides(dim, (factors.inputs.shape[-1], factors.slopes.shape[-1]))
            columns.append(project_factors(factors, *dims, jax.random.fold_in(key, number)).astype(dtype))
        if layout.rest:
            rest, last = pieces.rest.astype(dtype), jax.random.fold_in(key, len(columns))
            columns.append(rest if rest.shape[1] <= dim else project(rest, dim, last))
        return jnp.concatenate(columns, axis=1)

    def run(variables, batch, key):
        of = functools.partial(dense, variables, key)
        if kind == "factored":
            of = functools.partial(factored, variables, key, layout_of(model, variables, batch, select))
        return over_blocks(of, batch, micro)

    return jax.jit(run)


def _check_dim(dim: int) -> None:
    if dim < 1:
        raise InputError(f"a projection to {dim} columns: give a dim of at least 1.")

"""The kernel of TRAK solved, by parameters or by rows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve

from unlearn_jax.types import Array


def by_features(phi: Array, phi_q: Array, bend: Array, extra) -> tuple[Array, Array, Array]:
    """``phi (phi' R phi + lam)^-1 phi_q'``, (n, q), by the (k, k) matrix."""
    with jax.default_matmul_precision("highest"):
        root = phi * jnp.sqrt(bend)[:, None]
        square = root.T @ root
        rank = jnp.minimum(jnp.sum(bend > 0), phi.shape[1]).astype(phi.dtype)
        lam = extra(jnp.trace(square), jnp.maximum(rank, 1))
        solved, pivot = _solved(square + lam * jnp.eye(len(square), dtype=phi.dtype), phi_q.T)
        return phi @ solved, jnp.square(phi).sum() / len(phi), pivot


def by_rows(gram: Array, gram_q: Array, bend: Array, extra) -> tuple[Array, Array, Array]:
    """The same by the (n, n) matrix: with S = R^1/2 it is ``S^-1 (S G S + lam)^-1 S G_q``."""
    root = jnp.sqrt(bend)
    square = root[:, None] * gram * root[None, :]
    lam = extra(jnp.trace(square), jnp.maximum(jnp.sum(bend > 0), 1).astype(gram.dtype))
    solved, pivot = _solved(square + jnp.diag(jnp.where(bend > 0, lam, 1)), root[:, None] * gram_q)
    return (
        jnp.where(root > 0, 1 / jnp.where(root > 0, root, 1), 0)[:, None] * solved,
        jnp.trace(gram) / len(gram),
        pivot,
    )


def _solved(square: Array, right: Array) -> tuple[Array, Array]:
    """The solution of a symmetric positive system, and the smallest share of a diagonal entry that a pivot kept."""
    factor = jnp.linalg.cholesky(square)
    pivots = jnp.square(jnp.diagonal(factor))
    diagonal = jnp.diagonal(square)
    share = jnp.where(diagonal > 0, pivots / jnp.where(diagonal > 0, diagonal, 1), 0)
    return cho_solve((factor, True), right), share.min()

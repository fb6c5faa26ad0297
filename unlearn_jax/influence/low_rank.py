"""Solvers that learn the largest eigenvalues of A from products: Lanczos projection, and a Nystrom preconditioner."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from unlearn_jax.errors import InputError
from unlearn_jax.influence.iterations import Solution, cg, checked, damped, products, relative
from unlearn_jax.types import Array

PAIRS = 1e-2  # error |A u - t u| of kept pairs beside the largest eigenvalue
BROKEN = 1e2  # times the machine's accuracy, beside the largest product: an invariant subspace is complete


def lanczos(
    matvec: Callable[[Array], Array],
    b: Array,
    damping: Array | float = 0.0,
    *,
    rank: int = 50,
    steps: int | None = None,
    tolerance: float = 0.1,
    key: Array | None = None,
) -> Solution:
    """The inverse on the eigenvectors of A with the largest eigenvalues: a low-rank answer, not a solution.

    Lanczos from a random start with full reorthogonalisation, which is Arnoldi's iteration on a symmetric A; where
    an invariant subspace is complete it goes on from a new random direction, so eigenvalues that occur many times
    are found as often. Schioppa et al. 2022 (arXiv 2112.03052) keep the ``rank`` eigenvalues largest in size and drop
    what lies outside of their eigenvectors, undamped; this variant adds the damping to the eigenvalues. What is dropped
    matters, most where damping is small: the relative residual is the share of b that is dropped, and where it is over
    the tolerance nothing has converged. Give ``tolerance=1.0`` for the paper's answer whatever it leaves out.

    Args:
        matvec: v -> A v, (P,) -> (P,), A symmetric.
        b: right-hand sides (P, R).
        damping: d.
        rank: how many eigenvectors are kept, at most P.
        steps: size of the subspace in which they are sought; by default twice the rank, at most P.
        tolerance: relative residual |b - (A + d I) x| / |b| up to which a right-hand side counts as solved.
        key: of the random start.

    Returns:
        A `Solution` whose ``residual`` says what the low rank leaves out, and whose ``converged`` says that this is
        within the tolerance, and that the kept eigenpairs are within .01 of the largest and, with damping, above 0.

    Raises:
        InputError: no right-hand sides, a rank not above 0 or above the steps.

    Example:
        >>> import jax.numpy as jnp
        >>> found = lanczos(lambda v: jnp.array([1.0, 3.0]) * v, jnp.array([[2.0], [4.0]]), damping=1.0, rank=2)
        >>> found.x[:, 0].round(4).tolist(), bool(found.converged[0])
        ([1.0, 1.0], True)
    """
    checked(b, rank=rank, tolerance=tolerance)
    size = b.shape[0]
    rank = min(rank, size)
    steps = min(size, 2 * rank if steps is None else steps)
    if rank > steps:
        raise InputError(f"rank {rank} is above the {steps} steps: give more steps or a smaller rank.")
    basis, projected, last = _krylov(matvec, b[:, 0], steps, jax.random.key(0) if key is None else key)
    values, vectors = jnp.linalg.eigh(projected)
    largest = jnp.argsort(-jnp.abs(values))[:rank]
    values, vectors, errors = values[largest], basis.T @ vectors[:, largest], jnp.abs(last * vectors[-1, largest])
    shifted = values + jnp.asarray(damping, b.dtype)
    x = vectors @ ((vectors.T @ b) / shifted[:, None])
    fine = jnp.all(errors <= PAIRS * jnp.max(jnp.abs(values))) & jnp.all(shifted > 0)
    residual = relative(b - damped(matvec, damping)(x), b)
    fine = fine & (residual <= tolerance) & jnp.isfinite(x).all(axis=0)
    return Solution(x, residual, jnp.int32(steps), fine, shifted.min())


def _krylov(matvec, like: Array, steps: int, key: Array) -> tuple[Array, Array, Array]:
    """An orthonormal basis (m, P), A projected on it (m, m), and the norm of what leaves it."""
    start, fresh = jax.random.split(key)
    unit = lambda v: v / jnp.linalg.norm(v)
    small = BROKEN * jnp.finfo(like.dtype).eps

    def away(v: Array, basis: Array) -> Array:
        for _ in range(2):  # once loses orthogonality, twice is enough
            v = v - basis.T @ (basis @ v)
        return v

    def step(i, state):
        basis, diagonal, beside, largest = state
        moved = matvec(basis[i])
        largest = jnp.maximum(largest, jnp.linalg.norm(moved))
        rest = away(moved, basis)
        size = jnp.linalg.norm(rest)
        broken = size <= small * largest
        draw = jax.random.normal(jax.random.fold_in(fresh, i), like.shape, like.dtype)
        follow = jnp.where(broken, away(unit(draw), basis), rest)
        norm = jnp.linalg.norm(follow)
        new = away(follow / jnp.where(norm > 0, norm, 1), basis)
        basis = basis.at[i + 1].set(new / jnp.where(norm > 0, jnp.linalg.norm(new), 1), mode="drop")
        return basis, diagonal.at[i].set(basis[i] @ moved), beside.at[i].set(jnp.where(broken, 0, size)), largest

    first = unit(jax.random.normal(start, like.shape, like.dtype))
    basis = jnp.zeros((steps, like.shape[0]), like.dtype).at[0].set(first)
    none = jnp.zeros(steps, like.dtype)
    basis, diagonal, beside, _ = lax.fori_loop(0, steps, step, (basis, none, none, jnp.zeros((), like.dtype)))
    projected = jnp.diag(diagonal) + jnp.diag(beside[:-1], 1) + jnp.diag(beside[:-1], -1)
    return basis, projected, beside[-1]


def nystrom_cg(
    matvec: Callable[[Array], Array],
    b: Array,
    damping: Array | float = 0.0,
    *,
    rank: int = 50,
    tolerance: float | None = None,
    steps: int = 1000,
    key: Array | None = None,
) -> Solution:
    """Conjugate gradients with a randomised Nystrom preconditioner (Frangella, Tropp & Udell 2021, arXiv 2110.02820).

    A sketch A Q on ``rank`` random orthonormal directions gives eigenvectors U and eigenvalues L of a low-rank
    approximation; the preconditioner's inverse is ``(l_rank + d) U (L + d)^-1 U' + (I - U U')``. It differs from the
    paper in that the sketch's core is inverted by its eigenvalues, clipped from below, and not by Cholesky, so an
    A with negative eigenvalues is still found out by the conjugate gradients.

    Arguments as in `cg`; ``rank`` is the sketch's size, at most P, and ``key`` draws it.

    Example:
        >>> import jax.numpy as jnp
        >>> a = jnp.array([1.0, 3.0])
        >>> found = nystrom_cg(lambda v: a * v, jnp.array([[2.0], [4.0]]), damping=1.0, rank=1)
        >>> found.x[:, 0].round(4).tolist(), bool(found.converged[0])
        ([1.0, 1.0], True)
    """
    checked(b, rank=rank)
    inverse = _nystrom(matvec, b[:, 0], min(rank, b.shape[0]), damping, jax.random.key(0) if key is None else key)
    return cg(matvec, b, damping, tolerance=tolerance, steps=steps, precondition=inverse)


def _nystrom(matvec, like: Array, rank: int, damping, key: Array) -> Callable[[Array], Array]:
    """The preconditioner's inverse, (P, R) -> (P, R)."""
    drawn = jnp.linalg.qr(jax.random.normal(key, (like.shape[0], rank), like.dtype))[0]
    sketch = products(matvec, drawn)
    tiny = jnp.finfo(like.dtype).eps * jnp.linalg.norm(sketch) + jnp.finfo(like.dtype).tiny
    core = drawn.T @ sketch
    values, turned = jnp.linalg.eigh((core + core.T) / 2 + tiny * jnp.eye(rank, dtype=like.dtype))
    root = (sketch + tiny * drawn) @ (turned / jnp.sqrt(jnp.maximum(values, tiny))[None, :])
    vectors, singular, _ = jnp.linalg.svd(root, full_matrices=False)
    shifted = jnp.maximum(singular**2 - tiny, tiny) + jnp.asarray(damping, like.dtype)

    def inverse(r: Array) -> Array:
        inside = vectors.T @ r
        return r + vectors @ ((shifted[-1] / shifted - 1)[:, None] * inside)

    return inverse

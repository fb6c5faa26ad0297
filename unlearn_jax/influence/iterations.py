"""Iterations that solve (A + d I) x = b for R right-hand sides at once, given only products with A.

They are pure and run under `jit` and `vmap`: `Solution.converged` marks what has not converged, and
`solvers.settled` makes an error of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from unlearn_jax.errors import InputError
from unlearn_jax.influence.checks import is_traced
from unlearn_jax.types import Array

ROUNDS = 4  # restarts of conjugate gradients from the residual recomputed
MARGIN = 1.1  # of the scale over the estimated largest eigenvalue
ABREAST = 16  # vectors that A is applied to side by side: more only take more memory
GROWTH = 1e3  # of the relative residual that counts as divergence


class Solution(NamedTuple):
    """What a solver found for R right-hand sides."""

    x: Array  # (P, R)
    residual: Array  # (R,) |b - (A + d I) x| / |b|, recomputed at the end; 0 where b = 0
    steps: Array  # () int32, products with A an iteration made for each right-hand side
    converged: Array  # (R,) bool
    least: Array  # () the least curvature met, damping included; 0 or below = not positive definite


def accuracy(dtype) -> float:
    """The relative residual required by default: what rounding lets most problems reach."""
    return 1e-8 if dtype == jnp.float64 else 1e-4


def damped(matvec: Callable[[Array], Array], damping: Array | float) -> Callable[[Array], Array]:
    """(P, R) -> (A + d I) (P, R)."""
    return lambda x: products(matvec, x) + jnp.asarray(damping, x.dtype) * x


def products(matvec: Callable[[Array], Array], x: Array) -> Array:
    """A x for x (P, R), a few columns at a time."""
    count = x.shape[1]
    number = -(-count // ABREAST)
    if number == 1:
        return jax.vmap(matvec, in_axes=1, out_axes=1)(x)
    size = -(-count // number)
    rows = jnp.pad(x.T, ((0, number * size - count), (0, 0))).reshape(number, size, -1)
    return lax.map(jax.vmap(matvec), rows).reshape(number * size, -1)[:count].T


def checked(b: Array, **positive) -> Array:
    """Right-hand sides (P, R), R at least 1, and settings that must be above 0; `InputError` otherwise."""
    if b.ndim != 2 or 0 in b.shape:
        raise InputError(f"right-hand sides are {b.shape}: give (P, R) with at least one of each.")
    for name, value in positive.items():
        if not is_traced(value) and not value > 0:
            raise InputError(f"{name} is {value}: give a number above 0.")
    return b


def relative(residual: Array, b: Array) -> Array:
    """(R,) norms of residuals beside those of right-hand sides, 0 where both are 0."""
    size = jnp.linalg.norm(b, axis=0)
    return jnp.linalg.norm(residual, axis=0) / jnp.where(size > 0, size, 1)


def cg(
    matvec: Callable[[Array], Array],
    b: Array,
    damping: Array | float = 0.0,
    *,
    tolerance: float | None = None,
    steps: int = 1000,
    precondition: Callable[[Array], Array] | None = None,
) -> Solution:
    """Conjugate gradients (Hestenes & Stiefel 1952), all right-hand sides at once, each with its own step.

    A right-hand side stops at the tolerance, or where a direction of curvature 0 or below shows that A + d I is not
    positive definite. The residual is then recomputed and the iteration restarted from it if rounding hid something.

    Args:
        matvec: v -> A v, (P,) -> (P,), A symmetric.
        b: right-hand sides (P, R).
        damping: d.
        tolerance: relative residual to reach; by default 1e-4, or 1e-8 in float64.
        steps: most products of each right-hand side.
        precondition: (P, R) -> (P, R), an approximate inverse, symmetric and positive definite.

    Raises:
        InputError: no right-hand sides, or a tolerance or number of steps not above 0.

    Example:
        >>> import jax.numpy as jnp
        >>> found = cg(lambda v: jnp.array([1.0, 3.0]) * v, jnp.array([[2.0], [4.0]]), damping=1.0)
        >>> found.x[:, 0].round(4).tolist(), bool(found.converged[0])
        ([1.0, 1.0], True)
    """
    tolerance = accuracy(b.dtype) if tolerance is None else tolerance
    checked(b, tolerance=tolerance, steps=steps)
    apply, inverse = damped(matvec, damping), (lambda r: r) if precondition is None else precondition
    goal = jnp.asarray(tolerance, b.dtype) * jnp.linalg.norm(b, axis=0)
    short = lambda r: jnp.linalg.norm(r, axis=0) > goal

    def step(state):
        x, r, p, rz, live, least, count = state
        ap = apply(p)
        bent, size = jnp.sum(p * ap, axis=0), jnp.sum(p * p, axis=0)
        quotient = jnp.where(live, bent / jnp.where(size > 0, size, 1), jnp.inf)
        live = live & (bent > 0)
        alpha = jnp.where(live, rz / jnp.where(live, bent, 1), 0)[None, :]
        x, r = x + alpha * p, r - alpha * ap
        z = inverse(r)
        new = jnp.sum(r * z, axis=0)
        p = z + jnp.where(live, new / jnp.where(rz > 0, rz, 1), 0)[None, :] * p
        return x, r, p, new, live & short(r), jnp.minimum(least, quotient.min()), count + 1

    def restart(state):
        x, r, least, count, rounds = state
        z = inverse(r)
        inner = x, r, z, jnp.sum(r * z, axis=0), short(r), least, count
        x, _, _, _, _, least, count = lax.while_loop(lambda s: jnp.any(s[4]) & (s[6] < steps), step, inner)
        return x, b - apply(x), least, count, rounds + 1

    again = lambda s: jnp.any(short(s[1])) & (s[2] > 0) & (s[3] < steps) & (s[4] < ROUNDS)
    begin = jnp.zeros_like(b), b, jnp.asarray(jnp.inf, b.dtype), jnp.int32(0), jnp.int32(0)
    x, r, least, count, _ = lax.while_loop(again, restart, begin)
    return Solution(x, relative(r, b), count, ~short(r) & jnp.isfinite(r).all(axis=0) & (least > 0), least)


def lissa(
    matvec: Callable[[Array], Array],
    b: Array,
    damping: Array | float = 0.0,
    *,
    tolerance: float = 1e-2,
    steps: int = 10_000,
    scale: Array | float | None = None,
) -> Solution:
    """LiSSA: ``x <- x + (b - (A + d I) x) / s``, the Neumann series of the inverse (Agarwal et al. 2016).

    The variant is full-batch: arXiv 1602.03943, and Koh & Liang (arXiv 1703.04730) for influence, draw other rows for
    each step and average repeats; here every product is that of ``matvec``, so nothing is random. It needs about
    ``s / d`` steps for a factor e where A is singular, and ``s`` above half the largest eigenvalue; otherwise the
    residual grows, the iteration stops and that side has not converged.

    Args:
        matvec: v -> A v, (P,) -> (P,).
        b: right-hand sides (P, R).
        damping: d.
        tolerance: relative residual to reach.
        steps: most products.
        scale: s; by default 1.1 times the largest eigenvalue in size, by power iteration.

    Raises:
        InputError: no right-hand sides, or a setting not above 0.

    Example:
        >>> import jax.numpy as jnp
        >>> found = lissa(lambda v: jnp.array([1.0, 3.0]) * v, jnp.array([[2.0], [4.0]]), damping=1.0, tolerance=1e-5)
        >>> found.x[:, 0].round(3).tolist(), bool(found.converged[0])
        ([1.0, 1.0], True)
    """
    checked(b, tolerance=tolerance, steps=steps, **({} if scale is None else {"scale": scale}))
    apply = damped(matvec, damping)
    if scale is None:
        scale = MARGIN * largest_eigenvalue(lambda v: apply(v[:, None])[:, 0], b[:, 0])
    scale = jnp.asarray(scale, b.dtype)
    inside = lambda r: (relative(r, b) > tolerance) & (relative(r, b) < GROWTH)  # NaN is neither

    def step(state):
        x, r, count, least = state
        x = x + jnp.where(inside(r)[None, :], r / scale, 0)
        new = b - apply(x)
        size = jnp.sum(r * r, axis=0)
        quotient = jnp.where(inside(r), jnp.sum(r * (r - new), axis=0) * scale / jnp.where(size > 0, size, 1), jnp.inf)
        return x, new, count + 1, jnp.minimum(least, quotient.min())

    begin = jnp.zeros_like(b), b, jnp.int32(0), jnp.asarray(jnp.inf, b.dtype)
    x, r, count, least = lax.while_loop(lambda s: jnp.any(inside(s[1])) & (s[2] < steps), step, begin)
    return Solution(x, relative(r, b), count, (relative(r, b) <= tolerance) & (least > 0), least)


def largest_eigenvalue(matvec: Callable[[Array], Array], like: Array, *, steps: int = 50) -> Array:
    """The eigenvalue of a symmetric A that is largest in size, from below, by power iteration; scalar, 0 or above."""
    draw = jax.random.normal(jax.random.key(0), like.shape, like.dtype)

    def step(_, state):
        v, _ = state
        moved = matvec(v)
        size = jnp.linalg.norm(moved)
        return moved / jnp.where(size > 0, size, 1), size

    return lax.fori_loop(0, steps, step, (draw / jnp.linalg.norm(draw), jnp.zeros((), like.dtype)))[1]

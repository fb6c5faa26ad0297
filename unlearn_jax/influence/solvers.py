"""Solvers of (A + d I) x = b by name, the explicit one, damping as a share of the curvature, and messages of failure.

Every solver is ``solver(matvec, b, damping, **settings) -> Solution`` for right-hand sides (P, R).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_solve

from unlearn_jax.errors import InputError, choose
from unlearn_jax.influence.checks import is_traced
from unlearn_jax.influence.curvature_parts import columns
from unlearn_jax.influence.iterations import Solution, cg, checked, damped, largest_eigenvalue, lissa, relative
from unlearn_jax.influence.low_rank import lanczos, nystrom_cg
from unlearn_jax.types import Array

LOOSE = 1e-2  # relative residual of a Cholesky solution beyond which rounding has won
__all__ = [
    "SOLVERS", "Solution", "cg", "damping_of", "explicit", "lanczos", "largest_eigenvalue", "lissa", "mean_eigenvalue",
    "nystrom_cg", "settings_of", "settled",
]  # fmt: skip


def explicit(matvec: Callable[[Array], Array] | Array, b: Array, damping: Array | float = 0.0) -> Solution:
    """Cholesky factors of the matrix A + d I; exact up to rounding.

    There is no falling back on a pseudoinverse: a matrix that is not positive definite (or whose least pivot is lost
    in rounding) has an inverse that means nothing here, and is refused.

    Args:
        matvec: v -> A v, (P,) -> (P,), or A itself (P, P), symmetric.
        b: right-hand sides (P, R).
        damping: d.

    Raises:
        InputError: no right-hand sides, or, outside of `jit`, a matrix that is not positive definite; it names the
            least eigenvalue and a damping that would do. Under `jit` x is then NaN and nothing has converged.

    Example:
        >>> import jax.numpy as jnp
        >>> found = explicit(jnp.diag(jnp.array([1.0, 3.0])), jnp.array([[2.0], [4.0]]), damping=1.0)
        >>> found.x[:, 0].round(4).tolist()
        [1.0, 1.0]
    """
    checked(b)
    matrix = matvec if not callable(matvec) else columns(matvec, b[:, 0])
    solution = cholesky_solution(matrix, b, damping)
    if not is_traced(solution.x) and not bool(solution.converged.all()):
        if not np.isfinite(np.asarray(b)).all():
            raise InputError("right-hand sides hold values that are not finite: drop or repair them.")
        raise InputError(indefinite(matrix, damping))
    return solution


def cholesky_solution(matrix: Array, b: Array, damping: Array | float) -> Solution:
    """`explicit` without its error: NaN where the matrix is not positive definite."""
    size = matrix.shape[0]
    full = matrix + jnp.asarray(damping, matrix.dtype) * jnp.eye(size, dtype=matrix.dtype)
    factor = jnp.linalg.cholesky((full + full.T) / 2, symmetrize_input=False)
    pivots = jnp.diagonal(factor) ** 2
    rounding = 4 * size**0.5 * jnp.finfo(matrix.dtype).eps * jnp.max(jnp.diagonal(full))
    fine = jnp.isfinite(pivots).all() & (pivots.min() > rounding)
    x = jnp.where(fine, cho_solve((factor, True), b), jnp.nan)
    residual = relative(b - full @ x, b)
    return Solution(x, residual, jnp.int32(size), residual < LOOSE, jnp.where(fine, pivots.min(), jnp.nan))


def indefinite(matrix, damping) -> str:
    """What is wrong with a matrix that Cholesky refused, and what to do."""
    matrix = np.asarray(matrix, np.float64)
    if not np.isfinite(matrix).all():
        return "the curvature is not finite: the model has diverged, or training rows hold NaN; drop or repair them."
    damping, values = float(damping), np.linalg.eigvalsh((matrix + matrix.T) / 2)
    size = max(np.abs(values).max(), 1e-12)
    enough = max(max(-values[0], 0.0) + 1e-3 * size, 2 * damping)
    digit = 10.0 ** (np.floor(np.log10(enough)) - 1)
    other = ", or curvature='ggn', which is never negative" if values[0] < -1e-6 * size else ""
    return (
        f"the curvature is not positive definite: its least eigenvalue is {values[0] + damping:.3g} with damping "
        f"{damping:.3g}. Give damping={np.ceil(enough / digit) * digit:.2g} or more{other}."
    )


SOLVERS: dict[str, Callable[..., Solution]] = {
    "explicit": explicit,
    "cg": cg,
    "lissa": lissa,
    "lanczos": lanczos,
    "nystrom": nystrom_cg,
}


def settings_of(name: str) -> dict[str, object]:
    """A solver's settings with their defaults; `InputError` for an unknown solver."""
    parameters = inspect.signature(SOLVERS[choose("solver", name, SOLVERS)]).parameters.values()
    hidden = ("precondition",)
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in hidden}


def mean_eigenvalue(
    matvec: Callable[[Array], Array], like: Array, *, probes: int = 64, key: Array | None = None
) -> Array:
    """Trace of A over P: exact for P up to ``probes``, else Hutchinson's estimate by random signs; scalar.

    Its relative standard error is at most ``sqrt(2 / probes)``, and far less where many eigenvalues share the trace.
    ``like`` (P,) gives size and dtype.
    """
    size = like.shape[0]
    if size <= probes:
        return jnp.trace(columns(matvec, like)) / size
    signs = jax.random.rademacher(jax.random.key(0) if key is None else key, (size, probes), like.dtype)
    return jnp.sum(signs * damped(matvec, 0.0)(signs)) / (probes * size)


def damping_of(
    matvec: Callable[[Array], Array],
    fraction: float | Array,
    like: Array,
    *,
    probes: int = 64,
    key: Array | None = None,
) -> Array:
    """Damping as a fraction of the mean eigenvalue of A (trace / P, see `mean_eigenvalue`); scalar, a number to add.

    Raises `InputError` for a fraction not above 0, or, outside of `jit`, for a trace that is not above 0.

    Example:
        >>> import jax.numpy as jnp
        >>> float(damping_of(lambda v: jnp.array([1.0, 3.0]) * v, 0.5, jnp.zeros(2)))
        1.0
    """
    if not is_traced(fraction) and not fraction > 0:
        raise InputError(f"the damping's fraction is {fraction}: give a number above 0.")
    mean = mean_eigenvalue(matvec, like, probes=probes, key=key)
    if not is_traced(mean) and not float(mean) > 0:
        raise InputError(f"the curvature's mean eigenvalue is {float(mean):.3g}: give an absolute damping.")
    return jnp.asarray(fraction, mean.dtype) * mean


def settled(name: str, solution: Solution) -> Solution:
    """The solution, if every right-hand side has converged; otherwise an `InputError` with the numbers.

    Under `jit` nothing can be raised: what has not converged is NaN instead, so that it is never taken for an answer.
    """
    if is_traced(solution.converged):
        return solution._replace(x=jnp.where(solution.converged[None, :], solution.x, jnp.nan))
    failed = ~np.asarray(solution.converged)
    if failed.any():
        raise InputError(failure(name, solution))
    return solution


def failure(name: str, solution: Solution) -> str:
    """Why some right-hand sides have not converged, and what to do."""
    residual, least = np.asarray(solution.residual), float(np.min(np.asarray(solution.least)))
    failed, steps = ~np.asarray(solution.converged), int(np.max(np.asarray(solution.steps)))
    what = (
        f"{name} did not converge for {failed.sum()} of {failed.size} right-hand sides after {steps} steps "
        f"(relative residual up to {residual[failed].max():.2g})"
    )
    if not np.isfinite(residual[failed]).all():
        return f"{what}: numbers are not finite; look at the model and the training rows."
    if least <= 0:
        return (
            f"{what}: the damped curvature has a direction of {least:.3g}; raise damping by over {-least:.2g}, or give "
            f"curvature='ggn', which is never negative."
        )
    if name == "lissa" and residual[failed].max() > 1:
        return f"{what}: it diverges; give a larger scale, at least half the largest eigenvalue."
    if name == "lanczos":
        return f"{what}: that share lies outside of its eigenvectors; raise rank, steps or damping, or take cg."
    return f"{what}: raise steps, damping or tolerance, or compute in float64."

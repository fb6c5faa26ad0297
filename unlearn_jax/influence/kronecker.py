"""Algebra of Kronecker-factored blocks: rotation into their eigenbases, damping, inverse times vector.

`kfac` says what the blocks are and makes them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.influence.checks import is_traced
from unlearn_jax.influence.taps import Factors
from unlearn_jax.types import Array, Batch, PyTree

DAMPING = 1e-3


class Kronecker(NamedTuple):
    """One layer's block ``(Q_A x Q_S) diag(values) (Q_A x Q_S)'`` for its kernel as (I, O), the bias as last row."""

    inputs: Array  # (I, I), Q_A: eigenvectors of A in columns
    slopes: Array  # (O, O), Q_S: eigenvectors of S in columns
    values: Array  # (I, O), never below 0: curvature along each pair, nats per squared unit of a parameter


def ekfac_product(
    fit: dict[str, Kronecker], tree: PyTree, *, damping=DAMPING, l2=0.0, relative_damping=None, path: str = ""
) -> PyTree:
    """Inverse curvature times a vector, ``(F + l2 I + d I)^-1 v``, layer by layer.

    Args:
        fit: of `ekfac_fit`.
        tree: v, shaped like one member's ``params``; what belongs to no block comes back as 0.
        damping: as for `ekfac_influence`, as are ``l2`` and ``relative_damping``.
        path: where in ``params`` the tree lies.

    Raises:
        InputError: a singular block without damping.

    Example:
        >>> eye = jnp.eye(2)
        >>> fit = {"head": Kronecker(eye, eye, jnp.full((2, 2), 3.0))}
        >>> tree = {"head": {"kernel": jnp.full((2, 2), 8.0)}}
        >>> ekfac_product(fit, tree, l2=1.0, damping=0.0)["head"]["kernel"].tolist()
        [[2.0, 2.0], [2.0, 2.0]]
    """
    shift = checked_shift(damping, l2, relative_damping)
    if path in fit:
        checked(jnp.zeros(1), {path: floors(fit[path], shift)})
        rows = tree["kernel"].reshape(-1, tree["kernel"].shape[-1])
        rows = jnp.concatenate([rows, tree["bias"][None]]) if "bias" in tree else rows
        with jax.default_matmul_precision("highest"):
            rows = solve(fit[path], rows[None], shift_of(fit[path], shift))[0]
        if "bias" not in tree:
            return {"kernel": rows.reshape(tree["kernel"].shape)}
        return {"kernel": rows[:-1].reshape(tree["kernel"].shape), "bias": rows[-1]}
    if not isinstance(tree, dict):
        return jax.tree.map(jnp.zeros_like, tree)
    how: dict[str, Any] = dict(damping=damping, l2=l2, relative_damping=relative_damping)
    return {name: ekfac_product(fit, part, path=f"{path}/{name}".lstrip("/"), **how) for name, part in tree.items()}


def shift_of(block: Kronecker, shift: tuple) -> Array:
    """What is added to a block's values; a scalar."""
    plain, share = (jnp.asarray(x, block.values.dtype) for x in shift)
    return plain + share * block.values.mean()


def solve(block: Kronecker, gradients: Array, shift: Array) -> Array:
    """(k, I, O) gradients times the inverse of the shifted block."""
    inside = block.inputs.T @ gradients @ block.slopes / (block.values + shift)[None]
    return block.inputs @ inside @ block.slopes.T


def rotated(block: Kronecker, factors: Factors) -> Factors:
    """Factors in a block's eigenbases."""
    return Factors(factors.inputs @ block.inputs, factors.slopes @ block.slopes)


def check_rows(train: Batch, draws: int, micro: int) -> None:
    """Raise `InputError` where no training example counts, or for bad settings."""
    if len(train.weight) == 0 or not (is_traced(train.weight) or np.asarray(train.weight).sum() > 0):
        raise InputError("there are no training examples: give at least one whose weight is above 0.")
    if min(draws, micro) < 1:
        raise InputError(f"draws is {draws} and micro {micro}: give whole numbers of at least 1.")


def checked_shift(damping, l2, relative_damping) -> tuple:
    """What is added to all values, and the share of their mean that is, which stands in for damping; checked."""
    amounts = (damping, l2) if relative_damping is None else (damping, l2, relative_damping)
    if not is_traced(amounts) and not all(np.min(x) >= 0 for x in amounts):
        raise InputError(
            f"damping is {damping}, l2 {l2}, relative_damping {relative_damping}: give numbers of at least 0."
        )
    return (damping + l2, 0.0) if relative_damping is None else (l2, relative_damping)


def floors(block: Kronecker, shift: tuple) -> Array:
    """A block's smallest value after the shift, and what of its largest is rounding; (2,)."""
    rounding = (max(block.values.shape) * jnp.finfo(block.values.dtype).eps) ** 2
    return jnp.stack([block.values.min() + shift_of(block, shift), rounding * block.values.max()])


def checked(scores: Array, smallest: dict[str, Array]) -> Array:
    """The scores; `InputError` where a block is singular by its `floors` or a score not finite."""
    if is_traced(scores, smallest):
        return scores
    for name, (least, rounding) in ((name, np.asarray(values)) for name, values in smallest.items()):
        if least <= rounding:
            raise InputError(f"the curvature of layer '{name}' is singular: give a larger damping or l2.")
    if not np.isfinite(np.asarray(scores)).all():
        raise InputError("scores are not finite: look for NaN in variables, inputs and damping.")
    return scores

"""Examples as vectors whose inner products are EK-FAC influence: gradients in the curvature's own units.

With C a layer's block and d the damping, an example's row is ``(C + d I)^-1/2 g``, layer by layer, in the block's
eigenbasis, which leaves inner products as they are. So rows of two examples multiply to `ekfac_influence` of one on the
other, and any tool that searches by cosine finds those that influence each other most, sizes of gradients apart.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from unlearn_jax.errors import InputError
from unlearn_jax.influence.checks import check_targets
from unlearn_jax.influence.kfac import mapped
from unlearn_jax.influence.kronecker import DAMPING, Kronecker, checked, checked_shift, floors, rotated, shift_of
from unlearn_jax.influence.per_example import MICRO
from unlearn_jax.influence.pieces import check_sets
from unlearn_jax.influence.projection import project
from unlearn_jax.influence.taps import layer_factors, layer_gradients
from unlearn_jax.types import Array, Batch, Model, Task, Variables


def ekfac_rows(
    model: Model,
    task: Task,
    variables: Variables,
    batch: Batch,
    fit: dict[str, Kronecker],
    *,
    damping: float = DAMPING,
    l2: float = 0.0,
    relative_damping: float | None = None,
    dim: int | None = None,
    key: Array | None = None,
    micro: int = MICRO,
) -> Float[Array, "n P"]:
    """Each example's gradient of the loss times the root of the inverse curvature, (n, P).

    ``rows_q . rows_i`` is `ekfac_influence` of i, at weight 1, on the loss of q, in its unit.

    Args:
        model: a Linen model.
        task: its task.
        variables: one member's.
        batch: n examples; the weight plays no part.
        fit: of `ekfac_fit` on the training set; P counts the parameters of its layers.
        damping: as of `ekfac_influence`, as are ``l2`` and ``relative_damping``.
        dim: columns of a random projection, which keeps inner products on average: (n, dim); none = all P.
        key: of the projection, the same for all batches that are to be compared.
        micro: examples side by side; micro x P numbers are held.

    Raises:
        InputError: no examples; labels that the model does not have; a singular block without damping; a dim without
            a key; values that are not finite.

    Example:
        >>> from unlearn_jax.influence import batch_of, ekfac_fit, ekfac_influence
        >>> from unlearn_jax.models import build_model
        >>> from unlearn_jax.tasks import classification
        >>> model, batch = build_model("linear", 2, (3,)), batch_of(jnp.eye(3), jnp.array([0, 1, 0]))
        >>> variables = model.init(jax.random.key(0), batch.inputs)
        >>> fit = ekfac_fit(model, classification(), variables, batch, labels="exact")
        >>> rows = ekfac_rows(model, classification(), variables, batch, fit)
        >>> scores = ekfac_influence(model, classification(), variables, batch, batch, fit=fit)
        >>> bool(jnp.allclose(rows @ rows.T, scores, rtol=1e-4))
        True
    """
    check_sets(batch)
    check_targets(model, variables, batch, "batch")
    if dim is not None and key is None:
        raise InputError("a projection is drawn from a key: give key, for example jax.random.key(0).")
    shift = checked_shift(damping, l2, relative_damping)
    return checked(*_program(model, task, dim, micro)(variables, batch, fit, shift, key))


@functools.lru_cache(maxsize=64)
def _program(model, task, dim: int | None, micro: int):
    """The compiled rows: (variables, batch, fit, shift, key) -> (n, P or dim) and each block's floors."""

    def program(variables: Variables, batch: Batch, fit: dict, shift: tuple, key):
        def rows(part: Batch) -> Array:
            how: dict[str, Any] = dict(select=lambda name: name in fit, micro=len(part.weight))
            factors = layer_factors(model, task, variables, part, **how)
            whole = [_whitened(fit[name], factors[name], shift) for name in sorted(fit)]
            whole = jnp.concatenate(whole, axis=1)
            return whole if dim is None else project(whole, dim, key)

        with jax.default_matmul_precision("highest"):
            return mapped(rows, batch, micro), {name: floors(block, shift) for name, block in fit.items()}

    return jax.jit(program)


def _whitened(block: Kronecker, factors, shift: tuple) -> Array:
    """(n, I x O) gradients in a block's eigenbasis over the roots of its shifted values."""
    gradients = layer_gradients(rotated(block, factors)).astype(block.values.dtype)
    return (gradients * jax.lax.rsqrt(block.values + shift_of(block, shift))[None]).reshape(len(gradients), -1)

"""What methods do to gradients before they follow them: steps of a given length uphill, and projections."""

from __future__ import annotations

import jax.numpy as jnp

from unlearn_jax.trees import tree_add, tree_dot
from unlearn_jax.types import Array, PyTree


def uphill(params: PyTree, grads: PyTree, radius: Array | float) -> PyTree:
    """``params + radius x grads / |grads|``, one norm over all leaves; the parameters where the gradient is 0."""
    size = jnp.sqrt(tree_dot(grads, grads))
    return tree_add(params, grads, jnp.where(size > 0, radius / jnp.where(size > 0, size, 1.0), 0.0))


def along(grads: PyTree, onto: PyTree) -> Array:
    """How often ``onto`` is contained in ``grads``: <grads, onto> / <onto, onto>, 0 where ``onto`` is 0; ()."""
    size = tree_dot(onto, onto)
    return jnp.where(size > 0, tree_dot(grads, onto) / jnp.where(size > 0, size, 1.0), 0.0)


def within(tree: PyTree, radius: Array | float) -> Array:
    """The factor in (0, 1] by which a tree is scaled to have at most the norm ``radius``; ()."""
    size = jnp.sqrt(tree_dot(tree, tree))
    return jnp.minimum(1.0, radius / jnp.maximum(size, 1e-12))

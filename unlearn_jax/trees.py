"""Algebra on pytrees, written for one member unless the name says members."""

from __future__ import annotations

from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.types import Array, PyTree


def wide(dtype) -> jnp.dtype:
    """The dtype of sums, statistics and logits beside values in ``dtype``: float32, or float64 beside float64."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)


def tree_add(a: PyTree, b: PyTree, scale: Array | float = 1.0) -> PyTree:
    """``a + scale * b``, leaf by leaf."""
    return jax.tree.map(lambda x, y: x + jnp.asarray(scale, x.dtype) * y, a, b)


def tree_scale(a: PyTree, scale: Array | float) -> PyTree:
    """``scale * a``, leaf by leaf."""
    return jax.tree.map(lambda x: jnp.asarray(scale, x.dtype) * x, a)


def tree_dot(a: PyTree, b: PyTree) -> Array:
    """Inner product of two trees over all leaves; scalar float32."""
    parts = jax.tree.leaves(jax.tree.map(lambda x, y: jnp.sum((x * y).astype(jnp.float32)), a, b))
    return cast(Array, sum(parts, jnp.float32(0.0)))


def tree_select(keep: Array, a: PyTree, b: PyTree) -> PyTree:
    """``a`` where the scalar ``keep`` is true, else ``b``."""
    return jax.tree.map(lambda x, y: jnp.where(keep, x, y), a, b)


def all_finite(a: PyTree) -> Array:
    """Whether every entry of every floating leaf is finite; scalar bool."""
    leaves = [x for x in jax.tree.leaves(a) if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in leaves])) if leaves else jnp.bool_(True)


def split_shared(variables: PyTree) -> tuple[PyTree, PyTree]:
    """Variables with a member axis, and those that all members share (``{}`` where there are none)."""
    own = {name: part for name, part in variables.items() if name != "shared"}
    return own, variables.get("shared", {})


def join_shared(own: PyTree, shared: PyTree) -> PyTree:
    """Variables with a member axis and those that all members share, as one dict; the inverse of `split_shared`."""
    return own | ({"shared": shared} if shared else {})


def take_members(variables: PyTree, index) -> PyTree:
    """Members ``index`` (slice or int array) of a population's variables, as NumPy; ``shared`` passes unchanged.

    Example:
        >>> variables = {"params": {"w": np.zeros((8, 3))}, "state": {}, "shared": {"base": np.zeros(5)}}
        >>> jax.tree.map(np.shape, take_members(variables, slice(2)))
        {'params': {'w': (2, 3)}, 'shared': {'base': (5,)}, 'state': {}}
    """
    own, shared = split_shared(variables)
    own = jax.tree.map(lambda x: x[index] if _is_key(x) else np.asarray(x)[index], own)
    return join_shared(own, shared)


def _is_key(x) -> bool:
    """Whether x is an array of typed random keys, which have no NumPy form."""
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def join_members(parts: list[PyTree]) -> PyTree:
    """Populations' variables one behind the other along the member axis (the first one's ``shared``), as NumPy."""
    own = [split_shared(part)[0] for part in parts]
    shared = split_shared(parts[0])[1]
    joined = jax.tree.map(lambda *xs: np.concatenate([np.asarray(x) for x in xs]), *own)
    return join_shared(joined, shared)

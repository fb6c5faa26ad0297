"""Maxima over pixels whose gradient goes to one entry."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax


def _max_over(x, axis):
    """Maximum over a short axis whose gradient goes whole to the first largest entry.

    The gradient of ``max`` finds the largest entries by equality and divides by their number; where XLA
    rounds the input differently in the backward pass that number is 0 and the gradient NaN (seen on CPU).
    """
    slices = [lax.index_in_dim(x, i, axis, keepdims=False) for i in range(x.shape[axis])]
    return functools.reduce(lambda a, b: jnp.where(a >= b, a, b), slices)


def max_pool(x: jax.Array, window: int = 2) -> jax.Array:
    """Largest value of each ``window`` x ``window`` tile of (B, H, W, C); ragged edges are dropped (VALID).

    Where H or W is below ``window`` the input comes back as it is. No ``lax.reduce_window``, which is slow in
    vmapped CPU programs; the gradient goes to one entry of a tile, ties included.
    """
    batch, height, width, channels = x.shape
    if min(height, width) < window:
        return x
    rows, cols = height // window, width // window
    x = x[:, : rows * window, : cols * window, :]
    x = x.reshape(batch, rows, window, cols, window, channels)
    return _max_over(_max_over(x, 2), 3)


def global_max_pool(x: jax.Array) -> jax.Array:
    """Largest value over the pixels: (B, H, W, C) -> (B, C); gradient as in `max_pool`."""
    return _max_over(_max_over(x, 1), 1)

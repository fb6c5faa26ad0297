"""Likeness of images up to a small shift and turn: each query is compared in many poses, and the best one counts.

Block means of pixels tell copies apart that were merely moved: a shift of one pixel in eight takes near copies of a
digit further from it than other digits are. Registration before comparing is the usual remedy (tangent distance, Simard
et al. 1993, is its linear form); here the poses are tried one by one.

Near copies of a study are made by such poses (`similar`: shifts of .10, turns of 10 degrees, the same interpolation),
so what this finds among them says nothing of a search in practice: recall falls from near 1 to a fifth on far copies.
It is a choice (``--hp expand.similarity=aligned``), and no default.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

from unlearn_jax.data.similarity.copies import pixel_embedding

SHIFT, ANGLE, STEPS = 0.125, 15.0, 7  # of the side and degrees, each way; poses along each of the three directions
BLOCK = 16  # queries posed at a time


def aligned_cosine(queries: np.ndarray, images: np.ndarray) -> np.ndarray:
    """The largest cosine of block means over poses of each query.

    Args:
        queries: (q, H, W, C), uint8 or float.
        images: (n, H, W, C) of the same kind; not posed.

    Returns:
        (q, n) float32; `STEPS` cubed poses, shifts up to `SHIFT` of the side and turns up to `ANGLE` degrees; bilinear,
        edge pixels repeated.
    """
    rows, largest = pixel_embedding(images), np.empty((len(queries), len(images)), np.float32)
    for first in range(0, len(queries), BLOCK):
        posed = np.asarray(_poses(jnp.asarray(queries[first : first + BLOCK], jnp.float32)))
        for number, one in enumerate(posed, first):
            largest[number] = (pixel_embedding(one) @ rows.T).max(axis=0)
    return largest


@jax.jit
def _poses(images: jax.Array) -> jax.Array:
    """(q, H, W, C) -> (q, poses, H, W, C)."""
    along = jnp.linspace(-1.0, 1.0, STEPS)
    angle, down, across = (part.ravel() for part in jnp.meshgrid(along, along, along))
    return jax.vmap(lambda image: jax.vmap(functools.partial(posed, image))(angle, down, across))(images)


def posed(image: jax.Array, angle: jax.Array, down: jax.Array, across: jax.Array) -> jax.Array:
    """One pose of one float image (H, W, C): turned and shifted by shares, in [-1, 1], of `ANGLE` and `SHIFT`."""
    height, width, _ = image.shape
    centre = jnp.asarray([(height - 1) / 2, (width - 1) / 2], jnp.float32)
    turn = angle * jnp.float32(np.deg2rad(ANGLE))
    rows, columns = jnp.meshgrid(
        *(jnp.arange(n, dtype=jnp.float32) - c for n, c in zip(image.shape, centre)), indexing="ij"
    )
    move = SHIFT * jnp.asarray([height, width], jnp.float32) * jnp.stack([down, across])
    at = [
        jnp.cos(turn) * rows - jnp.sin(turn) * columns + centre[0] + move[0],
        jnp.sin(turn) * rows + jnp.cos(turn) * columns + centre[1] + move[1],
    ]
    return jax.vmap(lambda channel: map_coordinates(channel, at, order=1, mode="nearest"), in_axes=2, out_axes=2)(image)

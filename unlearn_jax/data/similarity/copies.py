"""Similar samples by construction: seeded near copies of images, at levels whose similarity is then measured.

Each copy is one random affine view of its source (bilinear, edge pixels repeated), then contrast, brightness, tint
and noise. Copy j of a source depends on (seed, the source's id, j) alone, so that fewer copies are a prefix of more,
and a source keeps its copies whatever else is drawn.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

from unlearn_jax.errors import InputError, choose
from unlearn_jax.types import Array


class EditWidths(NamedTuple):
    """Half-widths of the random edits; each is drawn uniformly unless said otherwise."""

    shift: float  # of the side
    rotation: float  # degrees
    zoom: tuple[float, float]  # visible share of the side, least and most
    contrast: float  # of the distance to the image's mean
    brightness: float  # of the pixel range
    tint: float  # of each channel's value
    noise: float  # standard deviation, of the pixel range
    flip: bool  # mirrored with probability one half, where the data set allows it


LEVELS = {
    "exact": EditWidths(0.0, 0.0, (1.0, 1.0), 0.0, 0.0, 0.0, 0.0, False),
    "near": EditWidths(0.10, 10.0, (1.0, 1.0), 0.0, 0.0, 0.10, 0.05, False),
    "far": EditWidths(0.04, 12.0, (0.75, 0.95), 0.3, 0.1, 0.15, 0.06, True),
}
BLOCKS = 8  # a side, of which the near-duplicate detector sees the means
FRESH = 1_000_000  # copy numbers from here on are held-out draws, never trained on


def level_and_strength(text: str, levels: Mapping[str, Any]) -> tuple[Any, float]:
    """The entry of ``levels`` that ``NAME`` or ``NAME:STRENGTH`` means, and the strength, 1 where none is given.

    Raises:
        InputError: an unknown level, a strength of ``exact``, or one that is not a number above 0 (and at most 4).
    """
    name, colon, strength = text.partition(":")
    level = levels[choose("similarity", name, levels)]
    if not colon:
        return level, 1.0
    if name == "exact":
        raise InputError(f"similarity '{text}' is not understood: write exact, which has no strength.")
    try:
        scale = float(strength)
    except ValueError:
        scale = 0.0
    if not 0 < scale <= 4:
        raise InputError(
            f"similarity '{text}' is not understood: write {name}, or {name}:STRENGTH with 0 < STRENGTH <= 4."
        )
    return level, scale


def level_of(text: str) -> EditWidths:
    """The level of that name, with ``NAME:STRENGTH`` its edits scaled: ``near:0.5`` shifts half as far, and so on.

    Raises:
        InputError: an unknown level, or a strength that is not a number above 0 (and at most 4).
    """
    level, scale = level_and_strength(text, LEVELS)
    if scale == 1.0:
        return level
    zoom = tuple(max(0.1, 1.0 - scale * (1.0 - z)) for z in level.zoom)
    scaled = {f: scale * getattr(level, f) for f in ("shift", "rotation", "contrast", "brightness", "tint", "noise")}
    scaled["contrast"] = min(scaled["contrast"], 0.9)  # a larger one would turn pictures into negatives
    return level._replace(zoom=zoom, **scaled)


def _edit(key: Array, image: Array, level: EditWidths, flips: bool) -> Array:
    """One random view of one image; (H, W, C) float32 in [0, 1] -> the same."""
    height, width, channels = image.shape
    keys = jax.random.split(key, 8)
    uniform = lambda k, shape=(): jax.random.uniform(k, shape, minval=-1.0, maxval=1.0)
    angle = uniform(keys[0]) * jnp.float32(np.deg2rad(level.rotation))
    zoom = jax.random.uniform(keys[1], (), minval=level.zoom[0], maxval=level.zoom[1])
    slack = level.shift + (1.0 - zoom) / 2.0  # a crop may sit anywhere inside the image
    move = uniform(keys[2], (2,)) * slack * jnp.asarray([height, width], jnp.float32)
    mirror = jnp.float32(1.0)
    if flips:
        mirror = jnp.where(jax.random.bernoulli(keys[3]), -1.0, 1.0)
    centre = jnp.asarray([(height - 1) / 2, (width - 1) / 2], jnp.float32)
    rows, columns = jnp.meshgrid(
        *(jnp.arange(n, dtype=jnp.float32) - c for n, c in zip(image.shape, centre)), indexing="ij"
    )
    columns = columns * mirror
    from_row = zoom * (jnp.cos(angle) * rows - jnp.sin(angle) * columns) + centre[0] + move[0]
    from_column = zoom * (jnp.sin(angle) * rows + jnp.cos(angle) * columns) + centre[1] + move[1]
    view = lambda channel: map_coordinates(channel, [from_row, from_column], order=1, mode="nearest")
    image = jax.vmap(view, in_axes=2, out_axes=2)(image)
    mean = jnp.mean(image)
    image = mean + (image - mean) * (1.0 + level.contrast * uniform(keys[4]))
    image = image * (1.0 + level.tint * uniform(keys[5], (1, 1, channels))) + level.brightness * uniform(keys[6])
    return jnp.clip(image + level.noise * jax.random.normal(keys[7], image.shape), 0.0, 1.0)


@functools.cache
def _compiled() -> Callable[..., Array]:
    """`_copies` as a program; for a CPU less optimised, which compiles in a quarter of the time to the same bits.

    Where ``XLA_FLAGS`` names a level, that is taken.
    """
    name = "xla_backend_optimization_level"
    less = jax.default_backend() == "cpu" and name not in os.environ.get("XLA_FLAGS", "")
    return jax.jit(_copies, static_argnames=("level", "flips"), compiler_options={name: 1} if less else None)


def _copies(root: Array, ids: Array, images: Array, numbers: Array, level: EditWidths, flips: bool) -> Array:
    """Views of (T, H, W, C) images in [0, 1]; (T,) ids and (m,) numbers -> (T, m, H, W, C)."""

    def of_one(source_id, image):
        own = jax.random.fold_in(root, source_id)
        return jax.vmap(lambda j: _edit(jax.random.fold_in(own, j), image, level, flips))(numbers)

    return jax.vmap(of_one)(ids, images)


def make_copies(
    sources: np.ndarray, ids: np.ndarray, numbers: np.ndarray, *, level: str, seed: int, flips: bool = False
) -> np.ndarray:
    """Similar samples of each source.

    Args:
        sources: (T, H, W, C), uint8 or float32 in [0, 1].
        ids: (T,) ids of the sources, which fix their randomness.
        numbers: (m,) numbers of the copies; number j is the same image in every call. Numbers from `FRESH` on are
            for held-out draws.
        level: ``exact``, ``near`` or ``far``, or a scaled one, see `level_of`.
        seed: of the study.
        flips: whether a mirrored image keeps its label.

    Returns:
        (T, m, H, W, C) in the sources' dtype.

    Raises:
        InputError: an unknown level.

    Example:
        >>> images = np.zeros((2, 8, 8, 1), np.uint8)
        >>> make_copies(images, np.arange(2), np.arange(3), level="exact", seed=0).shape
        (2, 3, 8, 8, 1)
    """
    setting = level_of(level)
    shape = (len(sources), len(numbers), *sources.shape[1:])
    if 0 in shape or level == "exact":
        return np.broadcast_to(sources[:, None], shape).copy()
    scale = 255.0 if sources.dtype == np.uint8 else 1.0
    images = jnp.asarray(sources, jnp.float32) / scale
    whole = (jnp.asarray(ids, jnp.uint32), images, jnp.asarray(numbers, jnp.uint32))
    made = np.asarray(_compiled()(jax.random.key(seed), *whole, level=setting, flips=bool(flips and setting.flip)))
    return np.rint(made * 255.0).astype(np.uint8) if sources.dtype == np.uint8 else made


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of matching rows after each row's mean is removed; (..., D), (..., D) -> (...)."""
    a, b = (x - x.mean(axis=-1, keepdims=True) for x in (a.astype(np.float64), b.astype(np.float64)))
    norm = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.sum(a * b, axis=-1) / np.maximum(norm, 1e-12)


def pixel_embedding(images: np.ndarray) -> np.ndarray:
    """Means of `BLOCKS` blocks a side with each image's mean removed, at unit norm; smaller images keep their pixels.

    (n, H, W, C) of any scale -> (n, D) float32, rows of norm 1 (a constant image gives a row of zeros).
    """
    n, height, width, channels = images.shape
    if min(height, width) > BLOCKS:
        rows = np.linspace(0, height, BLOCKS + 1).astype(int)
        columns = np.linspace(0, width, BLOCKS + 1).astype(int)
        means = np.add.reduceat(np.add.reduceat(images.astype(np.float32), rows[:-1], 1), columns[:-1], 2)
        images = means / (np.diff(rows)[:, None, None] * np.diff(columns)[None, :, None])
    flat = images.reshape(n, -1).astype(np.float32)
    flat = flat - flat.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.where(norm > 1e-6, flat / np.maximum(norm, 1e-6), 0.0).astype(np.float32)

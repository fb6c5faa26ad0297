"""Random views of training images, on the device and inside the compiled step."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from unlearn_jax.errors import choose
from unlearn_jax.types import Array


def _crop(key: Array, image: Array, pad: int) -> Array:
    """A random window of the reflected, padded image; (H, W, C) -> (H, W, C)."""
    height, width, channels = image.shape
    padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    corner = jax.random.randint(key, (2,), 0, 2 * pad + 1)
    return lax.dynamic_slice(padded, (corner[0], corner[1], 0), (height, width, channels))


def augmentation(name: str) -> Callable | None:
    """The function ``(key, images (B, H, W, C)) -> images`` of that name, or None for ``none``.

    ``crop`` shifts by up to an eighth of the side, ``crop_flip`` also mirrors half of the images.

    Raises:
        InputError: an unknown name.
    """
    choose("augmentation", name, ("none", "crop", "crop_flip"))
    if name == "none":
        return None
    return _crop_flip if name == "crop_flip" else _crop_only


def _crop_only(key: Array, images: Array) -> Array:
    keys = jax.random.split(key, images.shape[0])
    return jax.vmap(lambda k, x: _crop(k, x, max(1, images.shape[1] // 8)))(keys, images)


def _crop_flip(key: Array, images: Array) -> Array:
    crop, flip = jax.random.split(key)
    images = _crop_only(crop, images)
    mirrored = jax.random.bernoulli(flip, 0.5, (images.shape[0], 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1], images)

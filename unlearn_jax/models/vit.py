"""Small vision transformer [Dosovitskiy et al., 2021]: learned positions, pre-norm, mean-pooled features."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from unlearn_jax.errors import InputError
from unlearn_jax.models.adapters import from_linen
from unlearn_jax.models.layers import LayerNorm, check_image_model, compute_dtype, head
from unlearn_jax.types import Model


def patchify(x: jax.Array, patch: int) -> jax.Array:
    """Non-overlapping square patches of (B, H, W, C), row by row: (B, H*W/patch^2, patch*patch*C)."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // patch, patch, width // patch, patch, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, patch * patch * channels)


class _Attention(nn.Module):
    """Multi-head self-attention as plain products, which batch over members as they are."""

    heads: int
    dtype: Any

    @nn.compact
    def __call__(self, x):
        batch, tokens, width = x.shape
        depth = width // self.heads
        qkv = nn.Dense(3 * width, dtype=self.dtype, name="qkv")(x)
        q, k, v = jnp.moveaxis(qkv.reshape(batch, tokens, 3, self.heads, depth), 2, 0)
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k).astype(jnp.float32) * depth**-0.5
        weights = jax.nn.softmax(scores, axis=-1).astype(self.dtype)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(batch, tokens, width)
        return nn.Dense(width, dtype=self.dtype, name="out")(mixed)


class _ViT(nn.Module):
    """Patch embedding, ``depth`` pre-norm blocks, final norm, mean over tokens, linear head."""

    num_classes: int
    patch: int
    width: int
    depth: int
    heads: int
    dtype: Any

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Dense(self.width, dtype=self.dtype, name="embed")(patchify(x, self.patch))
        start = nn.initializers.normal(0.02)
        positions = self.param("positions", start, (x.shape[1], self.width), jnp.float32)
        x = x + positions.astype(self.dtype)[None]
        for i in range(self.depth):
            y = LayerNorm(self.dtype, name=f"block{i}norm1")(x)
            x = x + _Attention(self.heads, self.dtype, name=f"block{i}attention")(y)
            y = LayerNorm(self.dtype, name=f"block{i}norm2")(x)
            y = nn.gelu(nn.Dense(4 * self.width, dtype=self.dtype, name=f"block{i}up")(y))
            x = x + nn.Dense(self.width, dtype=self.dtype, name=f"block{i}down")(y)
        features = LayerNorm(jnp.float32, name="norm")(x).mean(axis=1)
        return head(self.num_classes)(features), features


def vit(
    num_classes: int,
    input_shape,
    *,
    patch: int | None = None,
    width: int = 64,
    depth: int = 4,
    heads: int = 4,
    dtype: str = "float32",
) -> Model:
    """Small vision transformer on (B, H, W, C) inputs; features (B, width).

    ``patch`` is in pixels and divides H and W; None means 2 for images of up to 8 pixels and 4 above.
    ``dtype`` is that of the activations (norms and softmax are float32). Raises `InputError` for bad
    settings.
    """
    check_image_model(num_classes, input_shape, widths=(width, heads))
    if patch is None:
        patch = 2 if max(input_shape[:2]) <= 8 else 4
    if patch < 1 or input_shape[0] % patch or input_shape[1] % patch:
        raise InputError(f"patch {patch} does not divide images of {input_shape[0]}x{input_shape[1]}: change patch.")
    if width % heads:
        raise InputError(f"{heads} heads do not divide width {width}: change heads or width.")
    return from_linen(_ViT(num_classes, patch, width, depth, heads, compute_dtype(dtype)))

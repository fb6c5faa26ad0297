"""Norms of the image models, with float32 statistics."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from unlearn_jax.errors import choose
from unlearn_jax.trees import wide

NORMS = ("group", "batch")
NORM_EPS = 1e-5
BATCH_NORM_MOMENTUM = 0.9


def norm_groups(channels: int) -> int:
    """Number of groups: the largest divisor of ``channels`` up to 32 that leaves 8 channels in a group.

    With a channel to itself each group would lose the channel's mean over the image, which is what the pooling after
    it hands to the classifier.
    """
    limit = max(1, min(32, channels // 8))
    return next(g for g in range(limit, 0, -1) if channels % g == 0)


def _rsqrt(var):
    return lax.rsqrt(var + NORM_EPS)


class _Affine(nn.Module):
    """Per-channel scale and bias of float32 values, returned in the compute dtype."""

    dtype: Any

    @nn.compact
    def __call__(self, x):
        shape = (1,) * (x.ndim - 1) + (-1,)
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],), jnp.float32)
        scale, bias = scale.astype(x.dtype), bias.astype(x.dtype)
        return (x * scale.reshape(shape) + bias.reshape(shape)).astype(self.dtype)


class GroupNorm(nn.Module):
    """Group normalisation of (B, H, W, C), float32 statistics, groups by `norm_groups` [Wu & He, 2018]."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, train: bool = False):
        """Same shape, in ``dtype``; ``train`` has no effect."""
        batch, height, width, channels = x.shape
        groups = norm_groups(channels)

        def group_mean(x):  # means of channel means: twice as fast on CPU as one reduction over a 4-d view
            means = x.mean(axis=(1, 2)).reshape(batch, groups, channels // groups)
            means = jnp.broadcast_to(means.mean(axis=2, keepdims=True), means.shape)
            return means.reshape(batch, 1, 1, channels)

        x = x.astype(wide(self.dtype))
        centred = x - group_mean(x)
        return _Affine(self.dtype, name="affine")(centred * _rsqrt(group_mean(jnp.square(centred))))


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, float32 statistics [Ioffe & Szegedy, 2015].

    ``train=True`` uses the statistics of the batch and moves the running ones (collection ``batch_stats``,
    momentum 0.9, biased variance); ``train=False`` uses the running ones. Every slot of the batch counts
    alike.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, train: bool = False):
        """Same shape, in ``dtype``."""
        channels, axes = x.shape[-1], tuple(range(x.ndim - 1))
        x = x.astype(wide(self.dtype))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        mean, var = running_mean.value.astype(x.dtype), running_var.value.astype(x.dtype)
        shape = (1,) * len(axes) + (-1,)
        if train:
            mean = x.mean(axis=axes)
            var = jnp.square(x - mean.reshape(shape)).mean(axis=axes)
            if not self.is_initializing():
                keep = BATCH_NORM_MOMENTUM
                running_mean.value = keep * running_mean.value + (1 - keep) * mean.astype(running_mean.value.dtype)
                running_var.value = keep * running_var.value + (1 - keep) * var.astype(running_var.value.dtype)
        centred = x - mean.reshape(shape)
        return _Affine(self.dtype, name="affine")(centred * _rsqrt(var).reshape(shape))


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis with float32 statistics [Ba et al., 2016]."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        """Same shape, in ``dtype``."""
        x = x.astype(wide(self.dtype))
        centred = x - x.mean(axis=-1, keepdims=True)
        var = jnp.square(centred).mean(axis=-1, keepdims=True)
        return _Affine(self.dtype, name="affine")(centred * _rsqrt(var))


def make_norm(kind: str, dtype, name: str) -> nn.Module:
    """The norm module called ``kind`` ("group" or "batch"); `InputError` for any other."""
    return {"group": GroupNorm, "batch": BatchNorm}[choose("norm", kind, NORMS)](dtype=dtype, name=name)

"""Building blocks of the image models: convolution in two equal forms, norms in float32, pooling."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from unlearn_jax.errors import InputError, choose
from unlearn_jax.runtime.platform import platform, preferred_conv
from unlearn_jax.trees import wide

CONV_IMPLS = ("auto", "conv", "im2col")
NORMS = ("group", "batch")
DTYPES = ("float32", "bfloat16")
IM2COL_MAX_WIDTH = 64  # above it one dense convolution per member fills an accelerator better
NORM_EPS = 1e-5
BATCH_NORM_MOMENTUM = 0.9


def compute_dtype(name: str, *, double: bool = False) -> jnp.dtype:
    """The dtype of activations for ``name``, "float32" or "bfloat16"; parameters begin in float32.

    ``double`` says that the model can be computed in "float64" as well. Raises `InputError` for any other name, and for
    float64 without JAX's x64 switch.
    """
    is_double = choose("dtype", name, (*DTYPES, "float64") if double else DTYPES) == "float64"
    if is_double and not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        raise InputError("dtype 'float64' needs JAX's 64-bit mode: set the environment variable JAX_ENABLE_X64=1.")
    return jnp.dtype(name)


def check_image_model(num_classes: int, input_shape, *, widths=(), conv_impl="auto", norm="group") -> None:
    """Raise `InputError` for settings that no image model can be built with; ``input_shape`` is (H, W, C)."""
    choose("conv_impl", conv_impl, CONV_IMPLS)
    choose("norm", norm, NORMS)
    if num_classes < 2:
        raise InputError(f"num_classes is {num_classes}: give a whole number of at least 2.")
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise InputError(f"input_shape is {tuple(input_shape)}: give (height, width, channels), each at least 1.")
    if any(w < 1 for w in widths):
        raise InputError(f"layer widths are {tuple(widths)}: give whole numbers of at least 1.")


def resolve_conv(impl: str, cin: int, cout: int) -> str:
    """Which convolution "auto" stands for at trace time: "conv" or "im2col".

    CPU: always im2col (a convolution inside ``lax.scan`` is about 80 times slower there). Elsewhere im2col up
    to 64 channels, where many vmapped members beat one grouped convolution. The choice follows the
    platform that the program is made for, or what was measured (`population.measured`).
    """
    choose("conv_impl", impl, CONV_IMPLS)
    if impl != "auto" or preferred_conv():
        return preferred_conv() if impl == "auto" else impl
    return "im2col" if platform() == "cpu" or max(cin, cout) <= IM2COL_MAX_WIDTH else "conv"


def conv_im2col(x: jax.Array, kernel: jax.Array, strides: tuple[int, int], padding: str) -> jax.Array:
    """2-d convolution as one matrix product over shifted slices; (B, H, W, Cin) -> (B, H', W', Cout).

    ``kernel`` is (kh, kw, Cin, Cout) in the dtype of ``x``; ``padding`` is "SAME" or "VALID".
    """
    kh, kw, cin, cout = kernel.shape
    pads = lax.padtype_to_pads(x.shape[1:3], (kh, kw), strides, padding)
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    out_h = (x.shape[1] - kh) // strides[0] + 1
    out_w = (x.shape[2] - kw) // strides[1] + 1
    stop_h, stop_w = (out_h - 1) * strides[0] + 1, (out_w - 1) * strides[1] + 1
    slices = [x[:, i : i + stop_h : strides[0], j : j + stop_w : strides[1], :] for i in range(kh) for j in range(kw)]
    patches = slices[0] if len(slices) == 1 else jnp.concatenate(slices, axis=-1)
    return patches @ kernel.reshape(kh * kw * cin, cout)


class Conv(nn.Module):
    """2-d convolution with the parameters of ``flax.linen.Conv``: kernel (kh, kw, Cin, Cout), bias (Cout,).

    ``impl``: "conv" (``lax.conv_general_dilated``), "im2col" (`conv_im2col`) or "auto" (`resolve_conv`); the
    results are equal up to rounding.
    """

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    padding: str = "SAME"
    use_bias: bool = True
    impl: str = "auto"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        """(B, H, W, Cin) -> (B, H', W', Cout) in ``dtype``."""
        cin = x.shape[-1]
        shape = (*self.kernel_size, cin, self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, jnp.float32).astype(self.dtype)
        x = x.astype(self.dtype)
        if resolve_conv(self.impl, cin, self.features) == "im2col":
            y = conv_im2col(x, kernel, self.strides, self.padding)
        else:
            layout = ("NHWC", "HWIO", "NHWC")
            y = lax.conv_general_dilated(x, kernel, self.strides, self.padding, dimension_numbers=layout)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            y = y + bias.astype(self.dtype).reshape((1, 1, 1, -1))
        return y


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


class ConvNorm(nn.Module):
    """Convolution without bias, norm and, if asked, relu: the unit of all convolutional models here."""

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    relu: bool = True
    norm: str = "group"
    conv_impl: str = "auto"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, train: bool):
        """(B, H, W, Cin) -> (B, H', W', features) in ``dtype``."""
        kinds: dict[str, Any] = dict(use_bias=False, impl=self.conv_impl, dtype=self.dtype)
        conv = Conv(self.features, self.kernel_size, self.strides, **kinds, name="conv")
        x = make_norm(self.norm, self.dtype, "norm")(conv(x), train)
        return nn.relu(x) if self.relu else x


def head(num_classes: int, dtype=jnp.float32) -> nn.Dense:
    """The last layer, in float32 at least; its parameters are ``params["head"]`` in every model."""
    return nn.Dense(num_classes, dtype=wide(dtype), name="head")

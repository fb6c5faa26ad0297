"""Building blocks of the image models: convolution in two equal forms, norms in float32, pooling."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from unlearn_jax.errors import InputError, choose
from unlearn_jax.models.norms import NORMS, make_norm
from unlearn_jax.runtime.platform import platform, preferred_conv
from unlearn_jax.trees import wide

CONV_IMPLS = ("auto", "conv", "im2col")
DTYPES = ("float32", "bfloat16")
IM2COL_MAX_WIDTH = 64  # above it one dense convolution per member fills an accelerator better


def compute_dtype(name: str, *, double: bool = False) -> jnp.dtype:
    """The dtype of activations for ``name``, "float32" or "bfloat16"; parameters begin in float32.

    ``double`` says that the model can be computed in "float64" as well. Raises `InputError` for any other name, and for
    float64 without JAX's x64 switch.
    """
    asked = choose("dtype", name, (*DTYPES, "float64") if double else DTYPES) == "float64"
    if asked and not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
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


def head(num_classes: int, dtype=jnp.float32) -> nn.Dense:
    """The last layer, in float32 at least; its parameters are ``params["head"]`` in every model."""
    return nn.Dense(num_classes, dtype=wide(dtype), name="head")

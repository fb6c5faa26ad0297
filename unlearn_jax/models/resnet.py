"""Residual networks for small images: ResNet-9 (the fast CIFAR layout) and ResNet-18 with a CIFAR stem."""

from __future__ import annotations

from typing import Any

import flax.linen as nn

from unlearn_jax.models.adapters import from_linen
from unlearn_jax.models.layers import ConvNorm, check_image_model, compute_dtype, head
from unlearn_jax.models.pooling import global_max_pool, max_pool
from unlearn_jax.trees import wide
from unlearn_jax.types import Model


class _ResNet9(nn.Module):
    """Widths w, 2w + residual, 4w, 4w + residual, with 2x2 maxima; global maximum; linear head."""

    num_classes: int
    width: int
    kinds: Any

    @nn.compact
    def __call__(self, x, train: bool):
        def unit(x, width, name):
            return ConvNorm(width, **self.kinds, name=name)(x, train)

        def residual(x, name):
            return x + unit(unit(x, x.shape[-1], f"{name}a"), x.shape[-1], f"{name}b")

        w = self.width
        x = unit(x, w, "stem")
        x = residual(max_pool(unit(x, 2 * w, "conv1")), "residual1")
        x = max_pool(unit(x, 4 * w, "conv2"))
        x = residual(max_pool(unit(x, 4 * w, "conv3")), "residual3")
        features = global_max_pool(x).astype(wide(self.kinds["dtype"]))
        return head(self.num_classes, self.kinds["dtype"])(features), features


class _ResNet18(nn.Module):
    """3x3 stem, four stages of two basic blocks, mean over pixels, linear head."""

    num_classes: int
    width: int
    kinds: Any

    @nn.compact
    def __call__(self, x, train: bool):
        x = ConvNorm(self.width, **self.kinds, name="stem")(x, train)
        for stage in range(4):
            for block in range(2):
                stride = 2 if stage > 0 and block == 0 else 1
                x = self._block(x, self.width * 2**stage, stride, f"stage{stage}block{block}", train)
        features = x.astype(wide(self.kinds["dtype"])).mean(axis=(1, 2))
        return head(self.num_classes, self.kinds["dtype"])(features), features

    def _block(self, x, width, stride, name, train):
        strides = (stride, stride)
        y = ConvNorm(width, strides=strides, **self.kinds, name=f"{name}a")(x, train)
        y = ConvNorm(width, relu=False, **self.kinds, name=f"{name}b")(y, train)
        if stride > 1:
            short = ConvNorm(width, (1, 1), strides, relu=False, **self.kinds, name=f"{name}short")
            x = short(x, train)
        return nn.relu(x + y)


def _build(module, num_classes, input_shape, width, norm, conv_impl, dtype) -> Model:
    check_image_model(num_classes, input_shape, widths=(width,), conv_impl=conv_impl, norm=norm)
    kinds = dict(norm=norm, conv_impl=conv_impl, dtype=compute_dtype(dtype, double=True))
    return from_linen(module(num_classes, width, kinds))


def resnet9(
    num_classes: int,
    input_shape,
    *,
    width: int = 64,
    norm: str = "group",
    conv_impl: str = "auto",
    dtype: str = "float32",
) -> Model:
    """ResNet-9 on (B, H, W, C) inputs, widths (1, 2, 4, 4) x ``width``; features (B, 4 * width).

    The layout of the fast CIFAR-10 networks of Page (2018) with a narrower last stage: 0.57 GFLOP forward for
    one 32x32x3 example at width 64. Options as in `convnet`. Raises `InputError` for bad settings.
    """
    return _build(_ResNet9, num_classes, input_shape, width, norm, conv_impl, dtype)


def resnet18(
    num_classes: int,
    input_shape,
    *,
    width: int = 64,
    norm: str = "group",
    conv_impl: str = "auto",
    dtype: str = "float32",
) -> Model:
    """ResNet-18 [He et al., 2016] with a 3x3 stem, unpooled, on (B, H, W, C); features (B, 8 * width).

    1.1 GFLOP forward for one 32x32x3 example at width 64. Options as in `convnet`. Raises `InputError` for
    bad settings.
    """
    return _build(_ResNet18, num_classes, input_shape, width, norm, conv_impl, dtype)

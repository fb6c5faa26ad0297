"""Small convolutional network: the default for populations of hundreds of members."""

from __future__ import annotations

from typing import Any

import flax.linen as nn

from unlearn_jax.errors import InputError
from unlearn_jax.models.adapters import from_linen
from unlearn_jax.models.layers import ConvNorm, check_image_model, compute_dtype, head
from unlearn_jax.models.pooling import max_pool
from unlearn_jax.trees import wide
from unlearn_jax.types import Model


class _ConvNet(nn.Module):
    """For each width a 3x3 convolution, norm, relu and 2x2 maximum; mean over pixels; linear head."""

    num_classes: int
    widths: tuple[int, ...]
    norm: str
    conv_impl: str
    dtype: Any

    @nn.compact
    def __call__(self, x, train: bool):
        kinds: dict[str, Any] = dict(norm=self.norm, conv_impl=self.conv_impl, dtype=self.dtype)
        for i, width in enumerate(self.widths):
            x = max_pool(ConvNorm(width, **kinds, name=f"block{i}")(x, train))
        features = x.astype(wide(self.dtype)).mean(axis=(1, 2))
        return head(self.num_classes, self.dtype)(features), features


def convnet(
    num_classes: int,
    input_shape,
    *,
    widths=(16, 32, 64),
    norm: str = "group",
    conv_impl: str = "auto",
    dtype: str = "float32",
) -> Model:
    """Small network of 3x3 convolutions on (B, H, W, C) inputs; features (B, widths[-1]).

    Pooling stops where a side would fall below 1 pixel. ``norm`` is "group" or "batch", ``conv_impl`` as in
    `layers.Conv`, ``dtype`` that of the activations. Raises `InputError` for bad settings.
    """
    check_image_model(num_classes, input_shape, widths=widths, conv_impl=conv_impl, norm=norm)
    if not widths:
        raise InputError("convnet has no widths: give one width for each convolution, for example 16 32 64.")
    return from_linen(_ConvNet(num_classes, tuple(widths), norm, conv_impl, compute_dtype(dtype, double=True)))

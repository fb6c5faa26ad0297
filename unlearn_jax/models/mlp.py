"""Multilayer perceptron and logistic regression on flattened inputs."""

from __future__ import annotations

from typing import Any

import flax.linen as nn

from unlearn_jax.models.adapters import from_linen
from unlearn_jax.models.layers import check_image_model, compute_dtype, head
from unlearn_jax.trees import wide
from unlearn_jax.types import Model


class _MLP(nn.Module):
    """Dense and relu for each width, then a linear head."""

    num_classes: int
    widths: tuple[int, ...]
    dtype: Any

    @nn.compact
    def __call__(self, x, train: bool):
        x = x.reshape(x.shape[0], -1)
        for i, width in enumerate(self.widths):
            x = nn.relu(nn.Dense(width, dtype=self.dtype, name=f"dense{i}")(x))
        features = x.astype(wide(self.dtype))
        return head(self.num_classes, self.dtype)(features), features


def mlp(num_classes: int, input_shape, *, widths=(128, 128), dtype: str = "float32") -> Model:
    """Relu perceptron on flattened (B, H, W, C) or (B, D) inputs; features are the last hidden layer (B, widths[-1]).

    ``input_shape`` is (H, W, C) or (D,); ``dtype`` is that of the hidden layers. Raises `InputError` for bad
    settings.
    """
    shape = (1, 1, *input_shape) if len(input_shape) == 1 else input_shape
    check_image_model(num_classes, shape, widths=widths)
    return from_linen(_MLP(num_classes, tuple(widths), compute_dtype(dtype, double=True)))


def linear(num_classes: int, input_shape, *, dtype: str = "float32") -> Model:
    """Logistic regression; features are the flattened inputs (B, H*W*C).

    Computed in float32 at least: of ``dtype``, which all models take, only float64 makes a difference.
    """
    return mlp(num_classes, input_shape, widths=(), dtype=dtype)

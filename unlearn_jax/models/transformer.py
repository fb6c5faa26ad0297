"""Transformers on token ids: a causal decoder (language model) and a bidirectional encoder (classifier).

Both are stacks of pre-norm blocks [Radford et al., 2019] with RMSNorm [Zhang & Sennrich, 2019, arXiv 1910.07467],
rotary positions [Su et al., 2021, arXiv 2104.09864] and SwiGLU layers [Shazeer, 2020, arXiv 2002.05202], without
biases or dropout. The decoder's output layer is its embedding table [Press & Wolf, 2017, arXiv 1608.05859].
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from unlearn_jax.errors import InputError, choose
from unlearn_jax.models.adapters import from_linen
from unlearn_jax.models.layers import compute_dtype, head
from unlearn_jax.types import Array, Model

PADDING = 0
SIZES = {"tiny": (64, 2, 4), "small": (128, 4, 4), "base": (384, 6, 6)}  # width, depth, heads
NORM_EPS = 1e-6
ROTARY_BASE = 10_000.0
MASKED = -1e30  # finite, so that a row without any live key gives equal weights and no NaN


class RMSNorm(nn.Module):
    """Division by the root mean square over the last axis, then a learned scale; (B, T, D), float32 statistics."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        """Same shape, in ``dtype``."""
        x = x.astype(jnp.float32)
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32)
        power = jnp.square(x).mean(axis=-1, keepdims=True)
        return (x * lax.rsqrt(power + NORM_EPS) * scale.reshape((1,) * (x.ndim - 1) + (-1,))).astype(self.dtype)


def rotate(x: Array, positions: Array) -> Array:
    """Rotary positions: coordinate pairs of each head turned by position x frequency, in float32.

    ``x`` is (B, T, H, d) with d even, ``positions`` (B or 1, T) int32; coordinate i is paired with i + d/2. Products
    of rotated queries and keys depend on the difference of their positions only.
    """
    half = x.shape[-1] // 2
    frequency = ROTARY_BASE ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions.astype(jnp.float32)[:, :, None, None] * frequency.reshape(1, 1, 1, half)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


def attend(q: Array, k: Array, v: Array, mask: Array) -> Array:
    """Softmax attention of (B, Q, H, d) on (B, K, H, d) where ``mask`` (B or 1, Q, K) is true; softmax in float32."""
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k).astype(jnp.float32) * q.shape[-1] ** -0.5
    weights = jax.nn.softmax(jnp.where(mask[:, None], scores, MASKED), axis=-1)
    return jnp.einsum("bhqk,bkhd->bqhd", weights.astype(v.dtype), v)


def masked_mean(x: Array, live: Array) -> Array:
    """Mean over the positions where ``live`` (B, T) is true, 0 where there is none; (B, T, D) -> (B, D) float32."""
    live = live.astype(jnp.float32)[:, :, None]
    return (x.astype(jnp.float32) * live).sum(axis=1) / jnp.maximum(live.sum(axis=1), 1.0)


class _Attention(nn.Module):
    """Multi-head self-attention with rotary positions; keys and values may be kept from call to call."""

    heads: int
    dtype: Any
    out_init: Any

    @nn.compact
    def __call__(self, x, positions, mask, cache=None):
        batch, tokens, width = x.shape
        qkv = nn.Dense(3 * width, use_bias=False, dtype=self.dtype, name="qkv")(x)
        q, k, v = jnp.moveaxis(qkv.reshape(batch, tokens, 3, self.heads, width // self.heads), 2, 0)
        q, k = rotate(q, positions), rotate(k, positions)
        if cache is not None:  # one new token a row, each row at its own position
            here = (jnp.arange(cache[0].shape[1])[None, :] == positions)[:, :, None, None]
            k, v = jnp.where(here, k, cache[0]), jnp.where(here, v, cache[1])
        mixed = attend(q, k, v, mask).reshape(batch, tokens, width)
        out = nn.Dense(width, use_bias=False, dtype=self.dtype, kernel_init=self.out_init, name="out")
        return out(mixed), (k, v)


class _Block(nn.Module):
    """Attention and SwiGLU, each on a normed copy of the residual stream and added to it."""

    heads: int
    depth: int
    dtype: Any

    @nn.compact
    def __call__(self, x, positions, mask, cache=None):
        width, inner = x.shape[-1], swiglu_width(x.shape[-1])
        # the stream grows by 2 x depth terms [Radford et al., 2019]
        out_init = nn.initializers.variance_scaling(0.5 / self.depth, "fan_in", "truncated_normal")
        y = RMSNorm(self.dtype, name="attention_norm")(x)
        y, kept = _Attention(self.heads, self.dtype, out_init, name="attention")(y, positions, mask, cache)
        x = x + y
        y = RMSNorm(self.dtype, name="mlp_norm")(x)
        y = nn.Dense(2 * inner, use_bias=False, dtype=self.dtype, name="gate_up")(y)
        y = nn.silu(y[..., :inner]) * y[..., inner:]
        return x + nn.Dense(width, use_bias=False, dtype=self.dtype, kernel_init=out_init, name="down")(y), kept


def swiglu_width(width: int) -> int:
    """Inner width of a SwiGLU layer: 8/3 of ``width``, as many parameters as a plain layer of 4x; a multiple of 16."""
    return -(-8 * width // 48) * 16


class Transformer(nn.Module):
    """Embedding, blocks and norm; then the embedding table as output layer (causal) or a head on the mean."""

    vocab: int
    classes: int | None  # None: causal decoder
    width: int
    depth: int
    heads: int
    dtype: Any

    @nn.compact
    def run(self, tokens, positions=None, cache=None):
        """(B, T) ids -> logits, features, hidden by name, and the keys and values of each block."""
        table = self.param("embed", nn.initializers.normal(self.width**-0.5), (self.vocab, self.width), jnp.float32)
        live = tokens != PADDING
        slots = jnp.arange(tokens.shape[1] if cache is None else cache[0][0].shape[1])[None, None, :]
        positions = jnp.arange(tokens.shape[1])[None, :] if positions is None else positions
        mask = live[:, None, :] if self.classes else slots <= positions[:, :, None]
        x, hidden, kept = jnp.take(table, tokens, axis=0).astype(self.dtype), {}, []
        for i in range(self.depth):
            block = _Block(self.heads, self.depth, self.dtype, name=f"block{i}")
            x, pair = block(x, positions, mask, None if cache is None else cache[i])
            hidden[f"block{i}"] = x.astype(jnp.float32)
            kept.append(pair)
        x = RMSNorm(jnp.float32, name="norm")(x)
        features = masked_mean(x, live)
        logits = head(self.classes)(features) if self.classes else _tied(x.astype(self.dtype), table)
        return logits, features, hidden, tuple(kept)

    def __call__(self, tokens, train: bool):
        """(B, T) ids -> logits, features, hidden by name; ``train`` has no effect."""
        tokens = jnp.asarray(tokens)
        if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
            raise InputError(f"inputs are {tokens.dtype} {tokens.shape}: give token ids (batch, length) as int32.")
        return self.run(tokens)[:3]


def _tied(x, table):
    """Logits in float32 of (B, T, D) against a table (V, D), multiplied in the dtype of ``x``."""
    return jnp.einsum("btd,vd->btv", x, table.astype(x.dtype), preferred_element_type=jnp.float32)


def make_module(vocab, classes, input_shape, size, width, depth, heads, dtype) -> Transformer:
    """The module for checked settings."""
    preset = SIZES[choose("size", size, SIZES)]
    width, depth, heads = (p if overrides is None else overrides for overrides, p in zip((width, depth, heads), preset))
    if vocab < 2 or (classes is not None and classes < 2):
        raise InputError("the vocabulary and the number of classes must be whole numbers of at least 2.")
    if len(input_shape) != 1 or input_shape[0] < 1:
        raise InputError(f"input_shape is {tuple(input_shape)}: give (length,), the tokens of a text, at least 1.")
    if min(width, depth, heads) < 1 or width % (2 * heads):
        raise InputError(
            f"width {width}, depth {depth} and heads {heads} do not fit: give a width that is a multiple of twice the "
            f"heads, and at least 1 of each."
        )
    return Transformer(vocab, classes, width, depth, heads, compute_dtype(dtype))


def decoder(
    num_classes: int,
    input_shape,
    *,
    size: str = "tiny",
    width: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
    dtype: str = "float32",
) -> Model:
    """Causal language model on token ids (B, L) int32, 0 = padding, which goes at the end.

    ``num_classes`` is the vocabulary size V and ``input_shape`` is (L,), though any length can be applied. Outputs:
    ``logits`` (B, L, V) float32, of which position t predicts token t + 1; ``features`` (B, D), the mean of the last
    normed hidden states over positions that are not padding; ``hidden`` ``block0``, ... (B, L, D), the residual stream
    after each block. ``params["embed"]`` (V, D) is input and output layer.

    Args:
        num_classes: vocabulary size, padding included.
        input_shape: (L,).
        size: ``tiny`` (64 wide, 2 blocks, 4 heads), ``small`` (128, 4, 4) or ``base`` (384, 6, 6).
        width: hidden width D, a multiple of twice the heads, instead of the size's.
        depth: number of blocks, instead of the size's.
        heads: attention heads, instead of the size's.
        dtype: of the activations; parameters, norms, softmax and logits are float32.

    Raises:
        InputError: settings that do not fit; inputs that are not (B, L) integers.

    Example:
        >>> model = decoder(50, (8,))
        >>> tokens = jnp.ones((2, 8), jnp.int32)
        >>> model.apply(model.init(jax.random.key(0), tokens), tokens)[0].logits.shape
        (2, 8, 50)
    """
    return from_linen(make_module(num_classes, None, input_shape, size, width, depth, heads, dtype))


def encoder(
    num_classes: int,
    input_shape,
    *,
    vocab: int,
    size: str = "tiny",
    width: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
    dtype: str = "float32",
) -> Model:
    """Text classifier on token ids (B, L) int32: every position sees every other but padding (0).

    Outputs: ``logits`` (B, K) float32; ``features`` (B, D), the mean of the last normed hidden states over positions
    that are not padding; ``hidden`` as in `decoder`. ``vocab`` is the vocabulary size, padding included; the other
    settings and errors are those of `decoder`, and the last layer is ``params["head"]``.
    """
    return from_linen(make_module(vocab, num_classes, input_shape, size, width, depth, heads, dtype))

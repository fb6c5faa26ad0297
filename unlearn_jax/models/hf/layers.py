"""Norms, rotary positions, attention and MLP of the causal language models, by their `Spec`."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from unlearn_jax.models.hf.spec import Rope, Spec
from unlearn_jax.models.transformer import MASKED
from unlearn_jax.types import Array

ACTIVATIONS = {
    "silu": nn.silu,
    "gelu": partial(nn.gelu, approximate=False),
    "gelu_tanh": partial(nn.gelu, approximate=True),
}


class Norm(nn.Module):
    """Normalisation over the last axis with statistics in float32: root mean square or layer normalisation."""

    spec: Spec
    dtype: Any

    @nn.compact
    def __call__(self, x):
        """Same shape and dtype."""
        kind, shape, wide = self.spec.norm, x.shape[-1:], x.astype(jnp.float32)
        start = nn.initializers.zeros if kind == "rms_plus_one" else nn.initializers.ones
        scale = self.param("scale", start, shape, self.dtype).astype(jnp.float32).reshape((1,) * (x.ndim - 1) + shape)
        if kind == "layer":
            wide = wide - wide.mean(axis=-1, keepdims=True)
        wide = wide * lax.rsqrt(jnp.square(wide).mean(axis=-1, keepdims=True) + self.spec.eps)
        y = wide * (1.0 + scale if kind == "rms_plus_one" else scale)
        if kind == "layer":
            bias = self.param("bias", nn.initializers.zeros, shape, self.dtype)
            y = y + bias.astype(jnp.float32).reshape(scale.shape)
        return y.astype(x.dtype)


def frequencies(rope: Rope, rotary: int) -> np.ndarray:
    """Radians a position by which each of the ``rotary`` / 2 pairs of coordinates is turned; float64.

    ``linear`` divides all by the factor. ``llama3`` divides the slow ones, leaves the fast ones alone and passes
    smoothly from one to the other [Llama team, 2024, arXiv 2407.21783].
    """
    plain = rope.theta ** (-np.arange(0, rotary, 2) / rotary)
    if rope.scaling == "linear":
        return plain / rope.factor
    if rope.scaling == "llama3":
        turns = rope.original * plain / (2 * math.pi)  # full turns within the original context
        fast = np.clip((turns - rope.low) / (rope.high - rope.low), 0, 1)
        return (1 - fast) * plain / rope.factor + fast * plain
    return plain


def rotate(x: Array, positions: Array, frequency: np.ndarray) -> Array:
    """The first coordinates of each head turned by position x frequency, pairs half of them apart; in float32.

    ``x`` is (B, T, H, d), ``positions`` (B or 1, T); coordinates beyond twice the frequencies stay as they are.
    """
    turned = 2 * len(frequency)
    angle = positions.astype(jnp.float32)[:, :, None, None] * jnp.float32(frequency).reshape(1, 1, 1, -1)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    a, b = jnp.split(x[..., :turned].astype(jnp.float32), 2, axis=-1)
    y = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)
    return jnp.concatenate([y, x[..., turned:]], axis=-1)


def soft_cap(x: Array, cap: float) -> Array:
    """Values drawn smoothly into (-cap, cap); as they are where cap is 0."""
    return jnp.tanh(x / cap) * cap if cap else x


class Attention(nn.Module):
    """Causal attention in which groups of query heads share keys and values, which may be kept from call to call."""

    spec: Spec
    block: int
    dtype: Any

    @nn.compact
    def __call__(self, x, positions, cache=None):
        """(B, T, D) at ``positions`` (B or 1, T) -> (B, T, D), and the keys and values (B, S, kv_heads, d)."""
        spec, batch, length = self.spec, *x.shape[:2]
        dense = partial(nn.Dense, dtype=self.dtype, param_dtype=self.dtype)

        def heads(name, count, norm):
            y = dense(count * spec.head_dim, use_bias="qkv" in spec.biases, name=name)(x)
            y = y.reshape(batch, length, count, spec.head_dim)
            y = Norm(spec, self.dtype, name=f"{name}_norm")(y) if norm else y
            rotary = spec.rotary if name != "v" else 0
            return rotate(y, positions, frequencies(spec.ropes[self.block], rotary)) if rotary else y

        q = heads("q", spec.heads, spec.qk_norm)
        k, v = heads("k", spec.kv_heads, spec.qk_norm), heads("v", spec.kv_heads, False)
        if cache is not None:  # one new token a row, each row at its own position
            here = (jnp.arange(cache[0].shape[1])[None, :] == positions)[:, :, None, None]
            k, v = jnp.where(here, k, cache[0]), jnp.where(here, v, cache[1])
        seen = visible(positions, k.shape[1], spec.windows[self.block])
        y = attend(q, k, v, seen, spec).reshape(batch, length, spec.heads * spec.head_dim)
        return dense(spec.width, use_bias="out" in spec.biases, name="out")(y), (k, v)


def visible(positions: Array, slots: int, window: int) -> Array:
    """Which slots 0..slots-1 a position sees: those up to itself, within a window if it is not 0; (B or 1, T, S)."""
    slot = jnp.arange(slots)[None, None, :]
    seen = slot <= positions[:, :, None]
    return seen & (slot > positions[:, :, None] - window) if window else seen


def attend(q: Array, k: Array, v: Array, seen: Array, spec: Spec) -> Array:
    """Softmax attention of (B, T, H, d) on (B, S, G, d), H a multiple of G; softmax in float32."""
    q = q.reshape(*q.shape[:2], spec.kv_heads, spec.heads // spec.kv_heads, spec.head_dim)
    scores = jnp.einsum("btgqd,bsgd->bgqts", q, k, preferred_element_type=jnp.float32) * spec.scale
    scores = jnp.where(seen[:, None, None], soft_cap(scores, spec.attention_cap), MASKED)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("bgqts,bsgd->btgqd", weights, v)


class MLP(nn.Module):
    """Two layers, or three with a gate."""

    spec: Spec
    dtype: Any

    @nn.compact
    def __call__(self, x):
        """(B, T, D) -> (B, T, D)."""
        spec = self.spec
        dense = partial(nn.Dense, use_bias="mlp" in spec.biases, dtype=self.dtype, param_dtype=self.dtype)
        activation, up = ACTIVATIONS[spec.activation], dense(spec.inner, name="up")(x)
        up = activation(dense(spec.inner, name="gate")(x)) * up if spec.gated else activation(up)
        return dense(spec.width, name="down")(up)

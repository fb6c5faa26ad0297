"""Sentence embeddings by all-MiniLM-L6-v2 (Apache-2.0 weights), and the same network as a classifier to fine-tune.

A BERT encoder [Devlin et al., 2019, arXiv 1810.04805] distilled to 6 blocks of width 384 [Wang et al., 2020, arXiv
2002.10957] and trained to embed sentences [Reimers & Gurevych, 2019, arXiv 1908.10084]. The weights are read from a
folder of the user's that holds ``model.safetensors`` and ``tokenizer.json``; nothing is fetched.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from unlearn_jax.errors import InputError
from unlearn_jax.models.adapters import from_linen
from unlearn_jax.models.layers import compute_dtype, head
from unlearn_jax.models.minilm_files import load_minilm, tokenize
from unlearn_jax.models.transformer import PADDING, attend, masked_mean
from unlearn_jax.types import Model, PyTree

HEAD_WIDTH = 32  # of every attention head of the MiniLM family
NORM_EPS = 1e-12
SHORTEST = 16  # tokens of the shortest program; the others are twice as long each


class Embedded(NamedTuple):
    """Vectors of n texts, and how many texts were longer than the limit."""

    vectors: np.ndarray  # (n, 384) float32, unit norm
    cut: int


class _Attention(nn.Module):
    """Multi-head self-attention with biases."""

    dtype: Any

    @nn.compact
    def __call__(self, x, mask):
        batch, tokens, width = x.shape
        product = lambda name: nn.Dense(width, dtype=self.dtype, name=name)
        apart = (batch, tokens, width // HEAD_WIDTH, HEAD_WIDTH)
        q, k, v = (product(name)(x).reshape(apart) for name in ("query", "key", "value"))
        return product("out")(attend(q, k, v, mask).reshape(x.shape))


class _Block(nn.Module):
    """Attention and a GELU layer, each added to its input and then normed."""

    dtype: Any

    @nn.compact
    def __call__(self, x, mask):
        y = _Attention(self.dtype, name="attention")(x, mask)
        x = _normed(x, y, "attention_norm")
        y = nn.gelu(nn.Dense(4 * x.shape[-1], dtype=self.dtype, name="up")(x), approximate=False)
        y = nn.Dense(x.shape[-1], dtype=self.dtype, name="down")(y)
        return _normed(x, y, "norm")


def _normed(x, y, name: str):
    """Layer normalisation of a sum, in float32 and returned in the dtype of ``x``; a layer of the calling module."""
    norm = nn.LayerNorm(epsilon=NORM_EPS, dtype=jnp.float32, use_fast_variance=False, name=name)
    return norm(x.astype(jnp.float32) + y.astype(jnp.float32)).astype(x.dtype)


class _Embedding(nn.Module):
    """Sum of the embeddings of word, position and text (the first of a pair), normed."""

    vocab: int
    positions: int
    width: int
    dtype: Any

    @nn.compact
    def __call__(self, tokens):
        start = nn.initializers.normal(0.02)
        words = self.param("words", start, (self.vocab, self.width), jnp.float32)
        places = self.param("positions", start, (self.positions, self.width), jnp.float32)
        kind = self.param("kind", start, (self.width,), jnp.float32)
        added = places[: tokens.shape[1]] + kind[None, :]
        return _normed(jnp.take(words, tokens, axis=0), added[None], "norm").astype(self.dtype)


class _MiniLM(nn.Module):
    """Embedding, blocks, masked mean of unit norm, linear head."""

    num_classes: int
    vocab: int
    width: int
    depth: int
    positions: int
    dtype: Any

    @nn.compact
    def __call__(self, tokens, train: bool):
        if tokens.ndim != 2 or tokens.shape[1] > self.positions:
            raise InputError(f"inputs are {tokens.shape}: give token ids (batch, up to {self.positions}) as int32.")
        live, hidden = tokens != PADDING, {}
        x = _Embedding(self.vocab, self.positions, self.width, self.dtype, name="embed")(tokens)
        for i in range(self.depth):
            x = _Block(self.dtype, name=f"block{i}")(x, live[:, None, :])
            hidden[f"block{i}"] = x.astype(jnp.float32)
        mean = masked_mean(x, live)
        features = mean * lax.rsqrt(jnp.maximum(jnp.square(mean).sum(axis=-1, keepdims=True), NORM_EPS))
        return head(self.num_classes)(features), features, hidden


def minilm(
    num_classes: int,
    input_shape,
    *,
    vocab: int = 30_522,
    width: int = 384,
    depth: int = 6,
    positions: int = 512,
    dtype: str = "float32",
) -> Model:
    """Text classifier on token ids (B, L) int32, 0 = padding, in the form of all-MiniLM-L6-v2.

    Outputs: ``logits`` (B, K) float32; ``features`` (B, width), the unit-norm mean of the last hidden states over
    positions that are not padding, which are the sentence embeddings; ``hidden`` ``block0``, ... (B, L, width).
    ``init`` draws weights at random: the trained ones are ``params | load_minilm(folder)``, the head as it was.

    Args:
        num_classes: classes K of the head, at least 2.
        input_shape: (L,), at most ``positions``.
        vocab: vocabulary size, padding included.
        width: hidden width, a multiple of 32 (the width of a head).
        depth: number of blocks.
        positions: longest text that the position table holds.
        dtype: of the activations; parameters, norms, softmax and logits are float32.

    Raises:
        InputError: settings that do not fit; inputs that are not (B, up to ``positions``).
    """
    if num_classes < 2 or min(vocab, width, depth, positions) < 1 or width % HEAD_WIDTH:
        raise InputError(f"give 2 classes or more, sizes of at least 1 and a width that {HEAD_WIDTH} divides.")
    if len(input_shape) != 1 or not 1 <= input_shape[0] <= positions:
        raise InputError(f"input_shape is {tuple(input_shape)}: give (length,), from 1 to {positions} tokens.")
    return from_linen(_MiniLM(num_classes, vocab, width, depth, positions, compute_dtype(dtype)))


def embed(folder: str | Path, texts: Sequence[str], *, length: int = 256, block: int = 64) -> Embedded:
    """Sentence embeddings of texts, in blocks of texts of similar length.

    Args:
        folder: with ``model.safetensors`` and ``tokenizer.json`` of all-MiniLM-L6-v2.
        texts: n strings.
        length: tokens after which a text is cut, the marks of start and end included.
        block: texts a block, which bounds the memory; without effect on the result beyond rounding.

    Returns:
        (n, 384) float32 vectors of unit norm, whose inner products are cosines, and the number of texts that were cut.

    Raises:
        InputError: files or packages are missing, or the limits do not fit.

    Example:
        >>> vectors, cut = embed("models/minilm", ["A dog barks.", "A cat sleeps."])  # doctest: +SKIP
    """
    params = load_minilm(folder)
    positions, width = params["embed"]["positions"].shape
    if block < 1 or length > positions:
        raise InputError(f"length is {length} and block {block}: give at most {positions} tokens and at least 1 text.")
    ids, cut = tokenize(folder, texts, length)
    run, params = _features(**sizes_of(params)), jax.device_put(params)
    vectors = np.zeros((len(ids), width), np.float32)
    order = np.argsort([len(i) for i in ids], kind="stable")
    for start in range(0, len(ids), block):
        rows = order[start : start + block]
        longest = max(len(ids[row]) for row in rows)
        tokens = np.zeros((block, min(length, max(SHORTEST, 1 << (longest - 1).bit_length()))), np.int32)
        for slot, row in enumerate(rows):
            tokens[slot, : len(ids[row])] = ids[row]
        vectors[rows] = np.asarray(run(params, tokens))[: len(rows)]
    return Embedded(vectors, cut)


def sizes_of(params: PyTree) -> dict[str, int]:
    """Options of `minilm` that fit loaded parameters."""
    (vocab, width), positions = params["embed"]["words"].shape, params["embed"]["positions"].shape[0]
    return {"vocab": vocab, "width": width, "depth": len(params) - 1, "positions": positions}


@functools.lru_cache(maxsize=4)
def _features(**sizes: Any):
    """Compiled features of a model without a head."""
    model, width = minilm(2, (1,), **sizes), sizes["width"]

    @jax.jit
    def run(params, tokens):
        unused = {"kernel": jnp.zeros((width, 2), jnp.float32), "bias": jnp.zeros(2, jnp.float32)}
        return model.apply({"params": params | {"head": unused}, "state": {}}, tokens)[0].features

    return run

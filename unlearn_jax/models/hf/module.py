"""The causal language model as one Linen module."""

from __future__ import annotations

import functools
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from unlearn_jax.errors import InputError
from unlearn_jax.models.decode import NO_TOKEN
from unlearn_jax.models.hf.layers import MLP, Attention, Norm, soft_cap
from unlearn_jax.models.hf.spec import Spec
from unlearn_jax.models.transformer import masked_mean


class Block(nn.Module):
    """Attention and MLP, added to the residual stream."""

    spec: Spec
    block: int
    dtype: Any

    @nn.compact
    def __call__(self, x, positions, cache=None):
        """(B, T, D) -> (B, T, D), and the block's keys and values."""
        spec = self.spec
        norm = lambda name, y: Norm(spec, self.dtype, name=name)(y)
        mlp = MLP(spec, self.dtype, name="mlp")
        normed = norm("norm1", x)
        y, kept = Attention(spec, self.block, self.dtype, name="attention")(normed, positions, cache)
        if spec.parallel != "no":
            return x + y + mlp(normed if spec.parallel == "one_norm" else norm("norm2", x)), kept
        x = x + (norm("after1", y) if spec.sandwich else y)
        y = mlp(norm("norm2", x))
        return x + (norm("after2", y) if spec.sandwich else y), kept


class Causal(nn.Module):
    """Embedding, blocks, norm and output layer; ``remat`` computes each block again in the backward pass."""

    spec: Spec
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def run(self, tokens, positions=None, cache=None, at=None):
        """Ids (B, T) -> logits, normed states (B, T, D), the stream after each block, and keys and values by block.

        ``positions`` (B or 1, T) are 0..T-1 unless given. With a ``cache`` T is 1 and S its length. Logits are
        (B, T, V) float32, or (B, 1, V) those of one position ``at`` (B,) in each row.
        """
        spec = self.spec
        positions = jnp.arange(tokens.shape[1])[None, :] if positions is None else positions
        table = self._table("embed", spec.vocab)
        x = jnp.take(table, jnp.maximum(tokens, 0), axis=0) * jnp.asarray(spec.embed_scale, self.dtype)
        if spec.learned_positions:
            x = x + jnp.take(self._table("positions", spec.context), positions, axis=0)
        made, hidden, kept = nn.remat(Block) if self.remat else Block, {}, []
        for i in range(spec.depth):
            x, pair = made(spec, i, self.dtype, name=f"block{i}")(x, positions, None if cache is None else cache[i])
            hidden[f"block{i}"] = x
            kept.append(pair)
        x = Norm(spec, self.dtype, name="norm")(x)
        asked = x if at is None else jnp.take_along_axis(x, at[:, None, None], axis=1)
        return self._logits(asked, table), x, hidden, tuple(kept)

    def _table(self, name: str, rows: int):
        return self.param(name, nn.initializers.normal(0.02), (rows, self.spec.width), self.dtype)

    def _logits(self, x, table):
        spec, wide = self.spec, {"preferred_element_type": jnp.float32}
        if spec.tied:
            logits = jnp.einsum("btd,vd->btv", x, table, **wide)
        else:
            bias = "head" in spec.biases
            product = None if bias else partial(lax.dot_general, **wide)
            head = nn.Dense(spec.vocab, bias, self.dtype, self.dtype, dot_general=product, name="head")
            logits = head(x).astype(jnp.float32)
        return soft_cap(logits, spec.logit_cap)

    def __call__(self, tokens, train: bool):
        """Ids (B, T) -> logits, features, hidden by name; ``train`` has no effect."""
        tokens = jnp.asarray(tokens)
        if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
            raise InputError(f"inputs are {tokens.dtype} {tokens.shape}: give token ids (batch, length) as int32.")
        if tokens.shape[1] > self.spec.context:
            raise InputError(f"texts have {tokens.shape[1]} tokens: the model reads at most {self.spec.context}.")
        logits, x, hidden, _ = self.run(tokens)
        return logits, masked_mean(x, tokens != NO_TOKEN), hidden | {"norm": x}


@functools.lru_cache(maxsize=32)
def abstract_params(spec: Spec, dtype) -> dict:
    """Shapes and dtypes of the parameters; nothing is computed."""
    tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    module = Causal(spec, dtype)
    return jax.eval_shape(lambda x: module.init(jax.random.key(0), x, train=False), tokens)["params"]

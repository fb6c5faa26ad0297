"""Greedy decoding with a decoder that keeps the keys and values of earlier positions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from unlearn_jax.errors import InputError, choose
from unlearn_jax.models.transformer import PADDING, Transformer, make_module
from unlearn_jax.types import Array, PyTree, Variables

DEFAULTS = {"size": "tiny", "width": None, "depth": None, "heads": None, "dtype": "float32"}


class Cached(NamedTuple):
    """A decoder with a cache: two pure functions on the variables of `transformer.decoder`."""

    prefill: Callable[..., tuple[Array, PyTree]]  # (variables, tokens (B, P), room) -> logits (B, P, V), cache
    step: Callable[..., tuple[Array, PyTree]]  # (variables, token (B,), position (B,), cache) -> logits (B, V), cache


def cached_decoder(num_classes: int, input_shape, **options) -> Cached:
    """The cached form of the model that `transformer.decoder` makes of the same arguments.

    ``prefill`` runs whole prompts and makes a cache with room for ``room`` tokens more; ``step`` puts one token a row
    at that row's ``position`` and sees the positions up to it. The same arguments give the same object, so that
    compiled programs are found again. Raises `InputError` for bad settings or an unknown option.
    """
    for option in options:
        choose("decoder option", option, DEFAULTS)
    return _cached(num_classes, tuple(input_shape), tuple(sorted((DEFAULTS | options).items())))


@functools.lru_cache(maxsize=32)
def _cached(num_classes: int, input_shape: tuple, options: tuple) -> Cached:
    module = make_module(num_classes, None, input_shape, **dict(options))

    def run(variables, *args):
        outputs: Any = module.apply({"params": variables["params"]}, *args, method=Transformer.run)
        logits, _, _, cache = outputs
        return logits, cache

    def prefill(variables, tokens, room):
        logits, cache = run(variables, tokens)
        return logits, jax.tree.map(lambda x: jnp.pad(x, ((0, 0), (0, room), (0, 0), (0, 0))), cache)

    def step(variables, token, position, cache):
        logits, cache = run(variables, token[:, None], position[:, None], cache)
        return logits[:, 0], cache

    return Cached(prefill, step)


def greedy(decoder: Cached, variables: Variables, tokens: Array, lengths: Array, new: int) -> Array:
    """The most probable next token, ``new`` times over, for each prompt.

    The prompt is run once and each further token costs one position. Padding is never chosen; cut the result at an
    end mark yourself. One member; ``jax.vmap`` over ``variables`` serves a population.

    Args:
        decoder: of `cached_decoder`.
        variables: one member's, as `transformer.decoder` makes them (of adapters: `lora.merge` them first).
        tokens: (B, P) int32 prompts, padded with 0 at the end.
        lengths: (B,) int32, each prompt's tokens, from 1 to P.
        new: number of tokens to add, at least 1.

    Returns:
        (B, new) int32.

    Raises:
        InputError: shapes, lengths or ``new`` that do not fit.

    Example:
        >>> from unlearn_jax.models import transformer
        >>> prompts = jnp.array([[3, 4, 0], [5, 6, 7]])
        >>> variables = transformer.decoder(9, (3,)).init(jax.random.key(0), prompts)
        >>> greedy(cached_decoder(9, (3,)), variables, prompts, jnp.array([2, 3]), 4).shape
        (2, 4)
    """
    tokens, lengths = jnp.asarray(tokens, jnp.int32), jnp.asarray(lengths, jnp.int32)
    if tokens.ndim != 2 or lengths.shape != tokens.shape[:1] or new < 1:
        raise InputError(
            f"tokens are {tokens.shape}, lengths {lengths.shape} and new is {new}: give (prompts, length), one length "
            f"a prompt and at least 1."
        )
    if not isinstance(lengths, Tracer):
        counts = np.asarray(lengths)
        if counts.size and not 1 <= counts.min() <= counts.max() <= tokens.shape[1]:
            raise InputError(
                f"lengths go from {counts.min()} to {counts.max()}: give 1 to {tokens.shape[1]} tokens each."
            )
    return _greedy(decoder, variables, tokens, lengths, new)


@functools.partial(jax.jit, static_argnums=(0, 4))
def _greedy(decoder: Cached, variables: Variables, tokens: Array, lengths: Array, new: int) -> Array:
    def best(logits):
        padding = jnp.arange(logits.shape[-1])[None, :] == PADDING
        return jnp.argmax(jnp.where(padding, -jnp.inf, logits), axis=-1).astype(jnp.int32)

    def body(carry, _):
        token, position, cache = carry
        logits, cache = decoder.step(variables, token, position, cache)
        following = best(logits)
        return (following, position + 1, cache), following

    logits, cache = decoder.prefill(variables, tokens, new)
    last = jnp.take_along_axis(logits, (lengths - 1)[:, None, None], axis=1)[:, 0]
    start = (best(last), lengths, cache)
    rest = lax.scan(body, start, None, length=new - 1)[1]
    return jnp.concatenate([start[0][:, None], rest.T], axis=1)

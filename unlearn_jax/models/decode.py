"""Greedy decoding with a decoder that keeps the keys and values of earlier positions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
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
NO_TOKEN = -1  # after a text's end; no vocabulary has it


class Cached(NamedTuple):
    """A decoder with a cache: two pure functions on the variables of a decoder."""

    # (variables, tokens (B, P), room, at=None) -> logits (B, P, V), or (B, 1, V) at positions (B,), and the cache
    prefill: Callable[..., tuple[Array, PyTree]]
    step: Callable[..., tuple[Array, PyTree]]  # (variables, token (B,), position (B,), cache) -> logits (B, V), cache
    never: int | None = PADDING  # the token that fills rows and is never an answer; None = every token can be one


class Generated(NamedTuple):
    """Texts that continue prompts."""

    tokens: Array  # (B, new) int32, -1 from the end mark on
    lengths: Array  # (B,) int32, tokens before the end mark


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

    def prefill(variables, tokens, room, at=None):
        logits, cache = run(variables, tokens)
        logits = logits if at is None else jnp.take_along_axis(logits, at[:, None, None], axis=1)
        return logits, with_room(cache, room)

    def step(variables, token, position, cache):
        logits, cache = run(variables, token[:, None], position[:, None], cache)
        return logits[:, 0], cache

    return Cached(prefill, step)


def with_room(cache: PyTree, room: int) -> PyTree:
    """Keys and values (B, S, ...) with space for ``room`` tokens more."""
    return jax.tree.map(lambda x: jnp.pad(x, ((0, 0), (0, room), (0, 0), (0, 0))), cache)


def greedy(decoder: Cached, variables: Variables, tokens: Array, lengths: Array, new: int) -> Array:
    """The most probable next token, ``new`` times over, for each prompt: `generate` without end marks.

    Returns:
        (B, new) int32; cut it at an end mark yourself.

    Example:
        >>> from unlearn_jax.models import transformer
        >>> prompts = jnp.array([[3, 4, 0], [5, 6, 7]])
        >>> variables = transformer.decoder(9, (3,)).init(jax.random.key(0), prompts)
        >>> greedy(cached_decoder(9, (3,)), variables, prompts, jnp.array([2, 3]), 4).shape
        (2, 4)
    """
    return generate(decoder, variables, tokens, lengths, new).tokens


def generate(
    decoder: Cached, variables: Variables, tokens: Array, lengths: Array, new: int, *, ends: Sequence[int] = ()
) -> Generated:
    """The most probable next token, up to ``new`` times over, for each prompt.

    The prompt is run once and each further token costs one position; it stops where all texts have ended. What fills
    the rows behind a prompt is not read. One member; ``jax.vmap`` over ``variables`` serves a population.

    Args:
        decoder: of `cached_decoder` or `hf.cached_hf`.
        variables: one member's, as the model makes them (of adapters: see `lora.adapted_decoder` and `lora.merge`).
        tokens: (B, P) int32 prompts, filled up at the end with any number.
        lengths: (B,) int32, each prompt's tokens, from 1 to P.
        new: most tokens to add, at least 1.
        ends: tokens that end a text, as ``eos_token_id`` says; they are not part of it.

    Raises:
        InputError: shapes, lengths or ``new`` that do not fit.
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
    return _generate(decoder, variables, tokens, lengths, new, tuple(ends))


def most_probable(logits: Array, never: int | None = None) -> Array:
    """The most probable token of logits (B, V) but ``never``; (B,) int32."""
    if never is not None:
        logits = jnp.where(jnp.arange(logits.shape[-1])[None, :] == never, -jnp.inf, logits)
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


@functools.partial(jax.jit, static_argnums=(0, 4, 5))
def _generate(decoder: Cached, variables: Variables, tokens: Array, lengths: Array, new: int, ends: tuple):
    """`generate` of checked arguments."""

    def live(token, before):
        return before & ~jnp.isin(token, jnp.array(ends, jnp.int32)) if ends else before

    def going(carry):
        i, _, alive, *_ = carry
        return (i < new) & alive.any() if ends else i < new

    def body(carry):
        i, token, alive, cache, out = carry
        logits, cache = decoder.step(variables, token, lengths + i - 1, cache)
        token = most_probable(logits, decoder.never)
        alive = live(token, alive)
        return i + 1, token, alive, cache, out.at[:, i].set(jnp.where(alive, token, NO_TOKEN))

    logits, cache = decoder.prefill(variables, tokens, new, lengths - 1)
    first = most_probable(logits[:, 0], decoder.never)
    alive = live(first, jnp.ones(first.shape, bool))
    out = jnp.full((len(first), new), NO_TOKEN, jnp.int32).at[:, 0].set(jnp.where(alive, first, NO_TOKEN))
    out = lax.while_loop(going, body, (1, first, alive, cache, out))[-1]
    return Generated(out, (out != NO_TOKEN).sum(axis=1).astype(jnp.int32))

"""The cached form of a language model of a folder, for `models.decode.generate`."""

from __future__ import annotations

import functools
from typing import Any

from unlearn_jax.models.decode import Cached, with_room
from unlearn_jax.models.hf.load import HFModel
from unlearn_jax.models.hf.module import Causal


def cached_hf(model: HFModel) -> Cached:
    """Decoding with the keys and values kept; every token can be an answer, 0 too.

    The same module gives the same object, so that compiled programs are found again.

    Example:
        >>> from unlearn_jax.models.decode import generate
        >>> model, variables = load_hf("models/smollm2")  # doctest: +SKIP
        >>> ends = end_tokens(model)  # doctest: +SKIP
        >>> generate(cached_hf(model), variables, prompts, lengths, 20, ends=ends)  # doctest: +SKIP
    """
    return _cached(model.module)  # pyright: ignore[reportArgumentType]  a Linen module is hashable


def end_tokens(model: HFModel) -> tuple[int, ...]:
    """The tokens that end a text, by ``eos_token_id`` of config.json."""
    found = model.config.get("eos_token_id")
    return tuple(found) if isinstance(found, list) else () if found is None else (found,)


@functools.lru_cache(maxsize=32)
def _cached(module: Causal) -> Cached:
    def run(variables, *args):
        found: Any = module.apply({"params": variables["params"]}, *args, method=Causal.run)
        logits, _, _, cache = found
        return logits, cache

    def prefill(variables, tokens, room, at=None):
        logits, cache = run(variables, tokens, None, None, at)
        return logits, with_room(cache, room)

    def step(variables, token, position, cache):
        logits, cache = run(variables, token[:, None], position[:, None], cache)
        return logits[:, 0], cache

    return Cached(prefill, step, never=None)

"""What every member answers by greedy decoding, as tokens."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax import trees
from unlearn_jax.models.decode import Cached, greedy
from unlearn_jax.models.lora import merge
from unlearn_jax.population.run import Stored
from unlearn_jax.tasks import answer_tokens
from unlearn_jax.types import Batch, Variables

BLOCK = 256  # prompts at a time


def greedy_answers(decoder: Cached, variables: Variables, data: Stored, length: int, *, width: int) -> np.ndarray:
    """The answers that members give to the prompts of stored examples, the most probable token each time.

    Args:
        decoder: the members' model, see `cached_decoder`.
        variables: leading axis N; adapters on a shared base are merged into it.
        data: n examples, whose prompts are what stands before their answers.
        length: tokens of an answer, L.
        width: members per program.

    Returns:
        (N, n, L) int32.
    """
    own, shared = trees.split_shared(variables)
    members, n = len(jax.tree.leaves(own)[0]), data.targets.shape[0]
    width, block = min(width, members), min(BLOCK, n)
    found = np.zeros((members, n, length), np.int32)
    for start in range(0, members, width):
        rows = np.minimum(np.arange(start, start + width), members - 1)
        chunk = trees.take_members(own, rows)
        for first in range(0, n, block):
            at = np.minimum(np.arange(first, first + block), n - 1)
            answers = np.asarray(_decoded(decoder, chunk, shared, data.inputs[at], data.targets[at], length))
            live, stop = min(width, members - start), min(first + block, n)
            found[start : start + live, first:stop] = answers[:live, : stop - first]
    return found


@functools.partial(jax.jit, static_argnums=(0, 5))
def _decoded(decoder: Cached, own, shared, inputs, targets, length: int):
    """Answers of a chunk of members to a block of prompts; (W, B, L)."""
    blank = jnp.ones(targets.shape[0], jnp.float32), jnp.arange(targets.shape[0], dtype=jnp.int32)
    prompt = jnp.argmax(answer_tokens(Batch(inputs, targets, *blank)), axis=1).astype(jnp.int32) + 1
    tokens = jnp.where(jnp.arange(inputs.shape[1])[None, :] < prompt[:, None], inputs, 0)

    def one(variables):
        whole = merge(variables | {"shared": shared}) if shared else variables
        return greedy(decoder, whole, tokens, prompt, length)

    return jax.vmap(one)(own)

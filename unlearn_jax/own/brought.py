"""What a call brings beside the model: examples, the shape of one, the number of classes, random keys."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.own.calling import shapes
from unlearn_jax.own.examples import Part, alike, check_classes, part_of
from unlearn_jax.own.reading import Read, one
from unlearn_jax.types import Array


def classes_of(found: Read, example: jax.ShapeDtypeStruct) -> int:
    """Number of classes of a model.

    Raises:
        InputError: it cannot be applied to such inputs, or does not answer with logits (B, K).
    """
    logits = shapes(found.model, one(found.variables), example).logits
    if len(logits.shape) != 2 or logits.shape[0] != 1 or logits.shape[1] < 2:
        raise InputError(
            f"the model returns {logits.shape} for inputs {example.shape}: let it return logits (B, K), K at least 2."
        )
    return logits.shape[1]


def parts_of(models: Read, pairs: dict[str, tuple | None]) -> tuple[dict[str, Part], jax.ShapeDtypeStruct, int]:
    """The examples that a call brings, checked against the model and one another.

    Args:
        models: the model.
        pairs: (inputs, labels) by name, ``forget`` among them; None = there are none.

    Returns:
        The examples by name; the shape of one; the number of classes.

    Raises:
        InputError: examples that are no such pairs, of several kinds, or that the model cannot be applied to.
    """
    parts = {name: part_of(pair, name) for name, pair in pairs.items() if pair is not None}
    forget = parts["forget"]
    for name, part in parts.items():
        alike(part, forget, name)
    example = jax.ShapeDtypeStruct((1, *forget.inputs.shape[1:]), forget.inputs.dtype)
    classes = classes_of(models, example)
    for name, part in parts.items():
        check_classes(part, classes, name)
    return parts, example, classes


def keys_of(key: Array | int | None, members: int) -> Array:
    """A typed key for each model.

    Raises:
        InputError: as many keys as there are not models.
    """
    if key is None or isinstance(key, (int, np.integer)):
        key = jax.random.key(int(key or 0))
    keys = jnp.asarray(key)
    if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
        keys = jax.random.wrap_key_data(keys)
    if not keys.ndim:
        return jax.vmap(lambda i: jax.random.fold_in(keys, i))(jnp.arange(members)) if members else keys[None]
    if keys.shape != (max(members, 1),):
        raise InputError(f"keys are {keys.shape} for {max(members, 1)} models: give one key, or one for each model.")
    return keys

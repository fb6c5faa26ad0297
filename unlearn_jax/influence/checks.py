"""What every scorer asks of the examples that it is given: labels that the model has, weights that can be counted."""

from __future__ import annotations

import functools

import jax
import numpy as np
from jax.core import Tracer

from unlearn_jax.errors import InputError
from unlearn_jax.types import NOT_ANSWER, Batch, Model, PyTree, Variables


def check_targets(model: Model, variables: Variables, batch: Batch, name: str = "train") -> None:
    """Raise `InputError` unless a batch's targets are classes or tokens of the model and its weights count something.

    Without it a label that the model does not have gives a finite number that means nothing. Values that are not known
    yet, under ``jit`` or ``vmap``, go unchecked. The model is only traced, once for each shape.

    Args:
        model: the model, of (B, K) logits, or (B, T, V) of language.
        variables: one member's; their shapes alone are looked at.
        batch: targets (B,) from 0 to K - 1, or (B, T) from 0 to V - 1 or -1, no part of an answer; rows of weight 0,
            too. Targets that are no integers go unchecked. Weights are finite and at least 0.
        name: what the batch is called in the sentence.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlearn_jax.influence.per_example import batch_of
        >>> from unlearn_jax.models import build_model
        >>> model, batch = build_model("linear", 2, (3,)), batch_of(jnp.eye(3), jnp.array([0, 1, 2]))
        >>> check_targets(model, model.init(jax.random.key(0), batch.inputs), batch)
        Traceback (most recent call last):
        unlearn_jax.errors.InputError: train has targets from 0 to 2 and the model 2 classes: give labels from 0 to 1.
    """
    if not is_traced(batch.weight):
        weight = np.asarray(batch.weight)
        if not (np.isfinite(weight) & (weight >= 0)).all():
            raise InputError(f"{name} has weights that are negative or not finite: give numbers from 0, 0 = absent.")
    if is_traced(batch.targets) or not len(batch.targets):
        return
    targets = np.asarray(batch.targets)
    if not np.issubdtype(targets.dtype, np.integer):
        return  # of a regression, which its task knows how to read
    leaves, structure = jax.tree.flatten((variables, batch.inputs))
    shapes = tuple((x.shape[1:] if at == len(leaves) - 1 else x.shape, x.dtype) for at, x in enumerate(leaves))
    logits = _logits(model, structure, shapes)
    if targets.ndim != len(logits) or targets.shape[1:] != logits[:-1]:
        raise InputError(
            f"{name} has targets {targets.shape} for logits {(len(targets), *logits)}: give a label for each example, "
            f"or a token for each position."
        )
    language = targets.ndim == 2
    least, low, high = NOT_ANSWER if language else 0, targets.min(), targets.max()
    if low < least or high >= logits[-1]:
        what = ("tokens", f"{NOT_ANSWER} for no part of an answer, and tokens") if language else ("classes", "labels")
        raise InputError(
            f"{name} has targets from {low} to {high} and the model {logits[-1]} {what[0]}: give {what[1]} from 0 to "
            f"{logits[-1] - 1}."
        )


def is_traced(*trees: PyTree) -> bool:
    """Whether some leaf has no value yet, under ``jit`` or ``vmap``."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(trees))


@functools.lru_cache(maxsize=256)
def _logits(model: Model, structure, shapes: tuple) -> tuple[int, ...]:
    """Shape of one example's logits; the inputs are the last of the leaves."""
    leaves = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]
    leaves[-1] = jax.ShapeDtypeStruct((1, *leaves[-1].shape), leaves[-1].dtype)
    variables, inputs = jax.tree.unflatten(structure, leaves)
    return jax.eval_shape(lambda v, x: model.apply(v, x, train=False)[0].logits, variables, inputs).shape[1:]

"""Per-example values, gradients and directional derivatives: the one place that adds an example axis.

Everything is written for one example and vectorised here, ``micro`` examples at a time so that n x P gradients need not
coexist unless they are the result. Batch statistics are those of evaluation: an example's gradient depends on no other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Float

from unlearn_jax.errors import InputError, choose
from unlearn_jax.types import Array, Batch, Model, PyTree, Task, Variables

QUANTITIES = ("loss", "margin", "logits")
MICRO = 128  # examples side by side


class Flat(NamedTuple):
    """The chosen parameters of one member as a vector, and the way back to its variables."""

    vector: Array  # (P,)
    rebuild: Callable[[Array], Variables]  # (P,) -> variables with these parameters in place


def batch_of(inputs, targets, weight=None) -> Batch:
    """A `Batch` of plain arrays: inputs (n, ...), targets (n, ...), weight (n,), 1 everywhere if not given.

    Raises `InputError` where the lengths differ or a float input is not finite.

    Example:
        >>> batch_of(np.zeros((4, 6), np.float32), np.zeros(4, np.int32)).weight.tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    inputs, targets = jnp.asarray(inputs), jnp.asarray(targets)
    if inputs.ndim < 2 or targets.ndim < 1 or len(inputs) != len(targets):
        raise InputError(
            f"inputs are {inputs.shape} and targets {targets.shape}: give as many of each, examples first."
        )
    if jnp.issubdtype(inputs.dtype, jnp.floating) and not np.isfinite(np.asarray(inputs)).all():
        raise InputError("inputs hold values that are not finite: drop or repair those examples.")
    count = len(inputs)
    weight = jnp.ones(count, jnp.float32) if weight is None else jnp.asarray(weight)
    if weight.shape != (count,):
        raise InputError(f"weight is {weight.shape}: give one number for each of the {count} examples.")
    return Batch(inputs, targets, weight, jnp.arange(count, dtype=jnp.int32))


def flatten(variables: Variables, select: Callable[[str], bool] | None = None) -> Flat:
    """Parameters as one vector in the order of `jax.tree.leaves`, of the leaves that ``select`` chooses.

    Args:
        variables: one member's.
        select: predicate of a leaf's path, for example ``lambda path: path.startswith("head")``; none = every leaf.

    Raises:
        InputError: no leaf is chosen.

    Example:
        >>> import jax.numpy as jnp
        >>> variables = {"params": {"head": {"bias": jnp.zeros(2), "kernel": jnp.ones((3, 2))}}, "state": {}}
        >>> flatten(variables, lambda path: path == "head/kernel").vector.shape
        (6,)
    """
    params = variables["params"]
    paths, structure = jax.tree_util.tree_flatten_with_path(params)
    names = ["/".join(str(getattr(k, "key", getattr(k, "idx", k))) for k in path) for path, _ in paths]
    leaves = [leaf for _, leaf in paths]
    chosen = [select is None or bool(select(name)) for name in names]
    if not any(chosen):
        raise InputError(f"select chooses none of the parameters: they are {', '.join(names)}.")
    vector, unravel = ravel_pytree([leaf for leaf, use in zip(leaves, chosen) if use])

    def rebuild(vector: Array) -> Variables:
        new = iter(unravel(vector))
        filled = [next(new) if use else leaf for leaf, use in zip(leaves, chosen)]
        return variables | {"params": jax.tree.unflatten(structure, filled)}

    return Flat(vector, rebuild)


def quantity_of(model: Model, task: Task, quantity: str = "loss") -> Callable[[Variables, Batch], Array]:
    """A function (variables, batch) -> (B,) losses or margins in nats, or (B, ...) logits, in evaluation mode."""
    name = choose("quantity", quantity, QUANTITIES)

    def of(variables: Variables, batch: Batch) -> Array:
        logits = model.apply(variables, batch.inputs, train=False)[0].logits
        return logits if name == "logits" else getattr(task, name)(logits, batch)

    return of


def over_examples(one: Callable[[Batch], PyTree], batch: Batch, *, micro: int = MICRO) -> PyTree:
    """``one(example)`` for every example, ``micro`` at a time; ``one`` is given a batch of a single example.

    Args:
        one: may differentiate; its outputs gain a leading axis of the batch's length.
        batch: B examples.
        micro: how many side by side.
    """
    count = len(batch.weight)
    single = lambda example: one(jax.tree.map(lambda x: x[None], example))
    if count <= micro:
        return jax.vmap(single)(batch)
    return lax.map(single, batch, batch_size=micro)


def values(
    model: Model, task: Task, variables: Variables, batch: Batch, *, quantity: str = "loss"
) -> Float[Array, " n"]:
    """(n,) losses or margins of a batch, nats."""
    return quantity_of(model, task, quantity)(variables, batch)


def example_gradients(
    model: Model,
    task: Task,
    variables: Variables,
    batch: Batch,
    *,
    quantity: str = "loss",
    select: Callable[[str], bool] | None = None,
    micro: int = MICRO,
) -> Float[Array, "n P"]:
    """Gradients of every example's loss or margin as rows (n, P); the weight plays no part.

    Args:
        model: the model.
        task: its task.
        variables: one member's.
        batch: n examples.
        quantity: ``loss`` or ``margin``.
        select: restriction to parameters, see `flatten`.
        micro: examples differentiated side by side.
    """
    flat, of = flatten(variables, select), quantity_of(model, task, quantity)
    slope = jax.grad(lambda vector, example: of(flat.rebuild(vector), example)[0])
    return over_examples(lambda example: slope(flat.vector, example), batch, micro=micro)


def jacobian_products(
    model: Model,
    task: Task,
    variables: Variables,
    batch: Batch,
    directions: Array,
    *,
    quantity: str = "loss",
    select: Callable[[str], bool] | None = None,
) -> Float[Array, "n ... K"]:
    """Derivatives of every example's quantity along K directions, by forward mode; (K, P) -> (n, K).

    Without forming a gradient: K passes over the batch. With ``quantity="logits"`` the result is (n, ..., K).
    """
    flat, of = flatten(variables, select), quantity_of(model, task, quantity)
    if directions.ndim != 2 or directions.shape[1] != flat.vector.shape[0]:
        raise InputError(f"directions are {directions.shape}: give (K, {flat.vector.shape[0]}).")
    along = lambda v: jax.jvp(lambda w: of(flat.rebuild(w), batch), (flat.vector,), (v,))[1]
    return jnp.moveaxis(jax.vmap(along)(directions.astype(flat.vector.dtype)), 0, -1)


def mean_gradient(
    model: Model,
    task: Task,
    variables: Variables,
    batch: Batch,
    *,
    quantity: str = "loss",
    select: Callable[[str], bool] | None = None,
) -> Float[Array, " P"]:
    """(P,) gradient of ``sum(weight x quantity) / B``: one backward pass, B the batch's length."""
    flat, of = flatten(variables, select), quantity_of(model, task, quantity)

    def mean(vector: Array) -> Array:
        quantities = of(flat.rebuild(vector), batch)
        return jnp.sum(quantities * batch.weight.astype(quantities.dtype)) / len(batch.weight)

    return jax.grad(mean)(flat.vector)

"""Curvature of a training set at one member's parameters: products with vectors, diagonals and dense matrices.

All are ``(1/n) sum_i weight_i C_i + l2 I`` over a batch of n rows, n being the batch's length: a row of weight 0 is
removed with the normaliser kept. C_i is the Hessian of a row's loss; its generalised Gauss-Newton matrix J' L J (GGN;
Schraudolph 2002), J the derivative of the logits and L the loss's Hessian with respect to them, taken by
differentiating the task's loss and not assumed to be softmax's; or the Fisher matrix g g', with the labels given
(empirical) or drawn from the model (Kunstner et al. 2019, arXiv 1905.12558, on why that matters). Rows go in blocks of
``micro``, so memory is that of one block.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from unlearn_jax.errors import InputError, choose
from unlearn_jax.influence.curvature_parts import SUMS, columns, fitting, outer, rows_of, sides, summed
from unlearn_jax.influence.per_example import MICRO, Flat, flatten, over_examples
from unlearn_jax.types import NOT_ANSWER, Array, Batch, Model, Task, Variables

CURVATURES = ("hessian", "ggn", "fisher")
LIMIT = 8_000  # parameters up to which a dense matrix is made by default
FEW_LOGITS = 64  # logits an example up to which a dense GGN is made of their derivatives, not of products


def precise(program: Callable) -> Callable:
    """The function with matrix products in full: accelerators round float32 ones to fewer digits by default."""

    @functools.wraps(program)
    def run(*args, **named):
        with jax.default_matmul_precision("highest"):
            return program(*args, **named)

    return run


def operator(
    model: Model,
    task: Task,
    variables: Variables,
    batch: Batch,
    *,
    curvature: str = "hessian",
    l2: Array | float = 0.0,
    select: Callable[[str], bool] | None = None,
    key: Array | None = None,
    micro: int = MICRO,
) -> Callable[[Array], Array]:
    """The function v -> C v, (P,) -> (P,), of one member's curvature; differentiable and fit for `vmap`.

    Args:
        model: the model, in evaluation mode.
        task: its task.
        variables: one member's.
        batch: n training rows with weights.
        curvature: ``hessian``, ``ggn`` or ``fisher``.
        l2: weight decay, added to the diagonal.
        select: restriction to parameters, see `per_example.flatten`.
        key: for ``fisher``, draws labels from the model; none = the labels given.
        micro: rows side by side.

    Raises:
        InputError: an unknown curvature, a batch without rows, labels that cannot be drawn.
    """
    kind = choose("curvature", curvature, CURVATURES)
    rows = rows_of(batch)
    flat = flatten(variables, select)
    if key is not None and kind == "fisher":
        batch = sampled_labels(model, variables, batch, key)

    @precise
    def product(v: Array) -> Array:
        v = v.astype(flat.vector.dtype)
        total = summed(lambda block: SUMS[kind](model, task, flat, block, v), batch, micro)
        return total / rows + jnp.asarray(l2, v.dtype) * v

    return product


def hessian_product(
    model: Model, task: Task, variables: Variables, batch: Batch, v: Array, **options
) -> Float[Array, " P"]:
    """Product of the Hessian with v, (P,) -> (P,), by forward over reverse mode; ``options`` as in `operator`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from unlearn_jax.influence.per_example import batch_of
        >>> from unlearn_jax.models import build_model
        >>> from unlearn_jax.tasks import classification
        >>> model, task = build_model("linear", 2, (3,)), classification()
        >>> batch = batch_of(jnp.ones((4, 3)), jnp.array([0, 1, 0, 1]))
        >>> variables = model.init(jax.random.key(0), batch.inputs)
        >>> hessian_product(model, task, variables, batch, jnp.ones(8), l2=0.5).round(4).tolist()  # decay alone
        [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    """
    return operator(model, task, variables, batch, curvature="hessian", **options)(v)


def ggn_product(
    model: Model, task: Task, variables: Variables, batch: Batch, v: Array, **options
) -> Float[Array, " P"]:
    """Product of the generalised Gauss-Newton matrix with v, (P,) -> (P,); ``options`` as in `operator`."""
    return operator(model, task, variables, batch, curvature="ggn", **options)(v)


def fisher_product(
    model: Model, task: Task, variables: Variables, batch: Batch, v: Array, **options
) -> Float[Array, " P"]:
    """Product of the Fisher matrix with v, (P,) -> (P,), without per-example gradients.

    ``options`` as in `operator`: without ``key`` the empirical Fisher, with it that of one draw of labels a row.
    """
    return operator(model, task, variables, batch, curvature="fisher", **options)(v)


def sampled_labels(model: Model, variables: Variables, batch: Batch, key: Array) -> Batch:
    """The batch with labels drawn from softmax of the model's logits, one draw a row, the same for any block size.

    In language every answer's token is drawn given the true tokens before it. Raises `InputError` where the targets
    are not one label for each row of logits.
    """
    logits_of = lambda example: model.apply(variables, example.inputs, train=False)[0].logits[0]
    logits = over_examples(logits_of, batch)
    if logits.shape[:-1] != batch.targets.shape or not jnp.issubdtype(batch.targets.dtype, jnp.integer):
        raise InputError(
            f"targets are {batch.targets.dtype} {batch.targets.shape}: labels can be drawn for classes only."
        )
    keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(len(logits)))
    drawn = jax.vmap(jax.random.categorical)(keys, logits).astype(batch.targets.dtype)
    return batch._replace(targets=jnp.where(batch.targets == NOT_ANSWER, batch.targets, drawn))


@precise
def dense(
    model: Model,
    task: Task,
    variables: Variables,
    batch: Batch,
    *,
    curvature: str = "hessian",
    l2: Array | float = 0.0,
    select: Callable[[str], bool] | None = None,
    key: Array | None = None,
    micro: int = MICRO,
    limit: int = LIMIT,
) -> Float[Array, "P P"]:
    """The curvature as a matrix (P, P), rows and columns in the order of `per_example.flatten`.

    The Hessian comes from products with the columns of the identity, the GGN of few logits and the Fisher from the
    rows' derivatives by matrix products. Arguments as in `operator`; over ``limit`` parameters it raises `InputError`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from unlearn_jax.influence.per_example import batch_of
        >>> from unlearn_jax.models import build_model
        >>> from unlearn_jax.tasks import classification
        >>> model, batch = build_model("linear", 2, (3,)), batch_of(jnp.ones((4, 3)), jnp.array([0, 1, 0, 1]))
        >>> variables = model.init(jax.random.key(0), batch.inputs)
        >>> dense(model, classification(), variables, batch, select=lambda path: path == "head/bias").shape
        (2, 2)
    """
    choose("curvature", curvature, CURVATURES)
    setting: dict[str, Any] = dict(curvature=curvature, l2=l2, select=select, key=key, micro=micro)
    flat = flatten(variables, select)
    _few(flat, limit)
    logits = _logits(model, variables, batch)
    if curvature == "hessian" or (curvature == "ggn" and logits > FEW_LOGITS):
        return columns(operator(model, task, variables, batch, **setting), flat.vector)
    return _by_sides(model, task, variables, batch, outer, setting, logits, jnp.eye)


def block(model: Model, task: Task, variables: Variables, batch: Batch, *, select, **options) -> Float[Array, "p p"]:
    """The curvature's block of the parameters that ``select`` chooses, (p, p); ``options`` as in `dense`."""
    if select is None:
        raise InputError("a block needs select, a predicate of a parameter's path: without, take dense.")
    return dense(model, task, variables, batch, select=select, **options)


@precise
def diagonal(
    model: Model,
    task: Task,
    variables: Variables,
    batch: Batch,
    *,
    curvature: str = "ggn",
    l2: Array | float = 0.0,
    select: Callable[[str], bool] | None = None,
    key: Array | None = None,
    micro: int = MICRO,
    limit: int = LIMIT,
) -> Float[Array, " P"]:
    """The curvature's diagonal (P,), exact: no probing.

    GGN: by the derivatives of every logit of a row; Fisher: by every row's gradient; Hessian: by P products, so it
    raises `InputError` over ``limit`` parameters. Arguments as in `operator`.
    """
    choose("curvature", curvature, CURVATURES)
    setting: dict[str, Any] = dict(curvature=curvature, l2=l2, select=select, key=key, micro=micro)
    flat = flatten(variables, select)
    if curvature == "hessian":
        _few(flat, limit)
        return jnp.diagonal(columns(operator(model, task, variables, batch, **setting), flat.vector))
    squares = lambda left, right: jnp.sum(left * right, axis=(0, 1))
    return _by_sides(model, task, variables, batch, squares, setting, _logits(model, variables, batch), jnp.ones)


def _few(flat: Flat, limit: int) -> None:
    """`InputError` for more parameters than the limit."""
    size = flat.vector.shape[0]
    if size > limit:
        raise InputError(f"{size:,} parameters are over the limit of {limit:,}: use cg, a select, or raise the limit.")


def _logits(model: Model, variables: Variables, batch: Batch) -> int:
    rows_of(batch)
    return jax.eval_shape(lambda inputs: model.apply(variables, inputs, train=False)[0].logits, batch.inputs[:1]).size


def _by_sides(model, task, variables, batch, join, setting, logits, unit) -> Array:
    """Sum over blocks of what ``join`` makes of their `sides`, over n, and weight decay on ``unit``."""
    flat, kind = flatten(variables, setting["select"]), setting["curvature"]
    if kind == "fisher" and setting["key"] is not None:
        batch = sampled_labels(model, variables, batch, setting["key"])
    of, size = sides(model, task, flat, kind), flat.vector.shape[0]
    total = summed(
        lambda rows: join(*of(rows)), batch, fitting(size * (1 if kind == "fisher" else logits), setting["micro"])
    )
    return total / rows_of(batch) + jnp.asarray(setting["l2"], total.dtype) * unit(size, dtype=total.dtype)

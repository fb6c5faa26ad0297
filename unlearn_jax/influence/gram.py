"""Gradient similarity: inner products and cosines of examples' gradients, by factored layer Gram matrices.

The inner product of two gradients is influence with the identity for curvature [Charpiat et al., 2019, arXiv
2102.05262], and its sum over checkpoints is TracIn. A dense or convolutional layer's part of it comes from what goes
into the layer and the slopes at what comes out (`taps`), so that no (n, P) gradients are made; the remaining parameters
(embeddings, norms) go by per-example gradients. This differs from the usual practice of the last layer alone, or of
stored gradients, in being the whole inner product, exactly.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float

from unlearn_jax.errors import choose
from unlearn_jax.influence import pieces
from unlearn_jax.influence.checks import check_targets
from unlearn_jax.influence.per_example import MICRO
from unlearn_jax.types import Array, Batch, Model, Task, Variables

SCORED = ("loss", "margin")


def gram_matrix(model, task, variables, train, queries, layout, *, quantities, cosine, block, micro) -> Array:
    """(n, q) inner products of the train rows' gradients of one quantity and the queries' of another, in blocks."""
    dtype = pieces.score_dtype(variables)
    of = lambda quantity: functools.partial(
        pieces.pieces_of, model, task, variables, layout=layout, quantity=quantity, micro=micro
    )
    left, right = map(of, quantities)
    size = pieces.block_size(left, train, block)

    def scores(rows: pieces.Pieces, columns: pieces.Pieces) -> Array:
        products = pieces.inner_products(rows, columns, dtype)
        if not cosine:
            return products
        norm = lambda side: jnp.sqrt(pieces.square_norms(side, dtype))
        norms = norm(rows)[:, None] * norm(columns)[None, :]
        return jnp.where(norms == 0, 0, products / jnp.where(norms == 0, 1, norms))

    def columns(batch: Batch) -> Array:
        mine = right(batch)
        return pieces.over_blocks(lambda rows: scores(left(rows), mine), train, size).T

    return pieces.over_blocks(columns, queries, size).T


@functools.lru_cache(maxsize=64)
def _gram_program(model, task, quantity, select, exact, cosine, block, micro):
    def run(variables, train, queries):
        layout = pieces.layout_of(model, variables, train, select, exact)
        kinds = dict(quantities=("loss", quantity), cosine=cosine, block=block, micro=micro)
        scores = gram_matrix(model, task, variables, train, queries, layout, **kinds)
        weight = (train.weight > 0 if cosine else train.weight).astype(scores.dtype)  # no gradient's scale, in a cosine
        return (-scores if quantity == "margin" else scores) * weight[:, None]

    return jax.jit(run)


@functools.lru_cache(maxsize=64)
def _norm_program(model, task, quantity, select, exact, block, micro):
    def run(variables, batch):
        layout, dtype = pieces.layout_of(model, variables, batch, select, exact), pieces.score_dtype(variables)
        of = functools.partial(pieces.pieces_of, model, task, variables, layout=layout, quantity=quantity, micro=micro)
        size = pieces.block_size(of, batch, block)
        return pieces.over_blocks(lambda rows: jnp.sqrt(pieces.square_norms(of(rows), dtype)), batch, size)

    return jax.jit(run)


def gram(
    model: Model,
    task: Task,
    variables: Variables,
    train: Batch,
    queries: Batch,
    *,
    quantity: str = "loss",
    select: Callable[[str], bool] | None = None,
    exact: bool = True,
    normalise: bool | str = False,
    block: int | None = None,
    micro: int = MICRO,
) -> Float[Array, "n q"]:
    """Inner products of gradients ``g_q . g_i``, (train, queries): influence with the identity for curvature.

    Positive = training on i helped q. In the unit of the library score / n is the rise of q's loss when i is removed,
    of a model whose Hessian is the identity; in plain words, a gradient step of rate r on i alone lowers q's loss by
    r x score to first order. With ``quantity="margin"`` the score is ``-grad margin_q . g_i``, the rise of q's margin
    by such a step.

    Args:
        model: any model; layers that cannot be tapped (NNX, used twice, grouped) go by per-example gradients.
        task: its task.
        variables: one member's.
        train: n rows. A row's score is multiplied by its weight (a cosine is not): rows of weight 0 are absent and
            score 0; n counts them all.
        queries: q rows; the weight plays no part. None of them: the result is (n, 0).
        quantity: of the queries, ``loss`` or ``margin``; of the train rows it is the loss.
        select: predicate of a leaf's path, see `flatten`; none = all parameters.
        exact: also the parameters that no layer's factors cover (embeddings, norms), which takes their per-example
            gradients; without, an approximation by the tapped layers alone.
        normalise: ``"cosine"``, or True, divides by both norms (no unit; 0 where a gradient is 0).
        block: rows of either side at once; none = as many as fit into 256 MiB a side, at most 512.
        micro: examples differentiated side by side.

    Raises:
        InputError: no train rows, lengths that differ, labels that the model does not have, weights below 0, gradients
            that are not finite, unknown names.

    Source: Charpiat et al., 2019 (arXiv 2102.05262); ghost inner products as in Wang et al., 2024 (arXiv 2406.11011).

    Example:
        >>> from unlearn_jax.influence.per_example import batch_of
        >>> from unlearn_jax.models import build_model
        >>> from unlearn_jax.tasks import classification
        >>> x = jnp.eye(3)
        >>> model, batch = build_model("linear", 2, (3,)), batch_of(x, jnp.array([0, 1, 1]))
        >>> variables = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(0), x))
        >>> gram(model, classification(), variables, batch, batch).round(2).tolist()  # rows of a class help each other
        [[1.0, -0.5, -0.5], [-0.5, 1.0, 0.5], [-0.5, 0.5, 1.0]]
    """
    pieces.check_sets(train, queries)
    choose("quantity", quantity, SCORED)
    if normalise not in (False, True):
        choose("normalise", normalise, ("cosine",))
    check_targets(model, variables, train, "train")
    check_targets(model, variables, queries, "queries")
    if len(queries.weight) == 0:
        return jnp.zeros((len(train.weight), 0), pieces.score_dtype(variables))
    select = pieces.leaves_by(variables, select)
    run = _gram_program(model, task, quantity, select, exact, bool(normalise), block, micro)
    return pieces.finite(run(variables, train, queries))


def cosine(
    model: Model, task: Task, variables: Variables, train: Batch, queries: Batch, **settings
) -> Float[Array, "n q"]:
    """Cosines of gradients in [-1, 1], (train, queries): `gram` with ``normalise="cosine"``, and its other settings.

    Positive = training on i helped q; no unit, so that rows with large gradients do not lead every list.

    Example:
        >>> from unlearn_jax.influence.per_example import batch_of
        >>> from unlearn_jax.models import build_model
        >>> from unlearn_jax.tasks import classification
        >>> x = jnp.array([[1.0, 0.0], [9.0, 0.0]])
        >>> model, batch = build_model("linear", 2, (2,)), batch_of(x, jnp.array([0, 0]))
        >>> variables = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(0), x))
        >>> print(cosine(model, classification(), variables, batch, batch).round(2)[0])
        [1.   0.78]
    """
    return gram(model, task, variables, train, queries, normalise="cosine", **settings)


def gradient_norms(
    model: Model,
    task: Task,
    variables: Variables,
    batch: Batch,
    *,
    quantity: str = "loss",
    select: Callable[[str], bool] | None = None,
    exact: bool = True,
    block: int | None = None,
    micro: int = MICRO,
) -> Float[Array, " n"]:
    """Norms of examples' gradients (n,), without the gradients of tapped layers; settings and errors as in `gram`.

    The square is the own score in `gram` of an example of weight 1; here weights play no part.

    Example:
        >>> from unlearn_jax.influence.per_example import batch_of
        >>> from unlearn_jax.models import build_model
        >>> from unlearn_jax.tasks import classification
        >>> x = jnp.array([[1.0, 0.0], [7.0, 0.0]])
        >>> model, batch = build_model("linear", 2, (2,)), batch_of(x, jnp.array([0, 0]))
        >>> variables = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(0), x))
        >>> gradient_norms(model, classification(), variables, batch).round(2).tolist()
        [1.0, 5.0]
    """
    pieces.check_sets(batch)
    choose("quantity", quantity, SCORED)
    check_targets(model, variables, batch, "batch")
    select = pieces.leaves_by(variables, select)
    return pieces.finite(_norm_program(model, task, quantity, select, exact, block, micro)(variables, batch))

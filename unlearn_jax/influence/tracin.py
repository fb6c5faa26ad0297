"""TracIn: what training on i did for q's loss, added up along the way [Pruthi et al., 2020, arXiv 2002.08484].

This is the paper's TracInCP: at each of C checkpoints the inner product of the two gradients, times the learning rate.
It differs in that all parameters take part, not the last layer alone, because layers' Gram matrices need no
per-example gradients (`gram`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from unlearn_jax.errors import InputError
from unlearn_jax.influence.checks import is_traced
from unlearn_jax.influence.gram import gradient_norms, gram
from unlearn_jax.influence.per_example import MICRO
from unlearn_jax.influence.pieces import check_sets
from unlearn_jax.trees import join_shared, split_shared
from unlearn_jax.types import Array, Batch, Model, Task, Variables


def tracin(
    model: Model,
    task: Task,
    checkpoints: Variables | Sequence[Variables],
    train: Batch,
    queries: Batch,
    *,
    rates,
    quantity: str = "loss",
    select: Callable[[str], bool] | None = None,
    exact: bool = True,
    block: int | None = None,
    micro: int = MICRO,
) -> Float[Array, "n q"]:
    """Sum over checkpoints of ``rate x g_i . g_q``, (train, queries), by plain gradient descent's first order.

    Positive = training on i helped q. A checkpoint's rate is the **sum of the learning rates of the steps that it
    stands for**, each of which averages over the n rows (or over a random batch of them): then score / n is how much of
    q's loss i's part of those steps has saved, so the rise of q's loss when i's part is left out, to first order and
    without what later steps make of it (weight decay, curvature). With ``quantity="margin"`` it is the fall of q's
    margin. Momentum multiplies the rate by 1 / (1 - momentum); Adam's scaling by coordinate is not in it.

    Args:
        model: the model.
        task: its task.
        checkpoints: one member's variables with a leading axis of C on all leaves but ``shared``, or C of them in a
            list.
        train: n rows. A row's score is multiplied by its weight: rows of weight 0 are absent and score 0; n counts
            them all.
        queries: q rows; the weight plays no part. None of them: the result is (n, 0).
        rates: (C,), see above.
        quantity: of the queries, ``loss`` or ``margin``.
        select: restriction to parameters, see `gram`.
        exact: with the parameters that no layer's factors cover, see `gram`.
        block: rows of either side at once, see `gram`.
        micro: examples differentiated side by side.

    Raises:
        InputError: no checkpoints, leading axes that differ, as many rates as checkpoints not given, rates or gradients
            that are not finite, no train rows, labels that the model does not have.

    Example:
        >>> from unlearn_jax.influence.per_example import batch_of
        >>> from unlearn_jax.models import build_model
        >>> from unlearn_jax.tasks import classification
        >>> x = np.eye(3, dtype=np.float32)
        >>> model, batch = build_model("linear", 2, (3,)), batch_of(x, np.array([0, 1, 1]))
        >>> start = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(0), x))
        >>> scores = tracin(model, classification(), [start, start], batch, batch, rates=[0.1, 0.2])
        >>> print((scores / 3)[0].round(3))  # of the loss that each row lost, this much was row 0's doing
        [ 0.1  -0.05 -0.05]
    """
    check_sets(train, queries)
    total: Any = 0.0
    for variables, rate in _each(checkpoints, rates):
        kinds: dict[str, Any] = dict(quantity=quantity, select=select, exact=exact, block=block, micro=micro)
        scores = gram(model, task, variables, train, queries, **kinds)
        total = total + rate.astype(scores.dtype) * scores
    return total


def tracin_self(
    model: Model,
    task: Task,
    checkpoints: Variables | Sequence[Variables],
    train: Batch,
    *,
    rates,
    select: Callable[[str], bool] | None = None,
    exact: bool = True,
    block: int | None = None,
    micro: int = MICRO,
) -> Float[Array, " n"]:
    """Sum over checkpoints of ``rate x |g_i|^2``, (n,): the diagonal of `tracin`, in its unit, at the cost of norms.

    Large where a row kept pulling the model its own way: mislabelled and rare rows. Arguments, weights and errors as in
    `tracin`.

    Example:
        >>> from unlearn_jax.influence.per_example import batch_of
        >>> from unlearn_jax.models import build_model
        >>> from unlearn_jax.tasks import classification
        >>> x = np.eye(3, dtype=np.float32)
        >>> model, batch = build_model("linear", 2, (3,)), batch_of(x, np.array([0, 1, 1]))
        >>> start = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(0), x))
        >>> print(tracin_self(model, classification(), [start], batch, rates=[0.1]).round(3))
        [0.1 0.1 0.1]
    """
    check_sets(train)
    total: Any = 0.0
    for variables, rate in _each(checkpoints, rates):
        norms = gradient_norms(model, task, variables, train, select=select, exact=exact, block=block, micro=micro)
        total = total + rate.astype(norms.dtype) * jnp.square(norms) * jnp.asarray(train.weight).astype(norms.dtype)
    return total


def _each(checkpoints, rates) -> list[tuple[Variables, Array]]:
    """Every checkpoint's variables with its rate."""
    if isinstance(checkpoints, dict):
        unshared, shared = split_shared(checkpoints)
        lengths = {leaf.shape[0] if leaf.ndim else -1 for leaf in jax.tree.leaves(unshared)}
        if len(lengths) != 1 or -1 in lengths:
            raise InputError("checkpoints differ in their leading axes: stack the variables of all checkpoints.")
        take = lambda index: join_shared(jax.tree.map(lambda x: x[index], unshared), shared)
        listed = [take(index) for index in range(lengths.pop())]
    else:
        listed = list(checkpoints)
    if not listed:
        raise InputError("there are no checkpoints: give the variables of at least one.")
    if not is_traced(rates):
        rates = np.asarray(rates)
        if not np.isfinite(rates).all():
            raise InputError("rates hold values that are not finite: give each checkpoint's sum of learning rates.")
    rates = jnp.asarray(rates)
    if rates.shape != (len(listed),):
        raise InputError(f"rates are {rates.shape}: give one for each of the {len(listed)} checkpoints.")
    return [(variables, rates[index]) for index, variables in enumerate(listed)]

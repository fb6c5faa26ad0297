"""Influence of training rows on queries by inverse curvature (Koh & Liang 2017, arXiv 1703.04730).

With g_i the gradient of row i's loss, H the curvature of the training set with weight decay, d the damping and n the
number of rows, ``score[i, q] = g_q . (H + d I)^-1 w_i g_i``: one sign and one unit for every solver.
`group_influence` has those of whole groups. Nothing that has not converged
is returned as a number: it raises `InputError`, and under `jit` or `vmap`, where nothing can be raised, it is NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Float

from unlearn_jax.influence.checks import check_targets
from unlearn_jax.influence.per_example import MICRO, flatten
from unlearn_jax.influence.score_checks import ekfac_settings, explain, pieces, prepared
from unlearn_jax.influence.score_programs import pair_scores, self_scores
from unlearn_jax.types import Array, Batch, Model, Task, Variables


def influence(
    model: Model,
    task: Task,
    variables: Variables,
    train: Batch,
    queries: Batch,
    *,
    solver: str = "explicit",
    curvature: str = "hessian",
    damping: Array | float = 1e-3,
    relative_damping: float | None = None,
    l2: Array | float = 0.0,
    quantity: str = "loss",
    select: Callable[[str], bool] | None = None,
    key: Array | None = None,
    micro: int = MICRO,
    **options,
) -> Float[Array, "n q"]:
    """Influence of every training row on every query, ``score[i, q]``, shape (n, queries).

    Unit: positive = training on row i helped query q; score / n = the rise of q's loss in nats that is predicted when
    row i is removed and the normaliser n kept. With ``quantity="margin"`` it is the predicted fall of q's margin.

    Programs are compiled once for a model, a task, the parameters that ``select`` chooses, settings and shapes. The
    side with fewer rows is solved for (``explicit``: the queries); the other is never held as (n, P).

    Args:
        model: the model, in evaluation mode.
        task: its task.
        variables: one member's, finite; trained until its gradient, weight decay included, is small.
        train: n rows. A row of weight w counts w times, one of weight 0 is absent and scores 0; n is their number
            all the same.
        queries: any rows; weights play no part.
        solver: ``explicit`` (up to 8,000 parameters), ``cg``, ``nystrom``, ``lanczos``, ``lissa`` (see `solvers`), or
            ``ekfac`` (see `ekfac.ekfac_influence`), which has a curvature of its own.
        curvature: ``hessian``, ``ggn``, which is never negative, or ``fisher``; plays no part in ``ekfac``.
        damping: d, an absolute number. It and ``l2`` may both be 0 for ``explicit`` only, which can tell a singular
            curvature; the others would give the scores of its pseudoinverse.
        relative_damping: d as a share of the mean eigenvalue (trace / P, weight decay included) instead; the trace is
            estimated from 64 random probes where there are more parameters (explicit: exact; ``ekfac``: the share
            of each layer's own mean eigenvalue).
        l2: weight decay that the model was trained with, ``l2 / 2 |w|^2`` beside the mean loss.
        quantity: ``loss`` or ``margin`` of the queries.
        select: restriction to parameters, see `per_example.flatten`; for ``ekfac`` to layers all of whose parameters
            are chosen.
        key: random parts: labels of ``fisher`` (none = empirical), starts of ``lanczos`` and ``nystrom``.
        micro: rows side by side.
        options: the solver's settings: ``tolerance``, ``steps``, ``rank``, ``scale``; ``limit`` of ``explicit``;
            ``labels``, ``draws``, ``fit``, ``variant`` of ``ekfac``. ``lanczos`` has converged where its relative
            residual is at most ``tolerance``, .1 unless given.

    Returns:
        (n, queries) in the parameters' dtype; (n, 0) without queries.

    Raises:
        InputError: no training rows; parameters, weights or gradients that are not finite; negative weights; variables
            of a population; no damping and no l2 but for ``explicit``; a curvature that is not positive
            definite (with its least eigenvalue and a damping that would do); a solver that has not converged; unknown
            names.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from unlearn_jax.influence.per_example import batch_of
        >>> from unlearn_jax.models import build_model
        >>> from unlearn_jax.tasks import classification
        >>> train = batch_of(jnp.array([[0.0], [1.0], [2.0], [3.0]]), jnp.array([0, 1, 0, 1]))
        >>> model = build_model("linear", 2, (1,))
        >>> variables = model.init(jax.random.key(0), train.inputs)
        >>> query = batch_of(jnp.array([[3.0]]), jnp.array([1]))
        >>> scores = influence(model, classification(), variables, train, query, l2=0.1)
        >>> int(scores[:, 0].argmax())  # the query's twin helps most
        3
    """
    settings = dict(curvature=curvature, damping=damping, relative_damping=relative_damping, l2=l2, quantity=quantity)
    settings |= dict(select=select, key=key, micro=micro, options=options)
    if solver == "ekfac":
        from unlearn_jax.influence.ekfac import ekfac_influence

        return ekfac_influence(
            model, task, variables, train, queries, **ekfac_settings(model, task, variables, train, **settings)
        )
    plan, amounts = prepared(model, task, variables, train, solver=solver, **settings)
    check_targets(model, variables, queries, "queries")
    many, number, vector = len(train.weight), len(queries.weight), flatten(variables, select).vector
    if not number:
        return jnp.zeros((many, 0), vector.dtype)
    side = "queries" if solver == "explicit" or number <= many else "train"
    solved, other = (queries, train) if side == "queries" else (train, queries)
    parts = []
    for piece, new in pieces(solved, vector.shape[0]):
        answer = pair_scores(plan, side, variables, train, piece, other, amounts)
        explain(plan, variables, train, queries, answer, amounts)
        parts.append(answer.scores[:, :new])
    scores = parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=1)
    return scores if side == "queries" else scores.T


def self_influence(
    model: Model,
    task: Task,
    variables: Variables,
    train: Batch,
    *,
    solver: str = "explicit",
    curvature: str = "hessian",
    damping: Array | float = 1e-3,
    relative_damping: float | None = None,
    l2: Array | float = 0.0,
    quantity: str = "loss",
    select: Callable[[str], bool] | None = None,
    key: Array | None = None,
    micro: int = MICRO,
    **options,
) -> Float[Array, " n"]:
    """Influence of every training row on itself, ``score[i] = g_i . (H + d I)^-1 w_i g_i``, shape (n,).

    Unit: score / n = the rise of the row's own loss in nats that is predicted when it is removed and the normaliser
    kept, at least 0; with ``quantity="margin"``, the predicted fall of its margin. It is the diagonal of
    ``influence(..., train, train)``, without its other entries. Arguments and errors as in `influence`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from unlearn_jax.influence.per_example import batch_of
        >>> from unlearn_jax.models import build_model
        >>> from unlearn_jax.tasks import classification
        >>> train = batch_of(jnp.array([[0.0], [0.0], [0.0], [5.0]]), jnp.array([0, 1, 0, 1]))
        >>> model = build_model("linear", 2, (1,))
        >>> variables = model.init(jax.random.key(0), train.inputs)
        >>> int(self_influence(model, classification(), variables, train, l2=0.1).argmax())  # stands alone
        3
    """
    named = dict(curvature=curvature, damping=damping, relative_damping=relative_damping, l2=l2, quantity=quantity)
    named |= dict(select=select, key=key, micro=micro, options=options)
    if solver == "ekfac":
        from unlearn_jax.influence.ekfac import ekfac_self_influence

        return ekfac_self_influence(
            model, task, variables, train, **ekfac_settings(model, task, variables, train, **named)
        )
    plan, amounts = prepared(model, task, variables, train, solver=solver, **named)
    parts = []
    for piece, new in pieces(train, flatten(variables, select).vector.shape[0]):
        solved = self_scores(plan, variables, train, piece, amounts)
        explain(plan, variables, train, train, solved, amounts)
        parts.append(solved.scores[0, :new])
    return jnp.concatenate(parts)

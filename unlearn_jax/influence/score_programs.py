"""The compiled programs behind `scores` and `group_influence`: right-hand sides, solver, what comes of the answer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import lax

from unlearn_jax.influence.curvature import dense, operator, precise, sampled_labels
from unlearn_jax.influence.curvature_parts import fitting, logits_of, summed, weighed
from unlearn_jax.influence.per_example import example_gradients, flatten, over_examples, quantity_of
from unlearn_jax.influence.solvers import SOLVERS, Solution, cholesky_solution, damping_of, settings_of
from unlearn_jax.types import Array, Batch, Model, Task, Variables


class Plan(NamedTuple):
    """What a program is compiled for; all static."""

    model: Model
    task: Task
    solver: str
    curvature: str
    quantity: str
    chosen: tuple[str, ...] | None  # paths of parameters; none = all
    relative: bool
    micro: int
    options: tuple[tuple[str, object], ...]


class Amounts(NamedTuple):
    """What a program is given beside arrays of rows."""

    damping: Array  # absolute, or the share of the mean eigenvalue where the plan is relative
    l2: Array
    key: Array | None


class SolvedScores(NamedTuple):
    """What a program gives back: scores, and how their equations were solved."""

    scores: Array  # (rows, R), NaN where not converged
    residual: Array  # (R,)
    steps: Array
    converged: Array  # (R,) bool
    least: Array
    damping: Array  # ()


def selected(plan: Plan) -> Callable[[str], bool] | None:
    """The predicate of the parameters that a plan is for."""
    chosen = plan.chosen
    return None if chosen is None else lambda path: path in chosen


def labelled(plan: Plan, variables: Variables, train: Batch, key: Array) -> Batch:
    """The training rows with labels drawn from the model."""
    return sampled_labels(plan.model, variables, train, jax.random.fold_in(key, 0))


def curvature_of(plan: Plan, variables: Variables, train: Batch, amounts: Amounts) -> Any:
    """The training set's curvature: a matrix for the explicit solver, a product for the others."""
    if plan.curvature == "fisher" and amounts.key is not None:
        train = labelled(plan, variables, train, amounts.key)
    setting: dict[str, Any] = dict(curvature=plan.curvature, l2=amounts.l2, select=selected(plan), micro=plan.micro)
    if plan.solver == "explicit":
        return dense(plan.model, plan.task, variables, train, **setting, **dict(plan.options))
    return operator(plan.model, plan.task, variables, train, **setting)


def _damping(plan: Plan, curvature: Any, like: Array, amounts: Amounts) -> Array:
    if not plan.relative:
        return amounts.damping
    if callable(curvature):
        return damping_of(cast(Callable[[Array], Array], curvature), amounts.damping, like)
    return amounts.damping * jnp.trace(curvature) / like.shape[0]


def _solution(plan: Plan, curvature, b: Array, damping: Array, key: Array | None) -> Solution:
    """The solver's answer for right-hand sides (P, R)."""
    if plan.solver == "explicit":
        return cholesky_solution(curvature, b, damping)
    options = dict(plan.options)
    if key is not None and "key" in settings_of(plan.solver):
        options["key"] = jax.random.fold_in(key, 1)
    return SOLVERS[plan.solver](curvature, b, damping, **options)


def _gradients(plan: Plan, variables: Variables, batch: Batch, quantity: str) -> Array:
    """(R, P) gradients; those of margins with their sign turned, so that all are of something to be lowered."""
    micro = fitting(flatten(variables, selected(plan)).vector.shape[0], plan.micro)
    gradients = example_gradients(
        plan.model, plan.task, variables, batch, quantity=quantity, select=selected(plan), micro=micro
    )
    return -gradients if quantity == "margin" else gradients


def _along(plan: Plan, variables: Variables, batch: Batch, quantity: str, x: Array) -> Array:
    """(rows, P) of `_gradients` times x (P, R), never held."""
    flat, of = flatten(variables, selected(plan)), quantity_of(plan.model, plan.task, quantity)
    slope = jax.grad(lambda vector, example: of(flat.rebuild(vector), example)[0])
    micro = fitting(flat.vector.shape[0] + x.shape[1], plan.micro)
    products = over_examples(lambda example: slope(flat.vector, example) @ x, batch, micro=micro)
    return -products if quantity == "margin" else products


def _weight(batch: Batch, like: Array) -> Array:
    return jnp.asarray(batch.weight).astype(like.dtype)[:, None]


def _solved_scores(scores: Array, solution: Solution, damping: Array) -> SolvedScores:
    """Scores (rows, R), NaN where the solution has not converged."""
    scores = jnp.where(solution.converged[None, :], scores, jnp.nan)
    return SolvedScores(scores, solution.residual, solution.steps, solution.converged, solution.least, damping)


@functools.partial(jax.jit, static_argnames=("plan", "side"))
@precise
def pair_scores(
    plan: Plan, side: str, variables: Variables, train: Batch, solved: Batch, other: Batch, amounts: Amounts
) -> SolvedScores:
    """Scores (other, solved) with the equations solved for the rows of this ``side``, ``train`` or ``queries``."""
    b = _gradients(plan, variables, solved, "loss" if side == "train" else plan.quantity)
    b = b * _weight(solved, b) if side == "train" else b
    curvature = curvature_of(plan, variables, train, amounts)
    damping = _damping(plan, curvature, b[0], amounts)
    solution = _solution(plan, curvature, b.T, damping, amounts.key)
    scores = _along(plan, variables, other, plan.quantity if side == "train" else "loss", solution.x)
    return _solved_scores(scores if side == "train" else scores * _weight(other, scores), solution, damping)


@functools.partial(jax.jit, static_argnames=("plan",))
@precise
def self_scores(plan: Plan, variables: Variables, train: Batch, rows: Batch, amounts: Amounts) -> SolvedScores:
    """Scores (1, rows) of some of the training rows on themselves."""
    gradients = _gradients(plan, variables, rows, "loss")
    curvature = curvature_of(plan, variables, train, amounts)
    damping = _damping(plan, curvature, gradients[0], amounts)
    solution = _solution(plan, curvature, (gradients * _weight(rows, gradients)).T, damping, amounts.key)
    of_quantity = gradients if plan.quantity == "loss" else _gradients(plan, variables, rows, plan.quantity)
    return _solved_scores(jnp.sum(of_quantity * solution.x.T, axis=1)[None], solution, damping)


@functools.partial(jax.jit, static_argnames=("plan",))
@precise
def group_scores(
    plan: Plan, variables: Variables, train: Batch, masks: Array, rows: Array, queries: Batch, amounts: Amounts
) -> SolvedScores:
    """Scores (queries, G) of groups, each with its own curvature removed; damping is that of the whole set.

    ``masks`` are (G, n) and ``rows`` (G, m) the positions of their ones, filled up with n.
    """
    flat, weight, fold = flatten(variables, selected(plan)), jnp.asarray(train.weight), amounts.key
    if plan.curvature == "fisher" and fold is not None:  # drawn once, so that a row's label is the same without a group
        drawn, amounts = labelled(plan, variables, train, fold), amounts._replace(key=None)
    else:
        drawn = train
    whole = curvature_of(plan, variables, drawn, amounts)
    damping = _damping(plan, whole, flat.vector, amounts)

    def without(mask: Array, places: Array):
        if plan.solver != "explicit":
            return curvature_of(plan, variables, drawn._replace(weight=weight * (1 - mask)), amounts)
        members = jax.tree.map(lambda x: jnp.take(jnp.asarray(x), places, axis=0, mode="clip"), drawn)
        members = members._replace(weight=jnp.take(weight * mask, places, mode="fill", fill_value=0))
        part = curvature_of(plan, variables, members, amounts._replace(l2=jnp.zeros_like(amounts.l2)))
        return whole - part * (len(places) / len(weight))

    def pull(block: Batch) -> Array:
        loss, logits = weighed(plan.task, block), logits_of(plan.model, flat, block)
        return jax.grad(lambda vector: loss(logits(vector)))(flat.vector)

    def one(group: tuple[Array, Array]) -> Solution:
        mask = group[0].astype(weight.dtype)
        b = summed(pull, train._replace(weight=weight * mask), plan.micro)[:, None]
        return _solution(plan, without(mask, group[1]), b, damping, fold)

    solved = lax.map(one, (masks, rows))
    solved = solved._replace(residual=solved.residual[:, 0], converged=solved.converged[:, 0])
    return _solved_scores(_along(plan, variables, queries, plan.quantity, solved.x[:, :, 0].T), solved, damping)


@functools.partial(jax.jit, static_argnames=("plan", "quantity"))
def finite_rows(plan: Plan, quantity: str, variables: Variables, rows: Batch) -> Array:
    """(rows,) whether every entry of a row's gradient is finite."""
    flat, of = flatten(variables, selected(plan)), quantity_of(plan.model, plan.task, quantity)
    slope = jax.grad(lambda vector, example: of(flat.rebuild(vector), example)[0])
    return over_examples(lambda example: jnp.isfinite(slope(flat.vector, example)).all(), rows, micro=plan.micro)

"""What remedies share that distil after the method: the fold, and what it starts from."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import optax

from unlearn_jax.data.augment import augmentation
from unlearn_jax.methods.runner import Unlearned
from unlearn_jax.methods.support.common import TrainSpec, bind_shared, gradient_method, weighted_mean
from unlearn_jax.methods.support.parts import distillation, frozen
from unlearn_jax.population.plans import FORWARD, Sizes, request_batch, uniform_plan
from unlearn_jax.population.program import Fold
from unlearn_jax.remedies.common import RemedyContext, costing, following, mean_size, moved
from unlearn_jax.tasks import over_answer
from unlearn_jax.trees import split_shared
from unlearn_jax.types import Array, Batch, PyTree

NUMERIC = {"lr": 1e-3, "retain_weight": 1.0}  # of Adam; weight of what is held beside
STATIC = {"steps": 100, "batch": 128}
BEGINS = ("params", "state")


def squared_error(wanted: Array, now: Array, batch: Batch) -> Array:
    """Weighted mean squared difference of logits, each less its mean over the classes; (B, ..., K) twice -> ()."""
    centred = lambda z: z - z.mean(axis=-1, keepdims=True)
    gap = jnp.mean(jnp.square(centred(wanted) - centred(now)), axis=-1)
    return weighted_mean(over_answer(gap, batch), batch.weight)


@functools.lru_cache(maxsize=32)
def distilling(problem: TrainSpec, goal: Callable, apart: Callable = distillation) -> Fold:
    """Descend ``apart``(goal, student) on the forget stream and ``retain_weight`` times that of the start on the other.

    ``apart(wanted, now, batch) -> ()`` of logits: `distillation`, a Kullback-Leibler divergence, or `squared_error`.

    ``goal(problem, kept, batch, hp) -> logits``, where ``kept`` holds what the fold starts from besides the student's
    weights. Batch statistics in training mode on the retained batch, evaluation mode on the other and for the teachers.
    """

    def build(hp, shared):
        bound = bind_shared(problem, shared)

        def loss(params, trained, batches, key):
            student, forget, retain = {"params": params, "state": trained.state}, batches.forget, batches.retain
            wanted = goal(bound, trained.extra, forget, hp)
            now = bound.model.apply(student, forget.inputs, train=False)[0].logits
            before = frozen(bound, trained.extra["start"], retain.inputs).logits
            held, state = bound.model.apply(student, retain.inputs, key=key, train=True)
            kept = apart(before, held.logits, retain)
            return apart(wanted, now, forget) + hp["retain_weight"] * kept, state

        def extra(key, variables):
            teachers = {name: part for name, part in variables.items() if name not in BEGINS}
            return teachers | {"start": {name: variables[name] for name in BEGINS}}

        return gradient_method(optax.adam(hp["lr"]), loss, extra=extra)

    return Fold(build, augmentation(problem.recipe.augment))


def distilled(
    evidence: RemedyContext,
    unlearned: Unlearned,
    found: list[np.ndarray],
    goal: Callable,
    kept: PyTree,
    settings: dict,
    apart: Callable = distillation,
) -> Unlearned:
    """Members distilled on request and found, from where a method left them.

    Args:
        evidence: of the remedy.
        unlearned: what the method made.
        found: rows that go with the request.
        goal: as of `distilling`.
        kept: what the goal reads, leading axis N.
        settings: `NUMERIC` and `STATIC`, and what else the goal reads, a number each.
        apart: as of `distilling`.

    Returns:
        The members, at the costs of both.
    """
    treat = moved(evidence, found)
    sizes = Sizes(max(map(len, treat.requested)), max(map(len, treat.kept)))
    plan = uniform_plan(
        settings["steps"],
        forget_batch=request_batch(sizes, settings["batch"]),
        retain_batch=settings["batch"],
        forget_cost=1.0 + FORWARD,
        retain_cost=1.0 + FORWARD,
    )
    members, before = split_shared(unlearned.population.variables)[0], unlearned.population
    start = {name: members[name] for name in BEGINS} | kept
    hp = {name: value for name, value in settings.items() if name not in STATIC}
    treat = treat._replace(role=f"{evidence.name}_distil", start=start)
    after = evidence.follow(distilling(evidence.problem, goal, apart), plan, treat, hp)
    return costing(
        unlearned._replace(population=following(before, after)), plan.grad_evals_forget, plan.grad_evals_retain
    )


def numbers_of(settings: dict, *more: str) -> dict:
    """The settings that `distilled` reads, and some by name."""
    return {name: settings[name] for name in (*NUMERIC, *STATIC, *more)}


def scores_cost(evidence: RemedyContext) -> tuple[float, float]:
    """Gradient evaluations of a forward pass over all training rows, on request and retained data."""
    return FORWARD * mean_size(evidence.requested), FORWARD * mean_size(evidence.kept)

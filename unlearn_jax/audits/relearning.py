"""How soon a model knows the request again: relearning on the request itself, and on similar samples alone.

A model that was made to hide something, not to lose it, learns it back in a few updates. *Relearning* trains on F;
*benign* relearning trains on the samples S that stayed, which nobody asked to be forgotten, and never shows F.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from unlearn_jax.methods.common import Problem, bind_shared, finish, gradient_method, sgd, weighted_mean
from unlearn_jax.population.members import make_tables, member_keys
from unlearn_jax.population.plans import Plan, phased_plan
from unlearn_jax.population.program import POINTS, Fold, Stored
from unlearn_jax.population.run import Options, run_population
from unlearn_jax.types import Batches, Method, Variables

ON_REQUEST, ON_SIMILAR = 0, 1  # phases


class Relearning(NamedTuple):
    """How members are trained to know the request again."""

    lr: float  # of SGD without momentum
    updates: int = POINTS  # at most, each recorded
    batch: int = 128  # of similar samples in an update; requests are shown whole


@functools.lru_cache(maxsize=16)
def relearning_fold(problem: Problem) -> Fold:
    """A fold that trains on the request (phase 0) or on retained samples (phase 1) and reports what it knows of F.

    The number that each update reports is the share of the request answered rightly *before* the update; of language
    the mean probability of its answers (geometric mean over tokens). Batch statistics in evaluation mode.
    """

    def build(hp: dict, shared) -> Method:
        own = bind_shared(problem, shared)

        def known(params, trained, batches: Batches) -> Array:
            logits = own.model.apply({"params": params, "state": trained.state}, batches.forget.inputs)[0].logits
            speaks = own.task.token_logprob is not None
            right = (
                jnp.exp(-own.task.loss(logits, batches.forget)) if speaks else own.task.correct(logits, batches.forget)
            )
            return weighted_mean(right, batches.forget.weight)

        def loss(params, trained, batches: Batches, key) -> tuple:
            variables = {"params": params, "state": trained.state}

            def on(batch) -> Array:
                logits = own.model.apply(variables, batch.inputs)[0].logits
                return weighted_mean(own.task.loss(logits, batch), batch.weight)

            where = [lambda: on(batches.forget), lambda: on(batches.retain)]
            return lax.switch(batches.phase, where), trained.state

        fold = gradient_method(sgd(hp["lr"], 0.0), loss)

        def update(key, trained, batches: Batches) -> tuple:
            value = lax.stop_gradient(known(trained.params, trained, batches))
            return fold.update(key, trained, batches)[0], value

        return Method(fold.init, update, finish)

    return Fold(build)


def relearning_plan(setting: Relearning, phase: int, request: int) -> Plan:
    """``updates`` updates of one phase, the whole request of at most ``request`` examples in each batch."""
    phases = np.full(setting.updates, phase, np.int32)
    costs = {"forget_cost": (1.0, 1.0 / 3.0), "retain_cost": (0.0, 1.0)}
    return phased_plan(phases, forget_batch=request, retain_batch=setting.batch, forget_pass=1, **costs)


def relearned(
    problem: Problem,
    stored: Stored,
    variables: Variables,
    requested: list[np.ndarray],
    similar: list[np.ndarray],
    setting: Relearning,
    *,
    benign: bool,
    seed: int = 0,
    options: Options,
) -> np.ndarray:
    """What each member knows of its request before each update of relearning.

    Args:
        problem: model and task.
        stored: examples.
        variables: of N members.
        requested: by member, the rows of its request.
        similar: by member, rows of the similar samples that stayed; not empty.
        setting: rate and length.
        benign: train on ``similar`` and not on the request.
        seed: of the batches.
        options: chunks and member axis; nothing is stored.

    Returns:
        (N, updates) shares in [0, 1].
    """
    phase = ON_SIMILAR if benign else ON_REQUEST
    plan = relearning_plan(setting, phase, max(map(len, requested)))
    tables = make_tables(similar, requested)
    members = len(requested)
    population = run_population(
        relearning_fold(problem), plan, stored, tables, member_keys(seed, "relearn", members), variables,
        hp={"lr": np.full(members, setting.lr)}, options=options._replace(store=None, progress=None, label="relearn"),
    )  # fmt: skip
    return population.loss[:, np.arange(setting.updates) * POINTS // setting.updates].astype(np.float64)

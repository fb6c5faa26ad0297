"""How soon a model knows the request again: relearning on the request itself, and on similar samples alone.

A model that was made to hide something, not to lose it, learns it back in a few updates. *Relearning* trains on F;
*benign* relearning trains on the samples S that stayed, which nobody asked to be forgotten, and never shows F.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from unlearn_jax.methods.support.common import Trained, TrainSpec, bind_shared, finish, follow, sgd, weighted_mean
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
def relearning_fold(problem: TrainSpec) -> Fold:
    """A fold that trains on the request (phase 0) or on retained samples (phase 1) and reports what it knows of F.

    The number that each update reports is the share of the request answered rightly *before* the update; of language
    the mean probability of its answers (geometric mean over tokens). Batch statistics in evaluation mode.
    """

    def build(hp: dict, shared) -> Method:
        own, optimizer = bind_shared(problem, shared), sgd(hp["lr"], 0.0)

        def told(variables, batch) -> tuple[Array, Array]:
            """Mean loss of a batch, and the share of it that is known."""
            logits = own.model.apply(variables, batch.inputs)[0].logits
            losses, speaks = own.task.loss(logits, batch), own.task.token_logprob is not None
            right = jnp.exp(-losses) if speaks else own.task.correct(logits, batch)
            return weighted_mean(losses, batch.weight), lax.stop_gradient(weighted_mean(right, batch.weight))

        def loss(params, trained, batches: Batches) -> tuple[Array, Array]:
            variables = {"params": params, "state": trained.state}
            on_similar = lambda: (told(variables, batches.retain)[0], told(variables, batches.forget)[1])
            return lax.switch(batches.phase, [lambda: told(variables, batches.forget), on_similar])

        def init(key, variables) -> Trained:
            return Trained(variables["params"], variables["state"], optimizer.init(variables["params"]))

        def update(key, trained: Trained, batches: Batches) -> tuple[Trained, Array]:
            (_, known), grads = jax.value_and_grad(loss, has_aux=True)(trained.params, trained, batches)
            params, moments = follow(optimizer, grads, trained, batches.rate)
            return Trained(params, trained.state, moments), known

        return Method(init, update, finish)

    return Fold(build)


def relearning_plan(setting: Relearning, phase: int, request: int) -> Plan:
    """``updates`` updates of one phase, the whole request of at most ``request`` examples in each batch."""
    phases = np.full(setting.updates, phase, np.int32)
    costs: dict[str, Any] = {"forget_cost": (1.0, 1.0 / 3.0), "retain_cost": (0.0, 1.0)}
    return phased_plan(phases, forget_batch=request, retain_batch=setting.batch, forget_pass=1, **costs)


def relearned(
    problem: TrainSpec,
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

"""The share of a cluster's influence on its target that the similar samples have, by EK-FAC.

EK-FAC influence of each target's own example and of its similar samples on the target's margin, under the original
models: what deleting the target alone can be expected to leave, before anything is deleted. `residual_influence` of
`retrain` says what it really leaves.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.influence import batch_of, ekfac_fit, ekfac_influence
from unlearn_jax.influence.layers import DAMPING, MAX_ROWS, SMALL, last_layer
from unlearn_jax.metrics import Values
from unlearn_jax.models import count_parameters
from unlearn_jax.trees import join_shared, split_shared, take_members
from unlearn_jax.types import Batch, Variables

MEMBERS = 8  # of the originals, over all requests


def influence_share(setup, level, original) -> tuple[Values, Values] | str:
    """Influence of each target's own example and of its similar samples, summed, on its margin.

    Args:
        setup: the study.
        level: its rows; with similar samples.
        original: outcome of the originals, with weights.

    Returns:
        (members, targets) of each request, twice: own and similar. Or, for models whose layers cannot be tapped, why
        not: a sentence without full stop.
    """
    problem, requests = setup.problem, len(level.rows)
    of_targets, of_similar, cluster = [], [], setup.bench.cluster
    for request, rows in enumerate(level.rows):
        finite = np.isfinite(original.scores.margin).all(axis=1)
        members = np.flatnonzero((level.request_of == request) & finite)[: max(1, MEMBERS // requests)]
        if not len(members):
            return "who carries the targets is not told: the original models diverged"
        at = np.concatenate([rows.forget, _copies(setup, rows)])
        deleted, fitted = _batch(setup, at, np.ones(len(at))), _fitted(setup, rows)
        together = (cluster[at][:, None] == cluster[rows.forget][None]) & np.isin(at, rows.similar)[:, None]
        of_target, similar = [], []
        for member in members:
            weights, shared = split_shared(take_members(original.population.variables, int(member)))
            variables = join_shared(jax.tree.map(jnp.asarray, weights), shared)
            try:
                scores = _scores(problem, variables, fitted, deleted, len(rows.forget))
            except InputError as error:
                return f"who carries the targets is not told: {str(error).rstrip('.')}"
            of_target.append(np.diagonal(scores))
            similar.append(np.where(together, scores, 0.0).sum(axis=0))
        of_targets.append(np.stack(of_target))
        of_similar.append(np.stack(similar))
    clusters = [cluster[rows.forget] for rows in level.rows]
    return Values(of_targets, original.role, clusters), Values(of_similar, original.role, clusters)


def _copies(setup, rows) -> np.ndarray:
    """All stored copies of a request's targets, trained on at this level or not, so that levels share programs."""
    bench = setup.bench
    return np.flatnonzero((bench.origin == 1) & np.isin(bench.cluster, bench.cluster[rows.forget]))


def _batch(setup, rows: np.ndarray, live: np.ndarray) -> Batch:
    """Stored rows, of weight 0 where they are not trained on."""
    at = jnp.asarray(rows)
    return batch_of(setup.stored.inputs[at], setup.stored.targets[at], live.astype(np.float32))


def _fitted(setup, rows) -> Batch:
    rest = np.sort(rows.rest)
    if len(rest) > MAX_ROWS:
        rest = np.sort(np.random.default_rng([setup.config.seed, 13]).choice(rest, MAX_ROWS, replace=False))
    at = np.concatenate([rows.forget, _copies(setup, rows), rest])
    return _batch(setup, at, np.isin(at, rows.everything))


def _scores(problem, variables: Variables, fitted: Batch, deleted: Batch, targets: int) -> np.ndarray:
    model, task = problem.model, problem.task
    classes = task.candidates is None and task.token_logprob is None
    select = None if count_parameters(variables) <= SMALL else last_layer(model, variables, fitted)
    labels = "exact" if classes and problem.num_classes <= 20 else "sampled"
    fit = ekfac_fit(model, task, variables, fitted, labels=labels, select=select)
    queries = jax.tree.map(lambda x: x[:targets], deleted)
    scores = np.asarray(
        ekfac_influence(model, task, variables, deleted, queries, fit=fit, quantity="margin", relative_damping=DAMPING),
        np.float64,
    )
    return scores * float(np.mean(fitted.weight))  # n of the rows that are trained on, not of absent ones beside them

"""Who carries a target? The share of what its cluster says of it that the similar samples say, by influence.

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
from unlearn_jax.trees import take_members
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
    owns, others = [], []
    for request, rows in enumerate(level.rows):
        sound = np.isfinite(original.scores.margin).all(axis=1)
        mine = np.flatnonzero((level.request_of == request) & sound)[: max(1, MEMBERS // requests)]
        if not len(mine):
            return "who carries the targets is not told: the original models diverged"
        asked, fitted = _asked(setup, rows), _fitted(setup, rows)
        cluster = setup.bench.cluster
        who = np.concatenate([rows.forget, _copies(setup, rows)])
        together = (cluster[who][:, None] == cluster[rows.forget][None]) & np.isin(who, rows.similar)[:, None]
        pair = []
        for member in mine:
            variables = _one(original.population.variables, int(member))
            try:
                scores = _scores(problem, variables, fitted, asked, len(rows.forget))
            except InputError as error:
                return f"who carries the targets is not told: {str(error).rstrip('.')}"
            pair.append((np.diagonal(scores), np.where(together, scores, 0.0).sum(axis=0)))
        owns.append(np.stack([own for own, _ in pair]))
        others.append(np.stack([other for _, other in pair]))
    clusters = [setup.bench.cluster[rows.forget] for rows in level.rows]
    return Values(owns, original.role, clusters), Values(others, original.role, clusters)


def _one(variables: Variables, member: int) -> Variables:
    """One member's variables."""
    own = take_members({name: part for name, part in variables.items() if name != "shared"}, member)
    shared = {"shared": variables["shared"]} if "shared" in variables else {}
    return jax.tree.map(jnp.asarray, own) | shared


def _copies(setup, rows) -> np.ndarray:
    """All stored copies of a request's targets, trained on at this level or not, so that levels share programs."""
    bench = setup.bench
    return np.flatnonzero((bench.origin == 1) & np.isin(bench.cluster, bench.cluster[rows.forget]))


def _batch(setup, rows: np.ndarray, live: np.ndarray) -> Batch:
    """Stored rows, of weight 0 where they are not trained on."""
    at = jnp.asarray(rows)
    return batch_of(setup.stored.inputs[at], setup.stored.targets[at], live.astype(np.float32))


def _asked(setup, rows) -> Batch:
    """The targets and all of their copies."""
    who = np.concatenate([rows.forget, _copies(setup, rows)])
    return _batch(setup, who, np.ones(len(who)))


def _fitted(setup, rows) -> Batch:
    """What the curvature is fitted to: the training set, with copies that are not in it at weight 0."""
    rest = np.sort(rows.rest)
    if len(rest) > MAX_ROWS:
        rest = np.sort(np.random.default_rng([setup.config.seed, 13]).choice(rest, MAX_ROWS, replace=False))
    who = np.concatenate([rows.forget, _copies(setup, rows), rest])
    return _batch(setup, who, np.isin(who, rows.everything))


def _scores(problem, variables: Variables, fitted: Batch, asked: Batch, targets: int) -> np.ndarray:
    """(targets + copies, targets) EK-FAC influence on margins."""
    model, task = problem.model, problem.task
    classes = task.candidates is None and task.token_logprob is None
    select = None if count_parameters(variables) <= SMALL else last_layer(model, variables, fitted)
    labels = "exact" if classes and problem.num_classes <= 20 else "sampled"
    fit = ekfac_fit(model, task, variables, fitted, labels=labels, select=select)
    queries = jax.tree.map(lambda x: x[:targets], asked)
    found = ekfac_influence(
        model, task, variables, asked, queries, fit=fit, quantity="margin", relative_damping=DAMPING
    )
    scores = np.asarray(found, np.float64)
    return scores * float(np.mean(fitted.weight))  # n of the rows that are trained on, not of absent ones beside them

"""Influence closure: ask for those retained samples to be forgotten that carry the request's influence.

Ours: `expand` by influence itself. Similar samples matter because they hold the request's predictions
up, so what is to go with it is what holds them up, however alike it looks. EK-FAC influence (Grosse et al. 2023,
arXiv 2308.03296) of every retained sample on each requested one's margin, under ``models`` originals of the same
request, averaged; in order of influence, samples are taken until they carry the share ``share`` of the positive
influence on that requested sample, at most ``k`` of them, and only those that carry at least ``at_least`` of what the
requested sample carries of itself. In networks of more than 300,000 weights the last layer alone counts.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from unlearn_jax.influence import batch_of, ekfac_fit, ekfac_influence
from unlearn_jax.models import count_parameters
from unlearn_jax.remedies.common import Remedied, Remedy, RemedyContext, by_request, costing, mean_size, moved, without
from unlearn_jax.remedies.likeness import MAX_FITTED, one_of
from unlearn_jax.remedies.search import MANY

PER_ROW = 2.0  # gradient evaluations: one for the curvature, one for the score


def apply(evidence: RemedyContext, settings: dict) -> Remedied:
    """Score, take, then run the method on request and carriers."""
    found = by_request(evidence, lambda member: carriers_of(evidence, member, settings))
    spent = [PER_ROW * settings["models"] * mean_size(rows) for rows in (evidence.requested, evidence.kept)]
    return Remedied(costing(evidence.run(moved(evidence, found)), *spent), found)


def carriers_of(evidence: RemedyContext, member: int, settings: dict) -> np.ndarray:
    """Retained rows that carry a member's request, ascending; there may be none."""
    requested, kept = np.asarray(evidence.requested[member]), np.asarray(evidence.kept[member])
    alike = [i for i, rows in enumerate(evidence.requested) if np.array_equal(rows, requested)][: settings["models"]]
    scores = np.mean([influence_on(evidence, i, np.concatenate([requested, kept]), requested) for i in alike], axis=0)
    on_itself, theirs = np.diagonal(scores[: len(requested)]), scores[len(requested) :]
    taken = [carry(theirs[:, q], on_itself[q], settings) for q in range(len(requested))]
    return np.unique(kept[np.concatenate(taken)]).astype(np.int32)


def carry(theirs: np.ndarray, own: float, settings: dict) -> np.ndarray:
    """Positions of the rows taken for one requested sample, from their influence (n,) on it and its own."""
    positive = np.maximum(theirs, 0.0)
    order = np.argsort(-positive, kind="stable")[: settings["k"]]
    before = np.cumsum(positive[order]) - positive[order]  # what the ones ahead carry
    enough = before < settings["share"] * positive.sum()
    return order[enough & (positive[order] > 0) & (positive[order] >= settings["at_least"] * max(own, 0.0))]


def influence_on(evidence: RemedyContext, member: int, rows: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """(rows, queries) EK-FAC influence on margins under a member's original; positive = holds the margin up."""
    from unlearn_jax.influence.layers import DAMPING, SMALL, last_layer

    model, task = evidence.problem.model, evidence.problem.task
    variables = one_of(evidence, member)
    batch = lambda at: batch_of(*(x[jnp.asarray(at)] for x in evidence.stored), weight=np.ones(len(at), np.float32))
    fitted = rows
    if len(rows) > MAX_FITTED:
        fitted = np.random.default_rng([evidence.seed, 22]).choice(rows, MAX_FITTED, replace=False)
    fitted = batch(np.sort(fitted))
    classes = task.candidates is None and task.token_logprob is None and evidence.problem.num_classes <= 20
    select = None if count_parameters(variables) <= SMALL else last_layer(model, variables, fitted)
    fit = ekfac_fit(model, task, variables, fitted, labels="exact" if classes else "sampled", select=select)
    named: dict[str, Any] = dict(fit=fit, quantity="margin", relative_damping=DAMPING)
    parts = np.array_split(rows, max(1, len(rows) // 2048))
    scores = [ekfac_influence(model, task, variables, batch(part), batch(queries), **named) for part in parts]
    return np.concatenate([np.asarray(part, np.float64) for part in scores])


REMEDY = Remedy(
    name="influence_closure",
    paper="this project; EK-FAC influence: Grosse et al. 2023, arXiv 2308.03296",
    rule="the method, on the request and the retained samples that carry its influence",
    apply=apply,
    numeric={},
    static={"share": 0.5, "k": MANY, "at_least": 0.3, "models": 1},
    methods=without("nothing", "reference"),
    shares=("share",),
)

"""Weight: forget the request's neighbours by how similar they are, and retain them by how similar they are not.

Ours, of the remedies that a study of similar samples suggests (arXiv 2601.06938): instead of deciding, as `expand`
does, a neighbour counts w among what is to be forgotten and 1 - w among what is retained. With d its distance (1 -
cosine) to the nearest requested sample and d0 the distance at which strangers begin (the median over requested
samples of that to the nearest retained sample of the same class that the search did not find), ``w = exp(-(d / (width
d0))^2)``. A ``width`` of infinity is `expand`, a width of 0 is the method alone. Weights enter where a method
averages over a batch: a batch in which all weights are w has the mean that it has at weight 1.
"""

from __future__ import annotations

import numpy as np

from unlearn_jax.remedies.common import Remedied, Remedy, RemedyContext, by_request, costing, without
from unlearn_jax.remedies.search import CHOICES, SEARCH, searched, similarity

NEGLIGIBLE = 1e-6  # weight at which a row leaves a set


def apply(evidence: RemedyContext, settings: dict) -> Remedied:
    """Search, weigh, then run the method with the neighbours in both sets."""
    found, spent = searched(evidence, settings)
    weight = by_request(evidence, lambda member: weights(evidence, member, found[member], settings))
    lists = [
        _lists(kept, requested_rows, rows, w)
        for kept, requested_rows, rows, w in zip(evidence.kept, evidence.requested, found, weight)
    ]
    kept, requested = ([pair[i] for pair in lists] for i in (0, 1))
    tables = (
        [_table(evidence, rows, 1.0 - w) for rows, w in zip(found, weight)],
        [_table(evidence, rows, w) for rows, w in zip(found, weight)],
    )
    treat = evidence.plain._replace(kept=kept, requested=requested, weight=tables)
    return Remedied(costing(evidence.run(treat), *spent), found)


def weights(evidence: RemedyContext, member: int, found: np.ndarray, settings: dict) -> np.ndarray:
    """(len(found),) weight in [0, 1] of each row found among a member's request."""
    requested, kept = np.asarray(evidence.requested[member]), np.asarray(evidence.kept[member])
    if not len(found) or settings["width"] == 0:
        return np.zeros(len(found), np.float32)
    distance = 1.0 - similarity(evidence, member, settings["similarity"], requested, kept)
    theirs = np.isin(kept, found)
    alike = (evidence.labels[requested][:, None] == evidence.labels[kept][None]) | (not settings["same_class"])
    strange = np.where(alike & ~theirs[None], distance, np.inf).min(axis=1)
    begins = np.median(strange[np.isfinite(strange)]) if np.isfinite(strange).any() else 1.0
    near = np.where(alike, distance, np.inf)[:, theirs].min(axis=0)  # columns ascending, as found is
    scale = max(settings["width"] * max(begins, 1e-6), 1e-12)
    return np.exp(-np.square(np.maximum(near, 0.0) / scale)).astype(np.float32)


def _lists(kept: np.ndarray, requested: np.ndarray, rows: np.ndarray, weight: np.ndarray) -> tuple:
    """Retained and requested rows: a neighbour is in both, unless its weight in one is nothing."""
    kept = np.setdiff1d(kept, rows[weight > 1 - NEGLIGIBLE])
    return kept.astype(np.int32), np.concatenate([requested, rows[weight > NEGLIGIBLE]]).astype(np.int32)


def _table(evidence: RemedyContext, rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(n,) 1 for every stored example but for some rows."""
    table = np.ones(len(evidence.labels), np.float32)
    table[rows] = weight
    return table


REMEDY = Remedy(
    name="weight",
    paper="this project, after arXiv 2601.06938",
    rule="neighbours are forgotten at a weight by similarity, and retained at the rest of it",
    apply=apply,
    numeric={"width": 1.0},
    static=dict(SEARCH),
    methods=without("nothing", "protocol", "reference"),
    choices=CHOICES,
)

"""Expand: ask for the nearest neighbours of the request to be forgotten too.

The remedy that a study of similar samples suggests first (arXiv 2601.06938); also as EasyDUB's expanded forget sets.
Neighbours are found by `searched`, then the method runs on the larger request and the smaller retained set.
With the method `retrain` this is the ceiling: everything that was found is gone, at the full price of training.
"""

from __future__ import annotations

from unlearn_jax.remedies.common import Remedied, Remedy, RemedyContext, costing, moved
from unlearn_jax.remedies.search import CHOICES, SEARCH, searched


def apply(evidence: RemedyContext, settings: dict) -> Remedied:
    """Search, then run the method on request and neighbours."""
    found, spent = searched(evidence, settings)
    return Remedied(costing(evidence.run(moved(evidence, found)), *spent), found)


REMEDY = Remedy(
    name="expand",
    paper="arXiv 2601.06938; Rinberg et al. 2026, arXiv 2602.16400 (expanded forget sets)",
    rule="the method, on the request and its nearest neighbours",
    apply=apply,
    numeric={},
    static=dict(SEARCH),
    choices=CHOICES,
)

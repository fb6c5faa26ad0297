"""Likelihood ratio: forget those retained samples that are likelier under the request than under what is retained.

After Allouah et al. 2025 (arXiv 2507.15112), who forget a distribution by deleting the points that are most likely
under it and least under the retained one; known from its abstract. Ours estimates both by kernel densities in the
search's similarity, ``exp((cosine - 1) / h)`` averaged over requested or over retained samples of the same class,
with h = ``width`` times the median distance of requested samples to their ``k``-th nearest retained one. Candidates
are the ``k`` nearest retained samples of each requested one; those whose ratio is above ``ratio`` are taken. A ``k``
of 0 is the largest of 8, 16, 32 and 64 at which half of the candidates are. No candidate counts as retained: copies of
a target that stay would speak for one another, and the more there are, the smaller their ratio (with 4 near copies of
digits, recall fell from .85 to .11 when they did). Settings by precision and recall on other targets than those
reported (digits, ``--skip-requests 4``).
"""

from __future__ import annotations

import numpy as np

from unlearn_jax.remedies.common import Remedied, Remedy, RemedyContext, by_request, costing, moved, without
from unlearn_jax.remedies.search import SIMILARITIES, search_cost, similarity, sizes_of


def apply(evidence: RemedyContext, settings: dict) -> Remedied:
    """Select, then run the method on request and selected."""
    found = by_request(evidence, lambda member: likelier(evidence, member, settings))
    treated = evidence.run(moved(evidence, found))
    return Remedied(costing(treated, *search_cost(evidence, settings["similarity"])), found)


def likelier(evidence: RemedyContext, member: int, settings: dict) -> np.ndarray:
    """Retained rows above the ratio, ascending; there may be none."""
    requested, kept = np.asarray(evidence.requested[member]), np.asarray(evidence.kept[member])
    labels, alike = evidence.labels, not settings["same_class"]
    among = lambda a, b: (labels[a][:, None] == labels[b][None]) | alike
    cosine = similarity(evidence, member, settings["similarity"], requested, kept)
    cosine = np.where(among(requested, kept), cosine, -np.inf)
    order = np.argsort(-cosine, axis=1, kind="stable")
    best = None
    for k in sizes_of(settings["k"], cosine):
        pool, taken = _above(evidence, member, settings, requested, kept, cosine, order[:, :k], among)
        if best is None or 2 * len(taken) >= len(pool):
            best = taken
    assert best is not None  # there is a size to try
    return np.sort(best).astype(np.int32)


def _above(evidence, member, settings: dict, requested, kept, cosine, nearest, among) -> tuple[np.ndarray, np.ndarray]:
    """Candidates and those of them whose ratio is above the least, from the nearest columns of each requested row."""
    last = np.take_along_axis(cosine, nearest[:, -1:], axis=1)
    width = settings["width"] * max(
        float(np.median(1.0 - last[np.isfinite(last)])) if np.isfinite(last).any() else 1, 1e-6
    )
    pool = np.unique(nearest[np.isfinite(np.take_along_axis(cosine, nearest, axis=1))])
    if not len(pool):
        return pool, pool
    rows = np.concatenate([requested, kept])
    back = similarity(evidence, member, settings["similarity"], kept[pool], rows)
    back = np.where(among(kept[pool], rows), back, -np.inf)
    back[:, len(requested) + pool] = -np.inf  # candidates, itself among them, count as neither
    return pool, kept[pool[ratios(back[:, : len(requested)], back[:, len(requested) :], width) > settings["ratio"]]]


def ratios(to_asked: np.ndarray, to_kept: np.ndarray, width: float) -> np.ndarray:
    """(p,) density under the request over that under retained samples, from cosines (p, requested) and (p, retained).

    -inf is "plays no part"; densities are means over those that do, and one without any is 0.
    """
    with np.errstate(divide="ignore"):
        of_asked, of_kept = (_log_density(np.asarray(x, np.float64), width) for x in (to_asked, to_kept))
        return np.exp(np.where(np.isneginf(of_asked), -np.inf, np.minimum(of_asked - of_kept, 700.0)))


def _log_density(cosine: np.ndarray, width: float) -> np.ndarray:
    """(p,) log of the mean kernel over what plays a part; -inf where nothing does."""
    live = np.maximum(np.isfinite(cosine).sum(axis=1), 1)
    return np.logaddexp.reduce((cosine - 1.0) / width, axis=1) - np.log(live)


REMEDY = Remedy(
    name="likelihood_ratio",
    paper="Allouah et al. 2025, arXiv 2507.15112",
    rule="the method, on the request and the retained samples likelier under it than under what is retained",
    apply=apply,
    numeric={"width": 0.1, "ratio": 8.0},
    static={"similarity": "auto", "k": 0, "same_class": True},
    methods=without("nothing", "reference"),
    choices={"similarity": SIMILARITIES},
)

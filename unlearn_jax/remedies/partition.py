"""Partition: split the request into alike parts and run the method on one after the other.

RUM (Zhao et al. 2024, arXiv 2406.01257): how memorised and how entangled samples are decides how hard they are to
unlearn, so parts that are alike are unlearned each in its turn, from where the last left the model. Proxies of ours:
``by`` margin, the mean over originals of the same request (memorised samples of a hard kind have small margins), or
entanglement, the mean cosine of features with the ``k`` nearest retained samples under the first such original. The
request is ordered and cut into ``parts`` of equal size, least entangled or largest margin first; the retained set stays
as it is, and no part sees another. RUM also chooses a method for each part; here it is the one that is wrapped, at its
own length for every part, which multiplies the cost on retained data by the number of parts.
"""

from __future__ import annotations

import numpy as np

from unlearn_jax.errors import InputError, choose
from unlearn_jax.methods.runner import Unlearned
from unlearn_jax.remedies.common import Remedied, Remedy, RemedyContext, by_request, costing, following, without
from unlearn_jax.remedies.distil import scores_cost
from unlearn_jax.remedies.search import similarity

PROXIES = ("margin", "entanglement")


def apply(evidence: RemedyContext, settings: dict) -> Remedied:
    """Split each member's request, then run the method part after part."""
    parts = settings["parts"]
    if min(map(len, evidence.requested)) < parts:
        least = min(map(len, evidence.requested))
        raise InputError(f"a request of {least} cannot be split into {parts} parts: give fewer partition.parts.")
    ranks = hardness(evidence, settings)
    cut = [
        np.array_split(np.asarray(rows)[np.argsort(r, kind="stable")], parts)
        for rows, r in zip(evidence.requested, ranks)
    ]
    whole, start = None, None
    for number in range(parts):
        role = evidence.name if number == 0 else f"{evidence.name}_part{number}"
        requested = [np.sort(one[number]).astype(np.int32) for one in cut] if parts > 1 else evidence.requested
        done = evidence.run(evidence.plain._replace(requested=requested, start=start, role=role))
        whole, start = _after(whole, done), done.population.variables
    assert whole is not None  # there is a part or more
    spent = scores_cost(evidence) if settings["by"] == "entanglement" else (scores_cost(evidence)[0], 0.0)
    return Remedied(costing(whole, *spent) if parts > 1 else whole)


def _after(before: Unlearned | None, last: Unlearned) -> Unlearned:
    """The last part's members, at the costs of all parts."""
    if before is None:
        return last
    joined = following(before.population, last.population)
    return costing(last._replace(population=joined), *before.grad_evals)


def hardness(evidence: RemedyContext, settings: dict) -> list[np.ndarray]:
    """By member, the proxy of each requested row, by which they are ordered, smallest first."""
    if choose("proxy", settings["by"], PROXIES) == "margin":
        rows = np.unique(np.concatenate(evidence.requested))
        margins_of = evidence.context(evidence.plain).margins
        assert margins_of is not None
        margins = margins_of(evidence.original, rows)  # (N, rows)
        return by_request(evidence, lambda member: -_mean_margin(evidence, member, rows, margins))
    return by_request(evidence, lambda member: _entanglement(evidence, member, settings["k"]))


def _mean_margin(evidence: RemedyContext, member: int, rows: np.ndarray, margins: np.ndarray) -> np.ndarray:
    """(requested,) mean margin over members of the same request."""
    requested = np.asarray(evidence.requested[member])
    alike = [i for i, other in enumerate(evidence.requested) if np.array_equal(other, requested)]
    return margins[alike].mean(axis=0)[np.searchsorted(rows, requested)]


def _entanglement(evidence: RemedyContext, member: int, k: int) -> np.ndarray:
    """(requested,) mean cosine of features with the nearest retained rows."""
    requested, kept = np.asarray(evidence.requested[member]), np.asarray(evidence.kept[member])
    cosine = similarity(evidence, member, "features", requested, kept)
    return np.sort(cosine, axis=1)[:, -k:].mean(axis=1)


REMEDY = Remedy(
    name="partition",
    paper="Zhao et al. 2024, arXiv 2406.01257 (RUM)",
    rule="the request is split by how memorised or entangled its samples are, and unlearned part after part",
    apply=apply,
    numeric={},
    static={"parts": 2, "by": "margin", "k": 8},
    methods=without("nothing", "fresh_init", "protocol", "reference", forget=True),
    choices={"by": PROXIES},
    within_request="parts",
)

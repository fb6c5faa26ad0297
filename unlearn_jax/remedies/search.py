"""Who is similar to a request, from the examples and the original models alone: blind to how copies are made.

The defaults were chosen on other targets than those reported (digits, ``--skip-requests 4``; 4 copies, near, far and
near:2), by the precision and recall of the search there. Distances and prices of brief retraining at three values of
``reach`` had been looked at on those targets by then, so that choice was not made without sight of the oracle.
"""

from __future__ import annotations

import numpy as np

from unlearn_jax.errors import InputError, choose
from unlearn_jax.population.plans import FORWARD
from unlearn_jax.remedies.common import RemedyContext, by_request, mean_size
from unlearn_jax.remedies.likeness import SIMILARITIES, influence_rows, misfit, named_similarity, similarity

RULES = ("auto", "carriers", "nearest", "mutual", "standout")
MIN_COSINE = {"aligned": 0.96}  # of a neighbour by default, where a similarity has a level below which nothing is near
SEARCH = {  # settings of a search, for `Remedy.static`
    "similarity": "auto",
    "rule": "auto",
    "k": 0,
    "at_least": 0.0,
    "margin": 0.01,
    "reach": 0.5,
    "same_class": True,
}
CHOICES = {"similarity": SIMILARITIES, "rule": RULES}  # for `Remedy.choices`
FEWEST, MANY = 8, 64  # candidates of a requested row: what adaptive searches begin at, and the most they go to
POWER = 0.5  # of a row's own size in the influence that it is ranked by
PER_ROW = {"features": FORWARD, "influence": 2 * FORWARD}  # gradient evaluations; of the last layer, a forward pass is
# enough for the curvature, and one for the gradients


def found_neighbours(evidence: RemedyContext, member: int, settings: dict) -> np.ndarray:
    """Retained rows that are taken for similar samples of a member's request, ascending.

    The rule ``carriers`` takes those that hold the request up, see `carriers`. The others take, of the ``k`` nearest
    retained rows of each requested one by the similarity, of its class with ``same_class``, at a cosine of ``at_least``
    or more (0 = that of the similarity, see `MIN_COSINE`; there may then be none): ``nearest`` all; ``mutual`` those
    that have the requested row among their own ``k`` nearest; ``standout`` those that are nearer to it than to any
    sample that is neither requested nor a candidate of the same row, by ``margin`` or more (a ratio test, as for
    matching key points). A ``k`` of 0 adapts to each requested row, see `_largest`; ``nearest`` then takes `FEWEST`.
    ``auto`` is carriers for images where neither similarity nor ``k`` nor ``at_least`` is given, else standout.

    Raises:
        InputError: no retained row is as near as an ``at_least`` that was given; settings that do not go together.
    """
    rule = rule_of(evidence, settings)
    requested, kept = np.asarray(evidence.requested[member]), np.asarray(evidence.kept[member])
    if rule == "carriers":
        return carriers(evidence, member, settings, requested, kept)
    cosine = _candidates(evidence, member, settings, requested, kept)
    sizes = sizes_of(settings["k"] or FEWEST * (rule == "nearest"), cosine)
    near = np.argsort(-cosine, axis=1, kind="stable")[:, : sizes[-1]]
    least = settings["at_least"] or MIN_COSINE.get(named_similarity(evidence, settings["similarity"]), 0.0)
    good = np.take_along_axis(cosine, near, axis=1) >= least
    if not good.any() and not settings["at_least"]:
        return np.zeros(0, np.int32)
    if not good.any():
        what = f"no retained sample comes within a cosine of {settings['at_least']:g} of the request"
        raise InputError(f"{what}: give a lower at_least, or another similarity.")
    if rule == "nearest":
        return np.unique(kept[near[good]]).astype(np.int32)
    pool, among = np.unique(near[good]), np.concatenate([requested, kept])
    back = similarity(evidence, member, settings["similarity"], kept[pool], among)
    back[np.arange(len(pool)), len(requested) + pool] = -np.inf  # itself
    judge = _mutual if rule == "mutual" else _stands_out
    by_size = [judge(settings, cosine, near[:, :k], good[:, :k], pool, back) for k in sizes]
    taken = [column for row in zip(*by_size) for column in _largest(row, sizes)]
    return np.unique(kept[taken]).astype(np.int32)


def rule_of(evidence: RemedyContext, settings: dict) -> str:
    """The rule that is meant."""
    rule, by_likeness = settings["rule"], [name for name in ("k", "at_least") if settings[name]]
    if choose("rule", rule, RULES) == "carriers" and by_likeness:
        raise InputError(f"rule 'carriers' has no {by_likeness[0]}: leave it out, or take the rule standout.")
    if rule != "auto":
        return rule
    plain = evidence.kind == "image" and settings["similarity"] == "auto" and not by_likeness
    return "carriers" if plain else "standout"


def carriers(
    evidence: RemedyContext, member: int, settings: dict, requested: np.ndarray, kept: np.ndarray
) -> np.ndarray:
    """Retained rows that carry the request by influence under the member's original, ascending.

    Similar samples matter because they hold the request's predictions up, so they are looked for by that, however alike
    they look. Rows are ranked for each requested one by their EK-FAC influence on its loss, by the last layer, their
    own size at the power `POWER`: influence alone names samples of large gradients for every request, its cosine
    forgets that a sample has to be memorised itself to hold another up. So many are taken as there are effectively:
    ``reach`` times (sum of p)^2 / (sum of p^2) over positive influence p (the participation ratio), which grows with
    the copies that share it, so no number of copies is assumed.
    """
    vectors = influence_rows(evidence, member, np.concatenate([requested, kept]), POWER)
    score = _of_class(evidence, settings, vectors[: len(requested)] @ vectors[len(requested) :].T, requested, kept, 0.0)
    positive = np.maximum(score, 0.0).astype(np.float64)
    count = np.ceil(settings["reach"] * effective_number(positive)).astype(int)
    order = np.argsort(-positive, axis=1, kind="stable")
    taken = (np.arange(len(kept)) < count[:, None]) & (np.take_along_axis(positive, order, axis=1) > 0)
    return np.unique(kept[order[taken]]).astype(np.int32)


def effective_number(weights: np.ndarray) -> np.ndarray:
    """How many of each row's weights >= 0 count: (sum w)^2 / sum w^2, 0 where all are 0; (q, n) -> (q,).

    Example:
        >>> effective_number(np.array([[2.0, 2.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])).tolist()
        [2.0, 1.0, 0.0]
    """
    total, squares = weights.sum(axis=1), (weights**2).sum(axis=1)
    return np.where(squares > 0, total**2 / np.where(squares > 0, squares, 1.0), 0.0)


def _candidates(
    evidence: RemedyContext, member: int, settings: dict, requested: np.ndarray, kept: np.ndarray
) -> np.ndarray:
    """(requested, kept) cosines, -inf where a row does not come into question."""
    cosine = similarity(evidence, member, settings["similarity"], requested, kept)
    return _of_class(evidence, settings, cosine, requested, kept, -np.inf)


def _of_class(evidence: RemedyContext, settings: dict, values: np.ndarray, requested, kept, other: float) -> np.ndarray:
    """The values, ``other`` where classes differ, if they may not."""
    if not settings["same_class"]:
        return values
    return np.where(evidence.labels[requested][:, None] == evidence.labels[kept][None], values, np.float32(other))


def sizes_of(k: int, cosine: np.ndarray) -> list[int]:
    """Numbers of candidates to try: the one given; adaptively, doubled while most of a class are left as strangers."""
    count = cosine.shape[1]
    if k:
        return [min(k, count)]
    in_question = int(np.isfinite(cosine).sum(axis=1).min())
    return [min(FEWEST, count)] + [n for n in (16, 32, MANY) if n <= in_question // 4]


def _largest(taken: tuple[list[int], ...], sizes: list[int]) -> list[int]:
    """Of what a requested row takes at each size, that at the largest at which half of the candidates are taken.

    With fewer candidates than it has similar samples, those left out count as strangers and nothing is taken; with many
    more, most are refused. Where no size has half, the first.
    """
    enough = [rows for rows, size in zip(taken, sizes) if 2 * len(rows) >= size]
    return enough[-1] if enough else taken[0]


def _mutual(settings: dict, cosine, near, good, pool, back) -> list[list[int]]:
    """By requested row, candidates that have it among their own nearest; columns of ``kept``."""
    among = np.argsort(-back, axis=1, kind="stable")[:, : near.shape[1]]
    at = {int(row): place for place, row in enumerate(pool)}
    of_query = enumerate(zip(near, good))
    return [[c for c in candidates[ok].tolist() if q in among[at[c]]] for q, (candidates, ok) in of_query]


def _stands_out(settings: dict, cosine, near, good, pool, back) -> list[list[int]]:
    """By requested row, candidates nearer to it than to all samples that are no candidates; columns of ``kept``."""
    taken, count = [], len(near)
    at = {int(row): place for place, row in enumerate(pool)}
    for query in range(count):
        candidates = near[query][good[query]]
        places = np.asarray([at[c] for c in candidates.tolist()], int)
        others = back[places]
        others[:, :count] = -np.inf  # requested ones are forgotten in any case
        others[:, count + candidates] = -np.inf
        closest = np.maximum(back[places, query], cosine[query, candidates])
        taken.append(candidates[closest - others.max(axis=1, initial=-np.inf) >= settings["margin"]].tolist())
    return taken


def searched(evidence: RemedyContext, settings: dict) -> tuple[list[np.ndarray], tuple[float, float]]:
    """`found_neighbours` of every member, and the gradient evaluations that it took on request and retained data."""
    found = by_request(evidence, lambda member: found_neighbours(evidence, member, settings))
    by_influence = rule_of(evidence, settings) == "carriers"
    name = "influence" if by_influence else named_similarity(evidence, settings["similarity"])
    return found, search_cost(evidence, name)


def search_cost(evidence: RemedyContext, name: str) -> tuple[float, float]:
    """Gradient evaluations a member that a similarity of all training rows takes, on request and retained data."""
    each = PER_ROW.get(named_similarity(evidence, name), 0.0)
    return each * mean_size(evidence.requested), each * mean_size(evidence.kept)


__all__ = [
    "CHOICES", "RULES", "SEARCH", "SIMILARITIES", "carriers", "effective_number", "found_neighbours", "misfit",
    "rule_of", "search_cost", "searched", "similarity", "sizes_of",
]  # fmt: skip

"""The Pareto frontier of populations: those that no other beats in every figure that is to be small.

A population is on the frontier of, say, residual distance, excess price and cost where every other one is worse in
one of them, or as good in all. Which populations these are depends on the seeds and the targets, so the frontier is
taken in each of the shared draws too: the share of draws in which a population is on it says how firm its place is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from unlearn_jax.errors import InputError
from unlearn_jax.metrics.draws import Draws


class Frontier(NamedTuple):
    """Which populations are on the frontier, and how firmly."""

    on: np.ndarray  # (P,) bool, by the figures themselves
    share: np.ndarray  # (P,) share of the draws, members and clusters drawn, in which it is on the frontier
    share_members: np.ndarray  # (P,) the same, members drawn alone


def pareto_set(points: np.ndarray) -> Bool[np.ndarray, "... P"]:
    """Which points no other point dominates: is smaller in one figure and larger in none.

    Args:
        points: (..., P, K), K figures of P populations that are to be small; leading axes are draws.

    Returns:
        (..., P) bool. Equal points do not dominate each other. A point with a figure that is not finite (a population
        that diverged) is never on the frontier, and dominates none.

    Raises:
        InputError: no axis of populations, or none of figures.

    Example:
        >>> pareto_set(np.array([[0.1, 3.0], [0.5, 0.2], [0.6, 0.4], [0.5, 0.2]])).tolist()
        [True, True, False, True]
    """
    points = np.asarray(points, np.float64)
    if points.ndim < 2 or points.shape[-1] == 0:
        raise InputError(f"points are {points.shape}: give (populations, figures) with at least one figure.")
    finite = np.all(np.isfinite(points), axis=-1)
    points = np.where(finite[..., None], points, np.inf)
    on = np.empty(points.shape[:-1], bool)
    for i in range(points.shape[-2]):  # a table of all pairs in all draws would be large
        one = points[..., i : i + 1, :]
        beaten = (points <= one).all(axis=-1) & (points < one).any(axis=-1)
        on[..., i] = finite[..., i] & ~beaten.any(axis=-1)
    return on


def frontier(*figures: Sequence[Draws | float]) -> Frontier:
    """The frontier of populations by several figures, and the share of the shared draws in which each is on it.

    Args:
        figures: one sequence each, with an entry for every population in the same order: `Draws` made from one seed,
            or numbers without an interval, such as a cost.

    Returns:
        `Frontier`. Without noise shares are 0 or 1 and agree with ``on``. Draws in which a population is not defined
        count as draws in which it is not on the frontier.

    Raises:
        InputError: no figure, figures of other numbers of populations, draws of other numbers of resamples, or no
            draws at all.

    Example:
        >>> near, far = (Draws(v, v + np.zeros(4), v + np.zeros(4), 8) for v in (0.2, 0.9))
        >>> frontier([near, far], [1.0, 3.0]).share.tolist()
        [1.0, 0.0]
    """
    numbers = {len(f) for f in figures}
    if len(numbers) != 1:
        raise InputError("figures are of different numbers of populations, or none: give each for every population.")
    lengths = {len(d.both) for f in figures for d in f if isinstance(d, Draws)}
    if len(lengths) != 1:
        raise InputError(f"draws have {sorted(lengths)} resamples: make all of them with one seed and number.")
    table = lambda part: np.stack([_column(f, part, next(iter(lengths))) for f in figures], axis=-1)
    plain = np.array([[d.value if isinstance(d, Draws) else float(d) for d in f] for f in figures]).T
    both, members = (pareto_set(table(part)).mean(axis=0) for part in ("both", "members"))
    return Frontier(pareto_set(plain), both, members)


def _column(figures: Sequence[Draws | float], part: str, resamples: int) -> np.ndarray:
    """(resamples, P) draws of one figure, a number repeated."""
    each = [getattr(d, part) if isinstance(d, Draws) else np.full(resamples, float(d)) for d in figures]
    return np.stack(each, axis=-1)


def drawn(function: Callable[..., np.ndarray], *draws: Draws) -> Draws:
    """A function of several figures as draws, for figures that are made of figures (a price, the larger of two).

    Args:
        function: maps as many numbers, or arrays of draws, as there are ``draws`` to one.
        draws: made from the same seed.

    Returns:
        `Draws` with the fewest members, clusters and degrees of freedom of them all.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(function(*(np.float64(d.value) for d in draws)))
        both, members = function(*(d.both for d in draws)), function(*(d.members for d in draws))
    least = lambda name: min(getattr(d, name) for d in draws)
    roles = {d.role for d in draws}
    counts = (least("n"), least("clusters"), least("freedom"), least("cluster_freedom"))
    return Draws(value, both, members, *counts, roles.pop() if len(roles) == 1 else "")

"""From arrays to figures with intervals and null bands; the same few ways for every metric."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from unlearn_jax.audits.records import NO_BAND
from unlearn_jax.metrics import Draws, Estimate, Values, combine, mean_draws
from unlearn_jax.metrics.bands import SPLITS, NullBand, split_band
from unlearn_jax.metrics.resampling import DRAWS, subset_draws


class Precision(NamedTuple):
    """How many draws stand behind an interval and a band."""

    draws: int = DRAWS
    splits: int = SPLITS
    resamples: int = 2000
    seed: int = 0


def applied(function: Callable[..., np.ndarray], *draws: Draws) -> Draws:
    """A function of figures, on their values and draw by draw."""
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(function(*(np.float64(d.value) for d in draws)))
        both, members = function(*(d.both for d in draws)), function(*(d.members for d in draws))
    few = lambda name: min(getattr(d, name) for d in draws)
    return Draws(value, both, members, few("n"), few("clusters"), few("freedom"))


def averaged(draws: Sequence[Draws]) -> Draws:
    """Mean of the figures of independent requests."""
    total = lambda name: sum(getattr(d, name) for d in draws)
    mean = lambda name: np.mean([getattr(d, name) for d in draws], axis=0)
    return Draws(float(mean("value")), mean("both"), mean("members"), total("n"), total("clusters"), total("freedom"))


def plain(draws: Draws, low: float = -np.inf, high: float = np.inf) -> Estimate:
    """The figure with its bootstrap interval, cut to its range."""
    return combine(lambda x: x, draws, low=low, high=high)


def member_draws(tables: list[np.ndarray], role: str, clusters: list[np.ndarray] | None, how: Precision) -> Draws:
    """Draws of a mean over members and examples.

    Args:
        tables: by request, (members, examples), or (members,) for a figure of each model.
        role: whose member draws it shares.
        clusters: by request; None = each example its own.
        how: number of draws and their seed.
    """
    blocks = [table[:, None] if table.ndim == 1 else table for table in tables]
    if clusters is not None and any(len(c) != b.shape[1] for c, b in zip(clusters, blocks)):
        clusters = None
    return mean_draws(Values(blocks, role, clusters), seed=how.seed, resamples=how.resamples)


def pooled_members(populations: list[list[np.ndarray]]) -> list[np.ndarray]:
    """Members of several populations of one kind together, by request; each (members, examples, ...)."""
    return [np.concatenate([x[:, None] if x.ndim == 1 else x for x in parts]) for parts in zip(*populations)]


def null_band(figure: Callable, pools: list[np.ndarray], members: int, sides: int, how: Precision) -> NullBand:
    """Where a figure of two populations of ``members`` members lies that differ in nothing but their seeds.

    Args:
        figure: two populations (members, examples, ...) and the number of the request -> number.
        pools: by request, the members to draw both from; where there are too few, parts of half of them.
        members: of each population.
        sides: 2, 1 for distances, or -1 for likenesses.
        how: number of splits.
    """
    bands = []
    for request, pool in enumerate(pools):
        pool = pool[~np.isnan(pool).any(axis=tuple(range(1, pool.ndim)))]
        if len(pool) < 2:
            return NO_BAND
        size, one = min(members, len(pool) // 2), functools.partial(figure, request=request)
        bands.append(split_band(one, pool, members=size, sides=sides, splits=how.splits, seed=how.seed))
    if len(bands) == 1:
        return bands[0]
    mean, root = np.mean([b.centre for b in bands]), np.sqrt(len(bands))  # the mean of independent figures varies less
    low, high = (np.mean([getattr(b, end) - b.centre for b in bands]) / root for end in ("low", "high"))
    return NullBand(float(mean + low), float(mean + high), float(mean), min(b.members for b in bands))


def gap_of_means(a: np.ndarray, b: np.ndarray, request: int = 0) -> float:
    """Difference of two populations' means."""
    return float(np.mean(a) - np.mean(b))


def pair_draws(
    figure: Callable[..., np.ndarray], populations: list[list[np.ndarray]], roles: list[str], clusters, how: Precision
) -> Draws:
    """Draws of the mean over examples of a per-example figure of several populations, averaged over requests.

    Args:
        figure: the populations and ``request=`` -> (n,).
        populations: by request, the arrays (members, n, ...).
        roles: of the populations.
        clusters: by request, (n,).
        how: number of draws.
    """
    found = []
    for request, (parts, own) in enumerate(zip(populations, clusters)):
        one = functools.partial(figure, request=request)
        draws = subset_draws(one, *parts, clusters=own, roles=roles, seed=how.seed + request, resamples=how.draws)
        alive = [int((~np.isnan(p).reshape(len(p), -1).any(axis=1)).sum()) for p in parts]
        found.append(draws._replace(n=min(alive)))
    return averaged(found)

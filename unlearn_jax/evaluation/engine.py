"""From arrays to figures with intervals and null bands; the same few ways for every metric."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from unlearn_jax.evaluation.records import NO_BAND
from unlearn_jax.metrics import Draws, Values, mean_draws
from unlearn_jax.metrics.bands import SPLITS, NullBand, split_band
from unlearn_jax.metrics.draws import cluster_counts
from unlearn_jax.metrics.resampling import DRAWS, subset_draws
from unlearn_jax.metrics.summary import estimate_of

plain = estimate_of  # the name by which `unlearn_jax.own` knows it


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
    clusters = min((d.clusters for d in draws if d.clusters > 1), default=1)  # 1 = no examples were drawn
    return Draws(value, both, members, min(d.n for d in draws), clusters, min(d.freedom for d in draws))


def averaged(draws: Sequence[Draws]) -> Draws:
    """Mean of the figures of independent requests."""
    total = lambda name: sum(getattr(d, name) for d in draws)
    mean = lambda name: np.mean([getattr(d, name) for d in draws], axis=0)
    return Draws(float(mean("value")), mean("both"), mean("members"), total("n"), total("clusters"), total("freedom"))


def nothing(draws: Draws) -> Draws:
    """The draws of a figure that is not defined."""
    return draws._replace(value=np.nan, both=np.full_like(draws.both, np.nan), members=np.full_like(draws.both, np.nan))


def member_draws(
    tables: list[np.ndarray], role: str, clusters: list[np.ndarray] | None, how: Precision, shared: bool = False
) -> Draws:
    """Draws of a mean over members and examples, or over members alone.

    Args:
        tables: by request, (members, examples), or (members,) for a figure of each model, of which no examples are
            drawn.
        role: whose member draws it shares.
        clusters: by request; None = each example its own.
        how: number of draws and their seed.
        shared: whether a cluster number means the same examples under every request.
    """
    setting: dict[str, Any] = {"seed": how.seed, "resamples": how.resamples}
    if tables[0].ndim == 1:
        draws = mean_draws(Values([table[:, None] for table in tables], role), **setting)
        return draws._replace(both=draws.members, clusters=1, cluster_freedom=0)
    if clusters is not None and any(len(c) != t.shape[1] for c, t in zip(clusters, tables)):
        clusters = None
    return mean_draws(Values(tables, role, clusters, shared and clusters is not None), **setting)


def pooled_members(populations: list[list[np.ndarray]]) -> list[np.ndarray]:
    """Members of several populations of one kind together, by request; each (members, examples, ...)."""
    return [np.concatenate([x[:, None] if x.ndim == 1 else x for x in parts]) for parts in zip(*populations)]


def null_band(
    figure: Callable, pools: list[np.ndarray], sizes: list[tuple[int, int]], sides: int, how: Precision
) -> NullBand:
    """Where a figure of two populations lies that differ in nothing but their seeds.

    Args:
        figure: two populations (members, examples, ...) and the number of the request -> number.
        pools: by request, the members to draw both from; where there are too few, smaller parts in proportion.
        sizes: by request, members of the one and of the other population.
        sides: 2, 1 for distances, or -1 for likenesses.
        how: number of splits.
    """
    bands = []
    for request, (pool, members) in enumerate(zip(pools, sizes)):
        pool = pool[~np.isnan(pool).any(axis=tuple(range(1, pool.ndim)))]
        if len(pool) < 2 or min(members) < 1:
            return NO_BAND
        one, other = members
        if one + other > len(pool):
            one = min(len(pool) - 1, max(1, round(len(pool) * one / (one + other))))
            other = len(pool) - one
        figure_of = functools.partial(figure, request=request)
        bands.append(split_band(figure_of, pool, members=(one, other), sides=sides, splits=how.splits, seed=how.seed))
    if len(bands) == 1:
        return bands[0]
    mean, root = np.mean([b.centre for b in bands]), np.sqrt(len(bands))  # the mean of independent figures varies less
    low, high = (np.mean([getattr(b, end) - b.centre for b in bands]) / root for end in ("low", "high"))
    return NullBand(float(mean + low), float(mean + high), float(mean), min(b.members for b in bands))


def finite(table: np.ndarray) -> int:
    """Members without a NaN."""
    return int((~np.isnan(table).reshape(len(table), -1).any(axis=1)).sum())


def gap_of_means(a: np.ndarray, b: np.ndarray, request: int = 0) -> float:
    """Difference of two populations' means."""
    return float(np.mean(a) - np.mean(b))


def pair_draws(
    figure: Callable[..., np.ndarray],
    populations: Sequence[Sequence[np.ndarray]],
    roles: list[str],
    clusters: list[np.ndarray],
    how: Precision,
    shared: bool = False,
) -> Draws:
    """Draws of the mean over examples of a per-example figure of several populations, averaged over requests.

    Args:
        figure: the populations and ``request=`` -> (n,).
        populations: by request, the arrays (members, n, ...).
        roles: of the populations.
        clusters: by request, (n,).
        how: number of draws.
        shared: whether a cluster number means the same examples under every request.
    """
    by_request = []
    for request, (parts, own) in enumerate(zip(populations, clusters)):
        one = functools.partial(figure, request=request)
        draws = subset_draws(one, *parts, clusters=own, roles=roles, seed=how.seed + request, resamples=how.draws)
        by_request.append(draws._replace(n=min(map(finite, parts))))
    whole = averaged(by_request)
    if len(by_request) == 1 or not (shared or min(d.clusters for d in by_request) == 1):
        return whole
    values = [figure(*parts, request=request) for request, parts in enumerate(populations)]
    names = [own if shared else [f"{request} {c}" for c in own] for request, own in enumerate(clusters)]
    return _clusters_together(whole, values, names, how)


def _clusters_together(whole: Draws, values: list[np.ndarray], clusters: list, how: Precision) -> Draws:
    """Draws in which the clusters of all requests are drawn at once, every request weighing alike."""
    names, at = np.unique(np.concatenate(clusters), return_inverse=True)
    if len(names) < 2:
        return whole._replace(both=whole.members, clusters=1)
    counts = cluster_counts(how.seed, 0, len(names), len(whole.both))[:, at]
    weight = np.concatenate([np.full(len(v), 1.0 / len(v)) for v in values])
    drawn = counts @ (weight * np.concatenate(values)) / (counts @ weight)
    apart = np.sqrt(len(names) / (len(names) - 1.0)) * (drawn - drawn.mean())
    return whole._replace(both=whole.members + apart, clusters=len(names))

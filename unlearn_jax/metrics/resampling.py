"""Intervals and null bands for figures that are no means over members: KLOM, attacks, distances between populations.

Drawing members with replacement spoils such figures: a member drawn twice makes a sample look more certain than it is,
and stands on both sides of a cross-fit. Members are therefore drawn without replacement, in halves: the spread of a
figure over halves is that of the figure itself over populations. Clusters of examples are drawn with replacement, as
everywhere. An interval speaks of the figure to be expected of populations of this size; its small-sample bias is not
taken away but shown by the null band.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.metrics.summary import Draws, Estimate, _generator, cluster_counts

HALVES = 400  # draws behind an interval
SPLITS = 200  # draws behind a null band


def half_draws(
    figure: Callable[..., np.ndarray],
    *populations: np.ndarray,
    clusters: np.ndarray | None = None,
    roles: Sequence[str] | None = None,
    seed: int = 0,
    resamples: int = HALVES,
) -> Draws:
    """Draws of the mean over examples of a per-example figure of whole populations.

    Args:
        figure: maps the populations, each with some of its members, to (n,) values.
        populations: each (members, n, ...). One with a single member is never halved.
        clusters: (n,) cluster number of each example, drawn together; None = each its own.
        roles: names of the populations' draws; populations of one name and size draw the same members.
        seed: of the draws; figures made from the same seed combine draw by draw.
        resamples: number of draws.

    Example:
        >>> import numpy as np
        >>> spread = lambda x: x.std(axis=0)
        >>> half_draws(spread, np.array([[0.0], [2.0], [0.0], [2.0]]), resamples=20).value
        1.0
    """
    whole = np.asarray(figure(*populations), np.float64)
    by_members = np.stack([figure(*parts) for parts in _halves(populations, roles, seed, resamples)]).mean(axis=1)
    counts = _example_counts(len(whole), clusters, seed, resamples)
    by_clusters = counts @ whole / counts.sum(axis=1)
    joined = _joined(whole.mean(), by_members, by_clusters, populations, _count(len(whole), clusters))
    return joined._replace(freedom=_freedom(populations, roles))


def half_draws_pooled(
    figure: Callable[..., float],
    *populations: np.ndarray,
    examples: Sequence[str] | None = None,
    clusters: dict[str, np.ndarray] | None = None,
    roles: Sequence[str] | None = None,
    seed: int = 0,
    resamples: int = HALVES,
) -> Draws:
    """Draws of a figure of whole populations that pools its examples: the area under one ROC curve, CKA, MMD.

    Args:
        figure: maps the populations, each with some of its members or some of its examples, to a number.
        populations: each (members, examples, ...).
        examples: name of each population's examples; those of one name draw the same. None = all are the same ones.
        clusters: by that name, each example's cluster number; each its own where the name is not there.
        roles: as in `half_draws`.
        seed: of the draws.
        resamples: number of draws.

    Example:
        >>> import numpy as np
        >>> half_draws_pooled(np.std, np.array([[0.0, 1.0], [0.0, 1.0]]), resamples=20).value
        0.5
    """
    names, clusters = list(examples or ["examples"] * len(populations)), clusters or {}
    sizes = {name: population.shape[1] for name, population in zip(names, populations)}
    by_members = np.asarray([figure(*parts) for parts in _halves(populations, roles, seed, resamples)])
    counts = {k: _example_counts(n, clusters.get(k), seed, resamples, i) for i, (k, n) in enumerate(sizes.items())}
    by_clusters = np.empty(resamples)
    for r in range(resamples):
        at = {name: np.repeat(np.arange(sizes[name]), row[r].astype(int)) for name, row in counts.items()}
        by_clusters[r] = figure(*(p[:, at[name]] for p, name in zip(populations, names)))
    fewest = min(_count(n, clusters.get(name)) for name, n in sizes.items())
    joined = _joined(float(figure(*populations)), by_members, by_clusters, populations, fewest)
    return joined._replace(freedom=_freedom(populations, roles))


def _joined(value: float, by_members: np.ndarray, by_clusters: np.ndarray, populations, clusters: int) -> Draws:
    """Deviations of both kinds, added draw by draw about the value."""
    centred = lambda x: x - np.nanmean(x) if np.isfinite(x).any() else np.full(len(x), np.nan)
    widened = np.sqrt(clusters / (clusters - 1.0)) if clusters > 1 else np.nan
    members = value + centred(by_members)
    return Draws(float(value), members + widened * centred(by_clusters), members, min(map(len, populations)), clusters)


def _halves(populations, roles, seed: int, resamples: int) -> Iterator[list[np.ndarray]]:
    """The populations with a random half of their members each, odd numbers rounded down and up in turn."""
    roles = list(roles or [f"population {i}" for i in range(len(populations))])
    orders = [
        np.argsort(_generator(seed, "half", role, len(p)).random((resamples, len(p))), axis=1)
        for role, p in zip(roles, populations)
    ]
    for r in range(resamples):
        sizes = [max(1, (len(p) + r % 2) // 2) for p in populations]
        yield [p[np.sort(order[r, :size])] for p, order, size in zip(populations, orders, sizes)]


def _example_counts(n: int, clusters, seed: int, resamples: int, block: int = 0) -> np.ndarray:
    """How often each of n examples is drawn, whole clusters at a time; (resamples, n)."""
    known, own = np.unique(np.arange(n) if clusters is None else clusters, return_inverse=True)
    return cluster_counts(seed, block, len(known), resamples)[:, own]


def _freedom(populations, roles) -> int:
    """Degrees of freedom of populations that vary alike; those that draw the same members count once."""
    return sum({role: len(p) - 1 for role, p in zip(roles or range(len(populations)), populations)}.values())


def _count(n: int, clusters) -> int:
    """Number of clusters."""
    return n if clusters is None else len(np.unique(clusters))


def t_estimate(draws: Draws, *, low: float = -np.inf, high: float = np.inf, level: float = 0.95) -> Estimate:
    """Student's t interval with the spread of the draws, cut to the figure's range.

    Degrees of freedom by Welch and Satterthwaite from the variance that members bring and the variance that clusters
    bring, which adds to it.

    Args:
        draws: of `half_draws` or `half_draws_pooled`, or a function of several made from the same seed.
        low: smallest value that the figure can have.
        high: largest value.
        level: of the interval.

    Returns:
        NaN bounds with a single member and a single cluster.

    Example:
        >>> import numpy as np
        >>> found = t_estimate(Draws(0.5, np.array([0.4, 0.6]), np.array([0.5, 0.5]), 8, 30), low=0.0, high=1.0)
        >>> round(found.ci_low, 3), round(found.ci_high, 3)
        (0.211, 0.789)
    """
    by_members, both = (float(np.nanvar(d, ddof=1)) if np.isfinite(d).sum() > 1 else np.nan for d in draws[2:0:-1])
    members, clusters = draws.freedom or max(1, draws.n - 1), max(1, draws.clusters - 1)
    by_clusters = max(0.0, both - by_members)
    total = by_members**2 / members + by_clusters**2 / clusters
    freedom = both**2 / total if total > 0 else members
    bounds = [_t_bounds(draws.value, v, f, level) for v, f in ((both, freedom), (by_members, members))]
    if draws.n < 2:  # one member says nothing of its spread
        bounds[1] = (np.nan, np.nan)
    return Estimate(draws.value, *(float(x) for x in np.clip(np.ravel(bounds), low, high)), draws.n)


def _t_bounds(value: float, variance: float, freedom: float, level: float) -> tuple[float, float]:
    """Bounds of a t interval."""
    from scipy.special import stdtrit

    half = stdtrit(freedom, (1 + level) / 2) * np.sqrt(variance) if np.isfinite(variance) else np.nan
    return value - half, value + half


class NullBand(NamedTuple):
    """Where a figure lies for two populations of the same kind that differ in nothing but their seeds."""

    low: float
    high: float
    mean: float  # what a perfect method shows at this size: the small-sample bias of the figure
    members: int  # of each of the two populations


def split_band(
    figure: Callable[[np.ndarray, np.ndarray], float],
    oracle: np.ndarray,
    *,
    members: int = 0,
    sides: int = 2,
    splits: int = SPLITS,
    level: float = 0.95,
    seed: int = 0,
) -> NullBand:
    """Null band of a figure of two populations, by splitting the oracle's members at random in two.

    The figures of small populations depend on their size (two alike of 8 members are 6 nats apart by KLOM), so a band
    is right for populations as large as the parts. Give an oracle with twice the members of the populations that are
    compared; with one of the same size the parts have half of the members each, and the band is too wide.

    Args:
        figure: maps two populations to a number.
        oracle: (members, examples, ...), at least two members.
        members: of each part; 0 = half of the oracle's.
        sides: 2 = the middle 95% of the figures, 1 = from the lowest up to the 95% quantile, for distances.
        splits: number of random splits.
        level: share of null populations that the band is to hold.
        seed: of the splits.

    Raises:
        InputError: an oracle with too few members.

    Example:
        >>> import numpy as np
        >>> gap = lambda a, b: a.mean() - b.mean()
        >>> split_band(gap, np.zeros((8, 3))).members
        4
    """
    members = members or len(oracle) // 2
    if members < 1 or 2 * members > len(oracle):
        raise InputError(
            f"an oracle of {len(oracle)} members has no two parts of {max(1, members)}: give it more members."
        )
    rng = _generator(seed, "split", len(oracle), members)
    found = np.empty(splits)
    for r in range(splits):
        order = rng.permutation(len(oracle))
        found[r] = figure(oracle[order[:members]], oracle[order[members : 2 * members]])
    found = found[~np.isnan(found)]
    if not len(found):
        return NullBand(np.nan, np.nan, np.nan, members)
    low, high = (0.0, level) if sides == 1 else ((1 - level) / 2, (1 + level) / 2)
    return NullBand(float(np.quantile(found, low)), float(np.quantile(found, high)), float(found.mean()), members)

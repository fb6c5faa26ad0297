"""Intervals by two-way resampling of members and clusters, with draws that are shared wherever the design says so.

NumPy only, in float64. Values come as one array (members, examples), or a list of such blocks, one per request: each
request has its own members and its own clusters, and a pooled figure weighs every cluster alike. A member with a
non-finite value has diverged: it gets weight zero and is counted, never averaged in.

Intervals are expanded percentile intervals (Hesterberg, arXiv 1411.5279): quantiles of the draws further out than 2.5%
and 97.5%, by what the bootstrap's spread and the normal quantile are too small with few members and few clusters.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.metrics.arrays import as_level, cluster_numbers

RESAMPLES = 2000
BEYOND = 4  # draws that are to lie beyond a quantile
STARTED = "original"  # role whose member draws are shared by every method that started from it


class Estimate(NamedTuple):
    """A figure with its 95% intervals; NaN where it is not defined."""

    value: float
    ci_low: float  # members and clusters resampled
    ci_high: float
    ci_members_low: float  # members alone
    ci_members_high: float
    n: int  # members that count


class Values(NamedTuple):
    """A population's per-example values, with the draws that it shares.

    ``blocks`` holds one (members, examples) array per request; ``role`` names the member draws (methods started from
    the originals share theirs); ``clusters`` gives each example's cluster number within its block, None = its own.
    ``shared`` says that blocks look at the same examples (test images under several requests): then a cluster number
    means the same cluster in every block, and it is drawn once for all of them.
    """

    blocks: list[np.ndarray]
    role: str
    clusters: list[np.ndarray] | None = None
    shared: bool = False

    @property
    def diverged(self) -> int:
        """Members with a value that is not finite."""
        return sum(int((~np.isfinite(b).all(axis=1)).sum()) for b in self.blocks)

    @property
    def members(self) -> int:
        """Members that count."""
        return sum(len(b) for b in self.blocks) - self.diverged


def as_values(data, role: str = STARTED, clusters=None) -> Values:
    """``data`` as `Values`: an array (members, examples), a list of blocks, or `Values` already.

    Raises:
        InputError: a block that is not two-dimensional, or has no member or no example; `Draws`; clusters that are not
            one number for each example of each block.
    """
    if isinstance(data, Values):
        return data
    if isinstance(data, Draws):
        raise InputError("draws of a mean cannot be taken apart again: give the values, (members, examples).")
    apart = isinstance(data, Sequence) and len(data) > 0 and np.ndim(data[0]) > 1
    blocks = [np.asarray(b, np.float64) for b in (data if apart else [data])]
    for block in blocks:
        if block.ndim != 2 or 0 in block.shape:
            raise InputError(f"values are {block.shape}: give (members, examples) with at least one of each.")
    if clusters is not None and not isinstance(clusters, list):
        clusters = [clusters]
    return Values(blocks, role, clusters)


def _generator(seed: int, *names) -> np.random.Generator:
    """A generator fixed by the seed and the names."""
    return np.random.default_rng([seed, *(zlib.crc32(str(n).encode()) for n in names)])


@functools.lru_cache(maxsize=64)
def member_counts(seed: int, role: str, block: int, members: int, resamples: int) -> np.ndarray:
    """How often each member is drawn in each resample; (resamples, members), the same for every user of the role."""
    return _counts(_generator(seed, "member", role, block, members), members, resamples)


@functools.lru_cache(maxsize=8)
def cluster_counts(seed: int, block: int, clusters: int, resamples: int) -> np.ndarray:
    """How often each cluster is drawn in each resample; (resamples, clusters), shared by all populations."""
    return _counts(_generator(seed, "cluster", block, clusters), clusters, resamples)


def _counts(rng: np.random.Generator, n: int, resamples: int) -> np.ndarray:
    """Multinomial counts of ``n`` draws from ``n``, a row per resample."""
    drawn = rng.integers(n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float64)
    counts.flags.writeable = False
    return counts


def member_means(values: Values, seed: int, resamples: int) -> list[np.ndarray]:
    """Per block, each example's mean over drawn members; (1 + resamples, examples), row 0 the plain mean."""
    out = []
    for index, block in enumerate(values.blocks):
        alive = np.isfinite(block).all(axis=1)
        weight = (
            np.concatenate([np.ones((1, len(block))), member_counts(seed, values.role, index, len(block), resamples)])
            * alive
        )
        total = weight.sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            out.append(np.where(total > 0, (weight @ np.where(alive[:, None], block, 0.0)) / total, np.nan))
    return out


def example_weights(values: Values, seed: int, resamples: int) -> list[np.ndarray]:
    """Per block, how often each example counts when whole clusters are resampled; (1 + resamples, examples).

    Each block draws its own clusters, unless some block has a single one, which alone would show no spread: then the
    clusters of all blocks are drawn together.
    """
    clusters, names = _clusters(values)
    together, start, out = not values.shared and len(names) > 1 and min(map(len, names)) == 1, 0, []
    for index, (cluster, known) in enumerate(zip(clusters, names)):
        total = sum(map(len, names)) if together else len(known)
        counts = cluster_counts(seed, 0 if values.shared or together else index, total, resamples)
        drawn = counts[:, start + np.searchsorted(known, cluster)]
        start += len(known) if together else 0
        out.append(np.concatenate([np.ones((1, len(cluster))), drawn]))
    return out


def _clusters(values: Values) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Per block, each example's cluster and the clusters that are drawn."""
    told = [None] * len(values.blocks) if values.clusters is None else values.clusters
    if len(told) != len(values.blocks):
        raise InputError(f"clusters are given for {len(told)} of {len(values.blocks)} blocks: give them for each.")
    clusters = [cluster_numbers(own, block.shape[1]) for own, block in zip(told, values.blocks)]
    if values.shared:
        return clusters, [np.unique(np.concatenate(clusters))] * len(clusters)
    return clusters, [np.unique(cluster) for cluster in clusters]


def pooled_mean(means: list[np.ndarray], weights: list[np.ndarray]) -> np.ndarray:
    """Weighted mean over the examples of all blocks; (R, examples) each, weights (R, examples) or (1, examples)."""
    total = sum(m @ w[0] if len(w) == 1 else np.einsum("re,re->r", m, w) for m, w in zip(means, weights))
    return total / sum(w.sum(axis=1) for w in weights)


class Draws(NamedTuple):
    """A figure and its resamples; figures made from the same seed combine draw by draw."""

    value: float
    both: np.ndarray  # (resamples,) members and clusters drawn
    members: np.ndarray  # (resamples,) members drawn
    n: int  # members that count
    clusters: int = 0  # clusters of examples that were drawn, 0 = not told
    freedom: float = 0  # degrees of freedom of the members of all populations together, 0 = n - 1
    cluster_freedom: float = 0  # degrees of freedom of the clusters, 0 = clusters - 1
    role: str = ""  # whose member draws these are, where they are those of one population


def draws_of(figure: Callable[[list], np.ndarray], values: Values, seed: int, resamples: int) -> Draws:
    """Resample a figure.

    Args:
        figure: maps ``weights``, a list of (1 + resamples, examples) with row 0 = every example once, or of
            (1, examples) for all draws, to figures (1 + resamples,), row 0 the plain one; the members' draws are its
            own business.
        values: whose members are counted, and whose examples are weighted.
        seed: of the draws.
        resamples: number of draws.
    """
    weights = example_weights(values, seed, resamples)
    both = figure(weights)
    members = figure([np.ones((1, w.shape[1])) for w in weights])
    drawn = [len(known) for known in _clusters(values)[1]]
    kept, clusters = values.members, drawn[0] if values.shared else sum(drawn)
    apart = 1 if values.shared or min(drawn) == 1 else len(drawn)  # groups that are drawn each by itself
    freedom = max(1, kept - len(values.blocks)), max(0, clusters - apart)
    return Draws(float(both[0]), both[1:], members[1:], kept, clusters, *freedom)


def mean_draws(data, *, role: str = STARTED, seed: int = 0, resamples: int = RESAMPLES) -> Draws:
    """Draws of the mean over members and examples of an array, blocks or `Values`; `Draws` pass unchanged."""
    if isinstance(data, Draws):
        return data
    values = as_values(data, role)
    means = member_means(values, seed, resamples)
    return draws_of(lambda weights: pooled_mean(means, weights), values, seed, resamples)._replace(role=values.role)


def combine(
    function: Callable[..., np.ndarray], *draws: Draws, low: float = -np.inf, high: float = np.inf, level: float = 0.95
) -> Estimate:
    """A function of several figures, applied to their values and draw by draw, with its intervals.

    Args:
        function: maps as many numbers, or arrays of draws, as there are ``draws`` to one.
        draws: made from the same seed. Where each tells its number of clusters, the intervals are expanded percentile
            intervals; else plain percentile intervals, which hold less than they promise at small N.
        low: smallest value that the figure can have; bounds are cut to it.
        high: largest value.
        level: of the intervals, a share.

    Returns:
        The expanded interval's quantile levels are ``Phi(-w t(f))`` and ``Phi(w t(f))``: w^2 = unbiased variance over
        the draws' variance, f = degrees of freedom by Welch and Satterthwaite from the variances that each population's
        members and the clusters bring. Where fewer than four draws lie beyond such a level (2,000 draws: under 5
        members, say) it is Student's t interval, ``value +- w t(f) s`` with the draws' standard deviation s. With one
        cluster, the spread of clusters is not known and the interval is of members alone. NaN bounds of the members'
        interval for a single member; a point where the draws do not differ (all answers right, say), whatever the
        truth. What members and clusters bring only together (a right or wrong answer for each pair) counts thrice in
        two-way draws: where that is most of the variance, intervals hold up to 99%.

    Source: Hesterberg (arXiv 1411.5279, section 4.2), for one sample; here for members and clusters together.
    """
    level = as_level(level)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(function(*(np.float64(d.value) for d in draws)))
        both, members = function(*(d.both for d in draws)), function(*(d.members for d in draws))
        n = min(d.n for d in draws)
        wide, narrow = (_reach(s, level) for s in spreads(function, draws, both, members))
    bounds = _quantiles(value, both, level, wide)
    bounds += _quantiles(value, members, level, narrow) if n > 1 else (float("nan"),) * 2  # one member tells no spread
    if low > -np.inf or high < np.inf:
        bounds = tuple(min(max(x, low), high) for x in bounds)
    return Estimate(value, *bounds, n)


class Spread(NamedTuple):
    """What the draws' standard deviation must be multiplied by, and the degrees of freedom that it has."""

    widen: float
    freedom: float


def spreads(function, draws: Sequence[Draws], both, members) -> tuple[Spread, Spread]:
    """Of members and clusters together, and of members, of a function of figures with these draws.

    Nothing is known, hence normal quantiles are all that can be had, where a figure does not tell its clusters.
    """
    if min(d.n for d in draws) < 2 or not all(d.clusters for d in draws):
        return (Spread(1.0, np.inf),) * 2
    parts = []  # variance in the draws, what it must be multiplied by, degrees of freedom
    roles = list(dict.fromkeys(d.role for d in draws))  # in a fixed order: sums repeat to the last digit
    for role in roles if len(roles) > 1 and "" not in roles else [None]:
        mine = [d for d in draws if role in (None, d.role)]
        moved = members if role is None else function(*(d.members if d.role == role else d.value for d in draws))
        freedom = min(d.freedom or d.n - 1.0 for d in mine)
        parts.append((_variance(moved), max(1.0, min(d.n for d in mine) / freedom), freedom))
    populations = list(parts)
    clusters = min(d.cluster_freedom or d.clusters - 1.0 for d in draws)
    if clusters > 0:
        more = max(0.0, _variance(both) - _variance(members))
        parts.append((more, max(1.0, min(d.clusters for d in draws) / clusters), clusters))
    return _welch(parts), _welch(populations)


def _welch(parts: list[tuple[float, float, float]]) -> Spread:
    """Root of unbiased over drawn variance, and Welch and Satterthwaite's degrees of freedom."""
    unbiased = [v * factor for v, factor, _ in parts]
    square = sum(v * v / freedom for v, (_, _, freedom) in zip(unbiased, parts))
    if not square > 0:
        return Spread(1.0, np.inf)
    return Spread(float(np.sqrt(sum(unbiased) / sum(v for v, _, _ in parts))), float(sum(unbiased) ** 2 / square))


def _reach(spread: Spread, level: float) -> float:
    """How many standard deviations of the draws an interval is to reach, 0 = nothing is known."""
    from scipy.special import stdtrit

    return 0.0 if spread.freedom == np.inf else float(stdtrit(spread.freedom, (1 + level) / 2)) * spread.widen


def _variance(draws: np.ndarray) -> float:
    """Variance of the draws that are defined, 0 without any."""
    draws = np.atleast_1d(draws)
    apart = draws - draws.sum() / max(1, len(draws))
    found = float(apart @ apart) / max(1, len(draws))
    if found < np.inf:
        return found
    draws = draws[np.isfinite(draws)]
    return float(np.var(draws)) if len(draws) else 0.0


def _quantiles(value: float, draws: np.ndarray, level: float, reach: float) -> tuple[float, float]:
    """Bounds ``reach`` deviations out, 0 = plain percentiles: quantiles, or the t interval beyond the draws."""
    from scipy.special import ndtr, ndtri

    ordered, tail = _ordered(draws), (1 - level) / 2
    if not reach > -ndtri(tail):
        return _at(ordered, tail), _at(ordered, 1 - tail)
    out = float(ndtr(-reach))
    if out * len(ordered) >= BEYOND:
        return _at(ordered, out), _at(ordered, 1 - out)
    half = reach * np.sqrt(_variance(ordered))
    return value - half, value + half


def ranks(draws: Sequence[Draws]) -> list[Estimate]:
    """Rank of each figure among all, 1 = smallest, with the interval of its rank over the shared draws.

    Ties share the best of their ranks. A figure that is not defined has none, and comes last for the others. The
    interval is the middle 95% of one rank over the draws: it describes how firm the order is, and with several methods
    misses true ranks more often than in 5% of studies. `rank_intervals` holds all of them together.

    Example:
        >>> import numpy as np
        >>> near, far = (Draws(v, v + np.zeros(4), v + np.zeros(4), 8) for v in (0.2, 0.9))
        >>> [r.value for r in ranks([far, near])]
        [2.0, 1.0]
    """
    places = []
    for part in ("value", "both", "members"):
        table = np.atleast_2d(np.asarray([getattr(d, part) for d in draws], np.float64).T)
        smaller = (table[:, None, :] < table[:, :, None]).sum(axis=2)
        places.append(np.where(np.isfinite(table), 1.0 + smaller, np.nan))
    plain, both, members = places
    shared = lambda i: Draws(float(plain[0, i]), both[:, i], members[:, i], draws[i].n)
    return [combine(lambda x: x, shared(i)) for i in range(len(draws))]


def percentiles(draws: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the draws that are defined; NaN where none is."""
    ordered = _ordered(draws)
    return _at(ordered, (1 - level) / 2), _at(ordered, (1 + level) / 2)


def _ordered(draws: np.ndarray) -> np.ndarray:
    """The draws that are defined, in order."""
    ordered = np.sort(draws)  # infinite ones at the ends, NaN last
    if len(ordered) and np.isfinite(ordered[0]) and np.isfinite(ordered[-1]):
        return ordered
    return ordered[np.isfinite(ordered)]


def _at(ordered: np.ndarray, share: float) -> float:
    """Quantile of ordered draws, interpolated; NaN without any. (`np.quantile` is several times slower.)"""
    if not len(ordered):
        return float("nan")
    place = share * (len(ordered) - 1)
    index = min(int(place), len(ordered) - 2) if len(ordered) > 1 else 0
    below, above = float(ordered[index]), float(ordered[min(index + 1, len(ordered) - 1)])
    return below + (place - index) * (above - below)


def mean_estimate(data, *, role: str = STARTED, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """Mean over members and examples with its intervals.

    Args:
        data: (members, examples), a list of blocks, `Values`, or `Draws`.
        role: whose member draws are used.
        seed: of the draws.
        resamples: number of draws.

    Example:
        >>> import numpy as np
        >>> mean_estimate(np.array([[1.0, 3.0], [1.0, 3.0]])).value
        2.0
    """
    return combine(lambda x: x, mean_draws(data, role=role, seed=seed, resamples=resamples))

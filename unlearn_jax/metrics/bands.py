"""Student's t intervals from draws, and null bands by splitting an oracle; see `resampling` for the draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.metrics.arrays import as_level
from unlearn_jax.metrics.draws import Draws, _generator
from unlearn_jax.metrics.summary import Estimate

SPLITS = 200  # draws behind a null band


def t_estimate(
    draws: Draws, *, low: float = -np.inf, high: float = np.inf, level: float = 0.95, scale: str = "plain"
) -> Estimate:
    """Student's t interval with the spread of the draws, cut to the figure's range.

    Degrees of freedom by Welch and Satterthwaite from the variance that members bring and the variance that clusters
    bring, which adds to it.

    Args:
        draws: of `subset_draws` or `subset_draws_pooled`, or a function of several made from the same seed.
        low: smallest value that the figure can have.
        high: largest value.
        level: of the interval.
        scale: on which the interval is symmetric: ``plain``; ``logit`` of the place between ``low`` and ``high``, for
            shares and areas near an end; ``log`` of the distance from ``low`` (by default 0), for figures that are
            skewed to the right. The spread is carried over by the delta method. A value at an end itself has no logit
            or logarithm: then the plain interval is given, which is a point, and tells nothing, where all draws lie at
            that end too.

    Returns:
        NaN bounds with a single member and a single cluster; with one cluster its spread is not known, and the interval
        is of members alone; a point where no draw differs.

    Raises:
        InputError: another scale, ``logit`` without both ends, or a level outside (0, 1).

    Example:
        >>> import numpy as np
        >>> found = t_estimate(Draws(0.5, np.array([0.4, 0.6]), np.array([0.5, 0.5]), 8, 30), low=0.0, high=1.0)
        >>> round(found.ci_low, 3), round(found.ci_high, 3)
        (0.211, 0.789)
    """
    tables = (draws.members, draws.both)
    by_members, both = (float(np.nanvar(d, ddof=1)) if np.isfinite(d).sum() > 1 else np.nan for d in tables)
    level = as_level(level)
    both = by_members if draws.clusters == 1 else both
    members, clusters = draws.freedom or max(1, draws.n - 1), max(1, draws.clusters - 1)
    by_clusters = max(0.0, both - by_members)
    total = by_members**2 / members + by_clusters**2 / clusters
    freedom = both**2 / total if total > 0 else members
    scaled = _scale(scale, draws.value, low, high)
    bounds = [_t_bounds(draws.value, v, f, level, *scaled) for v, f in ((both, freedom), (by_members, members))]
    if draws.n < 2:  # one member says nothing of its spread
        bounds[1] = (np.nan, np.nan)
    return Estimate(draws.value, *(float(x) for x in np.clip(np.ravel(bounds), low, high)), n=draws.n)


def _scale(name: str, value: float, low: float, high: float) -> tuple:
    """How far a deviation on the plain scale carries on the named one, and the way back from there."""
    if name not in ("plain", "logit", "log"):
        raise InputError(f"scale is '{name}': give plain, logit or log.")
    if name == "logit" and not np.isfinite(high - low):
        raise InputError(f"a logit needs both ends, not {low} and {high}: give low and high, 0 and 1 for a share.")
    low = 0.0 if name == "log" and low == -np.inf else low
    if name == "plain" or not low < value or (name == "logit" and not value < high):
        return 1.0, lambda x: value + x
    if name == "log":
        return 1.0 / (value - low), lambda x: low + (value - low) * np.exp(np.minimum(x, 700.0))
    odds, span = (value - low) / (high - value), high - low
    return span / ((value - low) * (high - value)), lambda x: low + span / (1.0 + np.exp(np.clip(-x, -700, 700)) / odds)


def _t_bounds(value: float, variance: float, freedom: float, level: float, slope: float, back) -> tuple[float, float]:
    """Bounds of a t interval on the scale where a deviation is ``slope`` times as large."""
    from scipy.special import stdtrit

    if not np.isfinite(value + variance):
        return np.nan, np.nan
    half = slope * stdtrit(freedom, (1 + level) / 2) * np.sqrt(variance)
    return float(back(-half)), float(back(half))


class NullBand(NamedTuple):
    """Where a figure lies for two populations of the same kind that differ in nothing but their seeds."""

    low: float
    high: float
    centre: float  # median: what a perfect method shows at this size, the small-sample bias of the figure
    members: int  # of the smaller of the two populations


def split_band(
    figure: Callable[[np.ndarray, np.ndarray], float],
    oracle: np.ndarray,
    *,
    members: int | tuple[int, int] = 0,
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
        members: of each part, or of the one and of the other; 0 = half of the oracle's.
        sides: 2 = the middle 95% of the figures, 1 = from the lowest up to the 95% quantile, for distances, -1 = from
            the 5% quantile up to the highest, for likenesses.
        splits: number of random splits.
        level: share of null populations that the band is to hold.
        seed: of the splits.

    Raises:
        InputError: an oracle with too few members, other sides, a level outside (0, 1).

    Example:
        >>> import numpy as np
        >>> gap = lambda a, b: a.mean() - b.mean()
        >>> split_band(gap, np.zeros((8, 3))).members
        4
    """
    oracle, level = np.asarray(oracle), as_level(level)
    if sides not in (1, -1, 2):
        raise InputError(f"sides is {sides}: give 2, 1 for a distance or -1 for a likeness.")
    members = members or len(oracle) // 2
    one, other = members if isinstance(members, tuple) else (members, members)
    if min(one, other) < 1 or one + other > len(oracle):
        parts = f"two parts of {max(1, one)}" if one == other else f"parts of {one} and {other}"
        raise InputError(f"an oracle of {len(oracle)} members has no {parts}: give it more members.")
    rng = _generator(seed, "split", len(oracle), one, *([other] if one != other else []))
    values = np.empty(splits)
    for r in range(splits):
        order = rng.permutation(len(oracle))
        values[r] = figure(oracle[order[:one]], oracle[order[one : one + other]])
    values = values[~np.isnan(values)]
    if not len(values):
        return NullBand(np.nan, np.nan, np.nan, min(one, other))
    low, high = {1: (0.0, level), -1: (1 - level, 1.0)}.get(sides, ((1 - level) / 2, (1 + level) / 2))
    with np.errstate(invalid="ignore"):  # between infinite figures there is no quantile
        ends = [float(np.quantile(values, share)) for share in (low, high, 0.5)]
    return NullBand(*ends, members=min(one, other))

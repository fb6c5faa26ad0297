"""Differences of two figures in standard errors, with the draws that chance alone would give, and adjusted p-values."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from unlearn_jax.metrics.draws import Draws
from unlearn_jax.metrics.summary import _ordered, spreads

FARTHEST = 8.0  # standard deviations; a draw beyond counts as this


class PairedDifference(NamedTuple):
    """A difference in units of its standard error, and what the draws say of it under the null."""

    value: float
    error: float  # standard error
    null: np.ndarray  # (resamples,) absolute, on the scale of Student's t; NaN where not defined


def difference_of(a: Draws, b: Draws, part: str) -> PairedDifference:
    """The difference of two figures with its null draws."""
    from scipy.special import ndtr, stdtrit

    function = lambda x, y: x - y
    with np.errstate(invalid="ignore"):
        value = float(a.value - b.value)
        both, members = function(a.both, b.both), function(a.members, b.members)
        spread = spreads(function, (a, b), both, members)[part == "members"]
        moved = {"both": both, "members": members}[part]
        defined = moved[np.isfinite(moved)]
        if not np.isfinite(value) or len(defined) < 2:
            return PairedDifference(np.nan, np.nan, np.full(len(moved), np.nan))
        deviation = float(defined.std())
        if not deviation > 1e-12 * max(1e-300, np.abs(defined).max()):
            deviation = 0.0  # rounding
        apart = np.minimum(np.abs(moved - value) / (deviation or 1.0), FARTHEST) if deviation else 0.0 * moved
        apart = np.where(np.isfinite(moved), apart, np.nan)
    if spread.freedom < np.inf:
        apart = np.where(np.isnan(apart), np.nan, -stdtrit(spread.freedom, ndtr(-np.nan_to_num(apart))))
    return PairedDifference(value, deviation * spread.widen, apart)


def _statistic(pair: PairedDifference) -> float:
    """Absolute difference in standard errors."""
    if pair.error > 0:
        return abs(pair.value) / pair.error
    return np.inf if pair.value else 0.0


def p_value(pair: PairedDifference, null: np.ndarray) -> float:
    """Share of the null draws as far out as the difference, itself counted; NaN where it is not defined."""
    if not np.isfinite(pair.value):
        return float("nan")
    null = null[~np.isnan(null)]
    return float((1 + (null >= _statistic(pair)).sum()) / (1 + len(null)))


def adjust(
    pairs: list[PairedDifference], p: np.ndarray, correction: str, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Adjusted p-values, and how many standard errors each pair's interval reaches."""
    defined = np.isfinite(p)
    count = int(defined.sum())
    if not count:
        return p, np.full(len(p), np.nan)
    if correction == "max_t":
        table = np.stack([pair.null for pair, good in zip(pairs, defined) if good])
        null = np.where(np.isnan(table), -np.inf, table).max(axis=0)
        null = null[null >= 0]
        return np.asarray([p_value(pair, null) for pair in pairs]), np.full(len(p), _critical(null, level))
    if correction == "holm":
        order = np.argsort(p, kind="stable")  # NaN last
        steps = np.maximum.accumulate(p[order] * (count - np.arange(len(p))))
        adjusted = np.empty(len(p))
        adjusted[order] = steps
    else:
        adjusted = p * (count if correction == "bonferroni" else 1)
    each = level if correction == "none" else 1 - (1 - level) / count
    return np.minimum(1.0, adjusted), np.asarray([_critical(pair.null, each) for pair in pairs])


def _critical(null: np.ndarray, level: float) -> float:
    """The null draw that a statistic must pass for (1 + draws as far out) / (1 + draws) to be at most 1 - level."""
    ordered = _ordered(null)
    if not len(ordered):
        return float("nan")
    place = int(np.ceil(level * (len(ordered) + 1) - 1e-9))
    return float(ordered[place - 1]) if place <= len(ordered) else float("inf")

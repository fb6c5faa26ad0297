"""Attack curves: how well a score tells positives from negatives, down to the false-positive rates that can be shown.

A score is higher on what is to be called positive. Infinite scores are only larger or smaller than all others. A NaN
score, of a model that diverged, is left out; a side on which none is left makes the figure NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from unlearn_jax.errors import InputError

RATES = (1e-2, 1e-3)  # false-positive rates at which attacks are compared


class Roc(NamedTuple):
    """An ROC curve at every threshold that changes it, from (0, 0) to (1, 1)."""

    fpr: np.ndarray  # (points,) share of negatives at the threshold or above
    tpr: np.ndarray  # (points,) share of positives at the threshold or above
    thresholds: np.ndarray  # (points,) falling; the first is infinite and calls nothing positive


class AttackSummary(NamedTuple):
    """What an attack reaches; NaN where it is not defined."""

    auc: float
    balanced_accuracy: float  # at the best threshold, chosen on these very scores: optimistic
    tpr_at_1e2: float  # true-positive rate at a false-positive rate of .01 or less; NaN with under 100 negatives
    tpr_at_1e3: float  # at .001 or less; NaN with under 1,000 negatives
    least_fpr: float  # smallest rate above 0 that so many negatives can show, 1 / negatives
    rates: tuple[float, ...]  # further false-positive rates
    tpr: tuple[float, ...]  # true-positive rate at each of them


def roc(positive, negative) -> Roc:
    """The ROC curve of pooled scores at full resolution; tied scores are passed in one step.

    Args:
        positive: scores of any shape, to be called positive.
        negative: scores of any shape.

    Returns:
        One point per distinct score and the origin. Constant scores give (0, 0) and (1, 1) alone. All NaN where a side
        has no score left.

    Raises:
        InputError: a side without an entry.

    Example:
        >>> curve = roc([3.0, 1.0], [2.0, 0.0])
        >>> curve.fpr.tolist(), curve.tpr.tolist()
        ([0.0, 0.0, 0.5, 0.5, 1.0], [0.0, 0.5, 0.5, 1.0, 1.0])
    """
    positive, negative = _pooled(positive, negative)
    if not len(positive) or not len(negative):
        return Roc(*(np.full(1, np.nan) for _ in range(3)))
    scores = np.concatenate([positive, negative])
    order = np.argsort(scores)[::-1]
    scores, called = scores[order], np.cumsum(order < len(positive))
    last = np.append(scores[1:] != scores[:-1], True)  # of each group of equal scores
    true, false = called[last], np.flatnonzero(last) + 1 - called[last]
    rates = [np.concatenate([[0.0], count / count[-1]]) for count in (false, true)]
    return Roc(*rates, thresholds=np.concatenate([[np.inf], scores[last]]))


def auc(positive, negative) -> Float64[np.ndarray, " ..."] | np.float64:
    """Area under the ROC curve, P(positive > negative) with ties as one half, over leading axes.

    Args:
        positive: scores (..., n).
        negative: scores (..., m), leading axes as those of ``positive``.

    Returns:
        (...,) in [0, 1]; .5 for constant scores; NaN where one of the scores is NaN.

    Raises:
        InputError: a side without a score, or leading axes that differ.

    Example:
        >>> auc([[3.0, 1.0], [0.0, 0.0]], [[2.0, 0.0], [0.0, 0.0]]).tolist()
        [0.75, 0.5]
    """
    positive, negative = np.asarray(positive, np.float64), np.asarray(negative, np.float64)
    if not positive.ndim or positive.shape[:-1] != negative.shape[:-1] or 0 in (*positive.shape, *negative.shape):
        raise InputError(f"scores are {positive.shape} and {negative.shape}: give scores of both sides, of one shape.")
    if positive.ndim == 1:
        return _auc_of_one(positive, negative)
    n, m = positive.shape[-1], negative.shape[-1]
    scores = np.concatenate([positive, negative], axis=-1)
    order = np.argsort(scores, axis=-1)
    ranks = _ranks(np.take_along_axis(scores, order, axis=-1))
    total = np.where(order < n, ranks, 0.0).sum(axis=-1)
    undefined = np.isnan(scores).any(axis=-1)
    return np.where(undefined, np.nan, (total - n * (n + 1) / 2) / (n * m))


def _auc_of_one(positive: np.ndarray, negative: np.ndarray) -> np.float64:
    """The area for one list of scores a side, in less time than by ranks."""
    if np.isnan(positive).any() or np.isnan(negative).any():
        return np.float64(np.nan)
    positive, negative = np.sort(positive), np.sort(negative)
    below, upto = (np.searchsorted(negative, positive, side=side).mean() for side in ("left", "right"))
    return np.float64((below + upto) / (2 * len(negative)))


def _ranks(scores: np.ndarray) -> np.ndarray:
    """Ranks from 1 along the last axis of sorted scores, equal scores sharing their mean rank."""
    places, starts = np.arange(scores.shape[-1]), np.ones(scores.shape, bool)
    starts[..., 1:] = scores[..., 1:] != scores[..., :-1]
    if starts.all():
        return places + 1.0
    ends = np.concatenate([starts[..., 1:], np.ones_like(starts[..., :1])], axis=-1)
    first = np.maximum.accumulate(np.where(starts, places, 0), axis=-1)
    last = np.minimum.accumulate(np.where(ends, places, len(places))[..., ::-1], axis=-1)[..., ::-1]
    return (first + last) / 2 + 1.0


def tpr_at(positive, negative, rates: Sequence[float] | np.ndarray = RATES) -> Float64[np.ndarray, " rates"]:
    """Highest true-positive rate of a threshold whose false-positive rate is at most each rate.

    Args:
        positive: scores of any shape, pooled.
        negative: scores of any shape, pooled.
        rates: false-positive rates in (0, 1].

    Returns:
        (rates,). NaN for a rate below 1 / negatives: so few negatives cannot show it.

    Raises:
        InputError: a side without an entry, or a rate outside (0, 1].

    Example:
        >>> tpr_at([3.0, 1.0], [2.0, 0.0], [0.5, 0.1]).tolist()
        [1.0, nan]
    """
    positive, negative = _pooled(positive, negative)
    rates = np.atleast_1d(np.asarray(rates, np.float64))
    if any(not 0 < rate <= 1 for rate in rates):
        raise InputError(f"rates are {tuple(rates)}: give false-positive rates in (0, 1].")
    rates_true = np.full(len(rates), np.nan)
    for i, rate in enumerate(rates):
        allowed = int(np.floor(rate * len(negative) * (1 + 1e-12)))  # .29 of 100 is 28.999...
        if allowed == 0 or not len(positive):
            continue
        if allowed >= len(negative):
            rates_true[i] = 1.0
            continue
        at = len(negative) - 1 - allowed
        rates_true[i] = (positive > np.partition(negative, at)[at]).mean()
    return rates_true


def attack_summary(positive, negative, *, rates: Sequence[float] = RATES) -> AttackSummary:
    """AUC, best balanced accuracy and true-positive rates at low false-positive rates of pooled scores.

    The balanced accuracy is that of the best threshold on these very scores: optimistic, above .5 for noise too. Where
    few scores are at hand, compare with the figure of two references.

    Args:
        positive: scores of any shape.
        negative: scores of any shape.
        rates: further false-positive rates, whose true-positive rates come as ``tpr``.

    Returns:
        `AttackSummary`; a true-positive rate is NaN where so few negatives cannot show the rate (``least_fpr``), and
        everything is NaN where a side has no score left.

    Raises:
        InputError: a side without an entry, or a rate outside (0, 1].

    Source: Carlini et al. (arXiv 2112.03570), who ask for the true-positive rate at low false-positive rates.

    Example:
        >>> found = attack_summary([3.0, 1.0], [2.0, 0.0])
        >>> found.auc, found.balanced_accuracy, found.tpr_at_1e2, found.least_fpr
        (0.75, 0.75, nan, 0.5)
    """
    curve = roc(positive, negative)
    positive, negative = _pooled(positive, negative)
    tprs = tpr_at(positive, negative, (*RATES, *rates)) if len(positive) else np.full(2 + len(rates), np.nan)
    area = float(np.sum(np.diff(curve.fpr) * (curve.tpr[1:] + curve.tpr[:-1]) / 2)) if len(curve.fpr) > 1 else np.nan
    best = float(np.max((curve.tpr + 1.0 - curve.fpr) / 2))
    least = 1.0 / len(negative) if len(negative) else np.nan
    at_1e2, at_1e3, *others = map(float, tprs)
    return AttackSummary(area, best, at_1e2, at_1e3, least, tuple(rates), tuple(others))


def log_grid(least: float = 1e-3, points: int = 100) -> Float64[np.ndarray, " {points}"]:
    """False-positive rates from ``least`` to 1 at equal ratios; (points,).

    Example:
        >>> log_grid(0.01, 3).round(4).tolist()
        [0.01, 0.1, 1.0]
    """
    if not 0 < least < 1 or points < 2:
        raise InputError(f"least is {least} and points {points}: give a rate in (0, 1) and two points or more.")
    return np.geomspace(least, 1.0, points)


def on_grid(fpr, tpr, grid, *, least_fpr: float = 0.0) -> Float64[np.ndarray, " g"]:
    """True-positive rates of a curve at given false-positive rates, for plots and for intervals over draws.

    The value at a rate is the best that a threshold reaches at that rate or a lower one; no straight line is drawn
    between thresholds, which would promise what no threshold does.

    Args:
        fpr: (points,) rising, as from `roc`.
        tpr: (points,).
        grid: (g,) false-positive rates, as from `log_grid`.
        least_fpr: rates below are NaN: 1 / negatives, where that is to be shown.

    Returns:
        (g,). NaN throughout for a curve that is NaN.

    Raises:
        InputError: arrays that are no curve.

    Example:
        >>> on_grid([0.0, 0.0, 0.5, 1.0], [0.0, 0.25, 0.75, 1.0], [0.01, 0.5, 0.9]).tolist()
        [0.25, 0.75, 0.75]
    """
    fpr, tpr, grid = (np.asarray(x, np.float64) for x in (fpr, tpr, grid))
    if fpr.ndim != 1 or fpr.shape != tpr.shape or not fpr.size or (np.diff(fpr) < 0).any():
        raise InputError(f"fpr is {fpr.shape} and tpr {tpr.shape}: give a curve of rising rates, as `roc` returns it.")
    at = np.searchsorted(fpr, grid * (1 + 1e-12), side="right") - 1
    return np.where((at < 0) | (grid < least_fpr * (1 - 1e-12)), np.nan, tpr[np.maximum(at, 0)])


def _pooled(positive, negative) -> tuple[np.ndarray, np.ndarray]:
    positive, negative = (np.asarray(x, np.float64).ravel() for x in (positive, negative))
    if not positive.size or not negative.size:
        raise InputError(f"{positive.size} positive and {negative.size} negative scores: give at least one of each.")
    return positive[~np.isnan(positive)], negative[~np.isnan(negative)]

"""How the metrics rank the methods, where they disagree, and which of them see the influence left in S."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from unlearn_jax.evaluation.records import MetricResult
from unlearn_jax.metrics import Draws
from unlearn_jax.metrics.comparisons import rank_intervals

ANCHOR = ("residual_distance", "", "forget", "oracle")  # by which the project ranks


class Ranking(NamedTuple):
    """One metric's order of the methods, the nearest to its ideal first."""

    metric: str
    variant: str
    split: str
    reference: str
    methods: tuple[str, ...]
    away: np.ndarray  # (methods,) distance from the ideal
    rank: np.ndarray  # (methods,) 1 = nearest; NaN where a figure is not defined
    low: np.ndarray  # simultaneous 95% bounds of the ranks
    high: np.ndarray
    tau: float  # Kendall's correlation with the ranks by residual distance, NaN where it says nothing
    detects: bool | None  # whether retraining lies outside the null band, None = there is no band


def rankings(figures: list[MetricResult], methods: list[str]) -> list[Ranking]:
    """Every metric's ranking.

    Args:
        figures: with draws.
        methods: labels of those that are ranked.
    """
    groups: dict[tuple, dict[str, MetricResult]] = {}
    for figure in figures:
        if figure.reference and figure.draws is not None:
            key = (figure.metric, figure.variant, figure.split, figure.reference)
            groups.setdefault(key, {})[figure.label] = figure
    chosen = {key: group for key, group in groups.items() if all(name in group for name in methods)}
    ranked = [_ranking(key, group, methods) for key, group in chosen.items()]
    anchor = next((r for r in ranked if r[:4] == ANCHOR), None)
    return [r._replace(tau=_tau(r.away, anchor.away)) if anchor is not None else r for r in ranked]


def _ranking(key: tuple, group: dict[str, MetricResult], methods: list[str]) -> Ranking:
    """One metric's ranking, its correlation yet unknown."""
    chosen = [group[name] for name in methods]
    away = [_away(figure) for figure in chosen]
    values = np.asarray([draws.value for draws in away])
    order = 1.0 + (values[None, :] < values[:, None] - 1e-12).sum(axis=1)
    rank = np.where(np.isfinite(values), order, np.nan)
    bounds = rank_intervals(away) if len(away) > 1 else None
    low, high = (bounds.low, bounds.high) if bounds is not None else (rank, rank)
    retrain = group.get("retrain")
    sees = None if retrain is None or retrain.inside is None else not retrain.inside
    metric, variant, split, reference = key
    columns = (tuple(methods), values, rank, np.asarray(low), np.asarray(high), np.nan, sees)
    return Ranking(metric, variant, split, reference, *columns)


def _away(figure: MetricResult) -> Draws:
    """How far a figure is from its ideal, with its draws; a distance cannot be too small, a likeness not too large."""
    moves = {1: lambda x: x - figure.ideal, -1: lambda x: figure.ideal - x, 2: lambda x: np.abs(x - figure.ideal)}
    d, move = figure.draws, moves[figure.sides]
    assert d is not None  # only figures with draws are ranked
    return d._replace(value=float(move(d.value)), both=move(d.both), members=move(d.members))


def _tau(one: np.ndarray, other: np.ndarray) -> float:
    """Kendall's tau-b of two orders; NaN with fewer than three methods, or where one order is all ties."""
    from scipy.stats import kendalltau

    both = np.isfinite(one) & np.isfinite(other)
    if both.sum() < 3 or np.ptp(one[both]) == 0 or np.ptp(other[both]) == 0:
        return np.nan
    return float(kendalltau(one[both], other[both]).statistic)

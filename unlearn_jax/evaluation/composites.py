"""Figures that are functions of several means of a population and of a reference: tug of war, gaps, ratios."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from unlearn_jax.evaluation import engine
from unlearn_jax.evaluation.battery import OWN, RELEARNING, ModelMetric, noisy_at
from unlearn_jax.evaluation.engine import applied, plain
from unlearn_jax.evaluation.figures import AuditData, comparable, draws_of, own_tables, tables_of
from unlearn_jax.evaluation.records import MetricResult

MIDDLE = 3  # place of the radius among those of perturbed images at which a single figure is told


class Composite(NamedTuple):
    """A function of means, of a population and then of a reference."""

    metric: str
    variant: str
    split: str
    parts: tuple[ModelMetric, ...]
    function: Callable  # (means of the population's parts, means of the reference's) -> number
    ideal: float
    low: float = -np.inf
    high: float = np.inf
    sides: int = 2  # of the null band; 1 = small is good, -1 = large is good


def _spec(metric: str, variant: str, split: str) -> ModelMetric:
    """The own figure of that name."""
    return next(s for s in OWN if (s.metric, s.variant, s.split) == (metric, variant, split))


def _mean_gap(u: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Mean of the absolute gaps, points."""
    return 100.0 * np.abs(u - r).mean(axis=0)


def _kept(u: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Product of one minus the absolute gaps."""
    return (1.0 - np.abs(u - r)).prod(axis=0)


def _ratio(u: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Ratio of the only means."""
    return u[0] / r[0]


_FORGET, _REST, _TEST = (_spec("accuracy", "", split) for split in ("forget", "rest", "test"))
_MIA = _spec("svc_efficacy", "confidence", "forget")
COMPOSITES = (
    Composite("average_gap", "means", "", (_FORGET, _REST, _TEST, _MIA), _mean_gap, 0.0, 0.0, 100.0, 1),
    Composite("tow", "means", "", (_FORGET, _REST, _TEST), _kept, 1.0, 0.0, 1.0, -1),
    Composite("tow_mia", "means", "", (_MIA, _REST, _TEST), _kept, 1.0, 0.0, 1.0, -1),
    Composite("relearning_ratio", "AIN", "forget", RELEARNING[:1], _ratio, 1.0, 0.0),
    Composite("relearning_ratio", "benign", "forget", RELEARNING[1:], _ratio, 1.0, 0.0),
    Composite("residual_knowledge", "gaussian", "forget", (noisy_at(MIDDLE),), _ratio, 1.0, 0.0),
)


def composite_figures(bench: AuditData, spec: Composite) -> list[MetricResult]:
    """A composite of every population against each reference, with its null band."""
    tables = {}
    for label in bench.views:
        found = [own_tables(bench, part, label) for part in spec.parts]
        if all(part is not None for part in found):
            tables[label] = [_joined(parts) for parts in zip(*found)]  # by request
    if bench.kind not in tables:
        return []
    first = [tables_of(bench, part, bench.kind)[0] for part in spec.parts]
    stops = np.cumsum([1 if table.ndim == 1 else table.shape[1] for table in first])

    def figure(a, b, request: int) -> float:
        means = [[x.mean() for x in np.split(p, stops[:-1], axis=1)] for p in (a, b)]
        with np.errstate(invalid="ignore", divide="ignore"):
            return float(spec.function(*map(np.asarray, means)))

    found, key = [], (spec.metric, spec.variant, spec.split)
    for reference in (name for name in bench.references if name in tables):
        theirs = [draws_of(bench, part, reference) for part in spec.parts]
        for label in (name for name in bench.judged if name in tables and name != reference):
            mine = [draws_of(bench, part, label) for part in spec.parts]
            draws = applied(lambda *x: spec.function(*np.split(np.stack(x), 2)), *mine, *theirs)
            draws = draws if comparable(bench, spec.parts, label, reference) else engine.nothing(draws)
            band = bench.band(figure, tables, label, reference, spec.sides, key)
            panel = bench.views[label][0].panel
            keys = (panel.name, panel.setting, *key, reference)
            found.append(MetricResult(*keys, plain(draws, spec.low, spec.high), spec.ideal, band, draws, spec.sides))
    return found


def _joined(parts) -> np.ndarray:
    """Tables of one request side by side."""
    return np.concatenate([p[:, None] if p.ndim == 1 else p for p in parts], axis=1)

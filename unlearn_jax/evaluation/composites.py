"""Figures that are functions of several means of a population and of a reference: tug of war, gaps, ratios."""

from __future__ import annotations

import numpy as np

from unlearn_jax.evaluation import engine
from unlearn_jax.evaluation.engine import applied
from unlearn_jax.evaluation.figures import AuditData, comparable, draws_of, own_tables
from unlearn_jax.evaluation.metric import CompositeMetric
from unlearn_jax.evaluation.records import MetricResult
from unlearn_jax.metrics.summary import estimate_of


def composite_figures(bench: AuditData, spec: CompositeMetric) -> list[MetricResult]:
    """A composite of every population against each reference, with its null band."""
    tables = {}
    for label in bench.views:
        of_parts = [own_tables(bench, part, label) for part in spec.parts]
        if all(part is not None for part in of_parts):
            tables[label] = [_joined(parts) for parts in zip(*of_parts)]  # by request
    if bench.kind not in tables:
        return []
    first = [values[0] for part in spec.parts if (values := own_tables(bench, part, bench.kind))]
    stops = np.cumsum([1 if table.ndim == 1 else table.shape[1] for table in first])

    def figure(a, b, request: int) -> float:
        means = [[x.mean() for x in np.split(p, stops[:-1], axis=1)] for p in (a, b)]
        with np.errstate(invalid="ignore", divide="ignore"):
            return float(spec.function(*map(np.asarray, means)))

    results, key = [], (spec.metric, spec.variant, spec.split)
    for reference in (name for name in bench.references if name in tables):
        theirs = [draws_of(bench, part, reference) for part in spec.parts]
        for label in (name for name in bench.judged if name in tables and name != reference):
            mine = [draws_of(bench, part, label) for part in spec.parts]
            draws = applied(lambda *x: spec.function(*np.split(np.stack(x), 2)), *mine, *theirs)
            draws = draws if comparable(bench, spec.parts, label, reference) else engine.nothing(draws)
            band = bench.band(figure, tables, label, reference, spec.sides, key)
            keys = (*bench.views[label][0].panel.key, *key, reference)
            estimate = estimate_of(draws, spec.low, spec.high)
            results.append(MetricResult(*keys, estimate, spec.known_ideal, band, draws, spec.sides))
    return results


def _joined(parts) -> np.ndarray:
    return np.concatenate([p[:, None] if p.ndim == 1 else p for p in parts], axis=1)

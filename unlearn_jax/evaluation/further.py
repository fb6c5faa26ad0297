"""Rows of the metric table that a study or a sweep measures beside what it is about, of scores that it has anyway."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64, Integer

from unlearn_jax.data.splits import SPLITS
from unlearn_jax.evaluation.composites import composite_figures
from unlearn_jax.evaluation.engine import Precision
from unlearn_jax.evaluation.figures import AuditData, own_figures, pair_figures
from unlearn_jax.evaluation.metric import CompositeMetric, Metric, ModelMetric, PopulationMetric
from unlearn_jax.evaluation.panels import EvalSplits, PopulationOutputs
from unlearn_jax.evaluation.values import Scorer
from unlearn_jax.evaluation.views import View

WAYS = {ModelMetric: own_figures, PopulationMetric: pair_figures, CompositeMetric: composite_figures}


class ScoredView(View):
    """A population of a level as metrics see it: margins and right answers of the evaluated examples, no logits."""

    def __init__(self, scorer: Scorer, outcome, request: int):
        self._scorer, self._outcome = scorer, outcome
        panel = PopulationOutputs(outcome.method, outcome.setting, outcome.role, remedy=outcome.remedy)
        super().__init__(panel, EvalSplits({}, {}, {}), request)

    @property
    def members(self) -> int:
        """How many members serve the request."""
        return int((self._scorer.level.request_of == self.request).sum())

    def has(self, *splits: str) -> bool:
        """Whether there are evaluated examples in every one of the splits."""
        return all(split in SPLITS and self._scorer.has(split, [self.request]) for split in splits)

    def labels(self, split: str) -> Integer[np.ndarray, " n"]:
        """(n,) class numbers."""
        setup = self._scorer.setup
        return setup.bench.labels[setup.shown[self._scorer.columns(split, self.request)]]

    def clusters(self, split: str) -> Integer[np.ndarray, " n"]:
        """(n,) cluster numbers."""
        return self._values(split, "margin").clusters[0]

    def margin(self, split: str) -> Float64[np.ndarray, "members n"]:
        """(members, n) log-odds of the true label, nats; NaN for a member that diverged."""
        return self._values(split, "margin").blocks[0]

    def correct(self, split: str) -> Float64[np.ndarray, "members n"]:
        """(members, n) 1. where the answer is right, NaN for a member that diverged."""
        return self._values(split, "correct").blocks[0]

    def _values(self, split: str, what: str):
        return self._once((split, what), lambda: self._scorer.values(self._outcome, split, what, [self.request]))


def further_figures(
    scorer: Scorer,
    keys: Callable[..., dict],
    outcomes: list,
    rows: tuple[Metric, ...],
    requests: list[int],
    recorder,
    beside: tuple = (),
    recorded: tuple[str, ...] = (),
) -> None:
    """Measure rows of the table on populations of a level, each with its interval, and record them.

    There are no null bands: an audit has them, from populations that it trains for them.

    Args:
        scorer: of the level.
        keys: ``(outcome, **more)`` -> record keys.
        outcomes: whose figures are recorded.
        rows: of the table, see `table.study_metrics`.
        requests: that are pooled.
        recorder: of the run.
        beside: further ones to compare them with; without a reference anywhere, figures are of single models alone.
        recorded: metrics that the run records of single models anyway; of these only what compares is added.
    """
    if not rows:
        return
    views: dict[str, list[View]] = {o.label: [ScoredView(scorer, o, r) for r in requests] for o in (*beside, *outcomes)}
    config, named = scorer.setup.config, {o.label: o for o in outcomes}
    bench = AuditData(views, Precision(splits=0, resamples=config.resamples, seed=config.seed), named)
    for row in rows:
        for figure in WAYS[type(row)](bench, row):
            if figure.metric not in recorded:
                names = {name: getattr(figure, name) for name in ("metric", "variant", "split", "reference")}
                recorder.figure(keys(named[figure.label], **names), figure.estimate)

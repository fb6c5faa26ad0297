"""What a row of the metric table is: one figure in one variant on one split, how it is measured, how pages describe it.

The classes differ in how a figure is measured; everything that shows figures reads the fields that they share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from unlearn_jax.evaluation.views import View

REFERENCES = ("oracle", "retrain")
SEVERAL = "*"  # in place of a split
NEEDS = {
    "margin": "margins and right answers of single examples",
    "logits": "logits of all classes",
    "features": "features of the last hidden layer",
    "weights": "weights",
    "relearning": "models trained on with the request, or with samples similar to it",
    "noisy": "answers at perturbed images",
    "untrained": "answers of untrained networks",
    "gradients": "gradients of single examples",
    "answers": "the words of a language model",
}
STUDIED = frozenset({"margin"})  # what a study and a sweep know of every population; an audit knows everything


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One figure: its name in files, its name on pages, and what it means.

    Attributes:
        metric: the name in files.
        variant: which of the metric's forms.
        split: of the examples; '' = of whole models; `SEVERAL` = of each of several, or of several together.
        title: on pages; '' = it is shown among all other figures, by its name in files.
        group: of rows in tables.
        unit: nats, points, share, ...
        ideal: of models that never saw the targets' clusters; None = what two populations show that differ in nothing.
        what: one or two sentences.
        source: arXiv number, or a name.
        references: populations that it compares with; none = a figure of models alone.
        needs: keys of `NEEDS`.
        digits: decimals on pages.
        scale: pages show value * scale.
        listed: whether the list of definitions has a line of it; of several rows of one definition, the first.
        studies: whether every study and sweep measures it, whatever ``--metrics`` says.
    """

    metric: str
    variant: str = ""
    split: str = "forget"
    title: str = ""
    group: str = ""
    unit: str = ""
    ideal: float | None = 0.0
    what: str
    source: str = ""
    references: tuple[str, ...] = REFERENCES
    needs: tuple[str, ...] = ("logits",)
    digits: int = 3
    scale: float = 1.0
    listed: bool = True
    studies: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it from all other rows."""
        return self.metric, self.variant, self.split

    @property
    def known_ideal(self) -> float:
        """The ideal; NaN where it is not known beforehand."""
        return np.nan if self.ideal is None else self.ideal

    @property
    def is_compared(self) -> bool:
        """Whether its figure is of a population and a reference."""
        return bool(self.references)


@dataclass(frozen=True, kw_only=True)
class RecordedMetric(Metric):
    """A figure that the code of a run writes itself: what a study is about, prices, costs, answers in words."""

    references: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ModelMetric(Metric):
    """A figure of single models; files have it as it is and, as METRIC_gap, minus each reference's.

    Attributes:
        values: of a `View`; (members, n) of the split, (members,), or None where it is not there.
        low: least value.
        high: greatest.
        blind: two populations of which this holds cannot be compared.
    """

    references: tuple[str, ...] = ()
    values: Callable[[View], np.ndarray | None]
    low: float = -np.inf
    high: float = np.inf
    blind: Callable[[View], bool] | None = None


@dataclass(frozen=True, kw_only=True)
class PopulationMetric(Metric):
    """A figure of two populations, per example.

    Attributes:
        figure: arrays (members, n, ...) of the population, of the reference, and of those in ``also`` -> (n,).
        takes: of a `View`; the array of a population, there where the split is.
        sides: of the null band; 1 = small is good, -1 = large is good, 2 = near the ideal is good.
        low: least value.
        high: greatest.
        spread: scale of the interval, plain or logit.
        also: further populations.
        labelled: whether the figure takes labels= of the split.
        banded: whether it has a null band, whose centre is then what it is ranked by.
        classes: fewest that it takes.
    """

    figure: Callable
    takes: Callable[[View], np.ndarray | None]
    sides: int = 1
    low: float = -np.inf
    high: float = np.inf
    spread: str = "plain"
    also: tuple[str, ...] = ()
    labelled: bool = False
    banded: bool = True
    classes: int = 2


@dataclass(frozen=True, kw_only=True)
class CompositeMetric(Metric):
    """A figure that is a function of the means of several `ModelMetric`, of a population and of a reference.

    Attributes:
        parts: whose means.
        function: means of the population's parts, means of the reference's, both (parts, ...) -> number.
        sides: of the null band.
        low: least value.
        high: greatest.
    """

    parts: tuple[ModelMetric, ...]
    function: Callable
    sides: int = 2
    low: float = -np.inf
    high: float = np.inf


@dataclass(frozen=True, kw_only=True)
class MatchedMetric(Metric):
    """A likeness of the features of member i of a population and member i of a reference.

    Attributes:
        likeness: features (members, n, D) of both -> (members,).
        fewest: examples that it takes.
    """

    likeness: Callable[[Any, Any], Any]
    fewest: int

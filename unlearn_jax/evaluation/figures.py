"""The table applied: every figure of every population, raw, as a signed gap, or against a reference."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

import numpy as np

from unlearn_jax.evaluation import engine
from unlearn_jax.evaluation.engine import Precision, applied
from unlearn_jax.evaluation.metric import REFERENCES, ModelMetric, PopulationMetric
from unlearn_jax.evaluation.records import NO_BAND, MetricResult
from unlearn_jax.evaluation.views import View
from unlearn_jax.metrics import Draws, Values, distance_draws, identifiability, mean_draws
from unlearn_jax.metrics.bands import NullBand, t_estimate
from unlearn_jax.metrics.relative import relative_test
from unlearn_jax.metrics.summary import Estimate, estimate_of
from unlearn_jax.roles import LIKE, NULLS

SHARED = ("rest", "test")  # splits of which requests have the same examples


class AuditData:
    """All populations' views, with what several figures share; holds no state but a cache.

    Figures are made of those in ``only`` (None = all); the others are there to be compared with.
    """

    def __init__(self, views: dict[str, list[View]], how: Precision, only: Collection[str] | None = None):
        self.views, self.how, self._only = views, how, views if only is None else only
        self.references = [name for name in REFERENCES if name in views]
        self.kind = "oracle" if "oracle" in views else next(iter(self.references or views))  # what `null` is like
        self._made: dict = {}

    def alike(self, reference: str) -> list[str]:
        """The populations of a reference's kind, from which its null bands are made."""
        like = [name for name, kind in LIKE.items() if kind == reference and name != "null" and name in self.views]
        return [reference, *(like or [name for name in ("null",) if reference == self.kind and name in self.views])]

    @property
    def judged(self) -> list[str]:
        """Labels of the populations that figures are made of; `null` stands for a perfect method."""
        return [n for n in self.views if n in self._only and (n == "null" or n not in NULLS)]

    def band(self, figure, tables: dict[str, list], label: str, reference: str, sides: int, key: tuple) -> NullBand:
        """The null band of a figure of a population against a reference: of populations of their sizes, like it.

        Args:
            figure: as of `engine.null_band`.
            tables: by population and request, what the figure is made of.
            label: of the population.
            reference: with what it is compared.
            sides: of the band.
            key: name of the figure.
        """
        if not self.how.splits:
            return NO_BAND
        sizes = tuple(zip(*([engine.finite(table) for table in tables[name]] for name in (label, reference))))

        def made() -> NullBand:
            pools = engine.pooled_members([tables[name] for name in self.alike(reference) if name in tables])
            return engine.null_band(figure, pools, list(sizes), sides, self.how)

        return self.once(("band", *key, reference, sizes), made)

    def once(self, key, make):
        """The value under a key, made where it is not there."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def role(self, label: str) -> str:
        """Whose member draws a population shares."""
        return self.views[label][0].panel.role

    def members(self, label: str) -> int:
        """Fewest members that serve a request."""
        return min(view.members for view in self.views[label])

    def clusters(self, split: str) -> list[np.ndarray]:
        """Cluster numbers of a split, by request."""
        return [view.clusters(split) for view in self.views[self.kind]]


def own_tables(bench: AuditData, spec: ModelMetric, label: str) -> list[np.ndarray] | None:
    """A population's values by request; None where the figure is not there."""

    def made():
        tables = [spec.values(view) for view in bench.views[label]]
        return None if any(table is None for table in tables) else tables

    return bench.once((spec.metric, spec.variant, spec.split, label), made)


def own_draws(bench: AuditData, spec: ModelMetric, label: str) -> Draws | None:
    """Draws of the mean of a population's values."""
    tables = own_tables(bench, spec, label)
    if tables is None:
        return None
    clusters = bench.clusters(spec.split) if bench.views[label][0].has(spec.split) else None
    make = lambda: engine.member_draws(tables, bench.role(label), clusters, bench.how, spec.split in SHARED)
    return bench.once(("draws", spec.metric, spec.variant, spec.split, label), make)


def draws_of(bench: AuditData, spec: ModelMetric, label: str) -> Draws:
    """`own_draws` of a figure that is there."""
    draws = own_draws(bench, spec, label)
    assert draws is not None
    return draws


def comparable(bench: AuditData, specs: tuple[ModelMetric, ...], label: str, reference: str) -> bool:
    """Whether figures of two populations say anything beside each other."""
    blind = [spec.blind for spec in specs if spec.blind is not None]
    views = zip(bench.views[label], bench.views[reference])
    return not any(one(u) and one(r) for u, r in views for one in blind)


def own_figures(bench: AuditData, spec: ModelMetric) -> list[MetricResult]:
    """A figure of single models, as it is and minus each reference's."""
    tables = {label: own_tables(bench, spec, label) for label in bench.views}
    tables = {label: table for label, table in tables.items() if table is not None}
    results, none, name = [], own_draws(bench, spec, bench.kind), (spec.metric, spec.variant, spec.split)
    ideal = none.value if none is not None else np.nan
    for label in (label for label in bench.judged if label in tables):
        draws, panel = draws_of(bench, spec, label), bench.views[label][0].panel
        keys = panel.key
        results.append(MetricResult(*keys, *name, "", estimate_of(draws, spec.low, spec.high), ideal, NO_BAND, draws))
        for reference in (reference for reference in bench.references if reference in tables and reference != label):
            gap = applied(lambda u, r: u - r, draws, draws_of(bench, spec, reference))
            gap = gap if comparable(bench, (spec,), label, reference) else engine.nothing(gap)
            band = bench.band(engine.gap_of_means, tables, label, reference, 2, name)
            width, gap_keys = spec.high - spec.low, (*keys, f"{spec.metric}_gap", *name[1:], reference)
            results.append(MetricResult(*gap_keys, estimate_of(gap, -width, width), 0.0, band, gap))
    return results


def pair_figures(bench: AuditData, spec: PopulationMetric) -> list[MetricResult]:
    """A figure of whole populations against each reference, with its null band."""
    views = bench.views[bench.kind]
    if not all(view.has(spec.split) for view in views) or any(name not in bench.views for name in spec.also):
        return []
    if spec.classes > 2 and views[0].logits(spec.split).shape[-1] < spec.classes:
        return []
    tables = {label: [cast(np.ndarray, spec.takes(view)) for view in bench.views[label]] for label in bench.views}
    extras, clusters = [tables[name] for name in spec.also], bench.clusters(spec.split)
    labels, key = [view.labels(spec.split) for view in views], (spec.metric, spec.variant, spec.split)

    def figure(*populations, request: int) -> np.ndarray:
        return spec.figure(*populations, **({"labels": labels[request]} if spec.labelled else {}))

    def held(u, r, request: int) -> float:
        return float(np.mean(figure(u, r, *(extra[request] for extra in extras), request=request)))

    results = []
    for reference in (name for name in bench.references if name in spec.references):
        for label in (label for label in bench.judged if label != reference):
            populations = list(zip(tables[label], tables[reference], *extras))
            roles = [bench.role(name) for name in (label, reference, *spec.also)]
            draws = engine.pair_draws(figure, populations, roles, clusters, bench.how, spec.split in SHARED)
            band = bench.band(held, tables, label, reference, spec.sides, key) if spec.banded else NO_BAND
            ideal = band.centre if spec.banded else spec.known_ideal
            panel = bench.views[label][0].panel
            estimate = t_estimate(draws, low=spec.low, high=spec.high, scale=spec.spread)
            keys = (*panel.key, *key, reference)
            results.append(MetricResult(*keys, estimate, ideal, band, draws, spec.sides))
    return results


def relative_figures(bench: AuditData) -> list[MetricResult]:
    """Whether each population is nearer to each reference than the original is, an anytime-valid p-value."""
    if "original" not in bench.views:
        return []
    blocks, results = lambda label: [view.margin("forget") for view in bench.views[label]], []
    for reference in (name for name in ("oracle", "retrain") if name in bench.views):
        for label in (name for name in bench.judged if name not in ("original", reference)):
            test = relative_test(blocks(label), blocks(reference), blocks("original"))
            estimate = Estimate(test.p_value, *[float("nan")] * 4, n=test.members)
            keys = (*bench.views[label][0].panel.key, "relative_p", "", "forget", reference)
            results.append(MetricResult(*keys, estimate, float("nan")))
    return results


def residual_figures(bench: AuditData) -> list[MetricResult]:
    """The project's own figures, residual influence and residual distance; NaN where they are ratios to noise."""
    if not {"original", "oracle"} <= set(bench.views):
        return []
    clusters, how = bench.clusters("forget"), bench.how
    setting: dict[str, Any] = {"seed": how.seed, "resamples": how.resamples}
    values = lambda label: Values([v.margin("forget") for v in bench.views[label]], bench.role(label), clusters)
    means = lambda label: mean_draws(values(label), **setting)
    original, oracle, results = values("original"), values("oracle"), []
    identified = bench.once("identifiable", lambda: identifiability(original, oracle, **setting))
    band = NullBand(-identified.band_ratio, identified.band_ratio, 0.0, bench.members("oracle"))
    share = lambda u, full, none: (u - none) / (full - none)
    for label in bench.judged:
        if label == "oracle":
            continue
        panel = bench.views[label][0].panel
        signed = applied(share, means(label), means("original"), means("oracle"))
        distance = distance_draws(values(label), original, oracle, role=bench.role(label), **setting)
        kinds = (("influence", signed, band, (), 2), ("distance", distance, NO_BAND, (0.0,), 1))
        for metric, draws, null, bounds, sides in kinds:
            draws = draws if identified.identifiable else engine.nothing(draws)
            keys = (*panel.key, f"residual_{metric}", "", "forget", "oracle")
            results.append(MetricResult(*keys, estimate_of(draws, *bounds), 0.0, null, draws, sides))
    return results

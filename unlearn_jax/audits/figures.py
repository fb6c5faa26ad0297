"""The battery applied: every figure of every population, raw, as a signed gap, or against a reference."""

from __future__ import annotations

import numpy as np

from unlearn_jax.audits import engine
from unlearn_jax.audits.battery import REFERENCES, Own, Pair
from unlearn_jax.audits.engine import Precision, applied, plain
from unlearn_jax.audits.records import NO_BAND, Figure
from unlearn_jax.audits.views import View
from unlearn_jax.metrics import Draws, Values, distance_draws, identifiability, mean_draws
from unlearn_jax.metrics.bands import NullBand, t_estimate
from unlearn_jax.outcomes import NULLS


class Bench:
    """All populations' views, with what several figures share; holds no state but a cache."""

    def __init__(self, views: dict[str, list[View]], how: Precision):
        self.views, self.how = views, how
        self.references = [name for name in REFERENCES if name in views]
        self.kind = "oracle" if "oracle" in views else self.references[0]  # whose noise the null bands show
        pool = [name for name in NULLS[1:] if name in views] or [name for name in NULLS[:1] if name in views]
        self.alike = [self.kind, *pool]  # populations of that kind, from which bands are made
        self._made: dict = {}

    @property
    def judged(self) -> list[str]:
        """Labels of the populations that figures are made of; `null` stands for a perfect method."""
        return [label for label in self.views if label not in NULLS[1:]]

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
        return min(len(next(iter(view.panel.logits[view.request].values()))) for view in self.views[label])

    def clusters(self, split: str) -> list[np.ndarray]:
        """Cluster numbers of a split, by request."""
        return [view.clusters(split) for view in self.views[self.kind]]


def own_tables(bench: Bench, spec: Own, label: str) -> list[np.ndarray] | None:
    """A population's values by request; None where the figure is not there."""

    def made():
        tables = [spec.values(view) for view in bench.views[label]]
        return None if any(table is None for table in tables) else tables

    return bench.once((spec.metric, spec.variant, spec.split, label), made)


def own_draws(bench: Bench, spec: Own, label: str) -> Draws | None:
    """Draws of the mean of a population's values."""
    tables = own_tables(bench, spec, label)
    if tables is None:
        return None
    clusters = bench.clusters(spec.split) if bench.views[label][0].has(spec.split) else None
    make = lambda: engine.member_draws(tables, bench.role(label), clusters, bench.how)
    return bench.once(("draws", spec.metric, spec.variant, spec.split, label), make)


def own_figures(bench: Bench, spec: Own) -> list[Figure]:
    """A figure of single models, as it is and minus each reference's."""
    found, none, band = [], own_draws(bench, spec, bench.kind), NO_BAND
    if none is not None:
        alike = [t for t in (own_tables(bench, spec, name) for name in bench.alike) if t is not None]
        pools = engine.pooled_members(alike)
        band = engine.null_band(engine.gap_of_means, pools, bench.members(bench.kind), 2, bench.how)
    ideal = none.value if none is not None else np.nan
    for label in bench.judged:
        draws = own_draws(bench, spec, label)
        if draws is None:
            continue
        panel = bench.views[label][0].panel
        keys = (panel.name, panel.setting, spec.metric, spec.variant, spec.split)
        found.append(Figure(*keys, "", plain(draws, spec.low, spec.high), ideal, NO_BAND, draws))
        for reference in bench.references:
            other = own_draws(bench, spec, reference)
            if label != reference and other is not None:
                gap = applied(lambda u, r: u - r, draws, other)
                name = (*keys[:2], f"{spec.metric}_gap", *keys[3:])
                width = spec.high - spec.low
                found.append(Figure(*name, reference, plain(gap, -width, width), 0.0, band, gap))
    return found


def pair_figures(bench: Bench, spec: Pair) -> list[Figure]:
    """A figure of whole populations against each reference, with its null band."""
    if not all(view.has(spec.split) for view in bench.views[bench.kind]) or any(
        n not in bench.views for n in spec.also
    ):
        return []
    arrays = lambda label: [spec.takes(view) for view in bench.views[label]]
    extras, clusters = [arrays(name) for name in spec.also], bench.clusters(spec.split)
    labels = [view.labels(spec.split) for view in bench.views[bench.kind]]

    def figure(*populations, request: int) -> np.ndarray:
        return spec.figure(*populations, **({"labels": labels[request]} if spec.labelled else {}))

    def held(u, r, request: int) -> float:
        return float(np.mean(figure(u, r, *(extra[request] for extra in extras), request=request)))

    pools = engine.pooled_members([arrays(name) for name in bench.alike])
    band = engine.null_band(held, pools, bench.members(bench.kind), spec.sides, bench.how) if spec.banded else NO_BAND
    ideal = band.centre if spec.ideal is None else spec.ideal
    found = []
    for reference in (name for name in bench.references if name in spec.against):
        for label in bench.judged:
            if label == reference:
                continue
            populations = list(zip(arrays(label), arrays(reference), *extras))
            roles = [bench.role(name) for name in (label, reference, *spec.also)]
            draws = engine.pair_draws(figure, populations, roles, clusters, bench.how)
            panel = bench.views[label][0].panel
            estimate = t_estimate(draws, low=spec.low, high=spec.high, scale=spec.scale)
            keys = (panel.name, panel.setting, spec.metric, spec.variant, spec.split, reference)
            found.append(Figure(*keys, estimate, ideal, band, draws, spec.sides))
    return found


def residual_figures(bench: Bench) -> list[Figure]:
    """The project's own figures, residual influence and residual distance, against the oracle."""
    if not {"original", "oracle"} <= set(bench.views):
        return []
    clusters, how = bench.clusters("forget"), bench.how
    setting = {"seed": how.seed, "resamples": how.resamples}
    values = lambda label: Values([v.margin("forget") for v in bench.views[label]], bench.role(label), clusters)
    means = lambda label: mean_draws(values(label), **setting)
    original, oracle, found = values("original"), values("oracle"), []
    told = identifiability(original, oracle, **setting)
    band = NullBand(-told.band_ratio, told.band_ratio, 0.0, bench.members("oracle"))
    share = lambda u, full, none: (u - none) / (full - none)
    for label in bench.judged:
        if label == "oracle":
            continue
        panel = bench.views[label][0].panel
        signed = applied(share, means(label), means("original"), means("oracle"))
        distance = distance_draws(values(label), original, oracle, role=bench.role(label), **setting)
        kinds = (("influence", signed, band, (), 2), ("distance", distance, NO_BAND, (0.0,), 1))
        for metric, draws, own, bounds, sides in kinds:
            keys = (panel.name, panel.setting, f"residual_{metric}", "", "forget", "oracle")
            found.append(Figure(*keys, plain(draws, *bounds), 0.0, own, draws, sides))
    return found

"""Figures that ask for weights: features, distances of weights, randomness, and what the study itself is like."""

from __future__ import annotations

import numpy as np

from unlearn_jax.evaluation import engine
from unlearn_jax.evaluation.figures import AuditData
from unlearn_jax.evaluation.metric import MatchedMetric, ModelMetric
from unlearn_jax.evaluation.panels import Panels
from unlearn_jax.evaluation.records import NO_BAND, MetricResult
from unlearn_jax.evaluation.views import View
from unlearn_jax.metrics import Estimate
from unlearn_jax.metrics.bands import NullBand
from unlearn_jax.metrics.costs import Cost, cost_share
from unlearn_jax.metrics.entangling import entanglement, mmd
from unlearn_jax.metrics.summary import estimate_of

MAX_EXAMPLES = 600  # examples whose features are compared


def weight_metrics(panels: Panels) -> tuple[ModelMetric, ...]:
    """A row for each layer whose weights' distance was measured."""
    names = {name for panel in panels.populations for name in panel.measured if name.startswith("weights_from_")}
    rows = []
    for name in sorted(names):
        start, _, layer = name.removeprefix("weights_from_").partition("/")
        values = lambda view, name=name: view.measured(name)
        variant, what = f"{layer} from {start}", "Relative distance of a layer's weights."
        about = {"unit": "relative", "needs": ("weights",), "what": what}
        row = ModelMetric(metric="weight_distance", variant=variant, split="", values=values, low=0.0, **about)
        rows.append(row)
    return tuple(rows)


def matched_figures(bench: AuditData, spec: MatchedMetric) -> list[MetricResult]:
    """Likeness of features, member beside member, on targets and similar samples."""
    splits = ("forget", "similar", "rest") if bench.views[bench.kind][0].has("similar", "rest") else ("forget", "test")
    results = []
    count = sum(len(bench.views[bench.kind][0].labels(split)) for split in splits)
    for reference in bench.references if count >= spec.fewest else ():
        band = _matched_band(bench, spec.likeness, splits, reference)
        for label in bench.judged:
            values = _matched(bench, spec.likeness, splits, label, reference)
            if label == reference or values is None:
                continue
            draws = engine.member_draws([values], bench.role(label), None, bench.how)
            panel = bench.views[label][0].panel
            keys = (*panel.key, spec.metric, spec.variant, "+".join(splits), reference)
            results.append(MetricResult(*keys, estimate_of(draws), band.centre, band, draws))
    return results


def _features(view: View, splits) -> np.ndarray | None:
    """Features of some splits, at most `MAX_EXAMPLES` examples."""
    features = view.features(*splits)
    return None if features is None else features[:, :MAX_EXAMPLES]


def _matched(bench: AuditData, function, splits, label: str, other: str) -> np.ndarray | None:
    """A likeness of the features of member i of one population and member i of another; (members,)."""
    x, y = (_features(bench.views[name][0], splits) for name in (label, other))
    if x is None or y is None or x.shape[2] != y.shape[2]:
        return None
    members = min(len(x), len(y))
    x, y = x[:members], y[:members]
    finite = np.isfinite(x).all(axis=(1, 2)) & np.isfinite(y).all(axis=(1, 2))
    values = np.full(members, np.nan)
    if finite.any():
        values[finite] = function(x[finite], y[finite])
    return values


def _matched_band(bench: AuditData, function, splits, reference: str) -> NullBand:
    """Prediction interval of the mean likeness of two populations that differ in nothing, from pairs of such."""
    from scipy.special import stdtrit

    names = bench.alike(reference)
    pairs = [_matched(bench, function, splits, a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    pairs = [values[np.isfinite(values)] for values in pairs if values is not None]
    values = np.concatenate(pairs) if pairs else np.zeros(0)
    if len(values) < 2:
        return NO_BAND
    size = len(pairs[0])
    half = stdtrit(len(values) - 1.0, 0.975) * values.std(ddof=1) * np.sqrt(1.0 / size + 1.0 / len(values))
    return NullBand(float(values.mean() - half), float(values.mean() + half), float(values.mean()), size)


def study_figures(bench: AuditData, panels: Panels) -> list[MetricResult]:
    """What the study itself is like: how targets entangle with what stays, in the originals' features and gradients."""
    results, tables = [], {}
    for name, values in panels.about.items():
        if name.startswith("coupling/"):
            kind, split = name.split("/")[1:] if name.count("/") == 2 else ("total", name.split("/")[1])
            tables["gradient_coupling", kind, split] = values
    view = bench.views["original"][0] if "original" in bench.views else None
    for split in ("similar", "rest", "test"):
        pair = (view.features("forget"), view.features(split)) if view is not None and view.has(split) else (None, None)
        if pair[0] is not None and pair[1] is not None:
            tables["entanglement", "midpoint", split] = entanglement(pair[1][:, :MAX_EXAMPLES], pair[0])
            if min(pair[0].shape[1], pair[1].shape[1]) > 1:
                tables["mmd", "squared, median bandwidth", split] = mmd(pair[1][:, :MAX_EXAMPLES], pair[0])
    for (metric, variant, split), values in tables.items():
        draws = engine.member_draws([np.asarray(values, np.float64)], "original", None, bench.how)
        keys = ("original", "", "", metric, variant, split, "")
        results.append(MetricResult(*keys, estimate_of(draws), np.nan, NO_BAND, draws))
    return results


def cost_figures(bench: AuditData, panels: Panels) -> list[MetricResult]:
    """What each population cost beside retraining: gradient evaluations on request and retained data, seconds."""
    if "retrain" not in panels.costs:
        return []
    cost = lambda label: Cost(
        panels.costs[label]["grad_evals_forget"], panels.costs[label]["grad_evals_retain"],
        seconds=panels.costs[label]["seconds"], members=bench.members(label),
    )  # fmt: skip
    results = []
    for label in (name for name in bench.judged if name in panels.costs):
        share, panel = cost_share(cost(label), cost("retrain")), bench.views[label][0].panel
        for name, value in share._asdict().items():
            estimate = Estimate(value, *[np.nan] * 4, n=bench.members(label))
            results.append(MetricResult(*panel.key, f"cost_{name}", "", "", "", estimate, np.nan))
    return results

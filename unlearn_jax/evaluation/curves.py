"""What the audit's page draws: ROC curves, distributions of KLOM, relearning, perturbed images, error by distance."""

from __future__ import annotations

import numpy as np

from unlearn_jax.evaluation import engine
from unlearn_jax.evaluation.engine import applied
from unlearn_jax.evaluation.figures import AuditData
from unlearn_jax.evaluation.panels import Panels
from unlearn_jax.evaluation.views import of_split
from unlearn_jax.metrics import Draws
from unlearn_jax.metrics.curves import error_against_distance
from unlearn_jax.metrics.klom import klom
from unlearn_jax.metrics.roc import log_grid, on_grid, roc
from unlearn_jax.metrics.summary import estimate_of
from unlearn_jax.metrics.u_lira import u_lira_cross_fitted

BANDS = 100  # draws behind the band of a curve
BINS = 8  # of distance
MIN_RATE = 1e-3  # false-positive rate where the curves begin


def drawn(bench: AuditData, panels: Panels) -> dict[str, np.ndarray]:
    """Every curve by name, ``what/population/reference``; bands as (3, points): value, low, high."""
    curves = {"fpr": log_grid(MIN_RATE)} | {k: v for k, v in panels.about.items() if k == "noise_radii"}
    for reference in bench.references:
        for label in bench.judged:
            if label != reference:
                curves |= _roc(bench, label, reference, curves["fpr"])
                curves[f"klom/{label}/{reference}"] = np.concatenate(_klom(bench, label, reference))
                curves |= _by_distance(bench, label, reference)
    for reference in bench.references:
        curves |= _klom_null(bench, reference)
    curves |= _relearning(bench) | _perturbed(bench)
    return curves


def _roc(bench: AuditData, label: str, reference: str, grid: np.ndarray) -> dict[str, np.ndarray]:
    """The pooled curve of cross-fitted U-LiRA with a band by halves of the members and drawn clusters."""
    pairs = list(zip(*(of_split(bench.views[name], "margin", "forget") for name in (label, reference))))
    scores = [u_lira_cross_fitted(u, r) for u, r in pairs]
    whole = _sides(scores)
    if not all(len(w) and np.isfinite(w).all() for w in whole):
        return {}
    curve = lambda positive, negative: on_grid(*roc(positive, negative)[:2], grid)
    value, rng, draws = curve(*whole), np.random.default_rng(bench.how.seed), []
    for _ in range(BANDS):
        parts = []
        for u, r in pairs:
            halves = [p[np.sort(rng.permutation(len(p))[: max(4, len(p) // 2)])] for p in (u, r)]
            at = rng.integers(u.shape[1], size=u.shape[1])
            parts.append(u_lira_cross_fitted(*(half[:, at] for half in halves)))
        sides = _sides(parts)
        if all(np.isfinite(side).all() for side in sides):
            draws.append(curve(*sides))
    spread = 1.96 * np.std(draws, axis=0) if len(draws) > 1 else np.full(len(grid), np.nan)
    band = np.stack([value, np.clip(value - spread, 0, 1), np.clip(value + spread, 0, 1)])
    least = 1.0 / len(whole[1])  # the smallest rate that so many negatives can show
    return {f"roc/{label}/{reference}": band, f"roc_least/{label}/{reference}": np.asarray(least)}


def _sides(attacks) -> list[np.ndarray]:
    """Scores of unlearned and of reference models, of all requests together."""
    return [
        np.concatenate([np.ravel(getattr(attack, name)) for attack in attacks])
        for name in ("scores_unlearned", "scores_reference")
    ]


def _klom(bench: AuditData, label: str, reference: str) -> list[np.ndarray]:
    sides = (of_split(bench.views[name], "margin", "forget") for name in (label, reference))
    return [klom(u, r) for u, r in zip(*sides)]


def _klom_null(bench: AuditData, reference: str) -> dict[str, np.ndarray]:
    """Share of targets below each value, for pairs of populations that differ in nothing: 95% of the splits."""
    pools = engine.pooled_members([of_split(bench.views[name], "margin", "forget") for name in bench.alike(reference)])
    size = min(bench.members(reference), min(map(len, pools)) // 2)
    if size < 1:
        return {}
    rng, sorted_values = np.random.default_rng(bench.how.seed), []
    for _ in range(bench.how.splits):
        orders = [rng.permutation(len(pool)) for pool in pools]
        parts = [klom(pool[o[:size]], pool[o[size : 2 * size]]) for pool, o in zip(pools, orders)]
        sorted_values.append(np.sort(np.concatenate(parts)))
    grid = np.linspace(0, np.max(sorted_values) * 1.05 + 1e-9, 120)
    shares = np.stack([np.searchsorted(values, grid, side="right") / len(values) for values in sorted_values])
    return {f"klom_null/{reference}": np.stack([grid, *np.quantile(shares, [0.5, 0.025, 0.975], axis=0)])}


def _by_distance(bench: AuditData, label: str, reference: str) -> dict[str, np.ndarray]:
    """Mean difference of the true label's probability from the reference, by distance to the nearest target."""
    view, other = bench.views[label][0], bench.views[reference][0]
    splits = [split for split in ("similar", "test_similar", "rest", "test") if split in view.ground.distance]
    if not splits or len(bench.views[label]) > 1:
        return {}
    probabilities = [np.concatenate([v.true_label_prob(split) for split in splits], axis=1) for v in (view, other)]
    distance = np.concatenate([view.ground.distance[split] for split in splits])
    curve = error_against_distance(*probabilities, distance=distance, bins=min(BINS, len(distance)))
    role = bench.role(label)
    points = [engine.member_draws([curve.members[:, b]], role, None, bench.how) for b in range(curve.members.shape[1])]
    name = f"{label}/{reference}"
    return {f"distance/{name}": _banded(points), f"distance_centre/{name}": curve.centre}


def _banded(columns: list[Draws]) -> np.ndarray:
    """Figures along a curve as (3, points): value, low, high."""
    estimates = [estimate_of(draws) for draws in columns]
    return np.asarray([[e.value for e in estimates], [e.ci_low for e in estimates], [e.ci_high for e in estimates]])


def _relearning(bench: AuditData) -> dict[str, np.ndarray]:
    """Mean of what is known of the request before each update, with intervals over members."""
    curves = {}
    for name in ("relearning", "benign_relearning"):
        for label in bench.judged:
            curve = bench.views[label][0].measured(name)
            if curve is not None:
                role = bench.role(label)
                points = [engine.member_draws([curve[:, t]], role, None, bench.how) for t in range(curve.shape[1])]
                curves[f"{name}/{label}"] = _banded(points)
    return curves


def _perturbed(bench: AuditData) -> dict[str, np.ndarray]:
    """Residual knowledge by radius: probability of the targets' labels, over a reference's."""
    curves, clusters = {}, bench.clusters("forget")
    draws = lambda table, label: engine.member_draws([table], bench.role(label), clusters, bench.how)
    for reference in bench.references:
        for label in bench.judged:
            mine = bench.views[label][0].panel.measured
            theirs = bench.views[reference][0].panel.measured
            pairs = {"noisy": (mine.get("noisy"), theirs.get("noisy"))}
            pairs["targeted"] = (mine.get("targeted"), mine.get(f"targeted_{reference}"))
            for kind, (u, r) in pairs.items():
                if label == reference or u is None or r is None:
                    continue
                ratio = lambda a, b: a / b
                columns = [applied(ratio, draws(u[:, i], label), draws(r[:, i], reference)) for i in range(u.shape[1])]
                curves[f"{kind}/{label}/{reference}"] = _banded(columns)
    return curves

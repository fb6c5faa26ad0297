"""The figures of an audit; each returns a matplotlib `Figure`, or None where the audit has nothing to draw."""

from __future__ import annotations

import math

import numpy as np

from unlearn_jax.evaluation.rows import SPLIT_NAMES
from unlearn_jax.reports.audit_load import Audit
from unlearn_jax.reports.panels import DASHED, banded, beside, dot, explain, in_rows, panels, sheet, styled
from unlearn_jax.reports.style import WIDE, colour

MUTED = {"linewidth": 1.1, "zorder": 1.8}
STROKES = {"oracle": "-", "retrain": (0, (5, 1.5))}  # apart without colours too
DOTS = {"oracle": "o", "retrain": "s"}


def drawn_labels(audit: Audit, *kinds: str, most: tuple[str, ...] = ()) -> list[str]:
    """Populations that have a curve of one of these kinds, against a reference or against none."""
    labels = [label for label in audit.populations if label not in most]
    names = lambda label: (audit.curve(kind, label, r) for kind in kinds for r in ("", *audit.references))
    return [label for label in labels if any(curve is not None for curve in names(label))]


def references_legend(audit: Audit) -> list[tuple[str, dict]]:
    """The lines of a figure that has one a reference."""
    return [(f"against {name}", {"color": colour(name), "linestyle": STROKES[name]}) for name in audit.references]


def references_dots(audit: Audit) -> list[tuple[str, dict]]:
    """The marks of a figure that has one a reference."""
    style = lambda name: {"color": colour(name), "marker": DOTS[name], "linestyle": "none", "markersize": 4}
    return [(f"against {name}", style(name)) for name in audit.references]


def roc_figure(audit: Audit, width: float = WIDE):
    """ROC curves of U-LiRA on logarithmic axes, against each reference."""
    labels, grid = drawn_labels(audit, "roc", most=audit_ends(audit)), audit.curves["fpr"]
    if not labels:
        return None
    low = float(grid[0])

    def draw(axes, label: str) -> None:
        axes.plot([low, 1], [low, 1], color=colour("muted"), linestyle=DASHED, linewidth=1)
        for reference in audit.references:
            curve, least = (audit.curve(kind, label, reference) for kind in ("roc", "roc_least"))
            if curve is not None:
                banded(axes, grid, curve, reference, low, linestyle=STROKES[reference])
            if least is not None:
                axes.axvline(float(least), color=colour(reference), linewidth=1, linestyle=(0, (1, 2)))

    legend = [*references_legend(audit), ("chance", {"color": colour("muted"), "linestyle": DASHED, "linewidth": 1})]
    legend.append(("smallest rate resolved", {"color": colour("ink"), "linestyle": (0, (1, 2)), "linewidth": 1}))
    words = ("false-positive rate (reference models called unlearned)", "true-positive rate")
    limits = {"xlim": (low * 0.8, 1), "ylim": (low * 0.9, 1.15), "xscale": "log", "yscale": "log"}
    return panels(labels, draw, words, width, legend, **limits)


def audit_ends(audit: Audit) -> tuple[str, ...]:
    """The reference whose own panel would repeat the other reference's."""
    return ("oracle",) if len(audit.references) == 2 else ()


def klom_figure(audit: Audit, width: float = WIDE):
    """Share of the targets whose KLOM is below each value, with what two alike populations show."""
    labels = drawn_labels(audit, "klom", most=audit_ends(audit))
    if not labels:
        return None
    bands = {r: audit.curve("klom_null", r) for r in audit.references}
    bands = {r: band for r, band in bands.items() if band is not None}
    values = [v for label in labels for r in audit.references if (v := audit.curve("klom", label, r)) is not None]
    end = 1.05 * max(float(np.nanmax(v)) for v in values)

    def draw(axes, label: str) -> None:
        for reference, band in bands.items():
            axes.fill_between(band[0], band[2], band[3], color=colour(reference), alpha=0.2, linewidth=0)
        for reference in audit.references:
            curve = audit.curve("klom", label, reference)
            if curve is not None:
                x = np.sort(curve[np.isfinite(curve)])
                y = np.arange(1, len(x) + 1) / len(x)
                axes.step(
                    [0, *x, end],
                    [0, *y, 1],
                    where="post",
                    color=colour(reference),
                    linewidth=1.6,
                    linestyle=STROKES[reference],
                )

    legend = [*references_legend(audit), ("null bands", {"color": colour("band"), "alpha": 0.4, "linewidth": 6})]
    words = ("KLOM of a target (nats)", "share of the targets below")
    limits = {"xlim": (0, max(end, 1e-9)), "ylim": (0, 1.03)}
    return panels(labels, draw, words, width, legend if bands else legend[:-1], **limits)


def relearning_figure(audit: Audit, width: float = WIDE):
    """What is known of the request along updates on it and along updates on similar samples."""
    kinds = {"relearning": "-", "benign_relearning": DASHED}
    labels = drawn_labels(audit, *kinds)
    if not labels:
        return None
    behind = next((name for name in ("null", audit.kind) if name in labels), None)

    def draw(axes, label: str) -> None:
        for kind, style in kinds.items():
            under, curve = (audit.curve(kind, name) for name in (behind or "", label))
            if under is not None and label != behind:
                axes.plot(np.arange(under.shape[1]), under[0], color=colour("muted"), linestyle=style, **MUTED)
            if curve is not None:
                banded(axes, np.arange(curve.shape[1]), curve, tone_of(label), linestyle=style)

    kinds_of_updates = (("updates on the request", "-"), ("updates on similar samples", DASHED))
    legend = [(name, {"color": colour("method"), "linestyle": style}) for name, style in kinds_of_updates]
    legend.append((f"thin: {behind}", {"color": colour("muted"), "linewidth": 1.1}))
    words = ("updates", "share of the request known")
    ends = [c.shape[1] for label in labels for kind in kinds if (c := audit.curve(kind, label)) is not None]
    return panels(labels, draw, words, width, legend, xlim=(0, max(ends) - 1), ylim=(-0.03, 1.05))


def tone_of(label: str) -> str:
    """The name of a population's colour."""
    return "oracle" if label == "null" else label


def knowledge_figure(audit: Audit, width: float = WIDE):
    """Probability of the targets' labels at perturbed inputs, over a reference's, by radius."""
    kinds = {"noisy": "-", "targeted": DASHED}
    labels = drawn_labels(audit, *kinds, most=audit_ends(audit))
    if not labels:
        return None
    radii = audit.curves.get("noise_radii", np.zeros(0))
    logarithmic = bool((radii > 0).any())

    def draw(axes, label: str) -> None:
        axes.axhline(1, color=colour("ink"), linewidth=0.9)
        for reference in audit.references:
            for kind, style in kinds.items():
                curve = audit.curve(kind, label, reference)
                if curve is None:
                    continue
                x = radii if logarithmic and len(radii) == curve.shape[1] else np.arange(curve.shape[1])
                keep = x > 0 if logarithmic else np.full(len(x), True)
                line = {"linestyle": style, "marker": DOTS[reference], "markersize": 2.5}
                banded(axes, x[keep], curve[:, keep], reference, 1e-3, **line)

    legend = [*references_dots(audit), ("Gaussian", {"color": colour("method")})]
    legend.append(("targeted", {"color": colour("method"), "linestyle": DASHED}))
    words = ("radius of the perturbation" if logarithmic else "step of the radius", "residual knowledge")
    axis = {"yscale": "log"} | ({"xscale": "log"} if logarithmic else {})
    return panels(labels, draw, words, width, legend, **axis)


def distance_figure(audit: Audit, width: float = WIDE):
    """Mean difference of predictions to a reference's, by distance of a sample to the nearest target."""
    labels = drawn_labels(audit, "distance", most=audit_ends(audit))
    if not labels:
        return None
    behind = "null" if "null" in labels else None

    def draw(axes, label: str) -> None:
        for reference in audit.references:
            centre, curve = (audit.curve(kind, label, reference) for kind in ("distance_centre", "distance"))
            under, at = (audit.curve(kind, behind or "", reference) for kind in ("distance", "distance_centre"))
            if under is not None and at is not None and label != behind and reference == audit.kind:
                axes.plot(at, under[0], color=colour("muted"), **MUTED)
            if curve is not None and centre is not None:
                banded(axes, centre, curve, reference, marker=DOTS[reference], markersize=2.5)

    legend = references_dots(audit)
    legend += [(f"thin: null against {audit.kind}", {"color": colour("muted"), "linewidth": 1.1})] if behind else []
    words = ("distance to the nearest target", "mean |difference of probabilities|")
    return panels(labels, draw, words, width, legend)


@styled
def gaps_figure(audit: Audit, width: float = WIDE):
    """Signed accuracy gaps to each reference by split, with intervals and null bands."""
    keys = {s: [audit.find("accuracy_gap", "", s, r) for r in audit.references] for s in SPLIT_NAMES}
    keys = {split: of_split for split, of_split in keys.items() if any(of_split)}
    if not keys:
        return None
    named = {label for of_split in keys.values() for key in filter(None, of_split) for label in audit.figures[key]}
    labels = [label for label in audit.populations if label in named]
    height = 0.9 + 0.3 * len(labels) if width > 6 else 0.9 + (0.22 * len(labels) + 0.5) * len(keys)
    figure, grid = sheet(width, height, *beside(len(keys), width), sharey=True)
    for axes, (split, of_split) in zip(grid.ravel(), keys.items()):
        _gaps(axes, audit, labels, [key for key in of_split if key])
        axes.set_title(SPLIT_NAMES[split], loc="left")
    figure.supxlabel("accuracy minus the reference's, points")
    explain(figure, references_dots(audit), width)
    return figure


def _gaps(axes, audit: Audit, labels: list[str], keys) -> None:
    """The gaps of one split: dots with intervals, one row a population."""
    for key in keys:
        band = next(iter(audit.figures[key].values()))
        if np.isfinite(band.null_low + band.null_high):
            axes.axvspan(100 * band.null_low, 100 * band.null_high, color=colour(key[3]), alpha=0.15, linewidth=0)
    axes.axvline(0, color=colour("ink"), linewidth=0.8)
    for key in keys:
        shift = 0.14 if key[3] == "retrain" and len(keys) > 1 else -0.14 if len(keys) > 1 else 0.0
        for y, label in enumerate(labels):
            row = audit.figures[key].get(label)
            values = [100 * value for value in row[:3]] if row else [math.nan] * 3
            dot(axes, values, y + shift, (-math.inf, math.inf), colour(key[3]), DOTS[key[3]], size=4)
    in_rows(axes, labels)

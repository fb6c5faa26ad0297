"""Dots with intervals at one level, a row for each population."""

from __future__ import annotations

import math
import textwrap

import numpy as np

from unlearn_jax.reports.panels import dot, ends, in_rows, sheet
from unlearn_jax.reports.render import number
from unlearn_jax.reports.style import MARKERS, colour, small
from unlearn_jax.reports.summary import Cell, Entry, Summary

LIMITS = (-1.0, 2.0)  # beyond these a residual is drawn at the edge with an arrow and its value


def limits_of(cells: list[Cell], least: tuple[float, float]) -> tuple[float, float]:
    """Axis limits that hold every interval, within LIMITS."""
    values = [v for c in cells for v in c[:3] if math.isfinite(v)]
    low, high = min([least[0], *values]), max([least[1], *values])
    return max(low - 0.03, LIMITS[0]), min(high + 0.03, LIMITS[1])


def forest(summary: Summary, level: int, entries: list[Entry], width: float, ridge: bool = False):
    """One row an entry, first on top; the distance beside the signed residual where it fits."""
    both = width > 6 and not ridge
    height = max(2.3, 0.75 + (0.31 if len(entries) < 20 else 0.25) * len(entries))
    figure, grid = sheet(width, height, 1, 1 + both, sharey=True)
    signed = "residual influence" + " (0 oracle, 1 original)" * (width > 3.5)
    panels = [(grid[0, -1], summary.residual, (-0.15, 1.15), signed)]
    if both:
        panels.insert(0, (grid[0, 0], summary.distance, (-0.05, 1.15), "residual distance (0 = oracle)"))
    names = [textwrap.fill(summary.label(e), 30 if width > 6 else 18) for e in entries]
    for axes, figure_of, least, label in panels:
        cells = [figure_of(level, e) for e in entries]
        limits = limits_of(cells, least)
        scale(axes, summary, level, figure_of == summary.residual, ridge)
        for y, (entry, cell) in enumerate(zip(entries, cells)):
            draw_row(axes, summary, level, entry, cell, y, limits)
        in_rows(axes, names, limits, -1.4 if ridge else -0.6)
        axes.set_xlabel(label)
    figure.set_layout_engine("constrained", wspace=0.06)  # numbers at the ends of two axes do not touch
    return figure


def scale(axes, summary: Summary, level: int, signed: bool = True, ridge: bool = False) -> None:
    """The ends of the scale, the null band of the signed residual, and the ridge law."""
    band = summary.band(level)
    if signed and math.isfinite(band):
        axes.axvspan(-band, band, color=colour("band"), alpha=0.25, linewidth=0)
    ends(axes)
    if ridge:
        value = 1 - summary.requested(level) / (level + 1)
        axes.axvline(value, color=colour("muted"), linewidth=1, linestyle=(0, (1, 2)))
        text = f" ridge law {value:.2f} " if value < 0.5 else f"ridge law {value:.2f} "
        style = {"ha": "left" if value < 0.5 else "right", "va": "center", "color": colour("muted")}
        axes.text(value, -0.95, text, fontsize=small(), **style)


def draw_row(axes, summary: Summary, level: int, entry: Entry, cell: Cell, y: int, limits) -> None:
    """One row: interval, marker, and in words what cannot be drawn."""
    diverged = summary.find(level, entry, "n_diverged").mean
    note = f"{diverged:g} diverged" if diverged > 0 else ""
    style = {"va": "center", "color": colour("muted"), "fontsize": small()}
    if math.isnan(cell.mean):
        axes.text(0.02, y, ", ".join(filter(None, ["not measured", note])), **style)
        return
    tone = colour(entry.method if entry.is_reference else "method")
    marker, hollow = MARKERS[entry.method] if entry.is_reference else "o", not summary.identifiable(level) or bool(note)
    outside = dot(axes, cell, y, limits, tone, marker, hollow, 6.5)
    words = ", ".join(filter(None, [number(cell.mean) if outside else "", note]))
    x = float(np.clip(cell.mean, *limits))
    left = x > 0.6 * limits[1]
    end = float(np.clip(np.nanmin([x, cell.low]) if left else np.nanmax([x, cell.high]), *limits))
    where = {"xytext": (-7 if left else 7, 0), "textcoords": "offset points", "ha": "right" if left else "left"}
    axes.annotate(words, (end, y), **where, **style)

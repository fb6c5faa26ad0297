"""The figures of several sweeps, a row for each method: what a practitioner sees, and apart from that the oracle."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from unlearn_jax.reports.overview_load import Line, Sweeps
from unlearn_jax.reports.overview_words import UNITS
from unlearn_jax.reports.panels import bare, beside, dot, ends, explain, plain, sheet, styled
from unlearn_jax.reports.reading import Estimate
from unlearn_jax.reports.render import minus
from unlearn_jax.reports.style import WIDE, colour, small

USUAL, SAYS, BEST = ("original", "s"), ("retrain", "o"), ("oracle", "v")  # colour and marker, as on a sweep's page
STEP = 0.27  # of a row's height, between what is drawn side by side in it
Groups = list[tuple[str, list[Line]]]
Marks = list[tuple[Estimate, tuple[str, str], float, bool]]  # figure, colour and marker, shift in its row, hollow


def groups_of(sweeps: Sweeps, key: Callable) -> Groups:
    """Methods that leave their defaults and those that keep them, each by a key."""
    both = [("leave their defaults", False), ("keep their defaults", True)]
    groups = [(name, sorted((line for line in sweeps.swept if line.kept == kept), key=key)) for name, kept in both]
    return [(name, lines) for name, lines in groups if lines]


def known_first(value: float) -> float:
    """A key that puts what is not known last."""
    return value if math.isfinite(value) else math.inf


@styled
def distances_figure(sweeps: Sweeps, width: float = WIDE):
    """Residual distance of the defaults, of what the preset file says and of the best allowed setting, by method."""
    groups = groups_of(sweeps, lambda line: known_first(line.distance(line.says).value))
    figure, grid = sheet(width, _height(groups, 0.3))
    axes = grid[0, 0]
    rows, limits = _panel(axes, groups, _distances, (0.0, 1.1))
    ends(axes)
    for line, y in rows:
        both = [line.distance(entry).value for entry in (line.usual, line.says)]
        if not line.kept and all(map(math.isfinite, both)):
            axes.plot(np.clip(both, *limits), [y - STEP, y], color=colour("muted"), linewidth=0.9, zorder=1.5)
    axes.set_xlabel("residual distance" + " (0 = the oracle, 1 = the original)" * (width > 6))
    kinds = [(USUAL, "defaults"), (SAYS, "preset, where it leaves them"), (BEST, "best allowed, by the oracle")]
    explain(figure, [(words, _style(*kind)) for kind, words in kinds], width)
    return figure


@styled
def seen_figure(sweeps: Sweeps, width: float = WIDE):
    """What a practitioner sees of every method: the gain on the defaults' score, and held-out accuracy lost."""
    groups = groups_of(sweeps, lambda line: known_first(-line.gain.value))
    names = {_gains: f"gain on the defaults' score, {UNITS[sweeps.rule]}", _lost: "held-out accuracy lost, points"}
    drawn = lambda marks: any(math.isfinite(mark[0].value) for line in sweeps.swept for mark in marks(line))
    panels = list(filter(drawn, names))
    shape = beside(len(panels), width)
    figure, grid = sheet(width, _height(groups, 0.25) * shape[0], *shape, sharey=True)
    for axes, marks in zip(grid.ravel(), panels):
        _panel(axes, groups, marks, (-0.5, 1.0), axes is grid[0, 0] or width <= 6)
        axes.axvline(0.0, color=colour("ink"), linewidth=1.0, zorder=1)
        if marks is _lost:
            axes.axvline(0.5, color=colour("muted"), linewidth=1, linestyle=(0, (1, 2)), zorder=1)
        axes.set_xlabel(names[marks])
    kinds = [(USUAL, "defaults"), (SAYS, "the setting that the rule chose")]
    explain(figure, [(words, _style(*kind)) for kind, words in kinds], width)
    return figure


def _distances(line: Line) -> Marks:
    entries = [(line.usual, USUAL, -STEP), (None if line.kept else line.says, SAYS, 0.0), (line.best, BEST, STEP)]
    return [(line.distance(e), kind, shift, not e["allowed"]) for e, kind, shift in entries if e]


def _gains(line: Line) -> Marks:
    return [] if line.rule is line.usual else [(line.gain, SAYS, 0.0, line.kept)]


def _lost(line: Line) -> Marks:
    """Held-out accuracy lost at the defaults and at what the preset file says, once where they are the same."""
    both = [(line.usual, USUAL, -STEP / 2), (line.says, SAYS, STEP / 2)]
    entries = [(line.usual, USUAL, 0.0)] if line.kept else both
    find = lambda entry: line.find(entry, "heldout_accuracy_drop", "validation")
    return [(find(e), kind, shift, not e["allowed"]) for e, kind, shift in entries if e]


def _height(groups: Groups, each: float) -> float:
    return 1.1 + each * sum(len(lines) + 1 for _, lines in groups)


def _panel(axes, groups: Groups, marks: Callable, least: tuple[float, float], named: bool = True):
    """A row for each method with its marks; returns the rows' places and the limits of the axis."""
    rows: list[tuple[Line, float]] = []
    for _, lines in groups:
        start = rows[-1][1] + 2 if rows else 1  # a row is left for the name of the group
        rows += [(line, start + number) for number, line in enumerate(lines)]
    limits = _limits([mark[0] for line, _ in rows for mark in marks(line)], least)
    _frame(axes, groups, rows, limits, named)
    for line, y in rows:
        beyond = [
            (tone, estimate.value, y + shift)
            for estimate, (tone, marker), shift, hollow in marks(line)
            if dot(axes, estimate, y + shift, limits, colour(tone), marker, hollow)
        ]
        _outside(axes, limits, beyond)
    return rows, limits


def _frame(axes, groups: Groups, rows, limits, named: bool) -> None:
    """Rows, their names and the names of the groups."""
    axes.set(xlim=limits, ylim=(rows[-1][1] + 0.7, -0.6))
    axes.set_yticks([y for _, y in rows], [plain(line.name) for line, _ in rows])
    bare(axes)
    axes.tick_params(axis="y", labelleft=named)
    if len(rows) > 20:
        axes.tick_params(axis="x", top=True, labeltop=True)
    y = 0.0
    for name, lines in groups:
        paper = {"boxstyle": "square,pad=0.15", "facecolor": colour("paper"), "edgecolor": "none"}
        inside = {"transform": axes.get_yaxis_transform(), "va": "center", "color": colour("muted"), "bbox": paper}
        if y:
            axes.axhline(y - 0.5, color=colour("band"), linewidth=0.8)
        if named:
            axes.text(0.006, y + 0.05, f"{len(lines)} {name}", fontsize=small(), style="italic", zorder=5, **inside)
        y += len(lines) + 1


def _limits(estimates: list[Estimate], least: tuple[float, float]) -> tuple[float, float]:
    """Limits that hold most figures and what of their intervals is near; the others are told beside the axis."""
    values = [one.value for one in estimates if math.isfinite(one.value)]
    low, high = np.quantile(values, [0.05, 0.9]) if values else least
    bounds = [v for one in estimates for v in (one.low, one.high) if math.isfinite(v)]
    low, high = min(low, least[0]), max(high, least[1])
    reach = 0.35 * (high - low)
    low = max(low - reach, min([low, *bounds, *values]))
    high = min(high + reach, max([high, *bounds, *values]))
    return low - 0.03 * (high - low), high + 0.03 * (high - low)


def _style(tone: str, marker: str) -> dict:
    return {"color": colour(tone), "marker": marker, "linewidth": 1.6, "markersize": 5}


def _outside(axes, limits, beyond) -> None:
    """The values beyond the axis, in words beside it."""
    for right in (False, True):
        side = [one for one in beyond if (one[1] > limits[1]) == right]
        if side:
            text = ", ".join(minus(f"{value:.1f}") for _, value, _ in side)
            place = {"textcoords": "offset points", "va": "center", "fontsize": small(), "annotation_clip": False}
            place |= {"ha": "left" if right else "right", "color": colour(side[0][0] if len(side) == 1 else "muted")}
            at = limits[right], np.mean([y for *_, y in side])
            axes.annotate(text, at, (6 if right else -6, 0), **place)

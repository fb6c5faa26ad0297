"""The figures of several sweeps, a row for each method: what a practitioner sees, and apart from that the oracle."""

from __future__ import annotations

import math

import numpy as np

from unlearn_jax.reports.overview_load import Line, Sweeps
from unlearn_jax.reports.overview_words import UNITS
from unlearn_jax.reports.panels import bare, dot, ends, explain, plain, sheet, styled
from unlearn_jax.reports.reading import Estimate
from unlearn_jax.reports.render import minus
from unlearn_jax.reports.style import WIDE, colour, small

USUAL, SAYS, BEST = (
    ("original", "s"),
    ("retrain", "o"),
    ("oracle", "v"),
)  # colour and marker, as on the page of one sweep
STEP = 0.27  # of a row's height, between what is drawn side by side in it


def groups_of(told: Sweeps, key) -> list[tuple[str, list[Line]]]:
    """Methods that leave their defaults and those that keep them, each by a key."""
    both = [("leave their defaults", False), ("keep their defaults", True)]
    found = [(name, sorted((line for line in told.swept if line.kept == kept), key=key)) for name, kept in both]
    return [(name, lines) for name, lines in found if lines]


def known_first(value: float) -> float:
    """A key that puts what is not known last."""
    return value if math.isfinite(value) else math.inf


@styled
def distances_figure(told: Sweeps, width: float = WIDE):
    """Residual distance of the defaults, of what the preset file says and of the best allowed setting, by method."""
    groups = groups_of(told, lambda line: known_first(line.distance(line.says).value))
    figure, grid = sheet(width, _height(groups, 0.3))
    axes, rows = grid[0, 0], _rows(groups)
    cells = [line.distance(e) for line, _ in rows for e in (line.usual, line.says, line.best)]
    limits = _limits(cells, (0.0, 1.1))
    _frame(axes, groups, rows, limits)
    ends(axes)
    for line, y in rows:
        marks = [(line.usual, USUAL, -STEP), (line.says, SAYS, 0.0), (line.best, BEST, STEP)]
        both = [line.distance(e).value for e in (line.usual, line.says)]
        if not line.kept and all(map(math.isfinite, both)):
            slope = np.clip(both, *limits), [y - STEP, y]
            axes.plot(*slope, color=colour("muted"), linewidth=0.9, zorder=1.5)
        beyond = [
            _mark(axes, line.distance(entry), y + shift, style, limits, _open(line, entry))
            for entry, style, shift in marks
            if entry is not None and not (line.kept and style == SAYS)
        ]
        _outside(axes, limits, beyond)
    axes.set_xlabel("residual distance" + " (0 = the oracle, 1 = the original)" * (width > 6))
    kinds = [(USUAL, "defaults"), (SAYS, "preset, where it leaves them"), (BEST, "best allowed, by the oracle")]
    explain(figure, [(words, _style(*kind)) for kind, words in kinds], width)
    return figure


@styled
def seen_figure(told: Sweeps, width: float = WIDE):
    """What a practitioner sees of every method: the gain on the defaults' score, and held-out accuracy lost."""
    groups = groups_of(told, lambda line: known_first(-line.gain.value))
    panels = [p for p in (_gains, _lost) if any(math.isfinite(t.value) for line in told.swept for t in p(line))]
    side, rows = width > 6, _rows(groups)
    height = _height(groups, 0.25)
    shape = (1, len(panels)) if side else (len(panels), 1)
    figure, grid = sheet(width, height * shape[0], *shape, sharey=True)
    names = {
        _gains: f"gain on the defaults' score, {UNITS[told.rule]}",
        _lost: "held-out accuracy lost, points",
    }
    for axes, panel in zip(grid.ravel(), panels):
        limits = _limits([one for line, _ in rows for one in panel(line)], (-0.5, 1.0))
        _frame(axes, groups, rows, limits, axes is grid[0, 0] or not side)
        axes.axvline(0.0, color=colour("ink"), linewidth=1.0, zorder=1)
        if panel is _lost:
            axes.axvline(0.5, color=colour("muted"), linewidth=1, linestyle=(0, (1, 2)), zorder=1)
        for line, y in rows:
            _row(axes, line, y, panel, limits)
        axes.set_xlabel(names[panel])
    kinds = [(USUAL, "defaults"), (SAYS, "the setting that the rule chose")]
    explain(figure, [(words, _style(*kind)) for kind, words in kinds], width)
    return figure


def _gains(line: Line) -> list[Estimate]:
    """What the first panel shows."""
    return [line.gain]


def _lost(line: Line) -> list[Estimate]:
    """What the second panel shows, the defaults first."""
    return [line.find(entry, "heldout_accuracy_drop", "validation") for entry in (line.usual, line.says)]


def _row(axes, line: Line, y: float, panel, limits) -> None:
    """A method in a panel."""
    if panel is _gains:
        beyond = [] if line.rule is line.usual else [_mark(axes, line.gain, y, SAYS, limits, line.kept)]
    else:
        both = [(line.usual, USUAL, -STEP / 2), (line.says, SAYS, STEP / 2)]
        marks = [(line.usual, USUAL, 0.0)] if line.kept else both
        beyond = [
            _mark(axes, told, y + shift, style, limits, _open(line, entry))
            for told, (entry, style, shift) in zip(_lost(line), marks)
        ]
    _outside(axes, limits, beyond)


def _open(line: Line, entry: dict | None) -> bool:
    """Whether a setting may not be chosen."""
    return entry is not None and not entry["allowed"]


def _height(groups, each: float) -> float:
    """Inches of a figure with these rows."""
    return 1.1 + each * sum(len(lines) + 1 for _, lines in groups)


def _rows(groups) -> list[tuple[Line, float]]:
    """Every method's place; before each group a row is left for its name."""
    found, y = [], 0.0
    for _, lines in groups:
        y += 1
        found += [(line, y + number) for number, line in enumerate(lines)]
        y += len(lines)
    return found


def _frame(axes, groups, rows, limits, named: bool = True) -> None:
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


def _limits(cells: list[Estimate], least: tuple[float, float]) -> tuple[float, float]:
    """Limits that hold most figures and what of their intervals is near; the others are told beside the axis."""
    means = [cell.value for cell in cells if math.isfinite(cell.value)]
    low, high = np.quantile(means, [0.05, 0.9]) if means else least
    ends = [v for cell in cells for v in (cell.low, cell.high) if math.isfinite(v)]
    low, high = min(low, least[0]), max(high, least[1])
    reach = 0.35 * (high - low)
    low = max(low - reach, min([low, *ends, *means]))
    high = min(high + reach, max([high, *ends, *means]))
    return low - 0.03 * (high - low), high + 0.03 * (high - low)


def _style(tone: str, marker: str) -> dict:
    """The mark of a kind."""
    return {"color": colour(tone), "marker": marker, "linewidth": 1.6, "markersize": 5}


def _mark(
    axes, told: Estimate, y: float, kind: tuple[str, str], limits, hollow: bool
) -> tuple[str, float, float] | None:
    """A figure with its interval; its colour, value and place where it is beyond the axis."""
    tone, marker = kind
    return (tone, told.value, y) if dot(axes, told, y, limits, colour(tone), marker, hollow) else None


def _outside(axes, limits, beyond) -> None:
    """The values beyond the axis, in words beside it."""
    for right in (False, True):
        told = [one for one in beyond if one and (one[1] > limits[1]) == right]
        text = ", ".join(minus(f"{value:.1f}") for _, value, _ in told)
        place = {"textcoords": "offset points", "va": "center", "fontsize": small(), "annotation_clip": False}
        if told:
            place |= {"ha": "left" if right else "right", "color": colour(told[0][0] if len(told) == 1 else "muted")}
            y = np.mean([y for *_, y in told])
            axes.annotate(text, (limits[right], y), (6 if right else -6, 0), **place)

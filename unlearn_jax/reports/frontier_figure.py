"""The frontier figure: residual distance against the largest price, the Pareto set joined and named."""

from __future__ import annotations

import math

import numpy as np

from unlearn_jax.reports.panels import grid_below, plain, sheet, styled
from unlearn_jax.reports.style import MARKERS, WIDE, colour, small
from unlearn_jax.reports.summary import Cell, Entry, Summary

FARTHEST = 1.25  # residual distance at the right edge; beyond it an arrow
TICKS = (-10, -3, -1, -0.3, 0, 0.3, 1, 3, 10, 30, 100)  # points
PLACES = [
    (dx, dy) for r in (7, 16, 26, 38, 54) for dx, dy in ((r, 0), (r, r), (r, -r), (-r, r), (-r, -r), (0, r), (0, -r))
]


@styled
def frontier_figure(summary: Summary, level: int, width: float = WIDE):
    """Distance against the largest excess price of every population at a level; ``width`` in inches."""
    figure, grid = sheet(width, 5.2 if width > 6 else 4.6)
    axes = grid[0, 0]
    entries = [e for e in summary.entries(level) if plotted(summary, level, e)]
    far = max([1.1, *(_shown(summary.distance(level, e).mean) for e in entries)])
    axes.set_yscale("symlog", linthresh=1.0, linscale=1.0)
    prices = [summary.find(level, e, "largest_price") for e in entries]
    bounds = [v for c in prices for v in (c.mean, c.low, c.high) if math.isfinite(v)]
    limits = min([-0.6, *bounds]) * 1.15, max([1.2, *bounds]) * 1.25
    axes.set(xlim=(-0.04, far + 0.06), ylim=limits)
    _goal(axes, summary, level)
    for entry, price in zip(entries, prices):
        _point(axes, summary, level, entry, price, far + 0.06)
    named = _pareto(axes, summary, level, entries)
    anchors = [e for e in entries if anchor(e)]
    axes.plot(0, 0, MARKERS["oracle"], color=colour("oracle"), markersize=7, zorder=5, clip_on=False)
    ticks = [t for t in TICKS if limits[0] <= t <= limits[1]]
    axes.set_yticks(ticks, [f"{t:g}".replace("-", "−") for t in ticks])
    axes.minorticks_off()
    grid_below(axes)
    axes.set_xlabel("residual distance" + " (0 = the oracle, 1 = the original): what is left" * (width > 6))
    axes.set_ylabel("excess price in points, the larger of rest and test")
    labels = [(0.0, 0.0, "oracle", "oracle")]
    for entry in [*named, *anchors]:
        at = _shown(summary.distance(level, entry).mean), summary.find(level, entry, "largest_price").mean
        tone = entry.method if entry.is_reference else "ink" if entry in named else "muted"
        labels.append((*at, summary.label(entry), tone))
    _name(figure, axes, labels, width)
    return figure


def plotted(summary: Summary, level: int, entry: Entry) -> bool:
    """Whether there is a distance and a price to draw."""
    return math.isfinite(summary.distance(level, entry).mean + summary.find(level, entry, "largest_price").mean)


def anchor(entry: Entry) -> bool:
    """Whether a population is a mark to measure others by: a reference, or retraining with a remedy."""
    return entry.is_reference or entry.method == "retrain"


def on_frontier(summary: Summary, level: int, entry: Entry) -> bool:
    """Whether the run found a population on the frontier, by the figures themselves."""
    return summary.find(level, entry, "on_frontier").mean == 1


def _shown(distance: float) -> float:
    """A distance, held at the right edge."""
    return min(distance, FARTHEST)


def _goal(axes, summary: Summary, level: int) -> None:
    """The corner in which influence and price meet the goal."""
    reach = 0.2 * summary.distance(level, "retrain").mean
    if math.isfinite(reach) and reach > 0:
        low = axes.get_ylim()[0]
        axes.fill_between([axes.get_xlim()[0], reach], low, 0.3, color=colour("oracle"), alpha=0.12, linewidth=0)
        axes.text(reach - 0.005, low, "goal ", ha="right", va="bottom", color=colour("oracle"), fontsize=small())


def _point(axes, summary: Summary, level: int, entry: Entry, price: Cell, edge: float) -> None:
    """One population with both intervals; those off the frontier faint."""
    distance, best = summary.distance(level, entry), on_frontier(summary, level, entry)
    tone = colour(entry.method if entry.is_reference else "ink" if best else "muted")
    x, strong = _shown(distance.mean), best or anchor(entry)
    line = {"color": tone, "linewidth": 1.6 if strong else 0.8, "alpha": 1.0 if strong else 0.45}
    if math.isfinite(distance.low + distance.high):
        axes.hlines(price.mean, *np.clip([distance.low, distance.high], None, edge), **line)
    if math.isfinite(price.low + price.high):
        axes.vlines(x, price.low, price.high, **line)
    shape = ">" if distance.mean > FARTHEST else "D" if entry.remedy else "o"
    shape = MARKERS[entry.method] if entry.is_reference else shape
    lost = summary.find(level, entry, "n_diverged").mean > 0
    face = tone if strong and not lost else colour("paper")
    size = 7 if entry.is_reference else 6 if strong else 4.5
    axes.plot(x, price.mean, shape, color=tone, markerfacecolor=face, markersize=size, zorder=4 if strong else 3)


def _pareto(axes, summary: Summary, level: int, entries: list[Entry]) -> list[Entry]:
    """Join the Pareto set in steps; returns it by distance."""
    best = [e for e in entries if on_frontier(summary, level, e)]
    x = [_shown(summary.distance(level, e).mean) for e in best]
    y = [summary.find(level, e, "largest_price").mean for e in best]
    if best:
        top, edge = axes.get_ylim()[1], axes.get_xlim()[1]
        line = {"color": colour("ink"), "linewidth": 1.2, "linestyle": (0, (4, 2)), "zorder": 2}
        axes.step([x[0], *x, edge], [top, *y, y[-1]], where="post", **line)
    return best


def _name(figure, axes, labels: list[tuple[float, float, str, str]], width: float) -> None:
    """Names beside their points, each at the first place where it covers no other name or point."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # places are in pixels from here on
    frame, size, pixels = axes.get_window_extent(), small() if width > 6 else 7, figure.dpi / 72
    at = axes.transData.transform([(x, y) for x, y, *_ in labels])
    taken = [(px - 5, py - 5, px + 5, py + 5) for px, py in at]
    for line in [*axes.collections, *axes.lines]:  # what is drawn strongly
        taken += _crossed(axes, line) if (line.get_alpha() or 1.0) == 1.0 else []
    for (x, y, name, tone), (px, py) in zip(labels, at):
        wide, high = 0.58 * size * pixels * len(name), 1.25 * size * pixels
        boxes = [_box(px, py, dx * pixels, dy * pixels, wide, high) for dx, dy in PLACES]
        inside = lambda b: frame.x0 <= b[0] and b[2] <= frame.x1 and frame.y0 <= b[1] and b[3] <= frame.y1
        cost = [sum(_overlap(b, other) for other in taken) + 1e6 * (not inside(b)) for b in boxes]
        (dx, dy), box = PLACES[int(np.argmin(cost))], boxes[int(np.argmin(cost))]
        taken.append(box)
        style = {"ha": "left" if dx > 0 else "right" if dx < 0 else "center", "va": "center", "fontsize": size}
        arrow = {"arrowstyle": "-", "color": colour("muted"), "linewidth": 0.6} if max(abs(dx), abs(dy)) > 16 else None
        paper = {"boxstyle": "square,pad=0.1", "facecolor": colour("paper"), "edgecolor": "none", "alpha": 0.7}
        place = {"xytext": (dx, dy), "textcoords": "offset points", "arrowprops": arrow, "zorder": 6, "bbox": paper}
        axes.annotate(plain(name), (x, y), color=colour(tone), **place, **style)


def _crossed(axes, line) -> list[tuple[float, float, float, float]]:
    """Straight pieces of intervals and of the joined set as boxes 2 pixels wide."""
    if hasattr(line, "get_segments"):
        pieces = line.get_segments()
    else:
        x, y = line.get_data() if line.get_drawstyle() == "steps-post" else ((), ())
        pieces = [((a, b), (c, b)) for a, b, c in zip(x, y, x[1:])] + [
            ((c, b), (c, d)) for b, c, d in zip(y, x[1:], y[1:])
        ]
    boxes = []
    for piece in pieces:
        (a, b), (c, d) = axes.transData.transform(piece)[[0, -1]]
        boxes.append((min(a, c) - 1, min(b, d) - 1, max(a, c) + 1, max(b, d) + 1))
    return boxes


def _box(x: float, y: float, dx: float, dy: float, wide: float, high: float) -> tuple[float, float, float, float]:
    """Where a name lies, in pixels: left, bottom, right, top."""
    left = x + dx - (0 if dx > 0 else wide if dx < 0 else wide / 2)
    return left, y + dy - high / 2, left + wide, y + dy + high / 2


def _overlap(a, b) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))

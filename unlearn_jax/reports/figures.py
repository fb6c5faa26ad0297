"""The figures of the page; each returns a matplotlib `Figure` and touches no global state."""

from __future__ import annotations

import math
import textwrap

import numpy as np

from unlearn_jax.reports.panels import dot, ends, grid_below, in_rows, plain, sheet, spare, styled
from unlearn_jax.reports.render import number
from unlearn_jax.reports.style import DASHES, MARKERS, WIDE, colour, small
from unlearn_jax.reports.summary import Cell, Entry, Summary

CURVES = ("retrain", "placebo", "dedup")
NAMED_ENDS = (("original = 1 (untouched)", 1.0, "original"), ("oracle = 0 (gone)", 0.0, "oracle"))
LIMITS = (-1.0, 2.0)  # beyond these a residual is drawn at the edge with an arrow and its value
SHIFTS = {"retrain": 0, "placebo": 1, "dedup": -1}  # side by side where they coincide


@styled
def main_figure(summary: Summary, width: float = WIDE):
    """Residual influence of the references against the number of copies (or at the one level there is).

    ``width`` in inches. Returns a matplotlib ``Figure``; read ``summary`` with `load.read_summary`.
    """
    if len(summary.levels) == 1:
        level = summary.levels[0]
        entries = [summary.reference(level, name) for name in ("original", *CURVES, "oracle")]
        return forest(summary, level, [e for e in entries if e], width, ridge=True)
    figure, grid = sheet(width, 4.5 if width > 6 else 4.0)
    axes = grid[0, 0]
    levels = np.array(summary.levels, float)
    cells = {name: [summary.residual(m, name) for m in summary.levels] for name in CURVES}
    readable = [summary.identifiable(m) for m in summary.levels]
    draw_band(axes, summary, levels)
    named = [_ridge(axes, summary, levels)]
    named += _references(axes, levels, cells, readable, levels[-1] * (0.006 if width > 6 else 0.012))
    _name_band(axes, np.nanmax([0.0, *(summary.band(m) for m in summary.levels)]), levels[-1] * 0.5)
    axes.set(xlim=(-0.035 * levels[-1], levels[-1] * 1.02), xticks=levels)
    axes.set_xticklabels([f"{m:g}" for m in levels])
    kind = summary.facts["similarity"]
    made = "nearest neighbours" if kind.startswith("natural") else f"{kind} copies"
    axes.set_xlabel(f"{made} of each target in the training set".strip())
    axes.set_ylabel("residual influence of the targets")
    _end_labels(axes, named, levels[-1], width)
    return figure


def _references(axes, x: np.ndarray, cells: dict[str, list[Cell]], readable: list[bool], step: float) -> list[tuple]:
    """The curves of the references between the ends of the scale; names, heights and colours at their right ends."""
    rows = {name: row for name, row in cells.items() if any(math.isfinite(c.mean) for c in row)}
    limits, named = limits_of([c for row in rows.values() for c in row], (-0.12, 1.14)), list(NAMED_ENDS)
    ends(axes, False)
    for name, row in reversed(rows.items()):  # retrain, the subject, on top
        curve(axes, x + SHIFTS[name] * step, row, name, readable, limits, control=name != "retrain")
        named.append((name, [c.mean for c in row if math.isfinite(c.mean)][-1], name))
    axes.set_ylim(limits)
    grid_below(axes, "y")
    return named


def _name_band(axes, band: float, x: float) -> None:
    """The words below the null band; where it is beyond the axis, at its edge."""
    low, high = axes.get_ylim()
    inside = -band - 0.01 > low + 0.05 * (high - low)
    style = {"ha": "center", "va": "top" if inside else "bottom", "color": colour("muted"), "fontsize": small()}
    if band > 0:
        axes.text(x, -band - 0.01 if inside else low + 0.01, "null band", **style)


@styled
def forest_figure(summary: Summary, level: int, width: float = WIDE):
    """Signed residual with interval of every entry at a level, in the order of the table."""
    return forest(summary, level, summary.entries(level), width)


@styled
def gamma_figure(summary: Summary, level: int, shares: dict[float, dict[str, Cell]], width: float = WIDE):
    """Residual influence of the references against the share of each cluster that the request names, at one level."""
    figure, grid = sheet(width, 3.6)
    axes = grid[0, 0]
    x = np.array(sorted(shares))
    cells = {name: [shares[g].get(name, Cell()) for g in x] for name in CURVES}
    axes.plot(x, 1 - x, color=colour("muted"), linewidth=1, linestyle=(0, (1, 2)))
    named = [("ridge law, 1 − gamma", float(1 - x[-1]), "muted")]
    named += _references(axes, x, cells, [summary.identifiable(level)] * len(x), 0.005)
    axes.set(xlim=(x[0] - 0.03, x[-1] * 1.02), xticks=x)
    axes.set_xticklabels([f"{g:.2g}" for g in x])
    axes.set_xlabel("share of each cluster that the request names (gamma)" if width > 6 else "share named (gamma)")
    axes.set_ylabel("residual influence")
    _end_labels(axes, named, x[-1], width)
    return figure


@styled
def methods_figure(summary: Summary, entries: list[Entry], width: float = WIDE):
    """One small panel per method: its residual against copies, with retrain's curve behind."""
    columns = 4 if width > 6 else 2
    lines = math.ceil(len(entries) / columns)
    figure, grid = sheet(width, 0.5 + 1.9 * lines, lines, columns, sharey=True)
    levels = np.array(summary.levels, float)
    readable = [summary.identifiable(m) for m in summary.levels]
    rows = {e: [summary.residual(m, e) for m in summary.levels] for e in entries}
    limits = limits_of([c for row in rows.values() for c in row], (-0.2, 1.2))
    for axes, entry in zip(grid.ravel(), entries):
        draw_band(axes, summary, levels)
        ends(axes, False, 1)
        retrain = [summary.residual(m, "retrain").mean for m in summary.levels]
        axes.plot(levels, retrain, color=colour("retrain"), linewidth=1.2, linestyle="--")
        curve(axes, levels, rows[entry], "method", readable, limits)
        axes.set(xticks=levels, ylim=limits)
        axes.set_xticklabels([f"{m:g}" for m in levels])
        axes.set_title(textwrap.fill(plain(summary.label(entry)), 24), loc="left")
    spare(grid, len(entries))
    figure.supxlabel("copies of each target")
    figure.supylabel("residual influence")
    return figure


@styled
def margins_figure(margins: dict[str, np.ndarray], width: float = WIDE):
    """Histograms of margins, one panel per reference on a shared axis, the oracle outlined in each."""
    names = [name for name in MARKERS if name in margins]
    figure, grid = sheet(width, 0.6 + 1.05 * len(names), len(names), 1, sharex=True)
    finite = {name: margins[name][np.isfinite(margins[name])] for name in names}
    low, high = np.quantile(np.concatenate(list(finite.values())), [0.002, 0.998])
    bins = np.linspace(low, max(high, low + 1e-6), 49)
    share = lambda values: np.histogram(np.clip(values, low, bins[-1]), bins)[0] / max(1, values.size)
    for axes, name in zip(grid.ravel(), names):
        axes.stairs(share(finite[name]), bins, fill=True, color=colour(name), alpha=0.55, linewidth=0)
        if "oracle" in finite and name != "oracle":
            axes.stairs(share(finite["oracle"]), bins, color=colour("oracle"), linewidth=1.2)
        mean = finite[name].mean() if finite[name].size else math.nan
        words = f"{name}, mean {mean:.2f}".replace("-", "−") if finite[name].size else f"{name}: no finite margin"
        axes.axvline(np.clip(mean, low, high), color=colour("ink"), linewidth=1.3)
        axes.set_title(words, loc="left", pad=3)
        axes.set_yticks([])
        axes.tick_params(axis="x", length=0 if name != names[-1] else 3)
        axes.spines["left"].set_visible(False)
    grid.ravel()[-1].set_xlabel("margin of the targets (log-odds of the true label, nats)")
    return figure


def curve(axes, x: np.ndarray, row: list[Cell], name: str, readable: list[bool], limits, control: bool = False) -> None:
    """A line with intervals, dashed for a control; open markers where the level is not identifiable."""
    tone = colour(name)
    mean = np.clip([c.mean for c in row], *limits)
    line = {"linewidth": 1.1, "linestyle": DASHES.get(name, "--")} if control else {"linewidth": 2.2}
    axes.plot(x, mean, color=tone, zorder=2.5 if control else 3, **line)
    bounds = np.clip([c.low for c in row], *limits), np.clip([c.high for c in row], *limits)
    axes.vlines(x, *bounds, color=tone, linewidth=1.1 if control else 1.8)
    for at, y, cell, solid in zip(x, mean, row, readable):
        shape = "v" if cell.mean < limits[0] else "^" if cell.mean > limits[1] else MARKERS.get(name, "o")
        face = tone if solid else colour("paper")
        size = 4.5 if control else 6
        axes.plot(at, y, shape, color=tone, markersize=size, markerfacecolor=face, zorder=4, clip_on=False)


def draw_band(axes, summary: Summary, levels: np.ndarray) -> None:
    """The null band, shaded about 0."""
    band = np.array([summary.band(int(m)) for m in levels])
    axes.fill_between(levels, -band, band, color=colour("band"), alpha=0.45, linewidth=0, zorder=2.2)


def _ridge(axes, summary: Summary, levels: np.ndarray) -> tuple[str, float, str]:
    """The share of the cluster that stays: what ridge regression keeps at small leverage."""
    requested = [summary.requested(int(m)) for m in levels]
    if set(requested) == {1}:
        x = np.linspace(0, levels[-1], 200)
        y, name = x / (x + 1), "ridge law m/(m+1)"
    else:
        x, y = levels, 1 - np.array(requested) / (levels + 1)
        name = "ridge law, 1 − gamma"
    axes.plot(x, y, color=colour("muted"), linewidth=1, linestyle=(0, (1, 2)))
    return name, float(y[-1]), "muted"


def _end_labels(axes, named: list[tuple[str, float, str]], x: float, width: float) -> None:
    """Names at the right end of the curves, moved apart where they would overlap."""
    bottom, top = axes.get_ylim()
    named = sorted(((name, float(np.clip(y, bottom, top)), tone) for name, y, tone in named), key=lambda end: end[1])
    places = _spread([y for _, y, _ in named], (top - bottom) * (0.05 if width > 6 else 0.058))
    near, far = x * (1.06 if width > 6 else 1.1), x * (1.07 if width > 6 else 1.12)
    for (name, y, tone), place in zip(named, places):
        line = {"color": colour(tone), "linewidth": 1, "clip_on": False}
        axes.plot([x * 1.025, near], [y, place], **line)
        text = name if width > 6 else name.split(" =")[0].replace("ridge law ", "")
        axes.annotate(text, (far, place), va="center", annotation_clip=False)


def _spread(values: list[float], gap: float) -> list[float]:
    """The nearest places to ascending values that are at least `gap` apart (pooled neighbours)."""
    blocks: list[list[float]] = []
    for i, value in enumerate(values):
        blocks.append([value - i * gap])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    flat = [float(np.mean(block)) for block in blocks for _ in block]
    return [value + i * gap for i, value in enumerate(flat)]


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

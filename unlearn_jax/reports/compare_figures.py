"""The figures of a compared, runs on shared axes; each returns a matplotlib ``Figure``."""

from __future__ import annotations

import math

import numpy as np

from unlearn_jax.reports.compare_load import Comparison
from unlearn_jax.reports.figures import CURVES, SHIFTS, curve, draw_band, draw_row, limits_of, scale
from unlearn_jax.reports.panels import dot, ends, explain, grid_below, in_rows, plain, sheet, spare, styled
from unlearn_jax.reports.style import DASHES, MARKERS, WIDE, colour
from unlearn_jax.reports.summary import Entry

SHAPES = ("o", "s", "D", "^", "v", "P", "X", "*")
TONES = ("retrain", "original", "oracle", "placebo", "dedup", "ink")
MAX_METHODS = 40  # methods in a figure
ORDER = ("original", *CURVES, "oracle")


@styled
def references_figure(compared: Comparison, width: float = WIDE):
    """The main figure of every run: residual influence of the references, in one panel each, on shared axes."""
    single = all(len(one.run.summary.levels) == 1 for one in compared.runs)
    columns = min(len(compared.runs), 3 if width > 6 else 1)
    lines = math.ceil(len(compared.runs) / columns)
    each = (2.0 if single else 2.9) if width > 6 else 1.8 if single else 2.6
    figure, grid = sheet(width, 0.5 + each * lines, lines, columns, sharey=True)
    (_rows if single else _curves)(compared, grid)
    spare(grid, len(compared.runs))
    for number, (one, axes) in enumerate(zip(compared.runs, grid.ravel())):
        title = f"{compared.letter(number)}: {one.name}" + (f", {compared.level_of(number)}" if single else "")
        axes.set_title(plain(title), loc="left")
    if not single:
        explain(figure, _kinds(), width)
    return figure


def _kinds() -> list[tuple[str, dict]]:
    kinds = [(n, {"color": colour(n), "marker": MARKERS[n], "linestyle": DASHES.get(n, "-")}) for n in CURVES]
    both = [("original", "original = 1"), ("oracle", "oracle = 0")]
    return kinds + [(words, {"color": colour(n), "linewidth": 1.2}) for n, words in both]


def _curves(compared: Comparison, grid) -> None:
    """Curves over the copies of all runs."""
    cells = [
        [[one.run.summary.residual(m, name) for m in one.run.summary.levels] for name in CURVES]
        for one in compared.runs
    ]
    limits = limits_of([c for rows in cells for row in rows for c in row], (-0.12, 1.14))
    ticks = sorted({m for one in compared.runs for m in one.run.summary.levels})
    for number, (one, axes) in enumerate(zip(compared.runs, grid.ravel())):
        summary = one.run.summary
        levels, known = np.array(summary.levels, float), [summary.identifiable(m) for m in summary.levels]
        draw_band(axes, summary, levels)
        ends(axes, False)
        for name, row in reversed(list(zip(CURVES, cells[number]))):
            if any(math.isfinite(cell.mean) for cell in row):
                shifted = levels + SHIFTS[name] * ticks[-1] * 0.012
                curve(axes, shifted, row, name, known, limits, control=name != "retrain")
        axes.set(xlim=(-0.05 * ticks[-1], ticks[-1] * 1.05), ylim=limits, xticks=ticks)
        axes.set_xticklabels([f"{m:g}" for m in ticks])
        grid_below(axes, "y")
        if number % grid.shape[1] == 0:
            axes.set_ylabel("residual influence")
        if number + grid.shape[1] >= len(compared.runs):
            axes.set_xlabel("similar samples of each target")


def _rows(compared: Comparison, grid) -> None:
    """The references of each run at its one level, a row each."""
    cells = {}
    for number, (one, level) in enumerate(zip(compared.runs, compared.levels)):
        entries = {name: one.run.summary.reference(level, name) for name in ORDER}
        cells[number] = {e: one.run.summary.residual(level, e) for e in entries.values() if e is not None}
    limits = limits_of([c for single in cells.values() for c in single.values()], (-0.15, 1.15))
    for number, (one, axes) in enumerate(zip(compared.runs, grid.ravel())):
        summary, level = one.run.summary, compared.levels[number]
        scale(axes, summary, level)
        for entry, cell in cells[number].items():
            draw_row(axes, summary, level, entry, cell, ORDER.index(entry.method), limits)
        in_rows(axes, ORDER, limits)
        if number + grid.shape[1] >= len(compared.runs):
            axes.set_xlabel("residual influence")


def common_labels(compared: Comparison) -> list[str]:
    """Populations that several runs have, references but the ends of the scale among them, the nearest first."""
    nearest: dict[str, list[float]] = {}
    for one, level in zip(compared.runs, compared.levels):
        for entry in one.run.summary.entries(level):
            distance = one.run.summary.distance(level, entry).mean
            if entry.method not in ("original", "oracle") and math.isfinite(distance):
                nearest.setdefault(one.run.summary.label(entry), []).append(distance)
    return sorted(
        (label for label, distances in nearest.items() if len(distances) > 1), key=lambda label: min(nearest[label])
    )


@styled
def distances_figure(compared: Comparison, width: float = WIDE):
    """Residual distance of the populations that several runs have, a mark for each run; None where there are none."""
    labels = common_labels(compared)[:MAX_METHODS]
    if not labels or len(compared.runs) > len(SHAPES):
        return None
    find = [
        {one.run.summary.label(e): e for e in one.run.summary.entries(m)}
        for one, m in zip(compared.runs, compared.levels)
    ]
    figure, grid = sheet(width, 1.0 + (0.16 + 0.11 * len(compared.runs)) * len(labels))
    axes = grid[0, 0]
    cells = [[_distance(compared, number, single.get(label)) for label in labels] for number, single in enumerate(find)]
    limits = limits_of([cell for single in cells for cell in single], (-0.05, 1.1))
    ends(axes)
    offsets = (np.arange(len(compared.runs)) - (len(compared.runs) - 1) / 2) * min(0.22, 0.7 / len(compared.runs))
    for number, single in enumerate(cells):
        for y, cell in enumerate(single):
            dot(axes, cell, y + offsets[number], limits, _style(number)["color"], SHAPES[number])
    in_rows(axes, labels, limits)
    for y in range(len(labels) - 1):
        axes.axhline(y + 0.5, color=colour("grid"), linewidth=0.8, zorder=0)
    axes.set_xlabel("residual distance (0 = the oracle, 1 = the original)" if width > 6 else "residual distance")
    explain(
        figure,
        [(f"{compared.letter(n)}: {plain(one.name)}", _style(n)) for n, one in enumerate(compared.runs)],
        width,
    )
    return figure


def _distance(compared: Comparison, number: int, entry: Entry | None):
    return compared.runs[number].run.summary.distance(compared.levels[number], entry or Entry(""))


def _style(number: int) -> dict:
    return {"color": colour(TONES[number % len(TONES)]), "marker": SHAPES[number], "linewidth": 1.6, "markersize": 5}

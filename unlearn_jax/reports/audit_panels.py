"""Small panels, one a population, on shared axes: the frame of an audit's figures."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable

import numpy as np

from unlearn_jax.reports.figures import styled
from unlearn_jax.reports.style import WIDE, colour, small

MAX_PANELS = 24  # panels in one figure
DASHED = (0, (4, 2))


def wrapped(label: str, width: int = 22) -> str:
    """A population's label as a title, that matplotlib will not read as mathematics."""
    return textwrap.fill(label.replace("[", " ["), width).replace("$", r"\$")


@styled
def panels(labels: list[str], draw: Callable, words: tuple[str, str], width: float = WIDE, legend=(), **axis):
    """One small panel a population.

    Args:
        labels: populations, of which the first `MAX_PANELS` are drawn.
        draw: called with axes and a label.
        words: what the horizontal and the vertical axis show.
        width: inches.
        legend: (name, properties of the line) of each kind of line.
        axis: what ``Axes.set`` takes, for every panel.
    """
    from matplotlib.figure import Figure

    labels = labels[:MAX_PANELS]
    columns = min(len(labels), 4 if width > 6 else 2)
    lines = math.ceil(len(labels) / columns)
    height = 0.75 + (1.95 if width > 6 else 1.75) * lines + (0.2 * len(legend) if width < 6 else 0)
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for axes, label in zip(grid.ravel(), labels):
        draw(axes, label)
        axes.set(**axis)
        _decimals(axes)
        axes.set_title(wrapped(label), loc="left")
        axes.grid(True)
        axes.set_axisbelow(True)
    for axes in grid.ravel()[len(labels) :]:
        axes.set_visible(False)
    for axes in grid[-1, :] if lines > 1 else ():
        above = grid[-2, list(grid[-1]).index(axes)]
        above.tick_params(labelbottom=not axes.get_visible())
    figure.supxlabel(words[0])
    figure.supylabel(words[1])
    explain(figure, legend, width)
    return figure


def _decimals(axes) -> None:
    """Plain decimals on logarithmic axes, without ticks between."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    for side, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        if side.get_scale() == "log":
            side.set_major_locator(LogLocator(subs=(1.0,) if high > 150 * low else (1.0, 2.0, 5.0)))
            side.set_minor_locator(NullLocator())
            side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def explain(figure, kinds, width: float) -> None:
    """A line of words above the panels that says what each kind of line is."""
    from matplotlib.lines import Line2D

    if kinds:
        handles = [Line2D([], [], **style) for _, style in kinds]
        names = [name for name, _ in kinds]
        style = {"loc": "outside upper left", "ncols": len(kinds) if width > 6 else 1, "frameon": False}
        figure.legend(handles, names, **style, fontsize=small(), borderpad=0, handlelength=1.8)


def banded(axes, x: np.ndarray, curve: np.ndarray, tone: str, least: float = -np.inf, **line) -> None:
    """A curve (3, points) with its band; values below ``least`` are drawn there."""
    value, low, high = np.maximum(curve, least)
    tone = colour(tone)
    known = np.isfinite(low) & np.isfinite(high)
    axes.fill_between(x[known], low[known], high[known], color=tone, alpha=0.2, linewidth=0)
    axes.plot(x, value, color=tone, **({"linewidth": 1.6} | line))

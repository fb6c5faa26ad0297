"""What figures share: sheets of axes, small panels, rows of dots with intervals, the ends of the scale, legends."""

from __future__ import annotations

import functools
import math
import textwrap
from collections.abc import Callable, Sequence

import numpy as np

from unlearn_jax.reports.style import WIDE, colour, settings, small

MAX_PANELS = 24  # panels in one figure
MANY = 20  # rows, beyond which the numbers stand above them too
DASHED = (0, (4, 2))


def styled(draw):
    """Run a drawing function under the page's matplotlib settings."""

    @functools.wraps(draw)
    def wrapper(*args, **kwargs):
        import matplotlib

        with matplotlib.rc_context(settings()):
            return draw(*args, **kwargs)

    return wrapper


def sheet(width: float, height: float, rows: int = 1, columns: int = 1, **share):
    """A figure without pyplot, with a grid of axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **share)


def beside(count: int, width: float) -> tuple[int, int]:
    """Rows and columns of so many panels: side by side where there is room, else one below the other."""
    return (1, count) if width > 6 else (count, 1)


def tiles(count: int, width: float) -> tuple[int, int]:
    """Rows and columns of so many small panels."""
    columns = min(count, 4 if width > 6 else 2)
    return math.ceil(count / columns), columns


def plain(text: str) -> str:
    """Text that matplotlib will not read as mathematics."""
    return text.replace("$", r"\$")


def spare(grid, used: int) -> None:
    """Hide panels that nothing is drawn in."""
    for axes in grid.ravel()[used:]:
        axes.set_visible(False)


def grid_below(axes, axis: str = "both") -> None:
    """Grid lines below what is drawn."""
    axes.grid(axis=axis)
    axes.set_axisbelow(True)


def in_rows(axes, names: Sequence[str], limits=None, top: float = -0.6) -> None:
    """Make the vertical axis one of named rows, the first on top."""
    axes.set_yticks(range(len(names)), [plain(name) for name in names])
    axes.set_ylim(len(names) - 0.4, top)
    bare(axes)
    if limits is not None:
        axes.set_xlim(limits)
    if len(names) > MANY:
        axes.tick_params(axis="x", top=True, labeltop=True)


def bare(axes) -> None:
    """An axis of rows has no ticks and no spine."""
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    grid_below(axes, "x")


def ends(axes, upright: bool = True, width: float = 1.2) -> None:
    """The ends of the scale: the oracle at 0, the original at 1."""
    for value, name in ((0.0, "oracle"), (1.0, "original")):
        (axes.axvline if upright else axes.axhline)(value, color=colour(name), linewidth=width, zorder=1)


def dot(axes, estimate, y: float, limits, tone: str, marker: str, hollow: bool = False, size: float = 5) -> str:
    """A figure that begins with value, low and high, with its interval; < or > where it is beyond the axis."""
    value, *bounds = estimate[:3]
    if not math.isfinite(value):
        return ""
    low, high = limits
    if all(map(math.isfinite, bounds)):
        axes.hlines(y, *np.clip(bounds, low, high), color=tone, linewidth=0.28 * size + 0.2)
    outside, inset = "<" if value < low else ">" if value > high else "", 0.02 * (high - low)
    at = float(np.clip(value, low + inset, high - inset)) if outside else value
    face = colour("paper") if hollow else tone
    axes.plot(at, y, outside or marker, color=tone, markerfacecolor=face, markersize=size, clip_on=False, zorder=4)
    return outside


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
    labels = labels[:MAX_PANELS]
    lines, columns = tiles(len(labels), width)
    height = 0.75 + (1.95 if width > 6 else 1.75) * lines + (0.2 * len(legend) if width < 6 else 0)
    figure, grid = sheet(width, height, lines, columns, sharex=True, sharey=True)
    for axes, label in zip(grid.ravel(), labels):
        draw(axes, label)
        axes.set(**axis)
        _decimals(axes)
        axes.set_title(plain(textwrap.fill(label.replace("[", " ["), 22)), loc="left")
        grid_below(axes)
    spare(grid, len(labels))
    for above, axes in zip(grid[-2], grid[-1]) if lines > 1 else ():
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
        style = {"loc": "outside upper left", "ncols": len(kinds) if width > 6 else 1, "frameon": False}
        figure.legend(handles, [n for n, _ in kinds], **style, fontsize=small(), borderpad=0, handlelength=1.8)


def banded(axes, x: np.ndarray, curve: np.ndarray, tone: str, least: float = -np.inf, **line) -> None:
    """A curve (3, points) with its band; values below ``least`` are drawn there."""
    value, low, high = np.maximum(curve, least)
    tone = colour(tone)
    finite = np.isfinite(low) & np.isfinite(high)
    axes.fill_between(x[finite], low[finite], high[finite], color=tone, alpha=0.2, linewidth=0)
    axes.plot(x, value, color=tone, **({"linewidth": 1.6} | line))

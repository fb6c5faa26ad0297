"""The figures of a sweep: settings as lines over parallel axes, and the response over one or two hyperparameters."""

from __future__ import annotations

import itertools
import math

import numpy as np

from unlearn_jax.reports.panels import beside, sheet, styled
from unlearn_jax.reports.style import WIDE, colour, small
from unlearn_jax.reports.sweep_load import Sweep

MAX_PAIRS = 3
MIN_POINTS, MIN_VALUES = 6, 3  # of a surface: settings, and values of each hyperparameter
MAX_LINES = 5  # of a curve


def scale_of(sweep: Sweep, name: str) -> str:
    """log, linear or list: how an axis is drawn; of a bound that may be none, which is infinite, as a list."""
    axis = next(a for a in sweep.told["axes"] if a["name"] == name)
    values = [one["values"][name] for one in sweep.told["settings"]]
    if not all(_is_number(v) and math.isfinite(v) for v in values):
        return "list"
    spread = min(values) > 0 and max(values) >= 30 * min(values)
    return "log" if min(values) > 0 and (axis["log"] or spread) else "linear"


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def columns_of(sweep: Sweep) -> list[tuple[str, str, list, str]]:
    """(heading, scale, values of the settings that ran whole, kind) of every parallel axis that has values."""
    whole, columns = sweep.whole, []
    for name in whole[0]["values"]:
        columns.append((name, scale_of(sweep, name), [one["values"][name] for one in whole], "setting"))
    scores = [one["score"] if one["score"] is not None else math.nan for one in whole]
    distances = [sweep.find(one["setting"], "residual_distance", "forget").value for one in whole]
    columns.append((f"score by {sweep.rule}", "linear", scores, "score"))
    if np.isfinite(distances).any():
        columns.append(("residual distance", "linear", distances, "distance"))
    return columns


def _heights(scale: str, values: list) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Values on [0, 1] and the ticks of their axis."""
    if scale == "list":
        texts = {_text(v): v for v in values}
        names = sorted(texts, key=lambda name: texts[name]) if all(map(_is_number, values)) else sorted(texts)
        at = {name: (i + 0.5) / len(names) for i, name in enumerate(names)}
        return np.asarray([at[_text(v)] for v in values]), [(y, name) for name, y in at.items()]
    turned = np.log(values) if scale == "log" else np.asarray(values, float)
    finite = turned[np.isfinite(turned)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    span = high - low or 1.0
    undo = np.exp if scale == "log" else (lambda x: x)
    return (turned - low) / span, [(y, f"{undo(low + y * span):.3g}") for y in (0.0, 0.5, 1.0)]


def marks_of(sweep: Sweep) -> dict[str, tuple[str, str]]:
    """Settings that are drawn apart: setting -> (colour, what it is), least important first."""
    choices, marks = sweep.told["choices"], {}
    if any(one["default"] for one in sweep.whole):
        marks[next(one["setting"] for one in sweep.whole if one["default"])] = ("original", "the defaults")
    if "oracle" in choices:
        marks[choices["oracle"]["setting"]] = ("oracle", "best allowed by the oracle")
    chosen, agrees = choices[sweep.rule]["setting"], ", which agrees" if choices[sweep.rule].get("regret") == 0 else ""
    marks.pop(chosen, None)  # drawn last
    marks[chosen] = ("retrain", f"chosen by {sweep.rule}, without the oracle{agrees}")
    return marks


@styled
def parallel_figure(sweep: Sweep, width: float = WIDE):
    """Every setting that ran whole as a line over its hyperparameters, its score and its residual distance."""
    columns, marks, whole = columns_of(sweep), marks_of(sweep), sweep.whole
    drawn = [_heights(scale, values) for _, scale, values, _ in columns]
    lines = np.stack([heights for heights, _ in drawn], axis=1)
    figure, grid = sheet(width, 3.4)
    axes, at = grid[0, 0], np.arange(len(columns))
    for line, one in zip(lines, whole):
        allowed = {"linestyle": "-" if one["allowed"] else ":", "alpha": 0.55 if one["allowed"] else 0.4}
        axes.plot(at, line, color=colour("band"), linewidth=0.9, **allowed)
    for setting, (tone, label) in marks.items():
        line = lines[[one["setting"] for one in whole].index(setting)]
        axes.plot(at, line, color=colour(tone), linewidth=2.4, label=label, marker="o", markersize=4)
    for x, (_, ticks) in zip(at, drawn):
        axes.axvline(x, color=colour("muted"), linewidth=0.8)
        for y, text in ticks:
            axes.annotate(text, (x, y), xytext=(4, 0), textcoords="offset points", fontsize=small(), va="center")
    axes.set_xticks(at, [heading.replace(" by ", "\nby ") for heading, *_ in columns])
    axes.set(xlim=(-0.3, len(columns) - 0.6), yticks=[])
    axes.spines[["left", "bottom"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3 if width > 6 else 1, frameon=False, fontsize=small())
    return figure


def ordered_names(sweep: Sweep) -> list[str]:
    """Swept hyperparameters that are numbers and differ."""
    names = sweep.whole[0]["values"]
    differ = lambda name: len({_text(one["values"][name]) for one in sweep.whole}) > 1
    return [name for name in names if scale_of(sweep, name) != "list" and differ(name)]


def _panels(sweep: Sweep, width: float, wide: float, narrow: float):
    """A figure with a panel for the score and one for the residual distance: (axes, heading, values, kind) of each."""
    shown = [c for c in columns_of(sweep) if c[3] != "setting"]
    shape = beside(len(shown), width)
    figure, grid = sheet(width, wide if width > 6 else narrow * len(shown), *shape)
    return figure, [(axes, heading, values, kind) for axes, (heading, _, values, kind) in zip(grid.ravel(), shown)]


@styled
def response_figure(sweep: Sweep, name: str, width: float = WIDE):
    """Score and residual distance against one hyperparameter, a dot a setting, with intervals of the distance; settings
    that are alike in the others are joined."""
    figure, panels = _panels(sweep, width, 2.7, 2.5)
    x = [one["values"][name] for one in sweep.whole]
    for axes, heading, values, kind in panels:
        _dots(axes, sweep, x, values)
        _joined(axes, sweep, name, values)
        if kind == "distance":
            estimates = [sweep.find(one["setting"], "residual_distance", "forget") for one in sweep.whole]
            axes.vlines(x, [t.low for t in estimates], [t.high for t in estimates], color=colour("band"), linewidth=1)
        axes.set(xlabel=name, ylabel=heading)
        _scaled(axes.xaxis, scale_of(sweep, name), x)
        axes.grid(axis="y")
    return figure


def _joined(axes, sweep: Sweep, name: str, values: list) -> None:
    """Join the settings that differ in ``name`` alone, where they make few lines."""
    groups: dict[str, list] = {}
    for one, y in zip(sweep.whole, values):
        others = ", ".join(f"{k}={_text(v)}" for k, v in one["values"].items() if k != name)
        groups.setdefault(others, []).append((one["values"][name], y))
    lines = {others: sorted(points) for others, points in groups.items() if len(points) > 2}
    if len(lines) > MAX_LINES:
        return
    for style, (others, points) in zip(("-", "--", ":", "-.", (0, (1, 3))), lines.items()):
        axes.plot(*zip(*points), color=colour("muted"), linewidth=1, linestyle=style, label=others, zorder=1)
    if any(lines):
        axes.legend(frameon=False, fontsize=small())


def _scaled(axis, scale: str, values) -> None:
    """Make an axis logarithmic where it should be, with few plain numbers."""
    if scale != "log" or not len(values):
        return
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    low, high = min(values), max(values)
    ticks = [m * 10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for m in (1, 3)]
    shown = [t for t in ticks if 0.95 * low <= t <= 1.05 * high]
    axis.set_ticks(shown or [low, high], [f"{t:.3g}" for t in shown or [low, high]])
    axis.set_ticks([], minor=True)


def _dots(axes, sweep: Sweep, x: list, y: list) -> None:
    """A dot for each setting; open where it may not be chosen."""
    tones = {s: colour(tone) for s, (tone, _) in marks_of(sweep).items()}
    for one, a, b in zip(sweep.whole, x, y):
        tone = tones.get(one["setting"], colour("method"))
        size = 46 if one["setting"] in tones else 16
        axes.scatter(a, b, s=size, facecolor=tone if one["allowed"] else "none", edgecolor=tone, zorder=3)


def pairs_of(sweep: Sweep) -> list[tuple[str, str]]:
    """Pairs of hyperparameters that a surface is drawn over: at most three, each of several values."""
    return list(itertools.combinations(_several(sweep), 2))[:MAX_PAIRS]


def curves_of(sweep: Sweep) -> list[str]:
    """Hyperparameters that curves are drawn over, where no surface is: at most two."""
    return [] if pairs_of(sweep) else (_several(sweep) or ordered_names(sweep))[:2]


def _several(sweep: Sweep) -> list[str]:
    """Hyperparameters with an order and enough values for a surface, the defaults aside."""
    tried = [one for one in sweep.whole if not one["default"]]
    return [n for n in ordered_names(sweep) if len({one["values"][n] for one in tried}) >= MIN_VALUES]


@styled
def surface_figure(sweep: Sweep, pair: tuple[str, str], width: float = WIDE):
    """The best score and residual distance at each point of two hyperparameters, over whatever else differs."""
    figure, panels = _panels(sweep, width, 3.0, 2.8)
    for axes, heading, values, _ in panels:
        _surface(figure, axes, sweep, pair, values, heading)
    return figure


def _surface(figure, axes, sweep: Sweep, pair: tuple[str, str], values: list, heading: str) -> None:
    """One panel."""
    points: dict[tuple, float] = {}
    for one, value in zip(sweep.whole, values):
        key = tuple(float(one["values"][name]) for name in pair)
        if math.isfinite(value):
            points[key] = min(value, points.get(key, math.inf))
    scales = [scale_of(sweep, name) for name in pair]
    x, y = np.asarray(list(points)).reshape(-1, 2).T
    z = np.asarray(list(points.values()))
    turned = [np.log(v) if scale == "log" else v for v, scale in zip((x, y), scales)]
    top = float(np.quantile(z, 0.9)) if len(z) else 1.0  # one wild setting would leave no shade for the others
    shades = {"cmap": "viridis_r", "vmin": float(z.min(initial=top)), "vmax": top if top > z.min(initial=top) else None}
    flat = np.stack([(t - t.min()) / (np.ptp(t) or 1.0) for t in turned], axis=1) if len(z) else np.zeros((0, 2))
    if len(z) >= MIN_POINTS and np.linalg.matrix_rank(flat - flat.mean(axis=0), tol=1e-6) == 2:
        triangles = _triangles(flat)
        levels = np.linspace(shades["vmin"], max(top, shades["vmin"] + 1e-9), 12)
        axes.tricontourf(x, y, triangles, z, levels=levels, cmap="viridis_r", extend="max", alpha=0.85)
    dots = axes.scatter(x, y, c=z, s=18, edgecolor=colour("ink"), linewidth=0.6, zorder=3, **shades)
    for setting, (tone, _) in marks_of(sweep).items():
        values_of = next(one["values"] for one in sweep.whole if one["setting"] == setting)
        axes.scatter(
            *(values_of[name] for name in pair), s=90, facecolor="none", edgecolor=colour(tone), linewidth=2, zorder=4
        )
    axes.set(xlabel=pair[0], ylabel=pair[1], title=heading)
    for axis, scale, along in zip((axes.xaxis, axes.yaxis), scales, (x, y)):
        _scaled(axis, scale, along)
    if len(z):
        figure.colorbar(dots, ax=axes, extend="max")


def _triangles(flat: np.ndarray) -> np.ndarray:
    """Delaunay triangles of points on the unit square, of which none is a line."""
    from scipy.spatial import Delaunay

    simplices = Delaunay(flat).simplices
    a, b, c = (flat[simplices[:, i]] for i in range(3))
    area = np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])
    return simplices[area > 1e-9]

"""The page of released logs: conclusions, how far each metric is from retraining, and every aggregate."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from unlearn_jax.reports.panels import in_rows, plain, sheet, styled
from unlearn_jax.reports.reading import opened
from unlearn_jax.reports.render import Table, Td, drawn, facts, figure_cell, made, number, page, row, table
from unlearn_jax.reports.style import MARKERS, WIDE, colour, small

ENTRIES = ("unlearned", "format", "retain", "full", "draws", "aggregates", "conclusions")
LEAVES_OUT = ("forget_quality", "privleak")  # of the figure: they are comparisons already
TONES = {"stands": "oracle", "within noise": "band", "fails": "original"}
VERBS = {"stands": "stand", "within noise": "are within noise", "fails": "fail"}


def read_released(folder: Path) -> dict[str, Any]:
    """What an audit of logs wrote; raises `InputError` where it is missing or damaged."""
    with opened(Path(folder), "released", ENTRIES) as content:
        return content


def render_released(content: dict[str, Any]) -> str:
    """The whole page as one HTML document."""
    verdicts = [one["verdict"] for one in content["conclusions"]]
    counts = ", ".join(f"{verdicts.count(name)} {verb}" for name, verb in VERBS.items() if name in verdicts)
    return page(
        "released.html",
        title=f"Released results: {content['unlearned']}",
        answer=f"Of {len(verdicts)} conclusions: {counts}." if verdicts else "There is nothing to compare with.",
        facts=facts(_facts(content)),
        conclusions=[one | {"tone": TONES[one["verdict"]]} for one in content["conclusions"]],
        distances=drawn(drawings_of(content).get("distances"), "distances", "How far each metric is from retraining"),
        aggregates=_aggregates(content["aggregates"]),
        retrained=len(content["retain"]),
        words=[],
        made=made(content | {"finished": content["written"]}, {"draws": content["draws"], "seed": content["seed"]}),
    )


def drawings_of(content: dict[str, Any]) -> dict[str, Callable]:
    """The figures by name, as functions of the width in inches."""
    shown = {
        name: one
        for name, one in content["aggregates"].items()
        if one["retain"] and one["interval"] and name not in LEAVES_OUT
    }
    return {"distances": partial(distances_figure, shown)} if shown else {}


@styled
def distances_figure(shown: dict[str, dict], width: float):
    """A row a metric: the unlearned model with its interval, the retrained ones, their band and the original."""
    figure, grid = sheet(width, 0.9 + 0.27 * len(shown))
    axes = grid[0, 0]
    for y, one in enumerate(shown.values()):
        if one["band"]:
            low, high = one["band"]
            axes.barh(y, high - low, left=low, height=0.6, color=colour("band"), alpha=0.3, linewidth=0)
        axes.plot(one["interval"], [y, y], color=colour("method"), linewidth=1.6, zorder=2)
        dots = [("method", "o", [one["recomputed"]]), ("retrain", MARKERS["retrain"], one["retain"])]
        dots += [("original", MARKERS["original"], [one["full"]])] if one["full"] is not None else []
        for name, marker, values in dots:
            face = colour(name) if name == "method" else "none"
            axes.plot(
                values, [y] * len(values), marker, color=colour(name), markerfacecolor=face, markersize=5, zorder=3
            )
    in_rows(axes, list(shown), _limits(shown))
    axes.set_xlabel("value of the metric")
    names = "filled: unlearned, circles: retrained" + (", squares: original" if width == WIDE else "")
    axes.set_title(plain(names), loc="left", fontsize=small(), color=colour("muted"))
    return figure


def _limits(shown: dict[str, dict]) -> tuple[float, float]:
    """Limits that hold every value, and bands as far as they are near."""
    values = [v for one in shown.values() for v in (*one["interval"], *one["retain"], one["full"]) if v is not None]
    low, high = min(values), max(values)
    room = 0.04 * (high - low) or 0.04
    return low - room, high + room


def _facts(content: dict[str, Any]) -> dict[str, Any]:
    """What was read."""
    return {
        "Unlearned": content["unlearned"],
        "Retrained": ", ".join(content["retain"]),
        "Original": content["full"],
        "Intervals": f"95%, {content['draws']:,} draws of questions",
    }


def _aggregates(found: dict[str, dict]) -> Table:
    """A row a metric."""
    rows = []
    for name, one in found.items():
        stated = Td(_digits(one["stated"]), tag="" if one["agrees"] is not False else "not what its questions give")
        again = Td(_digits(one["recomputed"]), _range(one["interval"]), one["variant"] or one["missing"])
        retrained = Td(", ".join(map(_digits, one["retain"])), _range(one["band"]))
        apart = figure_cell((one["difference"], *(one["difference_interval"] or (None, None))), 3)
        left = figure_cell((one["residual"], *(one["residual_interval"] or (None, None))))
        rows.append(row(Td(name, breaks=True), [stated, again, retrained, _digits(one["full"]), apart, left]))
    heads = ["stated", "from its questions", "retrained", "original", "from retraining", "residual"]
    return table("metric", heads, rows)


def _digits(value: float | None) -> str:
    """A number with as many digits as tell it from another model's."""
    if value is None or not math.isfinite(value):
        return ""
    return number(value, 3) if abs(value) >= 0.001 or not value else number(value, None)


def _range(interval) -> str:
    """An interval or a band."""
    return f"[{_digits(interval[0])}, {_digits(interval[1])}]" if interval else ""

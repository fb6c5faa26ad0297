"""The page of the leaderboard: a table by study that needs no script, with filters and sorting where there is one."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from unlearn_jax.evaluation.frontier import GATE
from unlearn_jax.reports.board_rows import value
from unlearn_jax.reports.columns import COLUMNS
from unlearn_jax.reports.render import interval, page
from unlearn_jax.reports.render import number as shown
from unlearn_jax.reports.style import COLOURS

LEFT, RIGHT, WIDE, HIGH = -0.3, 1.3, 96, 14  # the scale of the bars, and their size in pixels
ALWAYS = ("original", "retrain")
HEADS = (  # name of the figure it is sorted by, heading
    ("", "Population"), ("", "Settings"), ("distance", "Distance"), ("residual", "Residual"),
    ("price_test", "Price, test"), ("price_rest", "Price, rest"), ("cost", "Cost"),
)  # fmt: skip


class Study(NamedTuple):
    """One question with its rows, by distance."""

    rows: list[dict[str, str]]

    @property
    def first(self) -> dict[str, str]:
        """Any row, for what all have in common."""
        return self.rows[0]


def studies_of(rows: list[dict[str, str]]) -> list[Study]:
    """Rows by study and level, in the order of the file, each ascending in distance."""
    groups: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault((row["study"], row["copies"], row["gamma"]), []).append(row)
    order = lambda row: (math.isnan(value(row, "distance")), unclear(row) or wrecked(row), value(row, "distance"))
    return [Study(sorted(group, key=order)) for group in groups.values()]


def unclear(row: dict[str, str]) -> bool:
    """Whether the interval of the distance holds both ends of the scale, so that it says nothing."""
    return value(row, "distance_low") <= 0.0 and value(row, "distance_high") >= 1.0


def wrecked(row: dict[str, str]) -> bool:
    """Whether more accuracy is lost on rest than the gate allows (of an oracle that has all of rest right)."""
    return row["kind"] != "reference" and value(row, "price_rest") > 100 * (1 - GATE)


def render_board(rows: list[dict[str, str]]) -> str:
    """The whole page as one HTML document."""
    commands = list(dict.fromkeys(map(_made, rows)))
    number = {command: place for place, command in enumerate(commands, 1)}
    studies = [_study(study, number) for study in studies_of(rows)]
    count = sum(row["kind"] != "reference" for row in rows)
    known = lambda made: [pair for pair in zip(("Device", "Versions", "Commit", "Date"), made[1:]) if pair[1]]
    return page(
        "board.html",
        title="What is left after unlearning when similar samples stay",
        answer=f"{count} methods and settings in {len(studies)} studies, each beside the original and retraining.",
        studies=studies,
        about_made="How the rows were made",
        datasets=sorted({row["dataset"] for row in rows}),
        similarities=sorted({row["similarity"] for row in rows}),
        heads=HEADS,
        commands=[(made[0], known(made)) for made in commands],
    )


def _study(study: Study, number: dict) -> dict[str, Any]:
    """A heading and the rows of one study."""
    one = study.first
    more = [one["benchmark"], one["model"], f"{one['num_targets']} {one['targets']} targets".strip()]
    more += [f"{one['requests']} requests"] if one["requests"] not in ("", "1") else []
    more += [f"{one['members']} members", f"null band ±{value(one, 'null_band'):.3f}"]
    made = list(dict.fromkeys(number[_made(row)] for row in study.rows))
    return {
        "anchor": f"study-{one['study']}-{one['copies']}-{place_of(one)}",
        "dataset": one["dataset"],
        "similarity": one["similarity"],
        "told": f"{one['dataset']}: {copies_of(one)}",
        "more": ", ".join(filter(None, more)),
        "made": made,
        "rows": [_population(row, number[_made(row)] if len(made) > 1 else 0) for row in study.rows],
    }


def place_of(row: dict[str, str]) -> str:
    """A level's gamma for an anchor."""
    return row["gamma"].replace(".", "_") or "0"


def copies_of(row: dict[str, str]) -> str:
    """4 near copies stay, 2 nearest neighbours stay."""
    count = int(row["copies"])
    named = max(1, round(value(row, "gamma") * (count + 1))) - 1 if row["gamma"] else 0
    kind = "nearest neighbour" if row["similarity"].startswith("natural") else f"{row['similarity']} copy"
    left = count - named
    several = kind + "s" if kind.endswith("r") else kind[:-1] + "ies"
    return f"{left} {kind if left == 1 else several} of each target stay{'s' * (left == 1)}"


def _made(row: dict[str, str]) -> tuple[str, ...]:
    return tuple(row[name] for name in ("command", "device", "versions", "commit", "date"))


def _population(row: dict[str, str], made: int) -> dict[str, Any]:
    """One population."""
    reference = row["kind"] == "reference"
    notes = [row["kind"], f"{value(row, 'diverged'):g} members diverged" * (value(row, "diverged") > 0)]
    notes += ["says nothing: anything from 0 to 1"] * unclear(row)
    notes += [f"wrecked: {value(row, 'price_rest'):.0f} points lost on rest"] * wrecked(row)
    budget = f"budget {row['budget']}" if row["budget"] else ""
    setting = row["setting"].replace(",", ", ").replace(",  ", ", ")
    return {
        "label": row["method"] + (f" + {row['remedy']}" if row["remedy"] else ""),
        "kind": ("reference" + " always" * (row["method"] in ALWAYS)) if reference else "",
        "tone": row["method"] if reference and row["method"] in COLOURS else "method",
        "unclear": unclear(row) or wrecked(row),
        "made": made,
        "tags": list(filter(None, notes)),
        "settings": ", ".join(filter(None, [setting, budget])),
        "whence": "" if reference else row["source"],
        "figures": [_figure(row, name, bar=name in ("distance", "residual")) for name, _ in HEADS if name],
    }


def _figure(row: dict[str, str], name: str, bar: bool) -> dict[str, Any]:
    """A figure with its interval, and a small drawing of both."""
    mean = value(row, name)
    low, high = (value(row, name + end) if name != "cost" else math.nan for end in ("_low", "_high"))
    digits = 0 if bar and abs(mean) >= 10 else COLUMNS[name].digits
    return {
        "missing": math.isnan(mean),
        "exact": f"{mean:.6g}",
        "shown": shown(mean, digits),
        "below": interval(low, high, digits),
        "bar": bar_of(mean, low, high) if bar and not math.isnan(mean) else None,
    }


def bar_of(mean: float, low: float, high: float) -> dict[str, Any]:
    """A figure and its interval on a scale with the oracle at 0 and the original at 1, in pixels."""
    at = lambda v: round(WIDE * (min(max(v, LEFT), RIGHT) - LEFT) / (RIGHT - LEFT), 1)
    tip, back = (WIDE, WIDE - 6) if mean > RIGHT else (0, 6)
    return {
        "wide": WIDE,
        "high": HIGH,
        "middle": f"{HIGH / 2:g}",
        "ends": [("oracle", at(0)), ("original", at(1))],
        "interval": (at(low), at(high)) if math.isfinite(low + high) else None,
        "at": at(mean) if LEFT <= mean <= RIGHT else None,  # else an arrow
        "tip": tip,
        "back": back,
    }

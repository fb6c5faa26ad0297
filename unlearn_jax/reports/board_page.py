"""The page of the leaderboard: a table by study that needs no script, with filters and sorting where there is one."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path
from typing import NamedTuple

from unlearn_jax.evaluation.frontier import GATE
from unlearn_jax.reports.board_rows import value
from unlearn_jax.reports.columns import COLUMNS
from unlearn_jax.reports.frame import definitions, document
from unlearn_jax.reports.style import COLOURS
from unlearn_jax.reports.table import short

LEFT, RIGHT, WIDE, HIGH = -0.3, 1.3, 96, 14  # the scale of the bars, and their size in pixels
ALWAYS = ("original", "retrain")
HEADS = (  # name of the figure it is sorted by, heading
    ("", "Population"), ("", "Settings"), ("distance", "Distance"), ("residual", "Residual"),
    ("price_test", "Price, test"), ("price_rest", "Price, rest"), ("cost", "Cost"),
)  # fmt: skip
WORDS = (
    ("Study", "one question: data, targets, similar samples, network, recipe, members and seed. Ranks mean something "
     "within a study alone; between studies targets and models differ."),
    ("Residual", "influence of the targets that is left, signed: 1 = untouched, 0 = gone, below 0 = over-forgotten."),
    ("Distance", "the same per target and unsigned, so that scrambling cannot fool it. Rows are sorted by it. Bars: "
     "95% intervals over clusters and members; the lines are the oracle (0) and the original (1). Rows whose interval "
     "holds both say nothing (single models that blew up, say), and rows that lose more than 5 points on rest are "
     "wrecked: both come last."),
    ("Price", "accuracy of the oracle, which never saw the targets' clusters, less accuracy of the row, in points; "
     "positive = worse."),
    ("Cost", "gradient evaluations as a share of one training from scratch."),
    ("Settings", "default: this project's, by data and network: published values, or chosen on other targets without "
     "the oracle (docs/methods.md). Given: chosen by whoever ran it, in their words. Preset: a file of sweeps."),
    ("Overlap", "of two intervals shows neither that methods are alike nor that one is better: rows of a study share "
     "members and targets, and the study's own report has paired differences and ranks."),
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
    studies = studies_of(rows)
    commands = list(dict.fromkeys((r["command"], r["device"], r["versions"], r["commit"], r["date"]) for r in rows))
    number = {command: place for place, command in enumerate(commands, 1)}
    title = "What is left after unlearning when similar samples stay"
    populations = sum(row["kind"] != "reference" for row in rows)
    lead = f"{populations} methods and settings in {len(studies)} studies, each beside the original and retraining."
    folder = Path(__file__).parent
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead" id="answer">{escape(lead)}</p>',
        _controls(rows),
        _table(studies, number) if rows else "<p>There are no rows yet: experiments/leaderboard.py add RUN.</p>",
        f'<section id="words"><h2>How to read this</h2>{definitions(WORDS)}</section>',
        f'<section id="reproduce"><h2>How the rows were made</h2>{_commands(commands)}</section>',
        f"<script>\n{(folder / 'board.js').read_text(encoding='utf-8')}</script>",
    ]
    style = (folder / "board.css").read_text(encoding="utf-8")
    return document(title, parts).replace("</style>", f"{style}</style>", 1)


def _controls(rows: list[dict[str, str]]) -> str:
    """Filters, hidden until the script that they need has run."""
    chooser = lambda name, label: (
        f'<label>{label}<select name="{name}"><option value="">all</option>'
        + "".join(f"<option>{escape(one)}</option>" for one in sorted({row[name] for row in rows}))
        + "</select></label>"
    )
    return (
        f'<form id="filters" hidden>{chooser("dataset", "Data")}{chooser("similarity", "Similarity")}'
        '<label>Cost at most<input name="cost" type="number" min="0" step="any" placeholder="any" inputmode="decimal">'
        '</label><label>Method<input name="method" type="search" placeholder="part of a name" autocomplete="off">'
        '</label><button type="reset">Show all</button><output name="shown"></output></form>'
    )


def _table(studies: list[Study], number: dict) -> str:
    """One table with a body for each study."""
    heads = "".join(
        f'<th{" class=name" * (place == 0)} scope="col"{f" data-sort={name}" if name else ""}>{escape(heading)}</th>'
        for place, (name, heading) in enumerate(HEADS)
    )
    body = "".join(_study(study, number) for study in studies)
    caption = '<caption class="caption">By study, and in each by residual distance at first; 0 is best.</caption>'
    return f'<div class="scroll board"><table id="board">{caption}<thead><tr>{heads}</tr></thead>{body}</table></div>'


def _study(study: Study, number: dict) -> str:
    """A heading and the rows of one study."""
    one = study.first
    told = f"{one['dataset']}: {copies_of(one)}"
    more = [one["benchmark"], one["model"], f"{one['num_targets']} {one['targets']} targets".strip()]
    more += [f"{one['requests']} requests"] if one["requests"] not in ("", "1") else []
    more += [f"{one['members']} members", f"null band ±{value(one, 'null_band'):.3f}"]
    made = "".join(f' <a href="#made-{n}">{n}</a>' for n in dict.fromkeys(number[_made(r)] for r in study.rows))
    head = (
        f'<tr class="study"><th colspan="{len(HEADS)}" scope="rowgroup"><span class="title">{escape(told)}</span>'
        f'<span class="small">{escape(", ".join(filter(None, more)))}. How it was made:{made}</span></th></tr>'
    )
    several = len({number[_made(row)] for row in study.rows}) > 1
    rows = "".join(_row(row, number[_made(row)] if several else 0) for row in study.rows)
    keys = f'data-dataset="{escape(one["dataset"])}" data-similarity="{escape(one["similarity"])}"'
    return f'<tbody id="study-{one["study"]}-{one["copies"]}-{place_of(one)}" {keys}>{head}{rows}</tbody>'


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
    """What tells how a row was made."""
    return tuple(row[name] for name in ("command", "device", "versions", "commit", "date"))


def _row(row: dict[str, str], made: int) -> str:
    """One population."""
    label = row["method"] + (f" + {row['remedy']}" if row["remedy"] else "")
    tone = f"var(--{row['method']})" if row["kind"] == "reference" and row["method"] in COLOURS else "var(--method)"
    notes = [row["kind"], f"{value(row, 'diverged'):g} members diverged" * (value(row, "diverged") > 0)]
    notes += ["says nothing: anything from 0 to 1"] * unclear(row)
    notes += [f"wrecked: {value(row, 'price_rest'):.0f} points lost on rest"] * wrecked(row)
    tags = "".join(f'<span class="tag">{escape(note)}</span>' for note in notes if note)
    link = f' <a class="made" href="#made-{made}">{made}</a>' if made else ""
    always = row["kind"] == "reference" and row["method"] in ALWAYS
    kind = f' class="reference{" always" * always}"' if row["kind"] == "reference" else ""
    budget = f"budget {row['budget']}" if row["budget"] else ""
    whence = "" if row["kind"] == "reference" else row["source"]
    settings = escape(", ".join(filter(None, [row["setting"].replace(",", ", ").replace(",  ", ", "), budget])))
    settings += f'<span class="tag">{escape(whence)}</span>' if whence else ""
    cells = [
        f'<th class="name" scope="row"><span class="dot" style="background:{tone}"></span>'
        f"{escape(label).replace('_', '_<wbr>')}{link}{tags}</th>",
        f'<td class="said">{settings}</td>',
        _figure(row, "distance", bar=True),
        _figure(row, "residual", bar=True),
        _figure(row, "price_test"),
        _figure(row, "price_rest"),
        _figure(row, "cost"),
    ]
    name = escape(label.lower(), quote=True)
    return f'<tr{kind} data-name="{name}"{" data-unclear" * (unclear(row) or wrecked(row))}>{"".join(cells)}</tr>'


def _figure(row: dict[str, str], name: str, bar: bool = False) -> str:
    """A figure with its interval, which the script sorts by ``data-v``."""
    mean, digits = value(row, name), COLUMNS[name].digits
    if math.isnan(mean):
        return "<td>–</td>"
    low, high = (value(row, name + end) if name != "cost" else math.nan for end in ("_low", "_high"))
    digits = 0 if bar and abs(mean) >= 10 else digits
    known = math.isfinite(low + high)
    ends = f'<span class="ci">[{short(low, digits)}, {short(high, digits)}]</span>' if known else ""
    drawn = bar_of(mean, low, high) if bar else ""
    return f'<td data-v="{mean:.6g}">{drawn}<span class="number">{short(mean, digits)}</span>{ends}</td>'


def bar_of(mean: float, low: float, high: float) -> str:
    """A small drawing of a figure and its interval on a scale with the oracle at 0 and the original at 1."""
    at = lambda v: round(WIDE * (min(max(v, LEFT), RIGHT) - LEFT) / (RIGHT - LEFT), 1)
    middle = HIGH / 2
    ends = f'<path class="oracle" d="M{at(0)} 0V{HIGH}"/><path class="original" d="M{at(1)} 0V{HIGH}"/>'
    if math.isfinite(low + high):
        ends += f'<path class="interval" d="M{at(low)} {middle:g}H{at(high)}"/>'
    if LEFT <= mean <= RIGHT:
        mark = f'<circle cx="{at(mean)}" cy="{middle:g}" r="3"/>'
    else:
        tip, back = (WIDE, WIDE - 6) if mean > RIGHT else (0, 6)
        mark = f'<path class="beyond" d="M{back} 3L{tip} {middle:g}L{back} 11Z"/>'
    size = f'viewBox="0 0 {WIDE} {HIGH}" width="{WIDE}" height="{HIGH}"'
    return f'<svg class="bar" {size} aria-hidden="true">{ends}{mark}</svg>'


def _commands(commands: list[tuple[str, ...]]) -> str:
    """Every command with what it ran on, by number."""
    blocks = []
    for place, (command, device, versions, commit, date) in enumerate(commands, 1):
        pairs = [("Device", device), ("Versions", versions), ("Commit", commit), ("Date", date)]
        told = definitions([pair for pair in pairs if pair[1]])
        blocks.append(f'<div class="box" id="made-{place}"><h3>{place}</h3><pre>{escape(command)}</pre>{told}</div>')
    return "".join(blocks)

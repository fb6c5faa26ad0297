"""The page of sweeps of several methods: what a practitioner sees first, then what the oracle says of it."""

from __future__ import annotations

import math
import os
from html import escape
from pathlib import Path

from unlearn_jax.reports import overview_figures as figures
from unlearn_jax.reports import overview_words as words
from unlearn_jax.reports.frame import definitions, document, facts_strip, inline
from unlearn_jax.reports.load import number_told
from unlearn_jax.reports.overview_load import Line, Sweeps
from unlearn_jax.reports.sections import _figure as figure
from unlearn_jax.reports.sections import section
from unlearn_jax.reports.sweep_load import Told
from unlearn_jax.reports.sweep_page import _cell as cell
from unlearn_jax.reports.sweep_page import _left
from unlearn_jax.reports.sweep_page import _number as number
from unlearn_jax.reports.sweep_page import _table as table

BESIDE = {"preset": "the preset file", "defaults": "the defaults", "lot": "by lot"}


def render_sweeps(told: Sweeps, out: Path) -> str:
    """The whole page as one HTML document, to be written to ``out``."""
    title = f"Hyperparameters of {len(told.lines)} methods: {_dataset(told)}"
    unfinished, after = words.progress(told), words.afterwards(told)
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead" id="answer">{escape(words.headline(told))}</p>',
        f'<p class="note" id="unfinished">{escape(unfinished)}</p>' if unfinished else "",
        f"<p>{escape(words.chosen_by(told))}</p>",
        f'<p class="afterwards" id="afterwards">{escape(after)}</p>' if after else "",
        facts_strip(_facts(told)),
        section("reasons", "What the preset file says, and why", _reasons(told, out)),
        section("seen", "What a practitioner sees", _seen(told, out)),
        section("oracle", "What the oracle says of it", _oracle(told, out)) if told.oracle else "",
        section("rules", "What each rule would have cost", _rules(told)) if told.rules else "",
        section("words", "How to read this", definitions(words.WORDS)),
        section("reproduce", "To reproduce", _reproduction(told)),
    ]
    return document(title, parts)


def drawings_of(told: Sweeps) -> dict:
    """The figures by name, as functions of the width in inches."""
    found = {"distances": lambda width: figures.distances_figure(told, width)} if told.oracle else {}
    return found | {"seen": lambda width: figures.seen_figure(told, width)}


def _first(told: Sweeps) -> dict:
    """What the first sweep says of data and targets, which are those of all."""
    return told.swept[0].sweep.told


def _dataset(told: Sweeps) -> str:
    """The data set, of a file the name alone."""
    return Path(str(_first(told)["config"]["dataset"])).name


def _facts(told: Sweeps) -> dict[str, str | None]:
    """The setting of the sweeps."""
    asked, config = told.told["asked"]["sweep"], _first(told)["config"]
    tried = sum(len(line.sweep.told["settings"]) for line in told.swept)
    one = _first(told)["cost"]["one_training"]
    spent = sum(line.sweep.told["cost"]["grad_evals"] for line in told.swept)
    drawn = f"{asked['draws']} by {asked['draw']}" if asked["draws"] else asked["draw"]
    return {
        "Data": _dataset(told),
        "Methods": f"{len(told.lines)}, {len(told.swept)} swept",
        "Settings tried": f"{tried}",
        "Drawn": drawn + (", and the defaults" if asked["defaults"] else ""),
        "Seeds": str(asked["seeds"]),
        "Targets": f"{number_told(config, _first(told).get('target_counts'))} {config['targets']}".strip(),
        "Copies": str(_first(told)["copies"]),
        "Requests": str(config["requests"]) if config["requests"] > 1 else None,
        "Cost": f"as much as {spent / one:.0f} networks trained from scratch" if one else None,
    }


def _name(told: Sweeps, line: Line, out: Path) -> str:
    """A method's name, which links to its own page where that is there."""
    page = told.path / line.name / "sweep.html"
    if not page.is_file():
        return escape(line.name)
    place = Path(os.path.relpath(page, out.parent)).as_posix()
    return f'<a href="{escape(place, quote=True)}">{escape(line.name)}</a>'


def _reasons(told: Sweeps, out: Path) -> str:
    """How many methods leave or keep their defaults for each reason, and which; and what was not run."""
    rows = []
    for kept, why, lines in words.reasons(told):
        names = ", ".join(_name(told, line, out) for line in lines)
        says = "the defaults" if kept else "the chosen setting"
        rows.append(
            f'<tr><th class="name" scope="row">{says}</th><td class="said names">{escape(words.REASONS.get(why, why))}'
            f'</td><td>{len(lines)}</td><td class="said names">{names}</td></tr>'
        )
    body = _left(table("The file says", ["because", "methods", "which"], rows), "because", "which")
    left = told.told.get("left_out") or []
    shown = "".join(f"<li>{escape(sentence)}</li>" for sentence in left)
    folded = f'<details><summary>{len(left)} not run</summary><ul class="small">{shown}</ul></details>'
    return body + (folded if left else "")


def _seen(told: Sweeps, out: Path) -> str:
    """What the choice rests on: a figure, and a line for each method that was swept."""
    caption = (
        "Gain: hollow where the preset keeps the defaults all the same; below 0 the defaults score better, but are not "
        "allowed. Lost: hollow where not allowed; one mark where the preset keeps the defaults; dotted: half a point. "
        "Bars: 95% intervals. Arrows: beyond the axis, with the value."
    )
    drawn = figure(lambda w: figures.seen_figure(told, w), "seen", "Gain and accuracy lost by method", caption)
    heads = [
        "the rule chose", "allowed", f"gain, {words.UNITS[told.rule]}", "held-out accuracy lost, points",
        "retained accuracy lost, points", "request surer than expected, nats", "cost", "diverged",
    ]  # fmt: skip
    rows = []
    for kept, why, lines in words.reasons(told):
        swept = sorted((line for line in lines if line.sweep), key=lambda line: figures.known_first(-line.gain.value))
        if swept:
            says = "keep their defaults" if kept else "leave their defaults"
            said = f"{len(swept)} {says}: {words.REASONS.get(why, why)}"
            rows.append(f'<tr class="group"><td class="said" colspan="{len(heads) + 1}">{escape(said)}</td></tr>')
            rows += [_row(told, line, out, _seen_cells(line), (0,)) for line in swept]
    about = '<p class="caption">Lost, surer, cost and diverged are of what the preset file says.</p>'
    return drawn + about + _left(table("Method", heads, rows), heads[0])


def _seen_cells(line: Line) -> list[str]:
    """What a practitioner could measure of a method."""
    find = lambda metric, split="": line.find(line.says, metric, split)
    one = line.sweep.told["cost"]["one_training"]
    cost = (find("grad_evals_forget").value + find("grad_evals_retain").value) / one if one else math.nan
    return [
        _setting(line.rule, "defaults"),
        f"{line.allowed} of {len(line.sweep.whole)}",
        "" if line.rule is line.usual else cell(line.gain),
        cell(find("heldout_accuracy_drop", "validation")),
        cell(find("retained_accuracy_drop", "rest")),
        cell(find("request_margin_gap", "forget")),
        number(cost),
        number(find("n_diverged").value, 0),
    ]


def _oracle(told: Sweeps, out: Path) -> str:
    """What no choice looked at: a figure, and a line for each method."""
    caption = (
        "Nearest on top. Hollow: not allowed. Bars: 95% intervals, which do not tell how sure a difference is: the "
        "table has that. Arrows: beyond the axis, with the value. The best allowed setting is picked by this very "
        "figure, so it looks a little too good."
    )
    drawn = figure(
        lambda w: figures.distances_figure(told, w), "distances", "Residual distance by method and setting", caption
    )
    heads = [
        "distance, defaults", "distance, preset", "nearer than the defaults by", "distance, best allowed",
        "best allowed setting", "regret",
    ]  # fmt: skip
    rows = []
    for name, lines in figures.groups_of(told, lambda line: figures.known_first(line.distance(line.says).value)):
        rows.append(f'<tr class="group"><td class="said" colspan="7">{len(lines)} {name}</td></tr>')
        rows += [_row(told, line, out, _oracle_cells(line), (4,)) for line in lines]
    return drawn + _left(table("Method", heads, rows), heads[4])


def _oracle_cells(line: Line) -> list[str]:
    """What looks at the oracle."""
    same = line.best is line.says
    best = "what the preset says" if same else _setting(line.best, "the defaults")
    return [
        cell(line.distance(line.usual)),
        "the same" if line.kept else cell(line.distance(line.says)),
        "" if line.kept else cell(line.nearer),
        cell(line.distance(line.best)),
        best + ("" if line.allowed else " (none is allowed)"),
        "0" if same else cell(line.regret),
    ]


def _setting(entry: dict, usual: str) -> str:
    """A setting's name, with places to break it."""
    return escape(entry["setting"].replace(",", ", ") or usual)


def _row(told: Sweeps, line: Line, out: Path, cells: list[str], text: tuple[int, ...]) -> str:
    """A method with its cells, of which those at ``text`` are words."""
    shown = "".join(f"<td{' class=said' * (place in text)}>{one}</td>" for place, one in enumerate(cells))
    return f'<tr><th class="name" scope="row">{_name(told, line, out)}</th>{shown}</tr>'


def _rules(told: Sweeps) -> str:
    """How every rule did over all sweeps."""
    lead = (
        "Which rule comes nearest to the best allowed setting, over the sweeps. The interval is of the mean, methods "
        "drawn with replacement: it tells how much the methods differ and not how noisy each regret is. Where no "
        "setting of a method is allowed, the nearest of all stands for the best."
    )
    rows = []
    for rule, own in told.rules.items():
        if rule in BESIDE and not any("group" in row for row in rows):
            rows.append('<tr class="group"><td class="said" colspan="6">to measure the rules by</td></tr>')
        mean = cell(Told(*(math.nan if x is None else x for x in own["regret"])))
        largest = f'{number(own["largest"])}<span class="ci">{escape(own["largest_of"])}</span>'
        cells = [mean, number(own["median"]), largest, f"{own['best']:.3g} of {own['sweeps']}"]
        shown = "".join(f"<td>{one}</td>" for one in cells) + f'<td class="said names">{escape(own["said"])}</td>'
        name = BESIDE.get(rule, rule) + (" (asked for)" if rule == told.rule else "")
        rows.append(f'<tr><th class="name" scope="row">{escape(name)}</th>{shown}</tr>')
    heads = ["mean regret", "median", "largest", "is the best allowed", "takes"]
    return f"<p>{escape(lead)}</p>{_left(table('Rule', heads, rows), 'takes')}"


def _reproduction(told: Sweeps) -> str:
    """Command, device, versions and where the numbers lie."""
    own = told.told
    total, config = own.get("seconds_total"), _first(told)["config"]
    pairs = [
        (
            "Numbers",
            "METHOD/summary.csv (rows by setting), METHOD/sweep.json (gains, differences), sweeps.json (rules)",
        ),
        ("Finished", inline(own.get("finished"))),
        ("Seconds", f"{total:.0f}, of the last call" if isinstance(total, int | float) else ""),
        ("Device", inline(own.get("device"))),
        ("Commit", inline(own.get("git_commit"))),
        (
            "Configuration",
            inline({k: v for k, v in config.items() if v and k != "methods"}),
        ),
        ("Versions", inline(own.get("versions"))),
        ("Notes", "; ".join(map(inline, _first(told).get("notes") or []))),
    ]
    command = own.get("command")
    shown = f"<pre>{escape(str(command))}</pre>" if command else "<p>The command was not recorded.</p>"
    return f'<div class="box">{shown}{definitions([pair for pair in pairs if pair[1]])}</div>'

"""The page of a sweep: its frame and its sections in order; every text is escaped."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

from unlearn_jax.reports import sweep_figures as figures
from unlearn_jax.reports import sweep_words as words
from unlearn_jax.reports.frame import definitions, document, facts_strip, inline
from unlearn_jax.reports.load import number_told
from unlearn_jax.reports.provenance import BELOW
from unlearn_jax.reports.sections import _figure as figure
from unlearn_jax.reports.sections import section
from unlearn_jax.reports.sweep_load import Sweep, Told
from unlearn_jax.reports.words import minus

SHOWN = 60  # settings of the table, best first
COLUMNS = (  # metric, split, heading
    ("heldout_margin_error", "validation", "held-out margin error, nats"),
    ("heldout_accuracy_drop", "validation", "held-out accuracy lost, points"),
    ("retained_accuracy_drop", "rest", "retained accuracy lost, points"),
    ("request_margin_gap", "forget", "request surer than expected, nats"),
    ("attack_auc", "forget", "attack AUC"),
    ("residual_distance", "forget", "residual distance (oracle)"),
    ("residual_influence", "forget", "residual influence (oracle)"),
)


def render_sweep(sweep: Sweep, together: str = "") -> str:
    """The whole page as one HTML document; ``together`` = the address of the page of all methods swept with it."""
    title = f"Hyperparameters of {sweep.method}: {_dataset(sweep)}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead" id="answer">{escape(words.headline(sweep))}</p>',
        f'<p class="small"><a href="{escape(together)}">All methods that were swept with it</a></p>'
        if together
        else "",
        facts_strip(_facts(sweep)),
        section("choices", "What each rule chooses, and what that costs", _choices(sweep)),
        section("parallel", "All settings", _parallel(sweep)),
        section("response", "Response", _responses(sweep)),
        section("rungs", "Halving", _rungs(sweep)) if len(sweep.told["rungs"]) > 1 else "",
        section("settings", "Settings that ran whole", _settings(sweep)),
        section("words", "How to read this", definitions(words.WORDS)),
        section("reproduce", "To reproduce", _reproduction(sweep)),
    ]
    return document(title, parts)


def _dataset(sweep: Sweep) -> str:
    """The data set, of a file the name alone."""
    return Path(str(sweep.told["config"]["dataset"])).name


def _facts(sweep: Sweep) -> dict[str, str]:
    """The setting of the sweep."""
    told, asked = sweep.told, sweep.told["asked"]["sweep"]
    config, cost = told["config"], told["cost"]
    trainings = cost["grad_evals"] / cost["one_training"] if cost["one_training"] else math.nan
    return {
        "Data": _dataset(sweep),
        "Method": sweep.method,
        "Settings": f"{len(told['settings'])}" + (f", {len(sweep.whole)} whole" if len(told["rungs"]) > 1 else ""),
        "Seeds": str(asked["seeds"]),
        "Drawn": asked["draw"],
        "Targets": f"{number_told(config, told.get('target_counts'))} {config['targets']}".strip(),
        "Copies": str(told["copies"]),
        "Requests": str(config["requests"]) if config["requests"] > 1 else None,
        "Cost": f"as much as {trainings:.0f} networks trained from scratch",
    }


def _choices(sweep: Sweep) -> str:
    """A row for each rule."""
    rows, oracle = [], any("distance" in own for own in sweep.told["choices"].values())
    for rule, own in sweep.told["choices"].items():
        cells = [escape(own["setting"] or "defaults"), f"{own['allowed']} of {own['candidates']}"]
        if oracle:
            regret = sweep.apart(own["setting"], "regret")
            cells.append(_cell(sweep.find(own["setting"], "residual_distance", "forget")))
            cells.append((_cell(regret) if own.get("regret") else "") or _number(own.get("regret")))
        mark = " (the preset)" if rule == sweep.rule else ""
        told = "".join(f"<td>{cell}</td>" for cell in cells) + f'<td class="said names">{escape(own["said"])}</td>'
        rows.append(f'<tr><th class="name" scope="row">{escape(rule + mark)}</th>{told}</tr>')
    heads = ["setting", "allowed", *(["residual distance", "regret"] if oracle else []), "takes"]
    return _left(_table("Rule", heads, rows), "takes")


def _table(first: str, heads: list[str], rows: list[str]) -> str:
    """A table that scrolls."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    return (
        f'<div class="scroll"><table class="audit"><thead><tr><th class="name" scope="col">{escape(first)}</th>{head}'
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>{BELOW}"
    )


def _left(table: str, *heads: str) -> str:
    """A table whose columns of words have their headings at the left, too."""
    for head in heads:
        table = table.replace(f'<th scope="col">{head}</th>', f'<th class="said" scope="col">{head}</th>')
    return table


def _number(value, digits: int = 2) -> str:
    """A number, nothing where it is not known."""
    return minus(f"{value:.{digits}f}") if isinstance(value, int | float) and math.isfinite(value) else ""


def _parallel(sweep: Sweep) -> str:
    """The parallel coordinates."""
    caption = (
        "A line for each setting that ran whole, over its hyperparameters, its score without the oracle and, last, its "
        "residual distance. Lower is better on the last two. Dotted: not allowed."
    )
    label = "Settings over parallel axes"
    return figure(lambda width: figures.parallel_figure(sweep, width), "parallel", label, caption)


def _responses(sweep: Sweep) -> str:
    """Surfaces over pairs of hyperparameters with several values, or curves where there is no such pair."""
    found = ""
    caption = (
        "A dot for each setting; open: not allowed. Colours as above. Bars: 95% intervals. Lines join settings that "
        "are alike in the others, where these make few lines."
    )
    for name in figures.curves_of(sweep):
        draw = lambda width, name=name: figures.response_figure(sweep, name, width)
        found += figure(draw, f"response-{name}", f"Response to {name}", caption)
    caption = (
        "The smallest value at each point over whatever else was swept, shaded between the settings tried (dots); the "
        "lightest shades are the smallest. Circles: the settings marked above. The scale ends at the 90% quantile."
    )
    for number, pair in enumerate(figures.pairs_of(sweep)):
        draw = lambda width, pair=pair: figures.surface_figure(sweep, pair, width)
        found += figure(draw, f"response{number}", f"Response to {pair[0]} and {pair[1]}", caption)
    return found


def _rungs(sweep: Sweep) -> str:
    """What every rung ran, kept and cost."""
    one, rows = sweep.told["cost"]["one_training"], []
    for number, rung in enumerate(sweep.told["rungs"], 1):
        cells = [f"{rung['share']:.3g}", len(rung["run"]), len(rung["kept"]), f"{rung['cost'] / one:.1f}"]
        rows.append(f'<tr><th class="name" scope="row">{number}</th>{"".join(f"<td>{c}</td>" for c in cells)}</tr>')
    whole, spent = sweep.told["cost"]["without_halving"] / one, sweep.told["cost"]["grad_evals"] / one
    said = (
        f"In all as much as {spent:.0f} networks trained from scratch; about {whole:.0f} had every setting run whole."
    )
    heads = ["share of the length", "settings", "kept", "cost, networks trained from scratch"]
    return _table("Rung", heads, rows) + f'<p class="small">{escape(said)}</p>'


def _settings(sweep: Sweep) -> str:
    """Figures of the settings, best first."""
    order = lambda one: (not one["allowed"], one["score"] if one["score"] is not None else math.inf)
    ranked = sorted(sweep.whole, key=order)
    known = [c for c in COLUMNS if any(math.isfinite(sweep.find(one["setting"], *c[:2]).value) for one in ranked)]
    rows = []
    for one in ranked[:SHOWN]:
        cells = ["yes" if one["allowed"] else "no", _number(one["score"])]
        cells += [_cell(sweep.find(one["setting"], metric, split)) for metric, split, _ in known]
        name = escape(one["setting"] or "defaults")
        rows.append(f'<tr><th class="name" scope="row">{name}</th>{"".join(f"<td>{c}</td>" for c in cells)}</tr>')
    table = _table("Setting", ["allowed", f"score by {sweep.rule}", *(heading for *_, heading in known)], rows)
    more = len(ranked) - SHOWN
    return table + (f'<p class="small">{more} more are in summary.csv.</p>' if more > 0 else "")


def _cell(told: Told) -> str:
    """A figure with its interval below."""
    if not math.isfinite(told.value):
        return ""
    interval = f"[{_number(told.low)}, {_number(told.high)}]" if math.isfinite(told.low) else ""
    return f'{_number(told.value)}<span class="ci">{interval}</span>'


def _reproduction(sweep: Sweep) -> str:
    """Command, device, versions and seconds, as far as they are recorded."""
    told = sweep.told
    total = told.get("seconds_total")
    axes = {
        a["name"]: a["values"] or f"{'log' if a['log'] else 'lin'} {a['low']:g} to {a['high']:g}" for a in told["axes"]
    }
    pairs = [
        ("Finished", inline(told.get("finished"))),
        ("Seconds", f"{total:.1f}" if isinstance(total, int | float) else ""),
        ("Device", inline(told.get("device"))),
        ("Commit", inline(told.get("git_commit"))),
        ("Axes", inline(axes)),
        ("Configuration", inline({k: v for k, v in told["config"].items() if v not in ("", 0, None, [], False)})),
        ("Versions", inline(told.get("versions"))),
        ("Notes", "; ".join(map(inline, told.get("notes") or []))),
    ]
    command = told.get("command")
    shown = f"<pre>{escape(str(command))}</pre>" if command else ""
    return f'<div class="box">{shown}{definitions([pair for pair in pairs if pair[1]])}</div>'

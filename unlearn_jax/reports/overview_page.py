"""The page of sweeps of several methods: what its template shows, as plain values; the oracle's part is apart."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unlearn_jax.reports import overview_figures as figures
from unlearn_jax.reports import overview_words as words
from unlearn_jax.reports.load import number_told
from unlearn_jax.reports.overview_load import Line, Sweeps
from unlearn_jax.reports.render import (
    Table,
    Td,
    data_name,
    drawn,
    facts,
    figure_cell,
    group,
    made,
    number,
    page,
    row,
    table,
)

BESIDE = {"preset": "the preset file", "defaults": "the defaults", "lot": "by lot"}
NUMBERS = "METHOD/summary.csv (rows by setting), METHOD/sweep.json (gains, differences), sweeps.json (rules)"
ORACLE = (
    "distance, defaults", "distance, preset", "nearer than the defaults by", "distance, best allowed",
    "best allowed setting", "regret",
)  # fmt: skip
RULES = ("mean regret", "median", "largest", "is the best allowed", "takes")


def render_sweeps(told: Sweeps, out: Path) -> str:
    """The whole page as one HTML document, to be written to ``out``."""
    first, drawings, named = _first(told), drawings_of(told), lambda line: _named(told, line, out)
    oracle = None
    if told.oracle:
        label = "Residual distance by method and setting"
        oracle = {"figure": drawn(drawings["distances"], "distances", label), "table": _oracle(told, named)}
    seen = drawn(drawings["seen"], "seen", "Gain and accuracy lost by method")
    own = told.told | {"notes": first.get("notes")}
    return page(
        "sweeps.html",
        title=f"Hyperparameters of {len(told.lines)} methods: {data_name(first['config']['dataset'])}",
        answer=words.headline(told),
        unfinished=words.progress(told),
        chosen_by=words.chosen_by(told),
        afterwards=words.afterwards(told),
        facts=facts(_facts(told)),
        reasons=_reasons(told, named),
        left_out=told.told.get("left_out") or [],
        seen={"figure": seen, "table": _seen(told, named)},
        oracle=oracle,
        rules=_rules(told) if told.rules else None,
        made=made(own, {k: v for k, v in first["config"].items() if k != "methods"}, Numbers=NUMBERS),
    )


def drawings_of(told: Sweeps) -> dict[str, Callable]:
    """The figures by name, as functions of the width in inches."""
    found = {"distances": lambda width: figures.distances_figure(told, width)} if told.oracle else {}
    return found | {"seen": lambda width: figures.seen_figure(told, width)}


def _first(told: Sweeps) -> dict:
    """What the first sweep says of data and targets, which are those of all."""
    return told.sweeps[0].told


def _facts(told: Sweeps) -> dict[str, Any]:
    """The setting of the sweeps."""
    asked, first = told.told["asked"]["sweep"], _first(told)
    config, one = first["config"], first["cost"]["one_training"]
    spent = sum(sweep.told["cost"]["grad_evals"] for sweep in told.sweeps)
    drawn_by = f"{asked['draws']} by {asked['draw']}" if asked["draws"] else asked["draw"]
    return {
        "Data": data_name(config["dataset"]),
        "Methods": f"{len(told.lines)}, {len(told.swept)} swept",
        "Settings tried": sum(len(sweep.told["settings"]) for sweep in told.sweeps),
        "Drawn": drawn_by + (", and the defaults" if asked["defaults"] else ""),
        "Seeds": asked["seeds"],
        "Targets": f"{number_told(config, first.get('target_counts'))} {config['targets']}".strip(),
        "Copies": first["copies"],
        "Requests": config["requests"] if config["requests"] > 1 else None,
        "Cost": f"as much as {spent / one:.0f} networks trained from scratch" if one else None,
    }


def _named(told: Sweeps, line: Line, out: Path) -> Td:
    """A method's name, which links to its own page where that is there."""
    own = told.path / line.name / "sweep.html"
    return Td(line.name, link=Path(os.path.relpath(own, out.parent)).as_posix() if own.is_file() else "")


def _reasons(told: Sweeps, named: Callable) -> Table:
    """How many methods leave or keep their defaults for each reason, and which."""
    rows = []
    for kept, why, lines in words.reasons(told):
        cells = [Td(words.REASONS.get(why, why), kind="said names"), Td(str(len(lines)))]
        cells.append(Td(kind="said names", parts=[named(line) for line in lines]))
        rows.append(row("the defaults" if kept else "the chosen setting", cells))
    return table("The file says", ["because", "methods", "which"], rows, said=[0, 2])


def _seen(told: Sweeps, named: Callable) -> Table:
    """What the choice rests on: a line for each method that was swept."""
    heads = [
        "the rule chose", "allowed", f"gain, {words.UNITS[told.rule]}", "held-out accuracy lost, points",
        "retained accuracy lost, points", "request surer than expected, nats", "cost", "diverged",
    ]  # fmt: skip
    rows = []
    for kept, why, lines in words.reasons(told):
        swept = sorted((line for line in lines if line.sweep), key=lambda line: figures.known_first(-line.gain.value))
        if swept:
            says = "keep their defaults" if kept else "leave their defaults"
            rows.append(group(f"{len(swept)} {says}: {words.REASONS.get(why, why)}", len(heads) + 1))
            rows += [row(named(line), _seen_cells(line), said=[0]) for line in swept]
    return table("Method", heads, rows, said=[0])


def _seen_cells(line: Line) -> list:
    """What a practitioner could measure of a method."""
    assert line.sweep is not None and line.rule is not None  # the line of a method that was swept
    find = lambda metric, split="": line.find(line.says, metric, split)
    one = line.sweep.told["cost"]["one_training"]
    cost = (find("grad_evals_forget").value + find("grad_evals_retain").value) / one if one else math.nan
    return [
        _setting(line.rule, "defaults"),
        f"{line.allowed} of {len(line.sweep.whole)}",
        "" if line.rule is line.usual else figure_cell(line.gain),
        figure_cell(find("heldout_accuracy_drop", "validation")),
        figure_cell(find("retained_accuracy_drop", "rest")),
        figure_cell(find("request_margin_gap", "forget")),
        number(cost),
        number(find("n_diverged").value, 0),
    ]


def _oracle(told: Sweeps, named: Callable) -> Table:
    """What no choice looked at: a line for each method."""
    rows = []
    for name, lines in figures.groups_of(told, lambda line: figures.known_first(line.distance(line.says).value)):
        rows.append(group(f"{len(lines)} {name}", len(ORACLE) + 1))
        rows += [row(named(line), _oracle_cells(line), said=[4]) for line in lines]
    return table("Method", ORACLE, rows, said=[4])


def _oracle_cells(line: Line) -> list:
    """What looks at the oracle."""
    assert line.best is not None  # where the oracle was looked at, it was for every sweep
    same = line.best is line.says
    best = "what the preset says" if same else _setting(line.best, "the defaults")
    return [
        figure_cell(line.distance(line.usual)),
        "the same" if line.kept else figure_cell(line.distance(line.says)),
        "" if line.kept else figure_cell(line.nearer),
        figure_cell(line.distance(line.best)),
        best + ("" if line.allowed else " (none is allowed)"),
        "0" if same else figure_cell(line.regret),
    ]


def _setting(entry: dict, usual: str) -> str:
    """A setting's name, with places to break it."""
    return entry["setting"].replace(",", ", ") or usual


def _rules(told: Sweeps) -> Table:
    """How every rule did over all sweeps."""
    rows = []
    for rule, own in told.rules.items():
        if rule in BESIDE and not any(one.kind == "group" for one in rows):
            rows.append(group("to measure the rules by", len(RULES) + 1))
        mean = figure_cell(own["regret"])
        largest = Td(number(own["largest"]), own["largest_of"])
        best = f"{own['best']:.3g} of {own['sweeps']}"
        name = BESIDE.get(rule, rule) + (" (asked for)" if rule == told.rule else "")
        rows.append(row(name, [mean, number(own["median"]), largest, best, Td(own["said"], kind="said names")]))
    return table("Rule", RULES, rows, said=[4])

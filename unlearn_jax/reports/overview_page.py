"""The page of sweeps of several methods: what its template shows, as plain values; the oracle's part is apart."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import partial
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


def render_sweeps(sweeps: Sweeps, out: Path) -> str:
    """The whole page as one HTML document, to be written to ``out``."""
    first, drawings, named = sweeps.sweeps[0].told, drawings_of(sweeps), partial(_named, sweeps, out)
    oracle = None
    if sweeps.oracle:
        label = "Residual distance by method and setting"
        oracle = {"figure": drawn(drawings["distances"], "distances", label), "table": _oracle(sweeps, named)}
    seen = drawn(drawings["seen"], "seen", "Gain and accuracy lost by method")
    config = {name: value for name, value in first["config"].items() if name != "methods"}
    return page(
        "sweeps.html",
        title=f"Hyperparameters of {len(sweeps.lines)} methods: {data_name(first['config']['dataset'])}",
        answer=words.headline(sweeps),
        unfinished=words.progress(sweeps),
        chosen_by=words.chosen_by(sweeps),
        afterwards=words.afterwards(sweeps),
        facts=facts(_facts(sweeps, first)),
        reasons=_reasons(sweeps, named),
        left_out=sweeps.told.get("left_out") or [],
        seen={"figure": seen, "table": _seen(sweeps, named)},
        oracle=oracle,
        rules=_rules(sweeps) if sweeps.rules else None,
        made=made(sweeps.told | {"notes": first.get("notes")}, config, Numbers=NUMBERS),
    )


def drawings_of(sweeps: Sweeps) -> dict[str, Callable]:
    """The figures by name, as functions of the width in inches."""
    drawings = {"distances": partial(figures.distances_figure, sweeps)} if sweeps.oracle else {}
    return drawings | {"seen": partial(figures.seen_figure, sweeps)}


def _facts(sweeps: Sweeps, first: dict) -> dict[str, Any]:
    """The setting of the sweeps; data and targets are those of the first one."""
    options, config, one = sweeps.told["asked"]["sweep"], first["config"], first["cost"]["one_training"]
    spent = sum(sweep.told["cost"]["grad_evals"] for sweep in sweeps.sweeps)
    drawn_by = f"{options['draws']} by {options['draw']}" if options["draws"] else options["draw"]
    return {
        "Data": data_name(config["dataset"]),
        "Methods": f"{len(sweeps.lines)}, {len(sweeps.swept)} swept",
        "Settings tried": sum(len(sweep.told["settings"]) for sweep in sweeps.sweeps),
        "Drawn": drawn_by + (", and the defaults" if options["defaults"] else ""),
        "Seeds": options["seeds"],
        "Targets": f"{number_told(config, first.get('target_counts'))} {config['targets']}".strip(),
        "Copies": first["copies"],
        "Requests": config["requests"] if config["requests"] > 1 else None,
        "Cost": f"as much as {spent / one:.0f} networks trained from scratch" if one else None,
    }


def _named(sweeps: Sweeps, out: Path, line: Line) -> Td:
    """A method's name, which links to its own page where that is there."""
    own = sweeps.path / line.name / "sweep.html"
    return Td(line.name, link=Path(os.path.relpath(own, out.parent)).as_posix() if own.is_file() else "")


def _reasons(sweeps: Sweeps, named: Callable) -> Table:
    """How many methods leave or keep their defaults for each reason, and which."""
    rows = []
    for kept, why, lines in words.reasons(sweeps):
        cells = [Td(words.REASONS.get(why, why), kind="said names"), Td(str(len(lines)))]
        cells.append(Td(kind="said names", parts=[named(line) for line in lines]))
        rows.append(row("the defaults" if kept else "the chosen setting", cells))
    return table("The file says", ["because", "methods", "which"], rows, said=[0, 2])


def _by_method(groups: figures.Groups, heads, cells: Callable, named: Callable, place: int) -> Table:
    """A line for each method, below the name of its group; the column at ``place`` is of words."""
    rows = []
    for name, lines in groups:
        rows.append(group(f"{len(lines)} {name}", len(heads) + 1))
        rows += [row(named(line), cells(line), said=[place]) for line in lines]
    return table("Method", heads, rows, said=[place])


def _seen(sweeps: Sweeps, named: Callable) -> Table:
    """What the choice rests on: a line for each method that was swept."""
    heads = [
        "the rule chose", "allowed", f"gain, {words.UNITS[sweeps.rule]}", "held-out accuracy lost, points",
        "retained accuracy lost, points", "request surer than expected, nats", "cost", "diverged",
    ]  # fmt: skip
    groups = []
    for kept, why, lines in words.reasons(sweeps):
        swept = sorted((line for line in lines if line.sweep), key=lambda line: figures.known_first(-line.gain.value))
        if swept:
            groups.append((f"{'keep' if kept else 'leave'} their defaults: {words.REASONS.get(why, why)}", swept))
    return _by_method(groups, heads, _seen_cells, named, 0)


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


def _oracle(sweeps: Sweeps, named: Callable) -> Table:
    groups = figures.groups_of(sweeps, lambda line: figures.known_first(line.distance(line.says).value))
    return _by_method(groups, ORACLE, _oracle_cells, named, 4)


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


def _rules(sweeps: Sweeps) -> Table:
    """How every rule did over all sweeps."""
    rows = []
    for rule, result in sweeps.rules.items():
        if rule in BESIDE and not any(one.kind == "group" for one in rows):
            rows.append(group("to measure the rules by", len(RULES) + 1))
        name = BESIDE.get(rule, rule) + (" (asked for)" if rule == sweeps.rule else "")
        largest, best = (
            Td(number(result["largest"]), result["largest_of"]),
            f"{result['best']:.3g} of {result['sweeps']}",
        )
        cells = [figure_cell(result["regret"]), number(result["median"]), largest, best]
        rows.append(row(name, [*cells, Td(result["said"], kind="said names")]))
    return table("Rule", RULES, rows, said=[4])

"""The page of a sweep: what its template shows, as plain values."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from unlearn_jax.evaluation.recorded import CHOICE, RECORDED, RESIDUAL
from unlearn_jax.reports import sweep_figures as figures
from unlearn_jax.reports.load import number_told
from unlearn_jax.reports.metric_rows import further
from unlearn_jax.reports.reading import Estimate
from unlearn_jax.reports.render import (
    Table,
    data_name,
    drawn,
    facts,
    figure_cell,
    inline,
    made,
    number,
    page,
    row,
    table,
)
from unlearn_jax.reports.sweep_load import UNCLEAR, Sweep
from unlearn_jax.reports.words import plain

SHOWN = 60  # settings of the table, best first
BLIND = tuple(row for row in RECORDED if row.group == CHOICE and row.title)
BY_ORACLE = tuple(row for row in RECORDED if row.group == RESIDUAL and row.title)


def render_sweep(sweep: Sweep, together: str = "") -> str:
    """The whole page as one HTML document; ``together`` = the address of the page of all methods swept with it."""
    manifest, one, drawings = sweep.told, sweep.told["cost"]["one_training"], drawings_of(sweep)
    return page(
        "sweep.html",
        title=f"Hyperparameters of {sweep.method}: {data_name(manifest['config']['dataset'])}",
        answer=headline(sweep),
        together=together,
        facts=facts(_facts(sweep)),
        choices=_choices(sweep),
        parallel=drawn(drawings.pop("parallel"), "parallel", "Settings over parallel axes"),
        surfaces=bool(figures.pairs_of(sweep)),
        responses=[drawn(draw, name, name.replace("response-", "Response to ")) for name, draw in drawings.items()],
        rungs=_rungs(sweep),
        spent=f"{manifest['cost']['grad_evals'] / one:.0f}",
        whole=f"{manifest['cost']['without_halving'] / one:.0f}",
        settings=_settings(sweep),
        more=len(sweep.whole) - SHOWN,
        made=made(manifest, manifest["config"], Axes=_axes(manifest["axes"])),
    )


def headline(sweep: Sweep) -> str:
    """What was chosen without the oracle, what that costs, and whether distances can be read."""
    unclear = f" {UNCLEAR}" if sweep.told.get("identifiable") is False else ""
    choice = sweep.told["choices"][sweep.rule]
    setting, settings = choice["setting"] or "the defaults", len(sweep.told["settings"])
    chosen = f"Of {settings} settings of {sweep.method}, {setting} is chosen without the oracle"
    if not choice["allowed"]:
        chosen += ", though none was allowed: it harms held-out accuracy least"
    if "regret" not in choice or not math.isfinite(choice["regret"]):
        return f"{chosen}.{unclear}"
    chosen += f", at a residual distance of {choice['distance']:.2f}"
    if choice["regret"] == 0:
        return f"{chosen}; the oracle would have chosen the same.{unclear}"
    regret = sweep.apart(choice["setting"], "regret")
    costs = plain(regret) if math.isfinite(regret.low) else f"{choice['regret']:.2f}"
    costs += ", not told from none" if regret.low <= 0 <= regret.high else ""
    best = f"{choice['best'] or 'the defaults'}, is at {choice['best_distance']:.2f}"
    return f"{chosen}. The best allowed one, {best}: not looking costs {costs}.{unclear}"


def drawings_of(sweep: Sweep) -> dict[str, Callable]:
    """The figures by name: all settings, then the response to each hyperparameter or pair."""
    drawings: dict[str, Callable] = {"parallel": partial(figures.parallel_figure, sweep)}
    for name in figures.curves_of(sweep):
        drawings[f"response-{name}"] = partial(figures.response_figure, sweep, name)
    for pair in figures.pairs_of(sweep):
        drawings[f"response-{'-'.join(pair)}"] = partial(figures.surface_figure, sweep, pair)
    return drawings


def _facts(sweep: Sweep) -> dict[str, Any]:
    """The setting of the sweep."""
    manifest, options = sweep.told, sweep.told["asked"]["sweep"]
    config, cost = manifest["config"], manifest["cost"]
    trainings = cost["grad_evals"] / cost["one_training"] if cost["one_training"] else math.nan
    return {
        "Data": data_name(config["dataset"]),
        "Method": sweep.method,
        "Settings": f"{len(manifest['settings'])}"
        + (f", {len(sweep.whole)} whole" if len(manifest["rungs"]) > 1 else ""),
        "Seeds": options["seeds"],
        "Drawn": options["draw"],
        "Targets": f"{number_told(config, manifest.get('target_counts'))} {config['targets']}".strip(),
        "Copies": manifest["copies"],
        "Requests": config["requests"] if config["requests"] > 1 else None,
        "Cost": f"as much as {trainings:.0f} networks trained from scratch",
    }


def _choices(sweep: Sweep) -> Table:
    """A row for each rule."""
    rows, oracle = [], any("distance" in choice for choice in sweep.told["choices"].values())
    for rule, choice in sweep.told["choices"].items():
        cells = [choice["setting"] or "defaults", f"{choice['allowed']} of {choice['candidates']}"]
        if oracle:
            regret = sweep.apart(choice["setting"], "regret") if choice.get("regret") else (math.nan,) * 3
            cells.append(figure_cell(sweep.find(choice["setting"], "residual_distance", "forget")))
            cells.append(figure_cell(regret, missing=number(choice.get("regret"))))
        mark = " (the preset)" if rule == sweep.rule else ""
        line = row(rule + mark, [*cells, choice["said"]])
        line.cells[-1] = line.cells[-1]._replace(kind="said names")
        rows.append(line)
    heads = ["setting", "allowed", *(["residual distance", "regret"] if oracle else []), "takes"]
    return table("Rule", heads, rows, said=[len(heads) - 1])


def _rungs(sweep: Sweep) -> Table:
    """What every rung ran, kept and cost."""
    one, rows = sweep.told["cost"]["one_training"], []
    for place, rung in enumerate(sweep.told["rungs"], 1):
        cells = [f"{rung['share']:.3g}", len(rung["run"]), len(rung["kept"]), f"{rung['cost'] / one:.1f}"]
        rows.append(row(str(place), cells))
    return table("Rung", ["share of the length", "settings", "kept", "cost, networks trained from scratch"], rows)


def _settings(sweep: Sweep) -> Table:
    """Figures of the settings, best first."""
    order = lambda one: (not one["allowed"], one["score"] if one["score"] is not None else math.inf)
    ranked = sorted(sweep.whole, key=order)
    estimates = {column: [_figure(sweep, one["setting"], column) for one in ranked] for column in _columns(sweep)}
    shown = [column for column, cells in estimates.items() if any(math.isfinite(cell.value) for cell in cells)]
    rows = []
    for place, one in enumerate(ranked[:SHOWN]):
        figures_of = [figure_cell(estimates[column][place], column.digits) for column in shown]
        allowed = "yes" if one["allowed"] else "no"
        rows.append(row(one["setting"] or "defaults", [allowed, number(one["score"]), *figures_of]))
    return table("Setting", ["allowed", f"score by {sweep.rule}", *(column.heading for column in shown)], rows)


class Column(NamedTuple):
    """A figure of the settings."""

    where: tuple[str, str, str, str | None]  # metric, split, variant, reference
    heading: str
    digits: int = 2
    scale: float = 1.0


def _columns(sweep: Sweep) -> list[Column]:
    """What is told of a setting: without the oracle, by the oracle, and what was asked for."""
    columns = [Column((row.metric, row.split, row.variant, None), row.title) for row in BLIND]
    columns += [Column((row.metric, row.split, row.variant, None), f"{row.title} (oracle)") for row in BY_ORACLE]
    for one, (metric, variant, split, reference) in further(key[1:] for key in sweep.figures):
        heading = one.name + (f" ({reference})" if reference else "")
        columns.append(Column((metric, split, variant, reference), heading, one.digits, one.scale))
    return columns


def _figure(sweep: Sweep, setting: str, column: Column) -> Estimate:
    estimate = sweep.find(setting, *column.where)
    return Estimate(*(column.scale * value for value in estimate[:3]), n=estimate.n)


def _axes(axes: list[dict]) -> str:
    """What was swept, in one line."""
    span = lambda a: f"{'log' if a['log'] else 'lin'} {a['low']:g} to {a['high']:g}"
    return inline({axis["name"]: axis["values"] or span(axis) for axis in axes})

"""What kind of run a folder holds, and every figure of it by name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from unlearn_jax.errors import InputError
from unlearn_jax.reports import (
    audit_page,
    check_page,
    figures,
    influence_figures,
    neighbours_page,
    overview_page,
    sweep_figures,
)
from unlearn_jax.reports.audit_load import read_audit
from unlearn_jax.reports.frontier_figure import frontier_figure, plotted
from unlearn_jax.reports.influence_load import read_attribution
from unlearn_jax.reports.load import Run, read_run
from unlearn_jax.reports.neighbours_load import read_search
from unlearn_jax.reports.overview_load import read_sweeps
from unlearn_jax.reports.page import MAX_PANELS, drawn_methods
from unlearn_jax.reports.summary import Summary
from unlearn_jax.reports.sweep_load import read_sweep
from unlearn_jax.runtime.archives import read_json

KINDS = {  # -> what it is called, the script that wrote it
    "study": ("a study", "unlearn-jax study"),
    "sweep": ("a sweep", "unlearn-jax sweep"),
    "sweeps": ("a folder of sweeps", "unlearn-jax sweep"),
    "check": ("a check of presets", "unlearn-jax check-presets"),
    "audit": ("an audit", "unlearn-jax audit"),
    "influence": ("an attribution study", "unlearn-jax influence"),
    "neighbours": ("a search for similar samples", "unlearn-jax neighbours"),
}
MARKS = {
    "sweep.json": "sweep", "sweeps.json": "sweeps", "check.json": "check", "audit.json": "audit",
    "neighbours.json": "neighbours",
}  # fmt: skip
INFLUENCE = {
    "removal": influence_figures.removal_figure,
    "lds": influence_figures.score_figure,
    "memorization": influence_figures.memory_figure,
    "law": influence_figures.law_figure,
}
Drawings = dict[str, Callable]  # name -> function of the width in inches


def kind_of_run(folder: Path) -> str:
    """A key of `KINDS`; study where nothing says otherwise, whose reader then says what is missing."""
    for name, kind in MARKS.items():
        if (folder / name).is_file():
            return kind
    try:
        manifest = read_json(folder / "manifest.json")
    except (OSError, ValueError):
        return "study"
    return "influence" if isinstance(manifest, dict) and manifest.get("kind") == "attribution" else "study"


def drawings(folder: Path, level: int | None = None) -> Drawings:
    """Every figure of a run by name, the first one the main figure.

    Raises:
        InputError: the run is missing or damaged, or a study without that copies level.
    """
    kind = kind_of_run(folder)
    if kind == "study":
        run = read_run(folder)
        return _of_study(run, level_of(run.summary, level, folder)) | _of_its_audit(folder)
    if kind == "sweeps":
        return overview_page.drawings_of(read_sweeps(folder))
    if kind == "audit":
        return _of_audit(folder)
    if kind == "influence":
        attribution = read_attribution(folder)
        return {name: functools.partial(draw, attribution) for name, draw in INFLUENCE.items()}
    if kind == "neighbours":
        search = read_search(folder)
        both = {"nearest": neighbours_page.nearest_figure, "sizes": neighbours_page.sizes_figure}
        return {name: functools.partial(draw, search) for name, draw in both.items()}
    if kind == "check":
        return {"changes": functools.partial(check_page.changes_figure, check_page.read_check(folder))}
    return _of_sweep(folder)


def level_of(summary: Summary, level: int | None, folder: Path) -> int:
    """The copies level asked for, the last one where none is; raises `InputError` where the run has no such level."""
    if level is None:
        return summary.levels[-1]
    if level not in summary.levels:
        held = ", ".join(map(str, summary.levels))
        raise InputError(f"{folder} has no level of {level} copies: choose among {held}.")
    return level


def _of_study(run: Run, level: int) -> Drawings:
    """Those of the report."""
    summary = run.summary
    mine = drawn_methods(run, level)
    found: Drawings = {"main": lambda width: figures.main_figure(summary, width)}
    if level in summary.shares:
        found["gamma"] = lambda width: figures.gamma_figure(summary, level, summary.shares[level], width)
    if len(summary.levels) > 1 and mine:
        found["methods"] = lambda width: figures.methods_figure(summary, mine[:MAX_PANELS], width)
    if any(plotted(summary, level, e) for e in mine):
        found["frontier"] = lambda width: frontier_figure(summary, level, width)
    found["forest"] = lambda width: figures.forest_figure(summary, level, width)
    if run.margins:
        found["margins"] = lambda width: figures.margins_figure(run.margins, width)
    return found


def _of_its_audit(folder: Path) -> Drawings:
    """Those of a study's audit, where it has a whole one."""
    try:
        return _of_audit(folder / "audit") if (folder / "audit" / "audit.json").is_file() else {}
    except InputError:
        return {}


def _of_audit(folder: Path) -> Drawings:
    """Those of an audit that it has data for."""
    audit = read_audit(folder)
    return {name: functools.partial(draw, audit) for name, _, draw, *_ in audit_page.DRAWINGS}


def _of_sweep(folder: Path) -> Drawings:
    """Those of a sweep: all settings, then the response to each hyperparameter or pair."""
    sweep = read_sweep(folder)
    found: Drawings = {"parallel": lambda width: sweep_figures.parallel_figure(sweep, width)}
    for name in sweep_figures.curves_of(sweep):
        found[f"response-{name}"] = lambda width, name=name: sweep_figures.response_figure(sweep, name, width)
    for pair in sweep_figures.pairs_of(sweep):
        found[f"response-{'-'.join(pair)}"] = lambda width, pair=pair: sweep_figures.surface_figure(sweep, pair, width)
    return found

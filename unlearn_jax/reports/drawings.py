"""What kinds of runs there are: how each is recognised, read, drawn and put on a page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from unlearn_jax.errors import InputError
from unlearn_jax.reports import (
    audit_page,
    check_page,
    influence_page,
    neighbours_page,
    overview_page,
    page,
    released_page,
    sweep_page,
)
from unlearn_jax.reports.audit_load import read_audit
from unlearn_jax.reports.influence_load import read_attribution
from unlearn_jax.reports.load import read_run
from unlearn_jax.reports.overview_load import read_sweeps
from unlearn_jax.reports.summary import Summary
from unlearn_jax.reports.sweep_load import read_sweep
from unlearn_jax.runtime.archives import read_json


class Kind(NamedTuple):
    """A kind of run; `drawings` gives every figure by name, `render` the page, both of what was read."""

    called: str
    command: str
    mark: str  # a file that others do not have
    read: Callable
    drawings: Callable
    render: Callable


KINDS = {
    "sweep": Kind("a sweep", "unlearn-jax sweep", "sweep.json", read_sweep, sweep_page.drawings_of,
                  sweep_page.render_sweep),
    "sweeps": Kind("a folder of sweeps", "unlearn-jax sweep", "sweeps.json", read_sweeps, overview_page.drawings_of,
                   overview_page.render_sweeps),
    "check": Kind("a check of presets", "unlearn-jax check-presets", "check.json", check_page.read_check,
                  check_page.drawings_of, check_page.render_check),
    "audit": Kind("an audit", "unlearn-jax audit", "audit.json", read_audit, audit_page.drawings_of,
                  audit_page.render_audit),
    "released": Kind("an audit of released logs", "unlearn-jax audit", "released.json", released_page.read_released,
                     released_page.drawings_of, released_page.render_released),
    "neighbours": Kind("a search for similar samples", "unlearn-jax neighbours", "neighbours.json",
                       neighbours_page.read_search, neighbours_page.drawings_of, neighbours_page.render_search),
    "influence": Kind("an attribution study", "unlearn-jax influence", "", read_attribution,
                      influence_page.drawings_of, influence_page.render_attribution),
    "study": Kind("a study", "unlearn-jax study", "", read_run, page.drawings_of, page.render),
}  # fmt: skip


def kind_of_run(folder: Path) -> str:
    """A key of `KINDS`; study where nothing says otherwise, whose reader then says what is missing."""
    for name, kind in KINDS.items():
        if kind.mark and (folder / kind.mark).is_file():
            return name
    try:
        manifest = read_json(folder / "manifest.json")
    except (OSError, ValueError):
        return "study"
    return "influence" if isinstance(manifest, dict) and manifest.get("kind") == "attribution" else "study"


def drawings(folder: Path, level: int | None = None) -> dict[str, Callable]:
    """Every figure of a run by name, as functions of the width in inches, the first one the main figure.

    Raises:
        InputError: the run is missing or damaged, or a study without that copies level.
    """
    kind = kind_of_run(folder)
    run = KINDS[kind].read(folder)
    if kind != "study":
        return KINDS[kind].drawings(run)
    try:
        audit = audit_page.drawings_of(read_audit(folder / "audit")) if (folder / "audit/audit.json").is_file() else {}
    except InputError:  # of a damaged audit
        audit = {}
    return page.drawings_of(run, level_of(run.summary, level, folder)) | audit


def level_of(summary: Summary, level: int | None, folder: Path) -> int:
    """The copies level asked for, the last one where none is; raises `InputError` where the run has no such level."""
    if level is not None and level not in summary.levels:
        levels = ", ".join(map(str, summary.levels))
        raise InputError(f"{folder} has no level of {level} copies: choose among {levels}.")
    return summary.levels[-1] if level is None else level

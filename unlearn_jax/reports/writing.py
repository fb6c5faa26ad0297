"""What report.py writes: pages, single figures and tables, each whole or not at all.

Every function raises `InputError` where a run is missing, half-written or damaged, or where the file cannot be written;
an older file then stays as it was.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from unlearn_jax.errors import InputError, choose
from unlearn_jax.reports import columns as figures_of
from unlearn_jax.reports import paper, tables
from unlearn_jax.reports.compare_load import only_studies, read_comparison
from unlearn_jax.reports.compare_page import drawings_together, render_comparison
from unlearn_jax.reports.drawings import KINDS, drawings
from unlearn_jax.reports.overview_load import read_sweeps
from unlearn_jax.reports.overview_page import render_sweeps
from unlearn_jax.reports.render import command_of
from unlearn_jax.reports.sweep_page import render_sweep
from unlearn_jax.runtime import signals

TOGETHER = "../sweeps.html"  # from the page of a method to that of all that were swept with it


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write the page of a run, of an unfinished one what is done, and return its path (``run/report.html`` by default).

    The page of its audit is drawn too, where it has one.
    """
    run = Path(run)
    loaded = KINDS["study"].read(run)
    if (run / "audit" / "audit.json").is_file():
        with contextlib.suppress(InputError):  # of a damaged audit; the page says so
            write_audit_page(run / "audit")
    return _write(KINDS["study"].render(loaded), out, run / "report.html")


def write_audit_page(folder: Path, run: Path | None = None) -> Path:
    """Write the page of an audit beside its folder, as ``FOLDER.html``, and return its path.

    Where ``run`` is the study's run folder and has a report, that is drawn again, to link to this page.
    """
    folder = Path(folder) if Path(folder).name else Path(folder).resolve()
    report = "report.html" if (folder.parent / "report.html").is_file() else ""
    out = _page("audit", folder, folder.parent / f"{folder.name}.html", report)
    if run is not None and (Path(run) / "report.html").is_file():
        _page("study", run, Path(run) / "report.html")
    return out


def write_influence_page(run: Path, out: Path | None = None) -> Path:
    """Write the page of an attribution study and return its path (``run/influence.html`` by default)."""
    return _page("influence", run, out)


def write_neighbours_page(folder: Path, out: Path | None = None) -> Path:
    """Write the page of a search for similar samples and return its path (``folder/neighbours.html`` by default)."""
    return _page("neighbours", folder, out)


def write_released_page(folder: Path, out: Path | None = None) -> Path:
    """Write the page of an audit of released logs and return its path (``folder/released.html`` by default)."""
    return _page("released", folder, out)


def write_sweep_page(folder: Path, out: Path | None = None) -> Path:
    """Write the page of a sweep and return its path (``folder/sweep.html`` by default)."""
    return _page("sweep", folder, out, TOGETHER if not out and (Path(folder) / TOGETHER).is_file() else "")


def write_sweeps_page(folder: Path, out: Path | None = None) -> Path:
    """Write the page of sweeps of several methods and return its path (``folder/sweeps.html`` by default).

    Without ``out`` the page of each method is drawn too, ``folder/METHOD/sweep.html``, unless there is one as new as
    its sweep. Of an unfinished run the page shows the sweeps that are done.
    """
    folder = Path(folder)
    sweeps, page = read_sweeps(folder), Path(out) if out else folder / "sweeps.html"
    for sweep in () if out else sweeps.sweeps:
        single, written = sweep.path / "sweep.html", sweep.path / "sweep.json"
        if not single.is_file() or single.stat().st_mtime < written.stat().st_mtime:
            _write(render_sweep(sweep, TOGETHER), None, single)
    return _write(render_sweeps(sweeps, page), None, page)


def write_check_page(folder: Path, out: Path | None = None) -> Path:
    """Write the page of a check of presets and return its path (``folder/check.html`` by default)."""
    return _page("check", folder, out)


def write_comparison(runs: list[Path], out: Path | None = None, level: int | None = None) -> Path:
    """Write the page that compares studies and return its path (``compare.html`` by default).

    Args:
        runs: two or more folders that unlearn-jax study wrote.
        out: where to write the page.
        level: copies of the figures that show one level; None = the largest that all have, else each run's last.
    """
    page = render_comparison(read_comparison([Path(run) for run in runs], level))
    return _write(page, out, Path("compare.html"))


def _page(kind: str, folder: Path, out: Path | None, *links: str) -> Path:
    """Write the page of a folder, by default into it, and return its path; ``links``: to other pages."""
    page = KINDS[kind].render(KINDS[kind].read(Path(folder)), *links)
    return _write(page, out, Path(folder) / f"{kind}.html")


def _write(page: str, out: Path | None, usual: Path) -> Path:
    """Write a page, where nothing else is asked for at its usual place."""
    return replace(Path(out) if out else usual, lambda file: file.write(page.encode("utf-8")))


def save_figure(
    run: Path | list[Path],
    out: Path,
    which: str = "",
    width: str = "double",
    theme: str = "light",
    letters: float = 8.0,
    outlines: bool = False,
    level: int | None = None,
) -> Path:
    """Save one figure of a run alone, true to size, and return its path.

    Args:
        run: folder of a study, an audit, a sweep, sweeps, a check of presets, an attribution study or a search; several
            of studies for the figures of their comparison, ``references`` and ``distances``.
        out: file that ends in .pdf, .svg or .png (300 dots an inch).
        which: name of the figure; '' = the one that the file is named after, else the main one.
        width: single, text, double, page, or a length such as 3.25in or 8.2cm.
        theme: light or dark paper.
        letters: their size in points, 7 to 9.
        outlines: letters of an SVG as shapes in place of text with its font.
        level: copies, of the figures that show one level; None = the last.

    Raises:
        InputError: a missing or damaged run, no such figure, or one of the others cannot be followed.
    """
    out, runs = Path(out), run if isinstance(run, list) else [run]
    kind, inches, look = paper.kind_of_file(out), paper.inches(width), paper.look_of(theme, letters)
    figures = drawings_together(read_comparison(runs, level)) if len(runs) > 1 else drawings(Path(runs[0]), level)
    which = which or (out.stem if out.stem in figures else next(iter(figures)))
    drawn = paper.drawn(figures[choose("figure of this run", which, figures)], kind, inches, look, outlines)
    if drawn is None:
        raise InputError(f"there is nothing to draw as '{which}' here: choose one of {', '.join(figures)}.")
    return replace(out, lambda file: file.write(drawn))


def table_text(runs: list[Path], kind: str, columns: str = "", levels: str = "", methods: str = "") -> str:
    """The summary table of studies as latex, csv or markdown.

    Args:
        runs: folders that unlearn-jax study wrote.
        kind: latex, csv or markdown.
        columns: names with commas (`reporting.columns.COLUMNS`); '' = the usual ones.
        levels: numbers of copies with commas, or all; '' = each run's last.
        methods: names of methods and references with commas; '' = everything.

    Raises:
        InputError: no study, or a name that is not known.
    """
    choose("table", kind, tables.FORMATS)
    for run in runs:
        only_studies(Path(run), "made a table of")
    named = figures_of.read_named([Path(run) for run in runs])
    chosen = figures_of.columns_of(columns)
    lines = figures_of.lines_of(named, chosen, figures_of.levels_of(levels, named), methods)
    commands = {one.name: command_of(one.run.manifest) for one in named}
    commands = {name: command for name, command in commands.items() if command}
    if kind == "csv":
        return tables.as_csv(lines, chosen)
    if kind == "markdown":
        return tables.as_markdown(lines, chosen, commands)
    return tables.as_latex(lines, chosen, commands, named[0].name)


def replace(out: Path, write: Callable) -> Path:
    """Write through a temporary file beside ``out``, so that nothing half-written is ever seen there."""
    signals.look()
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=out.parent, prefix=f".{out.name}.", delete=False) as file:
            temporary = Path(file.name)
            write(file)
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, out)
    except OSError as error:
        raise InputError(f"cannot write {out} ({error.strerror}): choose a writable place for it.") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return out

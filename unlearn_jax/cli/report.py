"""Draw the report of a run, one self-contained page; compare runs; tables and figures for papers.

    unlearn-jax report runs/NAME                                       # its page, runs/NAME/report.html
    unlearn-jax report runs/A runs/B --out compare.html                # side by side: what differs, one table
    unlearn-jax report runs/NAME --table latex --columns distance,cost # its table; or markdown, csv
    unlearn-jax report runs/NAME --figure frontier.pdf --width single  # a figure of 3.25 inches

Of an unfinished run the page shows the levels that are done, and says how far it is. Where the run was audited, the
page of the audit is drawn too, RUN/audit.html; of sweeps of several methods the page of each, RUN/METHOD/sweep.html.

Cost: seconds, no accelerator. Nothing is trained or measured here: every number comes from the run folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from unlearn_jax.cli.common import command, print_json
from unlearn_jax.errors import InputError
from unlearn_jax.reports.drawings import kind_of_run
from unlearn_jax.reports.load import progress, read_manifest
from unlearn_jax.reports.overview_load import progress as sweeps_so_far
from unlearn_jax.reports.writing import (
    replace,
    save_figure,
    table_text,
    write_audit_page,
    write_check_page,
    write_comparison,
    write_influence_page,
    write_neighbours_page,
    write_report,
    write_sweep_page,
    write_sweeps_page,
)


@dataclass(frozen=True)
class Args:
    """Draw the report of a run, compare several, or take out a table or a figure."""

    runs: Annotated[list[Path], tyro.conf.Positional]
    """folders that the scripts wrote; several studies are compared"""
    out: Path | None = None
    """where to write the page (RUN/report.html; compare.html) or the table (printed)"""
    table: str = ""
    """the summary table alone: latex (needs booktabs), csv (full precision) or markdown"""
    columns: str = ""
    """of the table, with commas: residual, distance, price_test, price_rest, price_similar, cost, rank, frontier,
    accuracy_forget, accuracy_similar, accuracy_rest, accuracy_test, seconds, diverged; empty = residual, distance,
    price_test, price_rest and cost"""
    levels: str = ""
    """numbers of copies with commas, or all; of a figure or a comparison one number; empty = the last"""
    methods: str = ""
    """of the table, with commas: methods and references (references = all of these); empty = everything"""
    figure: Path | None = None
    """one figure alone, in this .pdf, .svg or .png file"""
    which: str = ""
    """name of the figure, such as main, frontier, forest, methods, margins, gamma, of the audit roc, klom, of several
    runs references, distances, of several sweeps distances, seen; empty = the one that the file is named after, else
    the first"""
    width: str = "double"
    """of the figure: single (3.25 inches), text (5.5), double (6.75), page (9.4), or a length such as 3.5in or 8.2cm"""
    theme: str = "light"
    """of the figure: light or dark paper"""
    letters: float = 8.0
    """size of the figure's letters in points, 7 to 9"""
    outlines: bool = False
    """letters of an SVG as shapes, in place of text with its font"""
    json: bool = False
    """print one JSON object instead of the lines: what was written, and how far unfinished runs are"""


def run(args: Args) -> None:
    """Write what is asked for, and say where it is."""
    _check(args)
    if args.table:
        text = table_text(args.runs, args.table, args.columns, args.levels, args.methods)
        if args.out is None:
            print(text.rstrip("\n"))
        else:
            say(args, replace(args.out, lambda file: file.write(text.encode("utf-8"))), [])
        return
    level = _one_level(args.levels)
    if args.figure:
        how = (args.which, args.width, args.theme, args.letters, args.outlines, level)
        say(args, save_figure(args.runs, args.figure, *how), args.runs)
        return
    if len(args.runs) > 1:
        say(args, write_comparison(args.runs, args.out, level), args.runs)
        return
    say(args, PAGES[kind_of_run(args.runs[0])](args.runs[0], args.out), args.runs)


def say(args: Args, written: Path, runs: list[Path]) -> None:
    """Say how far unfinished studies and sweeps are, and what was written."""
    far = {"study": lambda run: progress(read_manifest(run)), "sweeps": sweeps_so_far}
    states = [far[kind](run) for run in runs if (kind := kind_of_run(run)) in far]
    if args.json:
        print_json({"written": written, "unfinished": [one for one in states if one]})
    else:
        print("\n".join([*filter(None, states), str(written)]))


def _check(args: Args) -> None:
    """Refuse what would be passed over in silence."""
    usual = Args(runs=[])
    if not args.runs:
        raise InputError("no run is given: name one or more folders that the scripts wrote.")
    if args.figure and (args.table or args.out):
        other = "table" if args.table else "out"
        raise InputError(f"--figure and --{other} are both given: ask for one of them at a time.")
    if not args.table and (args.columns or args.methods):
        raise InputError("--columns and --methods are of a table: add --table latex, csv or markdown.")
    drawn = ("which", "width", "theme", "letters", "outlines")
    if not args.figure and (options := [name for name in drawn if getattr(args, name) != getattr(usual, name)]):
        raise InputError(f"--{options[0]} is of a figure: add --figure FILE.pdf, .svg or .png.")
    if args.json and args.table and args.out is None:
        raise InputError("--json says where a file is, and the table is printed: add --out FILE, or take --table csv.")
    if args.levels and len(args.runs) == 1 and not (args.table or args.figure):
        raise InputError("--levels is of tables, figures and comparisons: the page of a run shows all of its levels.")


def _one_level(words: str) -> int | None:
    """The level of a figure; None where none is named."""
    if words.strip() and not words.strip().isdigit():
        raise InputError(f"--levels '{words}' is not one number: a figure or a comparison is at one number of copies.")
    return int(words) if words.strip() else None


def _page_of_audit(folder: Path, out: Path | None) -> Path:
    """The page of an audit lies beside its folder, where the report links to it."""
    if out is not None:
        raise InputError("the page of an audit lies beside its folder: leave out --out.")
    return write_audit_page(folder)


PAGES = {
    "study": write_report,
    "sweep": write_sweep_page,
    "sweeps": write_sweeps_page,
    "check": write_check_page,
    "audit": _page_of_audit,
    "influence": write_influence_page,
    "neighbours": write_neighbours_page,
}


main = command(Args, __doc__, run)

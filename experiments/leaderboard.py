"""The leaderboard: rows of real runs in one file, and a page of them.

    python experiments/leaderboard.py add runs/far                   # appends or renews the rows of a study
    python experiments/leaderboard.py add runs/tuned --settings "chosen without the oracle on other targets"
    python experiments/leaderboard.py page                           # writes docs/leaderboard/index.html

Rows come from complete studies whose command, versions and device are recorded; levels that are not identifiable are
left out. A row of the same study, level, population and settings takes the older one's place. The commands that rows
carry say nothing of where things lie.

Cost: seconds, no accelerator. Nothing is trained or measured here.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parent))

import tyro

from unlearn_jax.cli.common import guarded, json_of, parsed
from unlearn_jax.errors import InputError
from unlearn_jax.reports.board_page import render_board
from unlearn_jax.reports.board_rows import added, read_rows, rows_of_run, written
from unlearn_jax.reports.columns import read_named
from unlearn_jax.reports.compare_load import only_studies
from unlearn_jax.reports.writing import replace

DATA = Path(__file__).resolve().parents[1] / "docs" / "leaderboard" / "results.csv"


@dataclass(frozen=True)
class Add:
    """Add the rows of studies, or renew them."""

    runs: Annotated[list[Path], tyro.conf.Positional]
    """folders that experiments/study.py wrote"""
    levels: str = ""
    """numbers of copies with commas, or all; empty = each run's last"""
    settings: str = ""
    """how settings that --hp gave were chosen, such as: without the oracle, on other targets"""
    data: Path = DATA
    """the file of rows"""
    json: bool = False
    """print one JSON object instead of the lines: the file, and by run how many rows were added, renewed and kept"""


@dataclass(frozen=True)
class Page:
    """Write the page of all rows."""

    data: Path = DATA
    """the file of rows"""
    out: Path | None = None
    """where to write the page; default index.html beside the file"""
    json: bool = False
    """print one JSON object instead of the line: where the page is"""


def add(args: Add) -> str:
    """Add the rows of runs to the file and return what to print."""
    if not args.runs:
        raise InputError("no run is given: name one or more folders that experiments/study.py wrote.")
    for run in args.runs:
        only_studies(run, "added")
    rows, counts = read_rows(args.data), {}
    for run in args.runs:
        done = added(rows, rows_of_run(read_named([run])[0], args.levels, args.settings))
        rows = done.rows
        counts[str(run)] = {"added": done.new, "renewed": done.renewed, "kept": done.kept}
    _make_folder(args.data.parent)
    replace(args.data, lambda file: file.write(written(rows).encode("utf-8")))
    if args.json:
        return json_of({"data": args.data, "runs": counts})
    lines = []
    for run, count in counts.items():
        kept = f", {count['kept']} left as they are, which were made later" if count["kept"] else ""
        lines.append(f"{run}: {count['added']} rows added, {count['renewed']} renewed{kept}")
    return "\n".join([*lines, str(args.data)])


def page(args: Page) -> str:
    """Write the page and return what to print."""
    if not args.data.is_file():
        raise InputError(f"there are no rows at {args.data}: experiments/leaderboard.py add RUN makes them.")
    text = render_board(read_rows(args.data))
    written = replace(args.out or args.data.parent / "index.html", lambda file: file.write(text.encode("utf-8")))
    return json_of({"page": written}) if args.json else str(written)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make {folder} ({error.strerror}): choose a writable place with --data.") from error


Command = Annotated[Add, tyro.conf.subcommand("add")] | Annotated[Page, tyro.conf.subcommand("page")]

if __name__ == "__main__":
    asked = parsed(Command, __doc__)
    sys.exit(guarded(lambda: print(add(asked) if isinstance(asked, Add) else page(asked))))

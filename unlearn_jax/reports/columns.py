"""The figures that tables are made of: columns by name, and a line for each run, level and population."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

from unlearn_jax.errors import InputError, choose
from unlearn_jax.reports.load import Run, read_run
from unlearn_jax.reports.summary import REFERENCES, Cell, Entry, Summary
from unlearn_jax.reports.words import CONTROLS


class Column(NamedTuple):
    """One figure: what it is called, where it is found, and how it is shown."""

    heading: str
    metric: str
    split: str = ""
    reference: str = ""
    digits: int | None = 2  # None = two significant ones
    scale: float = 1.0
    interval: bool = True
    ranked: bool = False  # whether the smallest is the best, so that it may be set in bold


COLUMNS = {
    "residual": Column("Residual", "residual_influence", "forget", "oracle"),
    "distance": Column("Distance", "residual_distance", "forget", "oracle", ranked=True),
    "price_test": Column("Price, test", "price_accuracy", "test", "oracle", 1),
    "price_rest": Column("Price, rest", "price_accuracy", "rest", "oracle", 1),
    "price_similar": Column("Price, similar", "price_accuracy", "similar", "oracle", 1),
    "cost": Column("Cost", "cost_share", digits=None, interval=False),
    "rank": Column("Rank", "distance_rank", "forget", "oracle", 0),
    "frontier": Column("On the frontier, %", "frontier_share", "", "oracle", 0, 100.0, False),
    "accuracy_forget": Column("Accuracy, forget", "accuracy", "forget", "", 1, 100.0),
    "accuracy_similar": Column("Accuracy, similar", "accuracy", "similar", "", 1, 100.0),
    "accuracy_rest": Column("Accuracy, rest", "accuracy", "rest", "", 1, 100.0),
    "accuracy_test": Column("Accuracy, test", "accuracy", "test", "", 1, 100.0),
    "seconds": Column("Seconds", "seconds", digits=None, interval=False),
    "diverged": Column("Diverged", "n_diverged", digits=0, interval=False),
}
USUAL = ("residual", "distance", "price_test", "price_rest", "cost")


class Named(NamedTuple):
    """A run and what it is called beside others."""

    name: str
    run: Run


class Line(NamedTuple):
    """One population of one run at one level."""

    run: Named
    level: int
    entry: Entry
    cells: tuple[Cell, ...]  # in the order of the columns, in their units

    @property
    def summary(self) -> Summary:
        """The run's figures."""
        return self.run.run.summary

    @property
    def label(self) -> str:
        """The population's name, with what sets it apart from methods of practice."""
        kinds = [self.entry.kind, "wrecked" * self.summary.wrecked(self.level, self.entry)]
        kind = ", ".join(filter(None, kinds))
        return self.summary.label(self.entry) + (f" ({kind})" if kind else "")

    @property
    def diverged(self) -> float:
        """Members that diverged, 0 where that was not recorded."""
        lost = self.summary.find(self.level, self.entry, "n_diverged").mean
        return 0.0 if math.isnan(lost) else lost


def read_named(folders: list[Path]) -> list[Named]:
    """The runs with the shortest names that tell them apart: the last parts of their paths.

    Raises:
        InputError: a folder given twice, or one that `read_run` refuses.
    """
    places = [folder.resolve() for folder in folders]
    if len(set(places)) < len(places):
        twice = next(f for f, place in zip(folders, places) if places.count(place) > 1)
        raise InputError(f"{twice} is given twice: name every run once.")
    parts = 1
    while len({place.parts[-parts:] for place in places}) < len(places):
        parts += 1
    return [Named("/".join(place.parts[-parts:]), read_run(folder)) for folder, place in zip(folders, places)]


def columns_of(words: str) -> dict[str, Column]:
    """Columns by name, the usual ones where none is named; raises `InputError` at an unknown one."""
    names = [word.strip() for word in words.split(",") if word.strip()] or USUAL
    return {name: COLUMNS[choose("column", name, COLUMNS)] for name in names}


def levels_of(words: str, runs: list[Named]) -> dict[str, list[int]]:
    """Copies levels by run: those named, of which each run has what it has; ``all``; where none is named, the last.

    Raises:
        InputError: no number, or a level that no run has.
    """
    if not words.strip():
        return {one.name: [one.run.summary.levels[-1]] for one in runs}
    held = sorted({level for one in runs for level in one.run.summary.levels})
    wanted = held
    if words.strip() != "all":
        try:
            wanted = [int(word) for word in words.split(",") if word.strip()]
        except ValueError:
            raise InputError(f"--levels '{words}' is not understood: give numbers of copies, or all.") from None
        if missing := [level for level in wanted if level not in held]:
            raise InputError(f"no run has a level of {missing[0]} copies: choose among {', '.join(map(str, held))}.")
    return {one.name: [level for level in wanted if level in one.run.summary.levels] for one in runs}


def lines_of(runs: list[Named], columns: dict[str, Column], levels: dict[str, list[int]], methods: str) -> list[Line]:
    """Lines by run and level, ascending in residual distance.

    Args:
        runs: what is told of.
        columns: figures of each line.
        levels: by the name of a run.
        methods: names with commas, references among them where they are wanted, ``references`` for all of these;
            empty = everything.

    Raises:
        InputError: a name that no run has at these levels.
    """
    lines = [
        Line(one, level, entry, tuple(_cell(one.run.summary, level, entry, column) for column in columns.values()))
        for one in runs
        for level in levels[one.name]
        for entry in one.run.summary.entries(level)
    ]
    if not methods.strip():
        return lines
    wanted = [word.strip() for word in methods.split(",") if word.strip()]
    known = {line.entry.method for line in lines} | {"references"}
    for word in wanted:
        choose("method of these runs", word, known)
    wanted += REFERENCES if "references" in wanted else ()
    return [line for line in lines if line.entry.method in wanted]


def _cell(summary: Summary, level: int, entry: Entry, column: Column) -> Cell:
    """A figure in the column's units, of the two ends of the scale their defined values."""
    if column.metric in ("residual_influence", "residual_distance"):
        return (
            summary.residual(level, entry) if column.metric == "residual_influence" else summary.distance(level, entry)
        )
    return summary.find(level, entry, column.metric, column.split, column.reference).scaled(column.scale)


def best_lines(lines: list[Line], place: int) -> set[int]:
    """Which lines may be set in bold in a column where the smallest is best: of the methods of practice of each run and
    level the one whose interval ends below where every other one's begins, where there is such a one.

    Args:
        lines: as `lines_of` gives them.
        place: number of the column.
    """
    groups: dict[tuple[str, int], list[int]] = {}
    for number, line in enumerate(lines):
        entry, cell = line.entry, line.cells[place]
        practice = not entry.is_reference and not entry.kind and entry.method not in CONTROLS
        if practice and math.isfinite(cell.mean) and line.summary.identifiable(line.level):
            groups.setdefault((line.run.name, line.level), []).append(number)
    best = set()
    for group in groups.values():
        first = min(group, key=lambda number: lines[number].cells[place].mean)
        others = [lines[number].cells[place].low for number in group if number != first]
        apart = others and all(lines[first].cells[place].high < low for low in others)  # NaN is below nothing
        if apart and not lines[first].diverged:
            best.add(first)
    return best

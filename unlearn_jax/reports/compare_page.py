"""The page that compares studies: what its template shows, as plain values."""

from __future__ import annotations

import functools
import math
from typing import Any

from unlearn_jax.reports import words
from unlearn_jax.reports.columns import COLUMNS, USUAL
from unlearn_jax.reports.compare_figures import MAX_METHODS, common_labels, distances_figure, references_figure
from unlearn_jax.reports.compare_load import Comparison
from unlearn_jax.reports.provenance import made_of
from unlearn_jax.reports.render import Td, Tr, cell, drawn, page
from unlearn_jax.reports.summary import Entry
from unlearn_jax.reports.tables_of_study import name_cell, share_cell, study_cell

MAX_SHARED = 12  # populations named in a sentence


def render_comparison(compared: Comparison) -> str:
    """The whole page as one HTML document."""
    data = dict.fromkeys(one.run.summary.facts["dataset"] for one in compared.runs)
    both = drawings_together(compared)
    heads = [Td("Population", kind="name"), *map(cell, ["run", *(COLUMNS[name].heading for name in USUAL)])]
    return page(
        "compare.html",
        title=f"{len(compared.runs)} studies side by side: {', '.join(data)}",
        runs=[_run(compared, number) for number in range(len(compared.runs))],
        levels=", ".join(f"{compared.letter(n)} at {compared.level_of(n)}" for n in range(len(compared.runs))),
        options=compared.options,
        around=compared.around,
        shared=_shared(compared),
        main=drawn(both["references"], "main", "Residual influence of the reference populations of every run"),
        distances=drawn(both["distances"], "distances", "Residual distance by method and run"),
        left=len(common_labels(compared)) - MAX_METHODS,
        heads=[heads],
        groups=_groups(compared),
    )


def drawings_together(compared: Comparison) -> dict:
    """The figures of the page by name, as functions of the width in inches."""
    both = {"references": references_figure, "distances": distances_figure}
    return {name: functools.partial(draw, compared) for name, draw in both.items()}


def _prefix(number: int) -> str:
    return f"run-{chr(ord('a') + number)}"


def _run(compared: Comparison, number: int) -> dict[str, Any]:
    """A run with its letter, its answer, how far it is, and how it was made."""
    one, level = compared.runs[number], compared.levels[number]
    at = one.run._replace(summary=one.run.summary._replace(levels=(level,)))
    return {
        "name": one.name,
        "letter": compared.letter(number),
        "prefix": _prefix(number),
        "level": level,
        "answer": f"{words.headline(at)} {one.run.unfinished}".strip(),
        "identifiable": one.run.summary.identifiable(level),
        "made": made_of(one.run, _prefix(number)),
    }


def _shared(compared: Comparison) -> list[str]:
    """Configurations and populations in common, in sentences."""
    letters = lambda numbers: " and ".join(compared.letter(n) for n in numbers)
    sentences = [f"{letters(group)} have the same configuration." for group in compared.same]
    for one in compared.shared:
        names, left = ", ".join(one.populations[:MAX_SHARED]), len(one.populations) - MAX_SHARED
        names += f" and {left} more" if left > 0 else ""
        sentences.append(
            f"{letters(one.runs)} hold the same {one.members} models of {names}: their margins agree. What these "
            "figures show in both runs is one finding, not two."
        )
    none = "No population of two runs was found to be the same, by the margins of the levels shown."
    return sentences if compared.shared else [*sentences, none]


def _groups(compared: Comparison) -> list[list[Tr]]:
    """Every population with a line for each run that has it, references first, then by the smallest distance."""
    groups: dict[tuple[bool, str], list[tuple[int, Entry]]] = {}
    for number, (one, level) in enumerate(zip(compared.runs, compared.levels)):
        for entry in one.run.summary.entries(level):
            groups.setdefault((not entry.is_reference, one.run.summary.label(entry)), []).append((number, entry))
    find = lambda n, entry: compared.runs[n].run.summary.distance(compared.levels[n], entry).mean
    nearest = lambda places: min((d for n, entry in places if math.isfinite(d := find(n, entry))), default=math.inf)
    ordered = sorted(groups.items(), key=lambda pair: (pair[0][0], nearest(pair[1])))
    return [_lines(compared, places) for _, places in ordered]


def _lines(compared: Comparison, places: list[tuple[int, Entry]]) -> list[Tr]:
    """The lines of one population, a run each."""
    rows = []
    for place, (number, entry) in enumerate(places):
        summary, level = compared.runs[number].run.summary, compared.levels[number]
        lost = summary.find(level, entry, "n_diverged").mean
        cells = [
            Td(compared.letter(number), kind="letter", link=f"#{_prefix(number)}-{level}"),
            share_cell(summary.residual(level, entry), kind="first"),
            share_cell(summary.distance(level, entry), tag=f"{lost:g} diverged" if lost > 0 else ""),
        ]
        for column in (COLUMNS[name] for name in USUAL[2:]):
            figure = study_cell(summary.find(level, entry, *column[1:4]), column.digits)
            cells.append(figure if column.interval else figure._replace(below="", title=""))
        name = name_cell(summary, entry)._replace(rows=len(places)) if place == 0 else None
        rows.append(Tr(name, cells, "reference" * entry.is_reference))
    return rows

"""The page that compares studies: what differs, the figures on shared axes, one table; every text is escaped."""

from __future__ import annotations

import functools
import math
from html import escape

from unlearn_jax.reports import words
from unlearn_jax.reports.columns import COLUMNS, USUAL
from unlearn_jax.reports.compare_figures import MAX_METHODS, common_labels, distances_figure, references_figure
from unlearn_jax.reports.compare_load import Comparison, Difference
from unlearn_jax.reports.frame import definitions, document
from unlearn_jax.reports.glossary import GLOSSARY
from unlearn_jax.reports.provenance import block
from unlearn_jax.reports.sections import _figure as figure
from unlearn_jax.reports.sections import section
from unlearn_jax.reports.summary import Entry
from unlearn_jax.reports.table import figure_cell, name_cell, share_cell

UNPAIRED = (
    "Differences between runs were not computed. Every interval is of one run alone: that two overlap does not show "
    "that runs are alike, nor by how much they differ."
)


def render_comparison(told: Comparison) -> str:
    """The whole page as one HTML document."""
    title = f"{len(told.runs)} studies side by side"
    data = dict.fromkeys(one.run.summary.facts["dataset"] for one in told.runs)
    parts = [
        f"<h1>{escape(title)}: {escape(', '.join(data))}</h1>",
        _runs(told),
        section("differ", "What differs", _differ(told)),
        section("share", "What the runs share", _shared(told)),
        section("main", "Residual influence of the references", _main(told)),
        section("distances", "Methods that several runs have", _distances(told)),
        section("methods", "All figures", _table(told)),
        section("words", "How to read this", definitions(GLOSSARY)),
        section("reproduce", "To reproduce", _blocks(told)),
    ]
    return document(title, parts)


def drawings_together(told: Comparison) -> dict:
    """The figures of the page by name, as functions of the width in inches."""
    both = {"references": references_figure, "distances": distances_figure}
    return {name: functools.partial(draw, told) for name, draw in both.items()}


def _prefix(number: int) -> str:
    """The anchor of a run's command."""
    return f"run-{chr(ord('a') + number)}"


def _link(told: Comparison, number: int) -> str:
    """A run's letter, which links to its command and level."""
    return f'<a class="letter" href="#{_prefix(number)}-{told.levels[number]}">{told.letter(number)}</a>'


def _links(told: Comparison) -> str:
    """How the numbers of several runs were made."""
    return "How it was made: " + ", ".join(_link(told, number) for number in range(len(told.runs))) + "."


def _levels(told: Comparison) -> str:
    """A at 4 copies, B at 8 copies."""
    return ", ".join(f"{told.letter(n)} at {told.level_of(n)}" for n in range(len(told.runs)))


def _runs(told: Comparison) -> str:
    """Every run with its name, its answer, and how far it is."""
    items = []
    for number, (one, level) in enumerate(zip(told.runs, told.levels)):
        at = one.run._replace(summary=one.run.summary._replace(levels=(level,)))
        far = f" {one.run.unfinished}" if one.run.unfinished else ""
        said = escape(words.headline(at) + far)
        items.append(f"<dt>{_link(told, number)} {escape(one.name)}</dt><dd>{said}</dd>")
    return f'<dl class="words runs" id="answer">{"".join(items)}</dl><p class="note" id="unpaired">{UNPAIRED}</p>'


def _differ(told: Comparison) -> str:
    """Options that differ, and what else does."""
    if not told.options:
        lead = "<p>The runs have the same configuration.</p>"
    else:
        lead = _differences(told, "Option", told.options)
        lead += '<p class="caption">Options that are the same everywhere are left out. –: left open.</p>'
    if not told.around:
        return lead + "<p>Data, versions and device are the same.</p>"
    return lead + "<h3>Data, versions, device</h3>" + _differences(told, "", told.around)


def _differences(told: Comparison, heading: str, rows: tuple[Difference, ...]) -> str:
    """A row for each thing that differs."""
    heads = "".join(f'<th class="said" scope="col">{_link(told, n)}</th>' for n in range(len(told.runs)))
    body = "".join(
        f'<tr><th class="name" scope="row">{escape(name)}</th>'
        + "".join(f'<td class="said long">{escape(value) or "–"}</td>' for value in values)
        + "</tr>"
        for name, values in rows
    )
    head = f'<thead><tr><th class="name" scope="col">{heading}</th>{heads}</tr></thead>'
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


def _shared(told: Comparison) -> str:
    """Configurations and populations in common, in sentences."""
    letters = lambda numbers: " and ".join(told.letter(n) for n in numbers)
    said = [f"{letters(group)} have the same configuration." for group in told.same]
    for one in told.shared:
        names = ", ".join(one.populations[:12])
        names += f" and {len(one.populations) - 12} more" if len(one.populations) > 12 else ""
        said.append(
            f"{letters(one.runs)} hold the same {one.members} models of {names}: their margins agree. What these "
            "figures show in both runs is one finding, not two."
        )
    if not told.shared:
        said.append("No population of two runs was found to be the same, by the margins of the levels shown.")
    return "".join(f"<p>{escape(sentence)}</p>" for sentence in said)


def _main(told: Comparison) -> str:
    """The references of every run."""
    caption = (
        "A panel for each run, on the same axes. Bars: 95% intervals. Shaded: the null band. Open: not identifiable."
    )
    label = "Residual influence of the reference populations of every run"
    return figure(lambda width: references_figure(told, width), "main", label, caption, _links(told))


def _distances(told: Comparison) -> str:
    """Methods of several runs."""
    if distances_figure(told) is None:
        return ""
    left = len(common_labels(told)) - MAX_METHODS
    caption = f"{_levels(told)}. Bars: 95% intervals, each of its own run. Arrows: beyond the axis."
    caption += f" {left} more are in the table." if left > 0 else ""
    draw = lambda width: distances_figure(told, width)
    return figure(draw, "distances", "Residual distance by method and run", caption, _links(told))


def _table(told: Comparison) -> str:
    """Every population with a line for each run that has it."""
    groups: dict[tuple[bool, str], list[tuple[int, Entry]]] = {}
    for number, (one, level) in enumerate(zip(told.runs, told.levels)):
        for entry in one.run.summary.entries(level):
            groups.setdefault((not entry.is_reference, one.run.summary.label(entry)), []).append((number, entry))
    find = lambda n, entry: told.runs[n].run.summary.distance(told.levels[n], entry).mean
    nearest = lambda own: min((d for n, entry in own if math.isfinite(d := find(n, entry))), default=math.inf)
    ordered = sorted(groups.items(), key=lambda pair: (pair[0][0], nearest(pair[1])))
    body = "".join(f"<tbody>{''.join(_lines(told, own))}</tbody>" for _, own in ordered)
    heads = "".join(f'<th scope="col">{escape(COLUMNS[name].heading)}</th>' for name in USUAL)
    head = f'<thead><tr><th class="name" scope="col">Population</th><th scope="col">run</th>{heads}</tr></thead>'
    about = (
        f"{_levels(told)}. References first, then methods by the smallest distance. Below a figure: its 95% interval. "
        "Price: accuracy of the oracle of the same run less accuracy of the row, in points. Cost: a share of one "
        "training from scratch. A letter leads to the command."
    )
    unclear = [n for n, one in enumerate(told.runs) if not one.run.summary.identifiable(told.levels[n])]
    about += "".join(f" {told.letter(n)}: residuals are not identifiable, read no order from them." for n in unclear)
    return f'<p class="caption">{escape(about)}</p><div class="scroll"><table class="runs">{head}{body}</table></div>'


def _lines(told: Comparison, own: list[tuple[int, Entry]]) -> list[str]:
    """The lines of one population, a run each."""
    found = []
    for place, (number, entry) in enumerate(own):
        summary, level = told.runs[number].run.summary, told.levels[number]
        lost = summary.find(level, entry, "n_diverged").mean
        tag = f"{lost:g} diverged" if lost > 0 else ""
        cells = [share_cell(summary.residual(level, entry), first=True)]
        cells += [share_cell(summary.distance(level, entry), tag=tag)]
        for name in USUAL[2:]:
            column = COLUMNS[name]
            cell = summary.find(level, entry, column.metric, column.split, column.reference)
            cells.append(figure_cell(cell, column.digits, interval=column.interval))
        head = name_cell(summary, entry).replace('scope="row"', f'scope="rowgroup" rowspan="{len(own)}"')
        kind = ' class="reference"' if entry.is_reference else ""
        found.append(f"<tr{kind}>{head if place == 0 else ''}<td>{_link(told, number)}</td>{''.join(cells)}</tr>")
    return found


def _blocks(told: Comparison) -> str:
    """How each run was made."""
    return "".join(
        f'<h3 id="{_prefix(number)}">{told.letter(number)}: {escape(one.name)}</h3>{block(one.run, _prefix(number))}'
        for number, one in enumerate(told.runs)
    )

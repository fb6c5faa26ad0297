"""A summary table of runs as LaTeX for papers, Markdown for notes, or CSV for machines."""

from __future__ import annotations

import csv
import io
import math
import re

from unlearn_jax.reports import render
from unlearn_jax.reports.columns import Column, Line, best_lines
from unlearn_jax.reports.words import copies_of

FORMATS = ("latex", "csv", "markdown")
SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\char34{}", "`": r"\`{}", "[": "{[}", "]": "{]}",
    "−": r"$-$", "·": r"\textperiodcentered{}",
}  # fmt: skip
BOLD = (
    "Bold: the smallest residual distance of a method, only where its 95% interval ends below where that of every "
    "other method shown of the same run and level begins"
)
LATEX = ("--", r"\textbf{{{}}}", r" {{\scriptsize {}}}")  # what is missing, the best figure, an interval
MARKDOWN = ("–", "**{}**", " {}")
KEYS = ("run", "dataset", "model", "targets", "similarity", "copies", "gamma", "method", "remedy", "setting", "budget")


def latex_escaped(text: str) -> str:
    """Text that LaTeX sets as it stands, in one line.

    Example:
        >>> latex_escaped("neggrad_plus (alpha=50%)")
        'neggrad\\\\_plus (alpha=50\\\\%)'
    """
    text = "".join(SPECIAL.get(letter, letter) for letter in " ".join(text.split()))
    return re.sub(r"([-'])(?=\1)", r"\1{}", text)  # or they would run into a dash or a quotation mark


def as_latex(lines: list[Line], columns: dict[str, Column], commands: dict[str, str], label: str = "results") -> str:
    """A float with booktabs; needs ``\\usepackage{booktabs}``.

    Args:
        lines: the populations.
        columns: their figures.
        commands: by the name of a run, how it was made; in comments.
        label: after ``tab:``.
    """
    body, before = [], None
    several = any(_several(lines))
    for line, cells in zip(lines, _cells(lines, columns, LATEX)):
        group = (line.run.name, line.level)
        if group != before and several:
            copies = f"{line.level} {'copy' if line.level == 1 else 'copies'}"
            name = latex_escaped(f"{line.run.name}, {copies}")
            heading = f"\\multicolumn{{{1 + len(columns)}}}{{@{{}}l}}{{\\textit{{{name}}}}} \\\\"
            body += [*([r"\midrule"] if before else []), heading]
        cells = [cell.replace("−", "$-$") for cell in cells]
        body.append(" & ".join([latex_escaped(line.label + _mark(line)), *cells]) + r" \\")
        before = group
    heads = ["Population", *(column.heading for column in columns.values())]
    made = [f"% {name}: {' '.join(command.split())}" for name, command in commands.items()]
    text = latex_escaped(caption(lines, columns))
    return "\n".join([
        *made, r"\begin{table}", r"\centering", r"\footnotesize", r"\setlength{\tabcolsep}{3pt}",
        f"\\caption{{{text}}}", f"\\label{{tab:{re.sub(r'[^A-Za-z0-9:-]+', '-', label)}}}",
        f"\\begin{{tabular}}{{@{{}}l{'r' * len(columns)}@{{}}}}", r"\toprule",
        " & ".join(map(latex_escaped, heads)) + r" \\", r"\midrule", *body, r"\bottomrule", r"\end{tabular}",
        r"\end{table}", "",
    ])  # fmt: skip


def _cells(lines: list[Line], columns: dict[str, Column], style: tuple[str, str, str]) -> list[list[str]]:
    """Figures with their intervals by line; ``style``: what is missing, the best one, an interval."""
    missing, best, small = style
    ranked = [place for place, column in enumerate(columns.values()) if column.ranked]
    bold = {(number, place) for place in ranked for number in best_lines(lines, place)}
    rows = []
    for number, line in enumerate(lines):
        cells = []
        for place, (cell, column) in enumerate(zip(line.cells, columns.values())):
            mean, interval = shown(cell, column)
            mean = missing if not math.isfinite(cell.mean) else best.format(mean) if (number, place) in bold else mean
            cells.append(mean + (small.format(interval) if interval else ""))
        rows.append(cells)
    return rows


def as_markdown(lines: list[Line], columns: dict[str, Column], commands: dict[str, str]) -> str:
    """A table of GitHub's Markdown, what it holds below it, and how the runs were made."""
    several = _several(lines)
    named = [*(["Run"] if several[0] else []), *(["Copies"] if several[1] else []), "Population"]
    heads = [*named, *(column.heading for column in columns.values())]
    left = 1 + several[0] + several[1]
    rows = [heads, ["---"] * left + ["---:"] * len(columns)]
    for line, cells in zip(lines, _cells(lines, columns, MARKDOWN)):
        first = [line.run.name] * several[0] + [str(line.level)] * several[1] + [line.label + _mark(line)]
        rows.append([*map(markdown_escaped, first), *cells])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    made = "\n".join(f"    {' '.join(command.split())}" for command in commands.values())
    return f"{table}\n\n{markdown_escaped(caption(lines, columns))}\n" + (f"\n{made}\n" if made else "")


def markdown_escaped(text: str) -> str:
    """Text that Markdown shows as it stands, in one line."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$])", r"\\\1", " ".join(text.split()))


def as_csv(lines: list[Line], columns: dict[str, Column]) -> str:
    """A line for each population: figures in full precision with their intervals' ends, empty where there are none."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*KEYS, *(f"{name}{end}" for name in columns for end in ("", "_low", "_high"))])
    for line in lines:
        facts, entry = line.summary.facts, line.entry
        gamma = line.summary.gamma[line.level]
        keys = [line.run.name, *(facts[name] for name in KEYS[1:5]), line.level, _exact(gamma), *entry]
        writer.writerow([*keys, *(_exact(value) for cell in line.cells for value in cell[:3])])
    return buffer.getvalue()


def _exact(value: float) -> str:
    return repr(float(value)) if math.isfinite(value) else ""


def shown(cell, column: Column) -> tuple[str, str]:
    """A figure and its interval in words: ('0.28', '[0.22, 0.35]'); ('–', '') where it was not measured."""
    if not math.isfinite(cell.mean):
        return "–", ""
    known = column.interval and math.isfinite(cell.low + cell.high)
    far = column.metric.startswith("residual_") and abs(cell.mean) >= 10
    digits = 0 if far else column.digits
    return render.number(cell.mean, digits), render.interval(cell.low, cell.high, digits) if known else ""


def caption(lines: list[Line], columns: dict[str, Column]) -> str:
    """What the table holds and how it is to be read."""
    words = [f"{_about(lines)}."]
    if {"residual", "distance"} & set(columns):
        ends = "0 = the oracle, which never saw the targets' clusters, 1 = the original"
        words.append(f"Residual influence and distance: {ends}.")
    if any(column.metric == "price_accuracy" for column in columns.values()):
        words.append("Price: accuracy of the oracle less accuracy of the row, in points; positive = worse.")
    if "cost" in columns:
        words.append("Cost: gradient evaluations as a share of one training from scratch.")
    words.append("Brackets: 95% intervals over clusters and members.")
    words += [f"Populations measured and not shown: {left}."] if (left := _left_out(lines)) else []
    words += [f"{BOLD}."] if any(column.ranked for column in columns.values()) else []
    unclear = {(line.run.name, line.level) for line in lines if not line.summary.identifiable(line.level)}
    words += [f"{name} at {level} copies: not identifiable, read no order from it." for name, level in sorted(unclear)]
    words += [f"{name}: {told}" for name, told in unfinished_of(lines).items()]
    words += ["*: members diverged."] if any(line.diverged for line in lines) else []
    if len({line.run.name for line in lines}) > 1:
        words.append("Differences between runs are not paired.")
    return " ".join(words)


def unfinished_of(lines: list[Line]) -> dict[str, str]:
    """How far the runs are that are not complete, by name."""
    return {line.run.name: line.run.run.unfinished for line in lines if line.run.run.unfinished}


def _left_out(lines: list[Line]) -> int:
    levels = {(line.run.name, line.level): len(line.summary.entries(line.level)) for line in lines}
    return sum(levels.values()) - len(lines)


def _about(lines: list[Line]) -> str:
    """What every run is about: digits, mlp, atypical targets, 4 near copies of each, 16 members."""
    levels_of = {}
    for line in lines:
        levels_of.setdefault(line.run.name, (line.run, set()))[1].add(line.level)
    parts = []
    for name, (one, levels) in levels_of.items():
        facts, members = one.run.summary.facts, one.run.manifest["config"].get("members")
        words = [facts["dataset"], facts["model"], f"{facts['targets']} targets"]
        alone = len(levels) == 1
        words += [copies_of(one.run.summary, next(iter(levels))) if alone else f"{facts['similarity']} copies"]
        named = max(one.run.summary.requested(level) for level in levels) - 1
        words += [f"of which the request names {'' if alone else 'up to '}{named}"] if named else []
        words += [f"{members} members"] if members else []
        parts.append((f"{name}: " if len(levels_of) > 1 else "") + ", ".join(filter(None, words)))
    return "; ".join(parts)


def _several(lines: list[Line]) -> tuple[bool, bool]:
    """Whether there are several runs, and several levels."""
    return len({line.run.name for line in lines}) > 1, len({line.level for line in lines}) > 1


def _mark(line: Line) -> str:
    return " *" if line.diverged else ""

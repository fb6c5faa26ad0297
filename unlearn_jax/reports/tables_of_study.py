"""The tables of a study's page: methods, the frontier, answers in words, who carries the targets, similarity."""

from __future__ import annotations

import math
from typing import Any

from unlearn_jax.evaluation.recorded import OF_EVERY_STUDY
from unlearn_jax.reports.frontier_figure import anchor
from unlearn_jax.reports.load import Run
from unlearn_jax.reports.metric_rows import further
from unlearn_jax.reports.render import Table, Td, Tr, figure_cell, interval, number, row, table
from unlearn_jax.reports.style import COLOURS
from unlearn_jax.reports.summary import Cell, Entry, Summary

NONE = "–"
PRICES = ("similar", "rest", "test")
ACCURACIES = ("forget", "similar", "test_similar", "test")
MEASURES = {  # of the copies, by their names in the manifest
    "edit": "Edit distance",
    "tfidf": "TF-IDF cosine",
    "minilm": "MiniLM cosine",
    "words": "Word cosine",
    "pixel": "Pixel cosine",
    "embedding": "Embedding cosine",
}
RELATIVE = 0.05  # p-value of the relative test up to which a population is nearer than the original
GOALS = ("cost", "distance", "rest", "test")
UNITS = ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))  # least, unit, letter
ANSWERS = (  # heading, metric, split, reference, digits (none = two significant ones)
    ("targets,\nprobability", "answer_probability", "forget", None, 3),
    ("targets,\nROUGE-L", "rouge_l", "forget", None, 2),
    ("extraction\nstrength", "extraction_strength", "forget", None, 2),
    ("new words,\nprobability", "answer_probability", "test_similar", None, 3),
    ("log truth\nratio", "log_truth_ratio", "test_similar", None, 2),
    ("D against\nretrain", "forget_quality_distance", "test_similar", "retrain", 2),
    ("D against\noracle", "forget_quality_distance", "test_similar", "oracle", 2),
    ("forget quality\nagainst oracle", "forget_quality", "test_similar", "oracle", None),
    ("AUC of\nmin-k%", "auc_min_k", "forget", None, 2),
    ("model\nutility", "model_utility", "rest", None, 2),
)


def heads(first: str, groups: list[tuple[str, list[str]]]) -> list[list[Td]]:
    """Two lines of headings: groups with what is below each; a group of nothing is one heading over both lines."""
    above, below = [Td(first, kind="name", rows=2)], []
    for name, names in groups:
        above.append(Td(name, kind="group", columns=len(names)) if names else Td(name, kind="first", rows=2))
        below += [Td(text, kind="first" if place == 0 else "") for place, text in enumerate(names)]
    return [above, below]


def name_cell(summary: Summary, entry: Entry) -> Td:
    """The head of a population's row: its colour, name and kind."""
    wrecked = [at for at, one in summary.cells if one == entry and summary.wrecked(at, entry)]
    right = min((summary.find(at, entry, "accuracy", "rest").mean for at in wrecked), default=0.0)
    kinds = ["reference" if entry.is_reference else entry.kind]
    kinds += [f"wrecked: {100 * right:.1f}% right on rest"] if wrecked else []
    tone = entry.method if entry.is_reference and entry.method in COLOURS else "method"
    return Td(summary.label(entry), dot=tone, tag=", ".join(filter(None, kinds)), breaks=True)


def study_cell(cell: Cell, digits: int | None, **how) -> Td:
    """A figure with its interval below and the members-only interval on hover."""
    title = ""
    if math.isfinite(cell.mean) and math.isfinite(cell.members_low + cell.members_high):
        title = f"members only: {interval(cell.members_low, cell.members_high, digits)}"
        title += f", n = {cell.n:g}" if math.isfinite(cell.n) else ""
    return figure_cell(cell, digits, NONE, title=title, **how)


def share_cell(cell: Cell, **how) -> Td:
    """A share of the influence, without decimals where it is far beyond all."""
    return study_cell(cell, 0 if abs(cell.mean) >= 10 else 2, **how)


def methods_table(summary: Summary, level: int) -> Table:
    """Every reference and method at a level, ascending in residual distance."""
    groups = [
        ("Influence left", ["signed\nresidual", "residual\ndistance"]),
        ("Excess price, points", list(PRICES)),
        ("Accuracy, %", ["forget", "similar", "test\nsimilar", "test"]),
        ("Cost of one model", ["seconds", "gradients\nforget", "gradients\nretained"]),
        ("diverged", []),
        ("Less retrain's", ["signed\nresidual", "residual\ndistance"]),
        ("rank", []),
    ]
    return Table(heads("Population", groups), [_method(summary, level, entry) for entry in summary.entries(level)])


def _method(summary: Summary, level: int, entry: Entry) -> Tr:
    """One population."""
    find = lambda metric, split=None, reference=None: summary.find(level, entry, metric, split, reference)
    residual = summary.residual(level, entry)
    inside = not (entry.is_reference and entry.method == "oracle") and abs(residual.mean) <= summary.band(level)
    still = find("relative_p", "forget", "oracle").mean > RELATIVE and not entry.is_reference
    cells = [
        share_cell(residual, kind="first", tag="in band" if inside else ""),
        share_cell(summary.distance(level, entry), tag="not nearer" if still else ""),
        *_prices(summary, level, entry),
        *(_accuracy(find("accuracy", split), "first" * (split == ACCURACIES[0])) for split in ACCURACIES),
        Td(_seconds(find("seconds").mean), kind="first"),
        _count(find("grad_evals_forget").mean),
        _count(find("grad_evals_retain").mean),
        _diverged(find("n_diverged").mean),
        share_cell(find("residual_difference"), kind="first"),
        share_cell(find("distance_difference")),
        study_cell(find("distance_rank"), 0, kind="first"),
    ]
    name, recall = name_cell(summary, entry), find("dedup_recall").mean
    if math.isfinite(recall):
        name = name._replace(tag=f"{name.tag}, its detector found {100 * recall:.0f}% of the copies")
    return Tr(name, cells, "reference" * entry.is_reference)


def _prices(summary: Summary, level: int, entry: Entry) -> list[Td]:
    find = lambda split: summary.find(level, entry, "price_accuracy", split, "oracle")
    return [study_cell(find(split), 1, kind="first" * (split == PRICES[0])) for split in PRICES]


def _accuracy(cell: Cell, kind: str) -> Td:
    """An accuracy in percent, its interval on hover."""
    if not math.isfinite(cell.mean):
        return Td(NONE, kind=kind)
    return Td(f"{100 * cell.mean:.1f}", title=interval(100 * cell.low, 100 * cell.high, 1), kind=kind)


def _seconds(value: float) -> str:
    """Seconds with two significant digits."""
    if not math.isfinite(value):
        return NONE
    if value < 0.001:
        return "< 0.001"
    return f"{value:,.{0 if value >= 10 else 1 - math.floor(math.log10(value))}f}"


def _count(value: float) -> Td:
    """A large count, short where it is long, with the exact figure on hover."""
    if not math.isfinite(value):
        return Td(NONE)
    for least, unit, letter in UNITS:
        if value >= least:
            return Td(f"{value / unit:.1f}{letter}", title=f"{value:,.0f}")
    return Td(f"{value:,.0f}")


def _diverged(value: float) -> Td:
    """The count of diverged members, marked where there are any."""
    if value > 0:
        return Td(f"⚠ {value:g}", kind="first warn")
    return Td("0" if math.isfinite(value) else NONE, kind="first")


def searched(summary: Summary, level: int) -> bool:
    """Whether some remedy searched for similar samples."""
    return any(math.isfinite(summary.find(level, e, "found_rows").mean) for e in summary.entries(level))


def frontier_table(summary: Summary, level: int) -> Table:
    """Every method with its remedies below it, methods by the smallest distance that any of them reaches."""
    grouped: dict[str, list[Entry]] = {}
    for entry in summary.entries(level):  # by distance, so that groups are too
        if not entry.is_reference or entry.method == "retrain":
            grouped.setdefault(entry.method, []).append(entry)
    search = searched(summary, level)
    groups = [
        ("Influence left", ["residual\ndistance", "signed\nresidual"]),
        ("Excess price, points", list(PRICES)),
        ("cost,\n% of a\ntraining", []),
        *([("Search, %", ["precision", "recall"])] if search else []),
        ("on the\nfrontier,\n% of draws", []),
        ("Goal met in", list(GOALS)),
    ]
    order = lambda entry: (entry.remedy, entry.setting)
    rows = [_weighed(summary, level, e, search) for entries in grouped.values() for e in sorted(entries, key=order)]
    return Table(heads("Method and remedy", groups), rows)


def _weighed(summary: Summary, level: int, entry: Entry, search: bool) -> Tr:
    """One population of the frontier's table."""
    find = lambda metric: summary.find(level, entry, metric).mean
    percent = lambda metric, digits=0, kind="first": Td(number(100 * find(metric), digits, NONE), kind=kind)
    met = lambda name: {1.0: "yes", 0.0: "no"}.get(find(f"goal_{name}"), NONE)
    cells = [
        share_cell(summary.distance(level, entry), kind="first"),
        share_cell(summary.residual(level, entry)),
        *_prices(summary, level, entry),
        percent("cost_share", 1),
        *([percent("found_precision"), percent("found_recall", kind="")] if search else []),
        percent("frontier_share"),
        *(Td(met(name), kind="first " * (name == "cost") + "met" * (met(name) == "yes")) for name in GOALS),
    ]
    return Tr(name_cell(summary, entry), cells, "reference" * anchor(entry))


def language_table(summary: Summary, level: int) -> Table | None:
    """Every population's answers at a level; None where the run is not of language."""
    if not any(math.isfinite(summary.find(level, e, "model_utility").mean) for e in summary.entries(level)):
        return None
    columns = [(heading, (name, split, than), 1.0, digits) for heading, name, split, than, digits in ANSWERS]
    return _estimates(summary, level, columns)


def further_table(summary: Summary, level: int) -> Table | None:
    """What `--metrics` asked for, of every population at a level; None where it asked for nothing."""
    keys = {key for entry in summary.entries(level) for key in summary.cells[level, entry]}
    columns = []
    for one, (metric, variant, split, reference) in further(key for key in keys if key[0] not in OF_EVERY_STUDY):
        heading = one.name + (f",\nagainst {reference}" if reference else "")
        columns.append((heading, (metric, split, reference, variant), one.scale, one.digits))
    return _estimates(summary, level, columns) if columns else None


def _estimates(summary: Summary, level: int, columns: list[tuple[str, tuple, float, int | None]]) -> Table:
    """A line for each population; columns have a heading, what `Summary.find` takes, a scale and decimals."""
    rows = []
    for entry in summary.entries(level):
        cells = [study_cell(summary.find(level, entry, *key).scaled(by), digits) for _, key, by, digits in columns]
        rows.append(row(name_cell(summary, entry), cells, "reference" * entry.is_reference))
    return table("Population", [heading for heading, *_ in columns], rows, "")


def carriers_table(summary: Summary) -> Table:
    """What influence says that the similar samples carry, beside what retraining really keeps."""
    rows = []
    for level in summary.levels:
        carried = summary.find(level, "original", "carried_by_similar")
        if math.isfinite(carried.mean):
            rows.append(row(str(level), [study_cell(carried, 2), study_cell(summary.residual(level, "retrain"), 2)]))
    headings = ["carried by similar,\npredicted", "kept by retraining,\nmeasured"]
    return table("Copies", headings, rows, "")._replace(fit=True)


def kinds_of_similarity(run: Run) -> list[str]:
    """The measures that the run has of its copies."""
    measured = run.manifest.get("similarity")
    first = next(iter(measured.values()), {}) if isinstance(measured, dict) else {}
    return [kind for kind in MEASURES if kind in first] or ["pixel", "embedding"]


def similarity_table(run: Run) -> Table:
    """Measured similarity of copies to their source, by copies level."""
    kinds, rows = kinds_of_similarity(run), []
    measured = run.manifest.get("similarity") or {}
    for level in run.summary.levels:
        at_level = measured.get(str(level)) or measured.get(level) or {}
        cells = []
        for kind in kinds:
            values = at_level.get(kind) if isinstance(at_level, dict) else None
            pooled = {"mean": _of_any(run.summary, level, f"similarity_{kind}")}
            cells += _quantiles(values if isinstance(values, dict) else pooled)
        if any(one.text != NONE for one in cells):
            rows.append(row(str(level), cells))
    groups = [(MEASURES[kind], ["mean", "5% · 50% · 95%"]) for kind in kinds]
    return Table(heads("Copies", groups), rows, fit=True)


def _quantiles(values: dict[str, Any]) -> list[Td]:
    mean, *spread = (number(values.get(name), 3) for name in ("mean", "q05", "q50", "q95"))
    return [Td(mean or NONE, kind="first"), Td(" · ".join(filter(None, spread)) or NONE)]


def _of_any(summary: Summary, level: int, metric: str) -> float:
    """A metric of the level, whichever row carries it."""
    cells = (summary.find(level, entry, metric).mean for entry in summary.entries(level))
    return next(filter(math.isfinite, cells), math.nan)

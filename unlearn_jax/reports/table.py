"""The table of methods and the table of measured similarity."""

from __future__ import annotations

import math
from html import escape
from typing import Any

from unlearn_jax.reports.load import Run
from unlearn_jax.reports.provenance import link
from unlearn_jax.reports.style import COLOURS
from unlearn_jax.reports.summary import Cell, Entry, Summary
from unlearn_jax.reports.words import minus

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
HEAD = (
    '<thead><tr><th class="name" rowspan="2" scope="col">Population</th>'
    '<th class="group" colspan="2" scope="colgroup">Influence left</th>'
    '<th class="group" colspan="3" scope="colgroup">Excess price, points</th>'
    '<th class="group" colspan="4" scope="colgroup">Accuracy, %</th>'
    '<th class="group" colspan="3" scope="colgroup">Cost of one model</th>'
    '<th class="first" rowspan="2" scope="col">diverged</th></tr>'
    '<tr><th class="first" scope="col">signed<br>residual</th><th scope="col">residual<br>distance</th>'
    '<th class="first" scope="col">similar</th><th scope="col">rest</th><th scope="col">test</th>'
    '<th class="first" scope="col">forget</th><th scope="col">similar</th><th scope="col">test<br>similar</th>'
    '<th scope="col">test</th>'
    '<th class="first" scope="col">seconds</th><th scope="col">gradients<br>forget</th>'
    '<th scope="col">gradients<br>retained</th></tr></thead>'
)


def methods_table(summary: Summary, level: int) -> str:
    """Every reference and method at a level, ascending in residual distance."""
    rows = "".join(_row(summary, level, entry) for entry in summary.entries(level))
    band = summary.band(level)
    words = [
        "Sorted by residual distance (0 is best). Below a figure: its 95% interval (of accuracy: on hover).",
        "Excess price: accuracy of the oracle minus accuracy of the row; positive = worse than the oracle.",
        "Shaded rows are reference populations, trained from scratch; placebo's price on rest counts what it dropped.",
        "Every interval, over members alone too, is in summary.csv.",
    ]
    if math.isfinite(band):
        words.insert(1, f"“In band”: within the null band of ±{band:.3f}, not told from none.")
    if not summary.identifiable(level):
        words.insert(0, "Residuals at this level are not identifiable: read no ranking from them.")
    about = f'<p class="caption">{escape(" ".join(words))} {link(level)}</p>'
    return f'{about}<div class="scroll"><table>{HEAD}<tbody>{rows}</tbody></table></div>'


def _row(summary: Summary, level: int, entry: Entry) -> str:
    """One population."""
    find = lambda metric, split=None, reference=None: summary.find(level, entry, metric, split, reference)
    residual = summary.residual(level, entry)
    inside = not (entry.is_reference and entry.method == "oracle") and abs(residual.mean) <= summary.band(level)
    cells = [
        share_cell(residual, first=True, tag="in band" if inside else ""),
        share_cell(summary.distance(level, entry)),
        *(figure_cell(find("price_accuracy", s, "oracle"), 1, first=s == PRICES[0]) for s in PRICES),
        *(_accuracy(find("accuracy", s), first=s == ACCURACIES[0]) for s in ACCURACIES),
        _seconds(find("seconds")),
        _count(find("grad_evals_forget")),
        _count(find("grad_evals_retain")),
        _diverged(find("n_diverged")),
    ]
    kind = ' class="reference"' if entry.is_reference else ""
    return f"<tr{kind}>{name_cell(summary, entry)}{''.join(cells)}</tr>"


def name_cell(summary: Summary, entry: Entry) -> str:
    """The head of a population's row: its colour, name and kind."""
    tone = f"var(--{entry.method})" if entry.is_reference and entry.method in COLOURS else "var(--method)"
    kind_of = "reference" if entry.is_reference else entry.kind
    wrecked = "wrecked: rest" if any(summary.wrecked(at, entry) for at, one in summary.cells if one == entry) else ""
    kind_of = ", ".join(filter(None, [kind_of, wrecked]))
    tag = f'<span class="tag">{kind_of}</span>' if kind_of else ""
    label = escape(summary.label(entry)).replace("_", "_<wbr>")
    return f'<th class="name" scope="row"><span class="dot" style="background:{tone}"></span>{label}{tag}</th>'


def figure_cell(cell: Cell, digits: int | None, first: bool = False, interval: bool = True, tag: str = "") -> str:
    """A figure with its interval below and the members-only interval on hover; no ``digits`` = two significant ones."""
    edge = ' class="first"' if first else ""
    if not math.isfinite(cell.mean):
        return f"<td{edge}>–</td>"
    shown = lambda value: short(value, digits)
    below, title = "", ""
    if interval and math.isfinite(cell.low + cell.high):
        below = f'<span class="ci">[{shown(cell.low)}, {shown(cell.high)}]</span>'
    if interval and math.isfinite(cell.members_low + cell.members_high):
        title = f"members only: [{shown(cell.members_low)}, {shown(cell.members_high)}]"
        title += f", n = {cell.n:g}" if math.isfinite(cell.n) else ""
        title = f' title="{escape(title, quote=True)}"'
    tag = f'<span class="tag">{escape(tag)}</span>' if tag else ""
    return f"<td{edge}{title}>{shown(cell.mean)}{below}{tag}</td>"


def short(value: float, digits: int | None) -> str:
    """A number with so many decimals, or two significant digits."""
    return minus(f"{value:.2g}" if digits is None else f"{value:.{digits}f}")


def share_cell(cell: Cell, **how) -> str:
    """A share of the influence, without decimals where it is far beyond all."""
    return figure_cell(cell, 2 if not abs(cell.mean) >= 10 else 0, **how)


def _seconds(cell: Cell) -> str:
    """Seconds with two significant digits."""
    if not math.isfinite(cell.mean):
        return '<td class="first">–</td>'
    if cell.mean < 0.001:
        return '<td class="first">&lt; 0.001</td>'
    digits = 0 if cell.mean >= 10 else 1 - math.floor(math.log10(cell.mean))
    return f'<td class="first">{cell.mean:,.{digits}f}</td>'


def _accuracy(cell: Cell, first: bool) -> str:
    """An accuracy in percent, its interval on hover."""
    edge = ' class="first"' if first else ""
    if not math.isfinite(cell.mean):
        return f"<td{edge}>–</td>"
    interval = f"[{100 * cell.low:.1f}, {100 * cell.high:.1f}]" if math.isfinite(cell.low + cell.high) else ""
    return f'<td{edge} title="{interval}">{100 * cell.mean:.1f}</td>'


def _count(cell: Cell) -> str:
    """A large count, short where it is long, with the exact figure on hover."""
    if not math.isfinite(cell.mean):
        return "<td>–</td>"
    for least, unit, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if cell.mean >= least:
            return f'<td title="{cell.mean:,.0f}">{cell.mean / unit:.1f}{letter}</td>'
    return f"<td>{cell.mean:,.0f}</td>"


def _diverged(cell: Cell) -> str:
    """The count of diverged members, marked where there are any."""
    if not math.isfinite(cell.mean):
        return '<td class="first">–</td>'
    if cell.mean <= 0:
        return '<td class="first">0</td>'
    return f'<td class="first warn">⚠ {cell.mean:g}</td>'


def similarity_table(run: Run) -> str:
    """Measured similarity of copies to their source, by copies level."""
    measured = run.manifest.get("similarity")
    measured = measured if isinstance(measured, dict) else {}
    first = next(iter(measured.values()), {})
    kinds = [kind for kind in MEASURES if kind in first] or ["pixel", "embedding"]
    rows = []
    for level in run.summary.levels:
        found = measured.get(str(level)) or measured.get(level) or {}
        cells = ""
        for kind in kinds:
            values = found.get(kind) if isinstance(found, dict) else None
            pooled = _any_entry(run.summary, level, f"similarity_{kind}").mean
            cells += _quantiles(values if isinstance(values, dict) else {"mean": pooled})
        if any(character.isdigit() for character in cells):
            rows.append(f'<tr><th class="name" scope="row">{level}</th>{cells}</tr>')
    if not rows:
        return "<p>This run stored no measured similarity.</p>"
    groups = "".join(f'<th class="group" colspan="2" scope="colgroup">{MEASURES[kind]}</th>' for kind in kinds)
    each = '<th class="first" scope="col">mean</th><th scope="col">5% · 50% · 95%</th>' * len(kinds)
    head = f'<thead><tr><th class="name" rowspan="2" scope="col">Copies</th>{groups}</tr><tr>{each}</tr></thead>'
    about = "Cosine similarity of each copy to its target; 1 = identical. “Embedding”: features of the original models."
    if "edit" in kinds:
        about += " Edit distance: share of words and marks to change; 0 = identical."
    table = f"<table>{head}<tbody>{''.join(rows)}</tbody></table>"
    return f'<p class="caption">{about} {link()}</p><div class="scroll fit">{table}</div>'


def _quantiles(values: dict[str, Any]) -> str:
    """Mean and quantiles of one kind of similarity, in two table cells."""
    number = lambda name: f"{values[name]:.3f}" if _finite(values.get(name)) else ""
    spread = " · ".join(filter(None, (number("q05"), number("q50"), number("q95"))))
    return f'<td class="first">{number("mean") or "–"}</td><td>{spread or "–"}</td>'


def carriers_table(summary: Summary) -> str:
    """What influence says that the similar samples carry, beside what retraining really keeps; '' where not told."""
    rows = []
    for level in summary.levels:
        told = summary.find(level, "original", "carried_by_similar")
        if math.isfinite(told.mean):
            cells = figure_cell(told, 2) + figure_cell(summary.residual(level, "retrain"), 2)
            rows.append(f'<tr><th class="name" scope="row">{level}</th>{cells}</tr>')
    if not rows:
        return ""
    about = (
        "Left: of what each cluster says of its target's margin under the original models, the share that the similar "
        "samples say (EK-FAC influence; nothing is deleted or retrained). Right: the residual influence of retraining "
        "without the request."
    )
    head = (
        '<thead><tr><th class="name" scope="col">Copies</th><th scope="col">carried by similar,<br>predicted</th>'
        '<th scope="col">kept by retraining,<br>measured</th></tr></thead>'
    )
    table = f"<table>{head}<tbody>{''.join(rows)}</tbody></table>"
    return f'<p class="caption">{about} {link()}</p><div class="scroll fit">{table}</div>'


def _any_entry(summary: Summary, level: int, metric: str) -> Cell:
    """A metric of the level, whichever row carries it."""
    cells = (summary.find(level, entry, metric) for entry in summary.entries(level))
    return next((cell for cell in cells if math.isfinite(cell.mean)), Cell())


def _finite(value: Any) -> bool:
    """Whether a manifest value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)

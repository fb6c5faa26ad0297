"""The tables of an audit: metrics by populations, and how the metrics rank the methods."""

from __future__ import annotations

import math
from html import escape

from unlearn_jax.reports.audit_load import REFERENCES, Audit, Key, Ranks, Row
from unlearn_jax.reports.audit_metrics import MAIN, Metric, named
from unlearn_jax.reports.audit_words import apart, main_keys
from unlearn_jax.reports.style import COLOURS
from unlearn_jax.reports.words import minus

MAX_METHODS = 12  # beyond, the page says who is nearest and folds the ranks of all away
SEES = '<th scope="col">sees what<br>retraining left</th>'


def figures_table(audit: Audit, chosen: list[tuple[Metric, Key]], populations: list[str]) -> str:
    """Metrics by populations, with intervals, null bands, and what is inside them shaded."""
    banded = any(math.isfinite(r.null_low + r.null_high) for _, key in chosen for r in audit.figures[key].values())
    band = '<th class="first" scope="col">null band</th>' if banded else ""
    head = "".join(_population(audit, label) for label in populations)
    rows, group = [], ""
    for metric, key in chosen:
        if metric.group and metric.group != group:
            group = metric.group
            width = len(populations) + banded
            head_of = f'<th class="name" scope="rowgroup">{escape(group)}</th>'
            rows.append(f'<tr class="group">{head_of}<td colspan="{width}"></td></tr>')
        figures = audit.figures[key]
        cells = "".join(figure_cell(figures.get(label), metric) for label in populations)
        first = next(iter(figures.values()))
        cells = (_band(first, metric) if banded else "") + cells
        rows.append(f'<tr><th class="name" scope="row">{escape(metric.name)}</th>{cells}</tr>')
    return (
        f'<div class="scroll"><table class="audit"><thead><tr><th class="name" scope="col">Metric</th>{band}{head}'
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _population(audit: Audit, label: str) -> str:
    """The head of a population's column."""
    tag = f"like {audit.kind}" if label == "null" else "reference" if label in REFERENCES else ""
    tag = f'<span class="tag">{tag}</span>' if tag else ""
    return f'<th scope="col">{dot(label)}{breakable(label)}{tag}</th>'


def breakable(label: str) -> str:
    """A population's label, escaped, that may break between words."""
    return escape(label).replace("_", "_<wbr>").replace("[", "<wbr>[").replace(",", ",<wbr>")


def dot(label: str) -> str:
    """The colour of a population, where it has one of its own."""
    return f'<span class="dot" style="background:var(--{label})"></span>' if label in COLOURS else ""


def number(value: float, metric: Metric) -> str:
    """A figure as the page writes it."""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return "–" if math.isnan(value) else minus(f"{value * metric.scale:.{metric.digits}f}")


def figure_cell(row: Row | None, metric: Metric) -> str:
    """A figure with its interval below, shaded inside the null band; the interval over members on hover."""
    if row is None or math.isnan(row.value):
        return "<td>–</td>"
    below, title = "", f"n = {row.n:g}" if math.isfinite(row.n) else ""
    if math.isfinite(row.low + row.high):
        below = f'<span class="ci">[{number(row.low, metric)}, {number(row.high, metric)}]</span>'
    if math.isfinite(row.members_low + row.members_high):
        title = f"members only: [{number(row.members_low, metric)}, {number(row.members_high, metric)}], {title}"
    kind = ' class="inside"' if row.inside else ""
    return f'<td{kind} title="{escape(title, quote=True)}">{number(row.value, metric)}{below}</td>'


def _band(row: Row, metric: Metric) -> str:
    """The null band of a metric."""
    if not math.isfinite(row.null_low + row.null_high):
        return '<td class="first">–</td>'
    low, high = number(row.null_low, metric), number(row.null_high, metric)
    told = {"small": f"≤ {high}", "large": f"≥ {low}"}.get(row.better, f"[{low}, {high}]")
    return f'<td class="first">{told}</td>'


def other_keys(audit: Audit, reference: str) -> list[tuple[Metric, Key]]:
    """All other figures against a reference ('' = of the models alone)."""
    main = {key for _, key in main_keys(audit, reference)}
    return [(named(key), key) for key in audit.figures if key[3] == reference and key not in main]


def rank_table(audit: Audit) -> str:
    """Ranks of the methods by each main metric, under each reference; '' where nothing is ranked."""
    methods = audit.methods
    rows = []
    for metric in MAIN:
        keys = {r: audit.find(metric.metric, metric.variant, metric.split, r) for r in audit.references}
        ranks = {r: audit.ranks.get(key) for r, key in keys.items()}
        if any(found is not None for found in ranks.values()):
            cells = "".join(_ranked(audit, metric, r, keys[r], ranks[r], methods) for r in audit.references)
            rows.append(f'<tr><th class="name" scope="row">{escape(metric.name)}</th>{cells}</tr>')
    if not rows or len(methods) < 2:
        return ""
    full = _rank_matrix(audit, methods, rows)
    if len(methods) <= MAX_METHODS:
        return full
    return f"{_nearest_table(audit)}<details><summary>Ranks of all {len(methods)} methods</summary>{full}</details>"


def _rank_matrix(audit: Audit, methods: list[str], rows: list[str]) -> str:
    """Metrics by methods, under each reference."""
    groups, each, judged = "", "", "oracle" in audit.references
    for reference in audit.references:
        width = len(methods) + judged + (reference == "oracle")
        groups += f'<th class="group" colspan="{width}" scope="colgroup">{dot(reference)}against {reference}</th>'
        edges = [' class="first"', *[""] * len(methods)]
        each += "".join(f'<th scope="col"{edge}>{breakable(name)}</th>' for edge, name in zip(edges, methods))
        each += '<th class="first" scope="col">tau</th>' if judged else ""
        each += SEES if reference == "oracle" else ""
    fit = " fit" if len(audit.references) * len(methods) < 5 else ""
    return (
        f'<div class="scroll{fit}"><table class="audit ranks"><thead><tr><th class="name" rowspan="2" scope="col">'
        f"Metric</th>{groups}</tr><tr>{each}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _nearest_table(audit: Audit) -> str:
    """By metric, the methods nearest to the ideal under each reference, for many methods."""
    judged, head, rows = "oracle" in audit.references, "", []
    for reference in audit.references:
        head += f'<th class="first words" scope="col">{dot(reference)}nearest by {reference}</th>'
        head += ('<th scope="col">tau</th>' if judged else "") + (SEES if reference == "oracle" else "")
    for metric in MAIN:
        keys = {r: audit.find(metric.metric, metric.variant, metric.split, r) for r in audit.references}
        ranks = {r: audit.ranks.get(key) for r, key in keys.items()}
        if not any(found is not None for found in ranks.values()):
            continue
        cells = ""
        for reference, found in ranks.items():
            cells += f'<td class="first words">{_nearest(found)}</td>'
            cells += f"<td>{_tau(found)}</td>" if judged else ""
            cells += _sees(audit, keys[reference], found) if reference == "oracle" else ""
        rows.append(f'<tr><th class="name" scope="row">{escape(metric.name)}</th>{cells}</tr>')
    return (
        f'<div class="scroll"><table class="audit ranks"><thead><tr><th class="name" scope="col">Metric</th>{head}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _nearest(ranks: Ranks | None, most: int = 3) -> str:
    """The methods of the first ranks, with their bounds."""
    places = [(p, name) for name, p in (ranks.places if ranks else {}).items() if math.isfinite(p[0])]
    told = [f'{breakable(name)} <span class="ci">{low:g}–{high:g}</span>' for (_, low, high), name in sorted(places)]
    return ", ".join(told[:most]) or "–"


def _tau(ranks: Ranks | None) -> str:
    """Kendall's tau as the page writes it."""
    return "–" if ranks is None or math.isnan(ranks.tau) else minus(f"{ranks.tau:.2f}")


def _ranked(audit: Audit, metric: Metric, reference: str, key, ranks: Ranks | None, methods: list[str]) -> str:
    """The cells of one metric under one reference."""
    cells = ""
    for i, method in enumerate(methods):
        rank, low, high = ranks.places.get(method, (math.nan,) * 3) if ranks else (math.nan,) * 3
        kinds = " ".join(filter(None, ("first" if i == 0 else "", f"best {reference}" if rank == 1 else "")))
        kind = f' class="{kinds}"' if kinds else ""
        if math.isnan(rank):
            cells += f"<td{kind}>–</td>"
            continue
        bounds = f'<span class="ci">{low:g}–{high:g}</span>' if math.isfinite(low + high) else ""
        cells += f"<td{kind}>{rank:g}{bounds}</td>"
    cells += f'<td class="first">{_tau(ranks)}</td>' if "oracle" in audit.references else ""
    return cells + (_sees(audit, key, ranks) if reference == "oracle" else "")


def _sees(audit: Audit, key, ranks: Ranks | None) -> str:
    """Whether a metric puts retraining outside the null band, and where its interval leaves that open."""
    if ranks is None or ranks.detects is None:
        return "<td>–</td>"
    row = audit.figures[key].get("retrain")
    if not ranks.detects:
        return '<td class="inside">no</td>'
    tag = "interval reaches the band" if row is not None and apart(row) is False else ""
    return f"<td>yes{f'<span class=tag>{tag}</span>' if tag else ''}</td>"

"""The tables of an audit: metrics by populations, and how the metrics rank the methods."""

from __future__ import annotations

import math

from unlearn_jax.reports.audit_load import REFERENCES, Audit, Key, Ranks, Row
from unlearn_jax.reports.audit_words import apart, main_keys
from unlearn_jax.reports.metric_rows import Shown, main_rows, named
from unlearn_jax.reports.render import Table, Td, Tr, cell, number, row, table
from unlearn_jax.reports.style import COLOURS

NONE = "–"
MAX_METHODS = 12  # beyond, the page says who is nearest and folds the ranks of all away
NEAREST = 3  # methods told of then
SEES = "sees what\nretraining left"
NOWHERE = (math.nan,) * 3


def figures_table(audit: Audit, chosen: list[tuple[Shown, Key]], populations: list[str]) -> Table:
    """Metrics by populations, with intervals, null bands, and what is inside them shaded."""
    banded = any(math.isfinite(r.null_low + r.null_high) for _, key in chosen for r in audit.figures[key].values())
    rows, group = [], ""
    for metric, key in chosen:
        if metric.group and metric.group != group:
            group = metric.group
            rows.append(Tr(Td(group), [Td(columns=len(populations) + banded)], "group"))
        by_label = audit.figures[key]
        cells = [_figure(by_label.get(label), metric) for label in populations]
        rows.append(row(metric.name, [*([_band(next(iter(by_label.values())), metric)] if banded else []), *cells]))
    heads = [Td("null band", kind="first")] if banded else []
    return table("Metric", [*heads, *(_population(audit, label) for label in populations)], rows)


def _population(audit: Audit, label: str) -> Td:
    tag = f"like {audit.kind}" if label == "null" else "reference" if label in REFERENCES else ""
    return Td(label, tag=tag, dot=label if label in COLOURS else "", breaks=True)


def _number(value: float, metric: Shown) -> str:
    return number(value * metric.scale, metric.digits, NONE)


def _span(low: float, high: float, metric: Shown) -> str:
    """An interval; nothing where it is not known."""
    return f"[{_number(low, metric)}, {_number(high, metric)}]" if math.isfinite(low + high) else ""


def _figure(row_of: Row | None, metric: Shown) -> Td:
    """A figure with its interval below, shaded inside the null band; the interval over members on hover."""
    if row_of is None or math.isnan(row_of.value):
        return Td(NONE)
    members = _span(row_of.members_low, row_of.members_high, metric)
    counted = [f"members only: {members}"] * bool(members) + [f"n = {row_of.n:g}"] * math.isfinite(row_of.n)
    below = _span(row_of.low, row_of.high, metric)
    return Td(_number(row_of.value, metric), below, title=", ".join(counted), kind="inside" * bool(row_of.inside))


def _band(row_of: Row, metric: Shown) -> Td:
    span = _span(row_of.null_low, row_of.null_high, metric)
    ends = {"small": f"≤ {_number(row_of.null_high, metric)}", "large": f"≥ {_number(row_of.null_low, metric)}"}
    return Td(ends.get(row_of.better, span) if span else NONE, kind="first")


def other_keys(audit: Audit, reference: str) -> list[tuple[Shown, Key]]:
    """All other figures against a reference ('' = of the models alone)."""
    main = {key for _, key in main_keys(audit, reference)}
    return [(named(key), key) for key in audit.figures if key[3] == reference and key not in main]


def rank_tables(audit: Audit) -> list[Table]:
    """Ranks of the methods by each main metric, under each reference: of many methods the nearest, then of all."""
    keys_of: dict[str, dict[str, Key | None]] = {}
    for metric in main_rows():
        keys = {r: audit.find(metric.metric, metric.variant, metric.split, r) for r in audit.references}
        if any(key in audit.ranks for key in keys.values()):
            keys_of[metric.name] = keys
    methods = audit.methods
    if not keys_of or len(methods) < 2:
        return []
    full = _matrix(audit, methods, keys_of)
    return [full] if len(methods) <= MAX_METHODS else [_nearest_table(audit, keys_of), full]


def _judged(audit: Audit, reference: str) -> list[Td]:
    tau = [Td("tau", kind="first")] if "oracle" in audit.references else []
    return tau + ([Td(SEES)] if reference == "oracle" else [])


def _judgement(audit: Audit, reference: str, key: Key | None) -> list[Td]:
    """Kendall's tau of a ranking, and whether its metric sees what retraining left."""
    ranks = audit.ranking(key)
    tau = number(ranks.tau, 2, NONE) if ranks else NONE
    cells = [Td(tau, kind="first")] if "oracle" in audit.references else []
    return cells + ([_sees(audit, key, ranks)] if reference == "oracle" else [])


def _matrix(audit: Audit, methods: list[str], keys_of: dict[str, dict[str, Key | None]]) -> Table:
    """Metrics by methods, under each reference."""
    above, below = [Td("Metric", kind="name", rows=2)], []
    for reference in audit.references:
        heads = [Td(name, kind="first" * (n == 0), breaks=True) for n, name in enumerate(methods)]
        heads += _judged(audit, reference)
        above.append(Td(f"against {reference}", kind="group", columns=len(heads), dot=reference))
        below += heads
    rows = [
        row(name, [one for r, key in keys.items() for one in _ranked(audit, r, key, methods)])
        for name, keys in keys_of.items()
    ]
    return Table([above, below], rows, "audit ranks", fit=len(audit.references) * len(methods) < 5)


def _ranked(audit: Audit, reference: str, key: Key | None, methods: list[str]) -> list[Td]:
    """The cells of one metric under one reference."""
    ranks, cells = audit.ranking(key), []
    for place, method in enumerate(methods):
        rank, low, high = ranks.places.get(method, NOWHERE) if ranks else NOWHERE
        kind = " ".join(["first"] * (place == 0) + [f"best {reference}"] * (rank == 1))
        bounds = f"{low:g}–{high:g}" if math.isfinite(low + high) else ""
        cells.append(Td(NONE if math.isnan(rank) else f"{rank:g}", "" if math.isnan(rank) else bounds, kind=kind))
    return cells + _judgement(audit, reference, key)


def _nearest_table(audit: Audit, keys_of: dict[str, dict[str, Key | None]]) -> Table:
    """By metric, the methods nearest to the ideal under each reference, for many methods."""
    heads, rows = [], []
    for reference in audit.references:
        heads.append(Td(f"nearest by {reference}", kind="first words", dot=reference))
        heads += _judged(audit, reference)
    for name, keys in keys_of.items():
        cells = []
        for reference, key in keys.items():
            cells.append(Td(parts=_nearest(audit.ranking(key)), kind="first words"))
            cells += _judgement(audit, reference, key)
        rows.append(row(name, cells))
    return table("Metric", heads, rows, "audit ranks")


def _nearest(ranks: Ranks | None) -> list[Td]:
    """The methods of the first ranks, with their bounds."""
    places = sorted((p, name) for name, p in (ranks.places if ranks else {}).items() if math.isfinite(p[0]))
    nearest = [Td(name, f"{low:g}–{high:g}", breaks=True) for (_, low, high), name in places[:NEAREST]]
    return nearest or [cell(NONE)]


def _sees(audit: Audit, key: Key | None, ranks: Ranks | None) -> Td:
    """Whether a metric puts retraining outside the null band, and where its interval leaves that open."""
    if key is None or ranks is None or ranks.detects is None:
        return Td(NONE)
    if not ranks.detects:
        return Td("no", kind="inside")
    retrained = audit.figures[key].get("retrain")
    return Td("yes", tag="interval reaches the band" if retrained is not None and apart(retrained) is False else "")

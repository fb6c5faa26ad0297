"""The page of a study: what its template shows, as plain values."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.evaluation.frontier import GATE
from unlearn_jax.reports import audit_words, figures, tables_of_study, words
from unlearn_jax.reports.audit_load import read_audit
from unlearn_jax.reports.frontier_figure import frontier_figure, plotted
from unlearn_jax.reports.gallery import gallery_of
from unlearn_jax.reports.load import Run, number_told
from unlearn_jax.reports.provenance import made_of
from unlearn_jax.reports.render import Figure, drawn, facts, number, page

MAX_PANELS = 12  # methods in small panels
SAID = 3  # remedies that are held against their methods alone in words; the table has them all


def render(run: Run) -> str:
    """The whole page of a run as one HTML document."""
    summary, level = run.summary, run.summary.levels[-1]
    dataset = summary.facts["dataset"]
    band = summary.band(level)
    return page(
        "study.html",
        title="What deletion leaves behind when similar samples stay" + (f": {dataset}" if dataset else ""),
        unfinished=run.unfinished,
        answer=words.headline(run),
        facts=facts(_facts(run)),
        left_out="; ".join(summary.left_out),
        level=level,
        at=at(level),
        several=len(summary.levels) > 1,
        identifiable=summary.identifiable(level),
        band=f"{band:.3f}" if math.isfinite(band) else "",
        unreadable="" if summary.identifiable(level) else words.why_unreadable(run, level),
        span=words.plain(summary.span(level)),
        nats=number(summary.find(level, "oracle", "null_band", reference="oracle").mean),
        without_copies=words.without_copies(summary),
        wrecked=any(summary.wrecked(level, entry) for entry in summary.entries(level)),
        gate=f"{100 * GATE:.0f}",
        methods=tables_of_study.methods_table(summary, level),
        answers=tables_of_study.language_table(summary, level),
        further=tables_of_study.further_table(summary, level),
        gallery=gallery_of(run),
        carriers=tables_of_study.carriers_table(summary),
        similarity=tables_of_study.similarity_table(run),
        edits="edit" in tables_of_study.kinds_of_similarity(run),
        audit=audit_told(run.path),
        made=made_of(run),
        **_drawings(run),
    )


def at(level: int) -> str:
    """A heading's copies level."""
    return f" at {level} {'copy' if level == 1 else 'copies'}"


def drawings_of(run: Run, level: int) -> dict[str, Callable]:
    """The figures by name, as functions of the width in inches."""
    summary = run.summary
    measured = lambda e: not e.is_reference and math.isfinite(summary.residual(level, e).mean)
    methods = list(filter(measured, summary.entries(level)))
    drawings: dict[str, Callable] = {"main": partial(figures.main_figure, summary)}
    if level in summary.shares:
        drawings["gamma"] = partial(figures.gamma_figure, summary, level, summary.shares[level])
    if len(summary.levels) > 1 and methods:
        drawings["methods"] = partial(figures.methods_figure, summary, methods[:MAX_PANELS])
    if any(plotted(summary, level, e) for e in methods):
        drawings["frontier"] = partial(frontier_figure, summary, level)
    drawings["forest"] = partial(figures.forest_figure, summary, level)
    if run.margins:
        drawings["margins"] = partial(figures.margins_figure, run.margins)
    return drawings


def _facts(run: Run) -> dict[str, Any]:
    """The setting of the study."""
    axes, config = run.summary.facts, run.manifest["config"]
    requests, members = config.get("requests") or 1, config.get("members")
    each = lambda value: f"{value} a request" if requests > 1 else str(value)
    number = number_told(config, run.sizes)
    return {
        "Data": axes["dataset"],
        "Model": axes["model"],
        "Targets": " ".join(v for v in (each(number) if number else "", axes["targets"]) if v),
        "Similarity": axes["similarity"],
        "Copies": ", ".join(map(str, run.summary.levels)),
        "Members": f"{members} ({each(members // requests)})" if members and requests > 1 else members,
        "Requests": config.get("requests"),
    }


def _drawings(run: Run) -> dict[str, Any]:
    """The figures, and what their captions count."""
    summary, level = run.summary, run.summary.levels[-1]
    drawings, methods = drawings_of(run, level), [e for e in summary.entries(level) if not e.is_reference]
    values = list(run.margins.values())
    if not methods:
        drawings.pop("forest")  # the first figure shows them
    if not any(np.isfinite(margins).any() for margins in values):
        drawings.pop("margins", None)
    share = lambda m: drawn(drawings_of(run, m)["gamma"], f"gamma{m}", "Residual influence by identified fraction", m)

    def figure(name: str, place: str, label: str, at: int | None = level) -> Figure | None:
        return drawn(drawings.get(name), place, label, at)

    return {
        "curve": figure("main", "curve", "Residual influence of the reference populations by number of copies", None),
        "shares": [(share(m), at(m)) for m in summary.shares],
        "panels": figure("methods", "panels", "Residual influence by method", None),
        "methods_count": sum(math.isfinite(summary.residual(level, e).mean) for e in methods),
        "most": MAX_PANELS,
        "frontier": _frontier(run, figure("frontier", "frontier", "Residual distance against excess price")),
        "forest": figure("forest", "forest", "Residual distance and signed residual influence with intervals"),
        "margins": figure("margins", "margins", "Histograms of margins"),
        "count": max((margins.size for margins in values), default=0),
        "lost": sum(int((~np.isfinite(margins)).sum()) for margins in values),
    }


def _frontier(run: Run, figure: Figure | None) -> dict[str, Any] | None:
    """Influence against price; None where the run has no frontier."""
    summary, level = run.summary, run.summary.levels[-1]
    entries = [e for e in summary.entries(level) if not e.is_reference]
    if not any(math.isfinite(summary.find(level, e, "frontier_share").mean) for e in entries):
        return None
    return {
        "several": len({(e.method, e.remedy) for e in entries}) < len(entries),
        "figure": figure,
        "table": tables_of_study.frontier_table(summary, level),
        "search": tables_of_study.searched(summary, level),
        "alone": words.without_remedy(summary, level)[:SAID],
    }


def audit_told(run: Path) -> dict[str, Any]:
    """What the page of a study says of its audit: its summary, or why it cannot be read; nothing where it has none."""
    if not ((run / "audit" / "audit.json").is_file() and (run / "audit.html").is_file()):
        return {"fault": "", "lines": []}
    try:
        return {"fault": "", "lines": audit_words.summary(read_audit(run / "audit"))}
    except InputError as error:
        return {"fault": str(error), "lines": []}

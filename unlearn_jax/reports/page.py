"""The page of a study: what its template shows, as plain values."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.reports import audit_words, figures, frontier, tables_of_study, words
from unlearn_jax.reports.audit_load import read_audit
from unlearn_jax.reports.frontier_figure import frontier_figure
from unlearn_jax.reports.gallery import gallery_of
from unlearn_jax.reports.load import Run, number_told
from unlearn_jax.reports.provenance import made_of
from unlearn_jax.reports.render import drawn, facts, page

MAX_PANELS = 12  # methods in small panels


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
        findings=words.findings(run),
        frontier=_frontier(run),
        methods=tables_of_study.methods_table(summary, level),
        answers=tables_of_study.language_table(summary, level),
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


def drawn_methods(run: Run, level: int) -> list:
    """The methods that have a residual."""
    summary = run.summary
    return [e for e in summary.entries(level) if not e.is_reference and math.isfinite(summary.residual(level, e).mean)]


def _facts(run: Run) -> dict[str, Any]:
    """The setting of the study."""
    told, config = run.summary.facts, run.manifest["config"]
    requests, members = config.get("requests") or 1, config.get("members")
    each = lambda value: f"{value} a request" if requests > 1 else str(value)
    number = number_told(config, run.sizes)
    return {
        "Data": told["dataset"],
        "Model": told["model"],
        "Targets": " ".join(v for v in (each(number) if number else "", told["targets"]) if v),
        "Similarity": told["similarity"],
        "Copies": ", ".join(map(str, run.summary.levels)),
        "Members": f"{members} ({each(members // requests)})" if members and requests > 1 else members,
        "Requests": config.get("requests"),
    }


def _drawings(run: Run) -> dict[str, Any]:
    """The figures but the frontier, and what their captions count."""
    summary, level = run.summary, run.summary.levels[-1]
    methods = drawn_methods(run, level) if len(summary.levels) > 1 else []
    shown = methods[:MAX_PANELS]
    told = {
        "curve": drawn(lambda w: figures.main_figure(summary, w), "curve",
                       "Residual influence of the reference populations by number of copies"),
        "shares": [
            (drawn(lambda w, m=m, s=s: figures.gamma_figure(summary, m, s, w), f"gamma{m}",
                   "Residual influence by identified fraction", m), at(m))
            for m, s in summary.shares.items()
        ],
        "shown": len(shown),
        "methods_count": len(methods),
        "panels": None,
        "forest": None,
        "margins": _margins(run),
    }  # fmt: skip
    if shown:
        draw = lambda width: figures.methods_figure(summary, shown, width)
        told["panels"] = drawn(draw, "panels", "Residual influence by method")
    if any(not e.is_reference for e in summary.entries(level)):  # else the first figure shows them
        draw, label = (
            lambda width: figures.forest_figure(summary, level, width),
            "Residual distance and signed residual",
        )
        told["forest"] = drawn(draw, "forest", f"{label} influence with intervals", level)
    return told


def _margins(run: Run) -> dict[str, Any]:
    """Histograms of the references' margins."""
    every = list(run.margins.values())
    if not any(np.isfinite(values).any() for values in every):
        return {"figure": None}
    return {
        "figure": drawn(lambda w: figures.margins_figure(run.margins, w), "margins", "Histograms of margins",
                        run.summary.levels[-1]),
        "count": max(values.size for values in every),
        "lost": sum(int((~np.isfinite(values)).sum()) for values in every),
    }  # fmt: skip


def _frontier(run: Run) -> dict[str, Any] | None:
    """Influence against price; None where the run has no frontier."""
    summary, level = run.summary, run.summary.levels[-1]
    entries = [e for e in summary.entries(level) if not e.is_reference]
    if not any(math.isfinite(summary.find(level, e, "frontier_share").mean) for e in entries):
        return None
    draw = lambda width: frontier_figure(summary, level, width)
    return {
        "words": frontier.frontier_words(summary, level),
        "figure": drawn(draw, "frontier", "Residual distance against excess price", level),
        "table": tables_of_study.frontier_table(summary, level),
        "search": tables_of_study.searched(summary, level),
    }


def audit_told(run: Path) -> dict[str, Any]:
    """What the page of a study says of its audit: its summary, or why it cannot be read; nothing where it has none."""
    if not ((run / "audit" / "audit.json").is_file() and (run / "audit.html").is_file()):
        return {"fault": "", "lines": []}
    try:
        return {"fault": "", "lines": audit_words.summary(read_audit(run / "audit"))}
    except InputError as error:
        return {"fault": str(error), "lines": []}

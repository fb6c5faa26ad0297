"""The page of an audit: what its template shows, as plain values."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from markupsafe import Markup

from unlearn_jax.reports import audit_figures as figures
from unlearn_jax.reports import audit_words as words
from unlearn_jax.reports.audit_load import Audit
from unlearn_jax.reports.audit_tables import figures_table, other_keys, rank_tables
from unlearn_jax.reports.metric_rows import ALIKE, main_rows
from unlearn_jax.reports.panels import MAX_PANELS
from unlearn_jax.reports.render import Figure, drawn, facts, inline, made, page


def render_audit(audit: Audit, report: str = "") -> str:
    """The whole page of an audit as one HTML document; ``report`` = address of the study's page."""
    manifest = audit.manifest
    dataset = str(manifest["facts"].get("dataset") or "")
    drawings = {name: _short(drawn(draw, name, DRAWINGS[name][0])) for name, draw in drawings_of(audit).items()}
    curves = lambda kinds: figures.drawn_labels(audit, *kinds, most=figures.audit_ends(audit))
    return page(
        "audit.html",
        title="What the audits see" + (f": {dataset}" if dataset else ""),
        answer=words.headline(audit),
        retrained=words.seen(audit, "oracle", "retrain")[1] > 0,
        main="oracle" if "oracle" in audit.references else "retrain",
        kind=audit.kind,
        counts=words.counts(audit),
        report=report,
        facts=facts(_facts(audit)),
        references=[_metrics(audit, name) for name in audit.references],
        ranks=rank_tables(audit),
        methods=len(audit.methods),
        judged="oracle" in audit.references,
        disagreement=words.disagreement(audit),
        drawings=drawings,
        headings={name: heading for name, (heading, *_) in DRAWINGS.items()},
        left={name: len(curves(kinds)) - MAX_PANELS for name, (*_, kinds) in DRAWINGS.items() if kinds},
        about_words="The metrics",
        definitions=_definitions(audit),
        notes=manifest.get("notes") or [],
        made=made(
            manifest | {"notes": []},
            Draws=inline(manifest.get("precision")),
            Longest=_longest(manifest.get("seconds")),
            Members=inline(manifest["members"]),
            Run=inline(manifest.get("run")),
            Logits=inline(manifest.get("logits")),
        ),
    )


def _facts(audit: Audit) -> dict[str, Any]:
    """The setting of the audit."""
    told, members = audit.manifest["facts"], audit.manifest["members"]
    counts = sorted(set(members.values()))
    extra = {name: sum(members[label] for label in audit.alike(name)) for name in audit.references}
    return {
        "Data": told.get("dataset"),
        "Model": told.get("model"),
        "Targets": told.get("targets"),
        "Similarity": told.get("similarity"),
        "Copies": told.get("copies"),
        "Named share": f"{told['gamma']:.2f}" if isinstance(told.get("gamma"), int | float) else None,
        "Members": f"{counts[0]} each" if len(counts) == 1 else inline(members),
        "Examples": ", ".join(f"{n} {split.replace('_', ' ')}" for split, n in audit.manifest["examples"].items()),
        "Null bands": ", ".join(f"{n} more like {r}" if n else f"halves of {r}" for r, n in extra.items()),
    }


def _metrics(audit: Audit, reference: str) -> dict[str, Any]:
    """The table of one reference, and what else was measured."""
    populations = [label for label in audit.populations if label != reference]
    alone = other_keys(audit, "") if reference == audit.references[0] else []
    alone = [(metric, key) for metric, key in alone if len(audit.figures[key]) > 1 and not key[0].startswith("cost_")]
    return {
        "name": reference,
        "aside": reference == "retrain" and "oracle" in audit.references,
        "alike": audit.alike(reference),
        "uneven": len({audit.manifest["members"].get(label) for label in populations}) > 1,
        "table": figures_table(audit, words.main_keys(audit, reference), populations),
        "others": figures_table(audit, other_keys(audit, reference), populations),
        "alone": figures_table(audit, alone, audit.populations),
    }


DRAWINGS = {  # heading, drawing function, kinds of curves
    "roc": ("ROC curves of U-LiRA", figures.roc_figure, ("roc",)),
    "klom": ("KLOM target by target", figures.klom_figure, ("klom",)),
    "relearning": ("Relearning", figures.relearning_figure, ("relearning", "benign_relearning")),
    "knowledge": ("Residual knowledge of perturbed inputs", figures.knowledge_figure, ("noisy", "targeted")),
    "distance": ("Difference by distance to the targets", figures.distance_figure, ("distance",)),
    "gaps": ("Accuracy gaps by split", figures.gaps_figure, ()),
}


def drawings_of(audit: Audit) -> dict[str, Callable]:
    """The figures by name, as functions of the width in inches."""
    return {name: partial(draw, audit) for name, (_, draw, _) in DRAWINGS.items()}


def _short(figure: Figure | None) -> Figure | None:
    """A drawing with its coordinates to a hundredth of a point."""
    if figure is None:
        return None
    cut = lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path.group(0))
    short = lambda svg: Markup(re.sub(r' d="[^"]*"', cut, str(svg)))
    return figure._replace(wide=short(figure.wide), narrow=short(figure.narrow))


def _definitions(audit: Audit) -> list[tuple[str, str]]:
    """One line on every metric shown."""
    measured = {(m.metric, m.variant) for r in audit.references for m, _ in words.main_keys(audit, r)}
    pairs = []
    for m in main_rows():
        if m.line and (m.metric, m.variant) in measured:
            source = f"arXiv {m.source}" if m.source[:4].isdigit() else m.source
            ideal = "the null band" if m.ideal == ALIKE else m.ideal
            name = "accuracy gap" if m.metric == "accuracy_gap" else m.name
            pairs.append((name, f"{m.what} Ideal: {ideal}. Source: {source}."))
    return pairs


def _longest(seconds: Any) -> str:
    timed = seconds.items() if isinstance(seconds, dict) else []
    return ", ".join(f"{name} {value:.1f} s" for name, value in sorted(timed, key=lambda pair: -pair[1])[:5])

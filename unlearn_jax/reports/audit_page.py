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
    return page(
        "audit.html",
        title="What the audits see" + (f": {dataset}" if dataset else ""),
        answer=words.headline(audit),
        details=words.details(audit),
        report=report,
        facts=facts(_facts(audit)),
        references=[_metrics(audit, name) for name in audit.references],
        ranks=rank_tables(audit),
        methods=len(audit.methods),
        judged="oracle" in audit.references,
        disagreement=words.disagreement(audit),
        drawings=_drawings(audit),
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
    own = other_keys(audit, "") if reference == audit.references[0] else []
    own = [(metric, key) for metric, key in own if len(audit.figures[key]) > 1 and not key[0].startswith("cost_")]
    return {
        "name": reference,
        "aside": reference == "retrain" and "oracle" in audit.references,
        "alike": audit.alike(reference),
        "uneven": len({audit.manifest["members"].get(label) for label in populations}) > 1,
        "table": figures_table(audit, words.main_keys(audit, reference), populations),
        "others": figures_table(audit, other_keys(audit, reference), populations),
        "alone": figures_table(audit, own, audit.populations),
    }


DRAWINGS = (  # id, heading, drawing function, kinds of curves, caption
    ("roc", "ROC curves of U-LiRA", figures.roc_figure, ("roc",),
     "Scores of all targets and members pooled, cross-fitted; bands: 95%, over halves of the members and drawn "
     "targets. The nearer to chance, the less an attacker can tell a population from the reference. Left of the dotted "
     "line there are too few reference models to resolve a rate. Rates below the axis are drawn at its edge."),
    ("klom", "KLOM target by target", figures.klom_figure, ("klom",),
     "Share of the targets with a KLOM below each value: the further left, the nearer to the reference. Shaded: 95% of "
     "random splits of populations that differ in nothing but their seeds."),
    ("relearning", "Relearning", figures.relearning_figure, ("relearning", "benign_relearning"),
     "Share of the request that models get right before each update; bands: 95%, over members. A population that knows "
     "more of the request before or sooner than the thin lines holds influence, or gets it back from the similar "
     "samples."),
    ("knowledge", "Residual knowledge of perturbed inputs", figures.knowledge_figure, ("noisy", "targeted"),
     "Mean probability of the targets' labels at perturbed inputs over the reference's; 1 = alike, above 1 = knows "
     "more. Bands: 95% intervals. On a logarithmic axis radius 0 is left out."),
    ("distance", "Difference by distance to the targets", figures.distance_figure, ("distance",),
     "How far predictions are from the reference's on samples at each distance to the nearest target; bands: 95%, over "
     "the population's members."),
    ("gaps", "Accuracy gaps by split", figures.gaps_figure, (),
     "Signed; bars: 95% intervals; shaded: the null band. Above 0 on the targets = remembers more than the reference."),
)  # fmt: skip


def drawings_of(audit: Audit) -> dict[str, Callable]:
    """The figures by name, as functions of the width in inches."""
    return {name: partial(draw, audit) for name, _, draw, *_ in DRAWINGS}


def _drawings(audit: Audit) -> list[dict[str, Any]]:
    """Every figure that the audit has data for, with its heading, caption and what it leaves out."""
    found, drawings = [], drawings_of(audit)
    for name, heading, _, kinds, caption in DRAWINGS:
        figure = drawn(drawings[name], name, heading)
        if figure:
            labels = figures.drawn_labels(audit, *kinds, most=figures.audit_ends(audit)) if kinds else []
            told = {"name": name, "heading": heading, "caption": caption, "left": len(labels) - MAX_PANELS}
            found.append(told | {"figure": _short(figure)})
    return found


def _short(figure: Figure) -> Figure:
    """A drawing with its coordinates to a hundredth of a point."""
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
    """The metrics that took most time."""
    known = seconds.items() if isinstance(seconds, dict) else []
    return ", ".join(f"{name} {value:.1f} s" for name, value in sorted(known, key=lambda pair: -pair[1])[:5])

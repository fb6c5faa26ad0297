"""The page of an audit: its frame and its sections in order; every text is escaped."""

from __future__ import annotations

import re
from html import escape

from unlearn_jax.reports import audit_figures as figures
from unlearn_jax.reports import audit_words as words
from unlearn_jax.reports.audit_load import Audit
from unlearn_jax.reports.audit_metrics import ALIKE, MAIN
from unlearn_jax.reports.audit_panels import MAX_PANELS
from unlearn_jax.reports.audit_tables import figures_table, other_keys, rank_table
from unlearn_jax.reports.frame import definitions, document, facts_strip, inline
from unlearn_jax.reports.provenance import BELOW, link
from unlearn_jax.reports.sections import _figure as figure
from unlearn_jax.reports.sections import section
from unlearn_jax.reports.style import WIDE


def render_audit(audit: Audit, report: str = "") -> str:
    """The whole page of an audit as one HTML document; ``report`` = address of the study's page."""
    dataset = str(audit.manifest["facts"].get("dataset") or "")
    title = "What the audits see" + (f": {dataset}" if dataset else "")
    link = f'<p class="caption"><a href="{escape(report, quote=True)}">Report of the study</a></p>' if report else ""
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead" id="answer">{escape(words.headline(audit))}</p>',
        f'<p id="details">{escape(words.details(audit))}</p>{link}',
        facts_strip(_facts(audit)),
        *(section(f"metrics-{name}", f"Metrics against {name}", _metrics(audit, name)) for name in audit.references),
        section("ranks", "How the metrics rank the methods", _ranks(audit)),
        *_drawings(audit),
        section("words", "The metrics", _definitions(audit)),
        section("notes", "Notes", _notes(audit)),
        section("reproduce", "To reproduce", _reproduction(audit)),
    ]
    return document(title, parts)


def _facts(audit: Audit) -> dict[str, str]:
    """The setting of the audit."""
    facts, members = audit.manifest["facts"], audit.manifest["members"]
    counts = sorted(set(members.values()))
    extra = {name: sum(members[label] for label in audit.alike(name)) for name in audit.references}
    bands = [f"{n} more like {name}" if n else f"halves of {name}" for name, n in extra.items()]
    return {
        "Data": facts.get("dataset"),
        "Model": facts.get("model"),
        "Targets": facts.get("targets"),
        "Similarity": facts.get("similarity"),
        "Copies": facts.get("copies"),
        "Named share": f"{facts['gamma']:.2f}" if isinstance(facts.get("gamma"), int | float) else None,
        "Members": f"{counts[0]} each" if len(counts) == 1 else inline(members),
        "Examples": ", ".join(f"{n} {split.replace('_', ' ')}" for split, n in audit.manifest["examples"].items()),
        "Null bands": ", ".join(bands),
    }


READ = (
    "Below a value: its 95% interval (over members alone: on hover). Shaded: inside the null band, where the metric "
    "cannot tell the population from a further one like {kind}; one metric in twenty lies outside by chance."
)


def _metrics(audit: Audit, reference: str) -> str:
    """The table of one reference, and what else was measured, folded away."""
    populations = [label for label in audit.populations if label != reference]
    table = figures_table(audit, words.main_keys(audit, reference), populations)
    about = READ.format(kind=reference)
    if not audit.alike(reference):
        about += f" There is no second population like {reference}: the bands are of its halves, and too wide for "
        about += "distances that fall with the number of members."
    if len({audit.manifest["members"].get(label) for label in populations}) > 1:
        about += " Bands are of each population's number of members; that of the first is shown."
    body = f'<p class="caption">{escape(about)} {link()}</p>{table}'
    if reference == "retrain" and "oracle" in audit.references:
        told = "Retraining is what most papers compare with. It keeps what similar samples teach, so nearness to it "
        told += "says nothing of the influence that stays in them."
        body = f"<p>{escape(told)}</p><details><summary>All metrics against retrain</summary>{body}</details>"
    others = other_keys(audit, reference)
    if others:
        more = figures_table(audit, others, populations)
        body += f"<details><summary>Further variants and splits against {reference}</summary>{more}{BELOW}</details>"
    own = other_keys(audit, "") if reference == audit.references[0] else []
    own = [(metric, key) for metric, key in own if len(audit.figures[key]) > 1 and not key[0].startswith("cost_")]
    if own:
        more = figures_table(audit, own, audit.populations)
        body += f"<details><summary>Figures of the models alone, without a reference</summary>{more}{BELOW}</details>"
        body += '<p class="caption">Costs and figures of the data alone are in audit.csv.</p>'
    return body


def _ranks(audit: Audit) -> str:
    """The matrix of ranks, with what the two references disagree about."""
    table = rank_table(audit)
    if not table:
        return ""
    told = words.disagreement(audit)
    about = (
        "1 = nearest to the metric's ideal (ties share a rank); below: simultaneous 95% bounds of the rank over the "
        "shared draws. Upper bounds and controls are not ranked."
    )
    if "oracle" in audit.references:
        about += (
            " Tau: Kendall's correlation with the order by residual distance to the oracle. “Sees”: retraining lies "
        )
        about += "outside the null band against the oracle."
    lead = f'<p id="disagree">{escape(told)}</p>' if told else ""
    return f'{lead}<p class="caption">{escape(about)} {link()}</p>{table}'


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


def _drawings(audit: Audit) -> list[str]:
    """Every figure that the audit has data for."""
    found = []
    for name, heading, draw, kinds, caption in DRAWINGS:
        wide = draw(audit, WIDE)
        if wide is None:
            continue
        left = len(figures.drawn_labels(audit, *kinds, most=figures.audit_ends(audit))) - MAX_PANELS if kinds else 0
        caption += f" {left} more populations are in curves.npz." if left > 0 else ""
        both = lambda width, wide=wide, draw=draw: wide if width == WIDE else draw(audit, width)
        found.append(section(name, heading, _short(figure(both, name, heading, caption))))
    return found


def _short(svg: str) -> str:
    """A drawing with its coordinates to a hundredth of a point."""
    cut = lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path.group(0))
    return re.sub(r' d="[^"]*"', cut, svg)


def _definitions(audit: Audit) -> str:
    """One line on every metric shown."""
    measured = {(m.metric, m.variant) for r in audit.references for m, _ in words.main_keys(audit, r)}
    pairs = []
    for m in MAIN:
        if m.line and (m.metric, m.variant) in measured:
            source = f"arXiv {m.source}" if m.source[:4].isdigit() else m.source
            ideal = "the null band" if m.ideal == ALIKE else m.ideal
            name = "accuracy gap" if m.metric == "accuracy_gap" else m.name
            pairs.append((name, f"{m.what} Ideal: {ideal}. Source: {source}."))
    about = (
        "The null band of a metric: what 95% of pairs of populations show that differ in nothing but their seeds "
        "(populations like the reference, of as many members as are compared). Oracle: trained without the targets "
        "and all of their similar samples; retrain: without the request alone."
    )
    return f"<p>{escape(about)}</p>{definitions(pairs)}"


def _notes(audit: Audit) -> str:
    """What a reader of the figures must know, as recorded."""
    notes = [str(note) for note in audit.manifest.get("notes") or []]
    return f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>" if notes else ""


def _reproduction(audit: Audit) -> str:
    """Command, device, versions, draws and seconds, as far as they are recorded."""
    manifest = audit.manifest
    total, seconds = manifest.get("seconds_total"), manifest.get("seconds")
    slowest = sorted(seconds.items(), key=lambda pair: -pair[1])[:5] if isinstance(seconds, dict) else []
    times = [f"{total:.1f} s in all"] if isinstance(total, int | float) else []
    times += ["longest: " + ", ".join(f"{name} {value:.1f} s" for name, value in slowest)] if slowest else []
    pairs = [
        ("Finished", inline(manifest.get("finished"))),
        ("Seconds", "; ".join(times)),
        ("Draws", inline(manifest.get("precision"))),
        ("Device", inline(manifest.get("device"))),
        ("Commit", inline(manifest.get("git_commit"))),
        ("Versions", inline(manifest.get("versions"))),
        ("Members", inline(manifest["members"])),
        ("Run", inline(manifest.get("run"))),
        ("Logits", inline(manifest.get("logits"))),
    ]
    command = manifest.get("command")
    told = f"<pre>{escape(str(command))}</pre>" if command else ""
    return f'<div class="box">{told}{definitions([pair for pair in pairs if pair[1]])}</div>'

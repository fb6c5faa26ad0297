"""The HTML page: its frame, its style, and the sections in order; every text is escaped."""

from __future__ import annotations

from html import escape

from unlearn_jax.reports import provenance, words
from unlearn_jax.reports.audit_section import audit_section
from unlearn_jax.reports.frame import definitions, document, facts_strip
from unlearn_jax.reports.frontier import frontier_section
from unlearn_jax.reports.glossary import GLOSSARY
from unlearn_jax.reports.language import language_table
from unlearn_jax.reports.load import Run, number_told
from unlearn_jax.reports.sections import (
    MAX_PICTURES,
    at,
    curve_section,
    forest_section,
    margin_section,
    panels_section,
    picture_section,
    section,
)
from unlearn_jax.reports.table import carriers_table, methods_table, similarity_table


def render(run: Run) -> str:
    """The whole page of a run as one HTML document."""
    summary, level = run.summary, run.summary.levels[-1]
    spoken = language_table(summary, level)
    title = "What deletion leaves behind when similar samples stay"
    title += f": {summary.facts['dataset']}" if summary.facts["dataset"] else ""
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead" id="unfinished">{escape(run.unfinished)}</p>' if run.unfinished else "",
        f'<p class="lead" id="answer">{escape(words.headline(run))}</p>',
        _facts(run),
        curve_section(run),
        section("found", "What was found", _findings(run)),
        panels_section(run),
        frontier_section(run),
        section("methods", f"Methods{at(level)}", methods_table(summary, level)),
        forest_section(run),
        section("answers", f"What is answered{at(level)}", spoken) if spoken else "",
        margin_section(run),
        picture_section(run),
        section("carriers", "Who carries the targets?", carriers_table(summary)),
        section("similarity", "How similar the copies are", similarity_table(run)),
        audit_section(run.path),
        section("words", "How to read this", definitions(GLOSSARY)),
        section("reproduce", "To reproduce", provenance.block(run)),
    ]
    pictures = None if run.gallery is None else run.gallery.get("images")
    return document(title, parts, 1 if pictures is None else min(pictures.shape[1], MAX_PICTURES))


def _facts(run: Run) -> str:
    """The setting of the study in one strip, with what the page leaves out of the file."""
    summary, config = run.summary, run.manifest["config"]
    requests, members = config.get("requests") or 1, config.get("members")
    each = lambda value: f"{value} a request" if requests > 1 else str(value)
    number = number_told(config, run.sizes)
    facts = {
        "Data": summary.facts["dataset"],
        "Model": summary.facts["model"],
        "Targets": " ".join(v for v in (each(number) if number else "", summary.facts["targets"]) if v),
        "Similarity": summary.facts["similarity"],
        "Copies": ", ".join(map(str, summary.levels)),
        "Members": f"{members} ({each(members // requests)})" if members and requests > 1 else members,
        "Requests": config.get("requests"),
    }
    left_out = "; ".join(summary.left_out)
    note = f'<p class="note">summary.csv also holds, not shown here: {escape(left_out)}.</p>' if left_out else ""
    return facts_strip(facts) + note


def _findings(run: Run) -> str:
    """One paragraph a finding, each with a word in front that says what it is about."""
    pairs = words.findings(run)
    told = "".join(f"<p><strong>{escape(lead)}.</strong> {words.named(text)}</p>" for lead, text in pairs)
    return told + (f'<p class="caption">{provenance.link(run.summary.levels[-1])}</p>' if told else "")

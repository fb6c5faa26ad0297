"""The HTML page: its frame, its style, and the sections in order; every text is escaped."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from . import words
from .audit_section import audit_section
from .frontier import frontier_section
from .glossary import GLOSSARY
from .language import language_table
from .load import Run
from .sections import (
    MAX_PICTURES,
    at,
    curve_section,
    forest_section,
    margin_section,
    panels_section,
    picture_section,
    section,
)
from .style import COLOURS
from .table import carriers_table, methods_table, similarity_table


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
        section("reproduce", "To reproduce", _reproduction(run)),
    ]
    pictures = None if run.gallery is None else run.gallery.get("images")
    return document(title, parts, 1 if pictures is None else min(pictures.shape[1], MAX_PICTURES))


def document(title: str, parts: list[str], shown: int = 1) -> str:
    """A page of these sections; ``shown`` = pictures in a strip."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title>\n<style>\n{_css(shown)}</style></head>\n<body><main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main></body></html>\n"
    )


def _css(shown: int) -> str:
    """The style sheet with both palettes."""
    light = ";".join(f"--{name}:{tone.light}" for name, tone in COLOURS.items())
    dark = ";".join(f"--{name}:{tone.dark}" for name, tone in COLOURS.items())
    css = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    css = css.replace("/*light*/", light).replace("/*dark*/", dark)
    return css.replace("STRIP", f"{min(540, 52 * shown + 16)}px")


def _facts(run: Run) -> str:
    """The setting of the study in one strip, with what the page leaves out of the file."""
    summary, config = run.summary, run.manifest["config"]
    requests, members = config.get("requests") or 1, config.get("members")
    each = lambda value: f"{value} a request" if requests > 1 else str(value)
    number = config.get("num_targets") or run.num_targets
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


def facts_strip(facts: dict[str, Any]) -> str:
    """Names and values in one strip, without those that are not known."""
    cells = [
        f"<div{' class=long' * (len(str(value)) > 32)}><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>"
        for name, value in facts.items()
        if value not in (None, "")
    ]
    return f'<dl class="facts">{"".join(cells)}</dl>'


def _findings(run: Run) -> str:
    """One paragraph a finding, each with a word in front that says what it is about."""
    pairs = words.findings(run)
    return "".join(f"<p><strong>{escape(lead)}.</strong> {words.named(text)}</p>" for lead, text in pairs)


def definitions(pairs) -> str:
    """A list of terms."""
    items = "".join(f"<dt>{escape(str(term))}</dt><dd>{escape(str(text))}</dd>" for term, text in pairs)
    return f'<dl class="words">{items}</dl>'


def _reproduction(run: Run) -> str:
    """Command, device, versions, seeds, times and commit, as far as the manifest holds them."""
    manifest = run.manifest
    config, notes = manifest["config"], manifest.get("notes") or []
    command = manifest.get("command")
    command = " ".join(map(str, command)) if isinstance(command, list) else command
    seeds = {name: value for name, value in config.items() if "seed" in name}
    total, compiling = manifest.get("seconds_total"), manifest.get("compile_seconds")
    times = [f"{manifest['started']} to {manifest['finished']}"] if {"started", "finished"} <= set(manifest) else []
    times += [f"{total:.1f} s in all"] if isinstance(total, int | float) else []
    times += [f"of which {compiling:.1f} s compiling"] if isinstance(compiling, int | float) else []
    pairs = [
        ("Device", inline(manifest.get("device"))),
        ("Commit", inline(manifest.get("git_commit"))),
        ("Seeds", inline(seeds)),
        ("Times", ", ".join(times)),
        ("Versions", inline(manifest.get("versions"))),
        ("Benchmark", _benchmark(manifest.get("benchmark") or {})),
        ("Configuration", inline({k: v for k, v in config.items() if k not in seeds and v not in ("", [], 0)})),
        ("Recipe", inline(manifest.get("recipe"))),
        ("Notes", notes if isinstance(notes, str) else "; ".join(map(inline, notes))),
    ]
    shown = f"<pre>{escape(str(command))}</pre>" if command else ""
    return f'<div class="box">{shown}{definitions([pair for pair in pairs if pair[1]])}</div>'


def _benchmark(told: dict) -> str:
    """vision-copies version 1, digest 0123456789ab, as recorded; nothing where the study is of no benchmark."""
    if not told:
        return ""
    state = {True: "as recorded", False: "not as recorded"}.get(told.get("as_recorded"), "")
    changed = f"with other {', '.join(told['changed'])}" if told.get("changed") else ""
    named = f"{told['name']} version {told['version']}"
    return ", ".join(part for part in (named, changed, f"digest {told['digest'][:12]}", state) if part)


def inline(value: Any) -> str:
    """A manifest value in one line of words."""
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{key} {inline(item) or 'none'}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return " ".join(map(inline, value))
    return str(value)

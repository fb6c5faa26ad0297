"""The page of a claim: what it says, what was found, and whether that agrees; every text is escaped."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path
from typing import Any

from unlearn_jax.errors import InputError
from unlearn_jax.reports.page import definitions, document, facts_strip
from unlearn_jax.reports.sections import section
from unlearn_jax.reports.writing import replace
from unlearn_jax.runtime.archives import read_json

from . import words

SPAN, PAD, TALL = 220, 12, 22  # of the strip of a figure, in pixels
COLOUR = {"agrees": "oracle", "disagrees": "original", "not told": "band"}


def write_claim_page(folder: Path) -> Path:
    """Write the page of a claim, ``FOLDER/claim.html``, and return its path.

    Raises `InputError` where the record is missing or damaged, or the page cannot be written.
    """
    try:
        page = render_claim(read_json(Path(folder) / "claim.json"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"the claim in {folder} cannot be read: run experiments/reproduce.py again.") from error
    return replace(Path(folder) / "claim.html", lambda file: file.write(page.encode("utf-8")))


def render_claim(record: dict[str, Any]) -> str:
    """The whole page as one HTML document."""
    parts = [
        f"<h1>{escape(record['title'])}</h1>",
        f'<p class="lead" id="answer">{escape(_answer(record))}</p>',
        facts_strip({"Verdict": record["verdict"], "Device": record["device"], "Seed": record["seed"],
                     "Seconds": f"{record['seconds']:.0f}", "Commit": record["git_commit"]}),
        section("claim", "The claim", _claim(record)),
        section("figures", "What was found", _figures(record)),
        *(section(f"table{n}", table["caption"], _table(table)) for n, table in enumerate(record["tables"])),
        section("limits", "What differs from the source", _list(record["limits"])),
        section("reproduce", "To reproduce", _again(record)),
    ]  # fmt: skip
    return document(record["title"], parts)


def _answer(record: dict[str, Any]) -> str:
    """The verdict in a sentence."""
    said = {
        "agrees": "Our figures agree with the claim",
        "disagrees": "Our figures disagree with the claim",
        "not told": "Our figures do not tell whether the claim holds",
    }
    return f"{said[record['verdict']]}: {record['statement'][0].lower()}{record['statement'][1:]}"


def _claim(record: dict[str, Any]) -> str:
    """Statement, sources, expectation and rule."""
    pairs = [
        ("Claim", record["statement"]),
        ("Source", "; ".join(record["sources"])),
        ("Expected, written before the run", record["expected"]),
        ("Rule", record["rule"]),
    ]
    return definitions(pairs)


def _figures(record: dict[str, Any]) -> str:
    """A row for each figure; those that decide have a strip with the interval and the null."""
    rows = []
    for figure in record["figures"]:
        cells = [words.shown(figure), _strip(figure), escape(words.decides(figure)), escape(figure["expected"])]
        cells[0] = escape(cells[0])
        mark = ' class="reference"' if figure["null"] is not None else ""
        tail = "".join(f'<td class="said">{one}</td>' for one in cells)
        rows.append(f'<tr{mark}><th class="name" scope="row">{escape(figure["name"])}</th>{tail}</tr>')
    heads = ("ours, 95% interval", "beside the null", "decides", "expected")
    return _framed("figure", heads, rows)


def _strip(figure: dict[str, Any]) -> str:
    """The interval on a line with the null as a tick; nothing where it decides nothing."""
    ends = [figure[k] for k in ("value", "low", "high", "null")]
    if figure["null"] is None or not all(isinstance(x, int | float) and math.isfinite(x) for x in ends):
        return ""
    least, most = min(ends), max(ends)
    at = lambda x: PAD + (SPAN - 2 * PAD) * ((x - least) / (most - least) if most > least else 0.5)
    tone, mid = f"var(--{COLOUR[figure['verdict']]})", TALL / 2
    value, low, high, null = map(at, ends)
    label = f"{words.shown(figure)}, null {figure['null']:g}"
    return (
        f'<svg viewBox="0 0 {SPAN} {TALL}" width="{SPAN}" height="{TALL}" role="img" aria-label="{escape(label)}">'
        f'<line x1="{null:.1f}" x2="{null:.1f}" y1="2" y2="{TALL - 2}" stroke="var(--muted)" stroke-dasharray="3 2"/>'
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{mid}" y2="{mid}" stroke="{tone}" stroke-width="3"/>'
        f'<circle cx="{value:.1f}" cy="{mid}" r="4.5" fill="{tone}"/></svg>'
    )


def _table(table: dict[str, Any]) -> str:
    """A table of the record."""
    rows = []
    for name, cells in table["rows"]:
        tail = ""
        for cell, digits in zip(cells, table["digits"]):
            value, _, bounds = words.interval(*cell, digits).partition(" [") if cell else ("", "", "")
            below = f'<span class="ci">[{escape(bounds)}</span>' if bounds else ""
            tail += f"<td>{escape(value)}{below}</td>"
        rows.append(f'<tr><th class="name" scope="row">{escape(name)}</th>{tail}</tr>')
    return _framed(table["heads"][0], table["heads"][1:], rows)


def _framed(first: str, heads, rows: list[str]) -> str:
    """A table that scrolls."""
    said = lambda text: ' class="said"' * (text in ("decides", "expected"))  # words, not numbers
    head = "".join(f'<th scope="col"{said(text)}>{escape(text)}</th>' for text in heads)
    return (
        f'<div class="scroll"><table class="audit"><thead><tr><th class="name" scope="col">{escape(first)}</th>{head}'
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _list(sentences) -> str:
    """Sentences as paragraphs."""
    return "".join(f"<p>{escape(one)}</p>" for one in sentences)


def _again(record: dict[str, Any]) -> str:
    """The command and what it ran on."""
    pairs = [("Run", words.made(record).replace("`", "")), ("Notes", " ".join(record["notes"]))]
    shown = f"<pre>{escape(record['command'])}</pre>"
    return f'<div class="box">{shown}{definitions([pair for pair in pairs if pair[1]])}</div>'

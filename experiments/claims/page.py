"""The page of a claim: what it says, what was found, and whether that agrees."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from unlearn_jax.errors import InputError
from unlearn_jax.reports import render
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
    facts = {name.capitalize(): record[name] for name in ("verdict", "device", "seed")}
    facts |= {"Seconds": f"{record['seconds']:.0f}", "Commit": record["git_commit"]}
    pairs = [("Run", words.made(record).replace("`", "")), ("Notes", " ".join(record["notes"]))]
    return render.page(
        "claim.html",
        title=record["title"],
        answer=_answer(record),
        facts=render.facts(facts),
        claim=_claim(record),
        figures=[_figure(figure) for figure in record["figures"]],
        tables=[(table["caption"], _table(table)) for table in record["tables"]],
        limits=record["limits"],
        words=[],
        made=render.Made(record["command"], [pair for pair in pairs if pair[1]]),
    )


def _answer(record: dict[str, Any]) -> str:
    verdicts = {
        "agrees": "Our figures agree with the claim",
        "disagrees": "Our figures disagree with the claim",
        "not told": "Our figures do not tell whether the claim holds",
    }
    return f"{verdicts[record['verdict']]}: {record['statement'][0].lower()}{record['statement'][1:]}"


def _claim(record: dict[str, Any]) -> list[tuple[str, str]]:
    """Statement, sources, expectation and rule."""
    return [
        ("Claim", record["statement"]),
        ("Source", "; ".join(record["sources"])),
        ("Expected, written before the run", record["expected"]),
        ("Rule", record["rule"]),
    ]


def _figure(figure: dict[str, Any]) -> dict[str, Any]:
    """A figure; one that decides has a strip with the interval and the null."""
    return {
        "name": figure["name"],
        "decides": figure["null"] is not None,
        "shown": words.shown(figure),
        "strip": _strip(figure),
        "said": words.decides(figure),
        "expected": figure["expected"],
    }


def _strip(figure: dict[str, Any]) -> dict[str, Any] | None:
    """Where the interval and the null lie on a line, in pixels; None where the figure decides nothing."""
    ends = {k: figure[k] for k in ("value", "low", "high", "null")}
    if figure["null"] is None or not all(isinstance(x, int | float) and math.isfinite(x) for x in ends.values()):
        return None
    least, most = min(ends.values()), max(ends.values())
    at = lambda x: PAD + (SPAN - 2 * PAD) * ((x - least) / (most - least) if most > least else 0.5)
    about = {"wide": SPAN, "tall": TALL, "tone": COLOUR[figure["verdict"]]}
    label = f"{words.shown(figure)}, null {figure['null']:g}"
    return about | {"label": label} | {name: f"{at(x):.1f}" for name, x in ends.items()}


def _table(table: dict[str, Any]) -> render.Table:
    rows = []
    for name, cells in table["rows"]:
        texts = [words.interval(*one, digits) if one else "" for one, digits in zip(cells, table["digits"])]
        parts = [text.partition(" [") for text in texts]
        rows.append(render.row(name, [render.Td(value, f"[{bounds}" if bounds else "") for value, _, bounds in parts]))
    return render.table(table["heads"][0], table["heads"][1:], rows)

"""The page of a check of presets: what they change, method by method; every text is escaped."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from unlearn_jax.errors import InputError
from unlearn_jax.reports import check_words as words
from unlearn_jax.reports.figures import _figure as sheet_of
from unlearn_jax.reports.figures import styled
from unlearn_jax.reports.frame import definitions, document, facts_strip, inline
from unlearn_jax.reports.influence_load import FAULTS
from unlearn_jax.reports.load import number_told
from unlearn_jax.reports.sections import _figure as figure
from unlearn_jax.reports.sections import section
from unlearn_jax.reports.style import WIDE, colour, small
from unlearn_jax.reports.sweep_page import _table as table
from unlearn_jax.reports.words import minus
from unlearn_jax.runtime.archives import read_json
from unlearn_jax.sweeps.changes import DISTANCE, GROUPS, TEST, VERDICTS, label_of

ENTRIES = ("asked", "presets", "warnings", "references", "methods", "summary", "kept", "copies")
TONES = {"falls": "oracle", "rises": "original"}
FARTHEST = 2.0  # residual distance at the right edge


def read_check(folder: Path) -> dict[str, Any]:
    """check.json of a folder; raises `InputError` where it is missing, unfinished or damaged."""
    path = Path(folder) / "check.json"
    if not path.is_file():
        raise InputError(f"there is no check at {folder}: give the folder that unlearn-jax check-presets wrote.")
    try:
        told = read_json(path)
        if told["kind"] != "check" or told["status"] != "complete" or not set(ENTRIES) <= set(told):
            raise ValueError("it is not finished")
    except FAULTS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"the check in {folder} cannot be read ({reason}): run unlearn-jax check-presets again."
        ) from error
    return told


def render_check(told: dict[str, Any]) -> str:
    """The whole page as one HTML document."""
    title = f"What the presets {told['presets']['name']} change: {told['dataset']}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead" id="answer">{escape(_answer(told))}</p>',
        "".join(f'<p class="small">{escape(line[:1].upper() + line[1:])}.</p>' for line in words.cautions(told)),
        facts_strip(_facts(told)),
        section("counts", "What the methods come to", _counts(told) + _groups(told)),
        section("distance", "Residual distance", _drawn(told)),
        section("methods", "Every method", _methods(told)),
        section("words", "How to read this", definitions(words.WORDS)),
        section("reproduce", "To reproduce", _reproduction(told)),
    ]
    return document(title, parts)


def _answer(told: dict[str, Any]) -> str:
    """The counts of distance and held-out accuracy in a sentence."""
    near, lost = (told["summary"]["figures"][name] for name in (DISTANCE, TEST))
    return (
        f"Of {told['summary']['methods']} methods that leave their defaults, {near['falls']} come nearer to the oracle "
        f"and {near['rises']} go farther from it; {lost['falls']} regain held-out accuracy and {lost['rises']} lose it."
    )


def _facts(told: dict[str, Any]) -> dict[str, Any]:
    """The setting."""
    asked = told["asked"]
    return {
        "Presets": told["presets"]["name"],
        "Data": asked["benchmark"] or told["dataset"],
        "Targets": f"{number_told(asked, told.get('target_counts'))} {asked['targets']}".strip(),
        "Copies": told["copies"],
        "Members": asked["members"],
        "Requests": asked["requests"] if asked["requests"] > 1 else None,
        "Requests passed over": asked["skip_requests"] or None,
    }


def _row(name: str, cells) -> str:
    """A row of cells that are HTML already."""
    told = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr><th class="name" scope="row">{escape(name)}</th>{told}</tr>'


def _counts(told: dict[str, Any]) -> str:
    """A row for each figure."""
    rows = []
    for name, (called, digits, *_) in words.FIGURES.items():
        own = told["summary"]["figures"][name]
        medians = [words.number(own[f"median_{side}"], digits) for side in ("defaults", "preset")]
        rows.append(_row(called, map(escape, [*(str(own[kind]) for kind in VERDICTS), *medians])))
    return table("Figure", (*VERDICTS, "median, defaults", "median, presets"), rows)


def _groups(told: dict[str, Any]) -> str:
    """Which methods gain, and which lose."""
    found = told["summary"]["groups"].items()
    return definitions([(f"{GROUPS[group]} ({len(names)})", ", ".join(names)) for group, names in found if names])


def _methods(told: dict[str, Any]) -> str:
    """A row for each method, those that come nearest by the presets first."""
    rows = []
    difference = lambda row: row["figures"][DISTANCE]["difference"][0]
    for row in sorted(told["methods"], key=lambda row: (difference(row) is None, difference(row) or 0.0)):
        cells = []
        for name, (_, digits, *_) in words.FIGURES.items():
            own = row["figures"][name]
            value, *bounds = (_plain(x, digits) for x in own["difference"])
            cells += [_plain(own[side][0], digits) for side in ("defaults", "preset")]
            cells.append(f'{value}<span class="ci">[{", ".join(bounds)}]</span>' if all(bounds) else value)
            cells.append(escape(words.said(name, own["verdict"])))
        lost = row["diverged"]
        cells.append(f"{lost['defaults']}, {lost['preset']}" if any(lost.values()) else "")
        cells.append(escape(row["setting"]))
        rows.append(_row(label_of(row), cells))
    heads = []
    for called, *_ in words.FIGURES.values():
        heads += [f"{called}: defaults", "presets", "difference", ""]
    return table("Method", [*heads, "members that diverged", "setting of the presets"], rows)


def _plain(value: float | None, digits: int) -> str:
    """A number with a true minus sign; nothing where it is not known."""
    return minus(words.number(value, digits)) if value is not None else ""


def _drawn(told: dict[str, Any]) -> str:
    """The figure."""
    caption = (
        "An arrow for each method, from its distance at the defaults to that with the presets. Green: told to fall. "
        f"Orange: told to rise. Grey: not told. Dashed: retraining. Beyond {FARTHEST:g} the axis ends."
    )
    return figure(lambda width: changes_figure(told, width), "changes", "Residual distance of each method", caption)


@styled
def changes_figure(told: dict[str, Any], width: float = WIDE):
    """An arrow for each method from its residual distance at the defaults to that with the presets."""
    found = [row for row in told["methods"] if None not in _ends(row)]
    found.sort(key=lambda row: row["figures"][DISTANCE]["difference"][0], reverse=True)
    sheet, grid = sheet_of(width, 0.9 + 0.17 * max(1, len(found)))
    axes = grid[0, 0]
    for place, row in enumerate(found):
        usual, other = (min(end, FARTHEST) for end in _ends(row))
        tone = colour(TONES.get(row["figures"][DISTANCE]["verdict"], "band"))
        axes.plot([usual, other], [place, place], color=tone, linewidth=1.6, solid_capstyle="butt")
        axes.plot(usual, place, "o", color=tone, markersize=3.5, markerfacecolor=colour("paper"))
        axes.plot(other, place, ">" if other > usual else "<", color=tone, markersize=4.5)
    retrain = told["references"]["retrain"][DISTANCE][0]
    if retrain is not None:
        axes.axvline(min(retrain, FARTHEST), color=colour("retrain"), linestyle="--", linewidth=1)
    axes.set_yticks(range(len(found)), [label_of(row) for row in found], fontsize=small())
    axes.set_ylim(-0.8, max(1, len(found)) - 0.2)
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    axes.grid(True, axis="x")
    axes.set_axisbelow(True)
    axes.set_xlabel("residual distance" + " (0 = the oracle, 1 = the original)" * (width > 6))
    return sheet


def _ends(row: dict[str, Any]) -> list[float | None]:
    """Distance at the defaults and with the presets."""
    own = row["figures"][DISTANCE]
    return [own["defaults"][0], own["preset"][0]]


def _reproduction(told: dict[str, Any]) -> str:
    """Command, device, versions and seconds, as far as they are recorded."""
    total, asked = told.get("seconds_total"), told["asked"]
    pairs = [
        ("Finished", inline(told.get("finished"))),
        ("Seconds", f"{total:.1f}" if isinstance(total, int | float) else ""),
        ("Device", inline(told.get("device"))),
        ("Commit", inline(told.get("git_commit"))),
        ("Presets", f"{told['presets']['name']}, digest {told['presets']['digest'][:12]}"),
        ("Left at their defaults", ", ".join(told["kept"])),
        ("Configuration", inline({k: v for k, v in asked.items() if k != "hp" and v not in ("", 0, None, [], False)})),
        ("Versions", inline(told.get("versions"))),
        ("Notes", "; ".join(map(inline, told.get("notes") or []))),
    ]
    command = told.get("command")
    shown = f"<pre>{escape(str(command))}</pre>" if command else ""
    return f'<div class="box">{shown}{definitions([pair for pair in pairs if pair[1]])}</div>'

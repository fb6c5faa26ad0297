"""The page of a check of presets, what they change method by method: its values and its figure."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from unlearn_jax.reports import check_words as words
from unlearn_jax.reports.load import number_told
from unlearn_jax.reports.panels import bare, sheet, styled
from unlearn_jax.reports.reading import manifest_of, present, reading
from unlearn_jax.reports.render import Table, drawn, facts, figure_cell, made, number, page, row, table
from unlearn_jax.reports.style import WIDE, colour, small
from unlearn_jax.sweeps.changes import DISTANCE, GROUPS, TEST, VERDICTS, label_of

ENTRIES = ("asked", "presets", "warnings", "references", "methods", "summary", "kept", "copies", "status")
TONES = {"falls": "oracle", "rises": "original"}
FARTHEST = 2.0  # residual distance at the right edge


def read_check(folder: Path) -> dict[str, Any]:
    """check.json of a folder; raises `InputError` where it is missing, unfinished or damaged."""
    folder, again = Path(folder), "run unlearn-jax check-presets again"
    missing = f"there is no check at {folder}: give the folder that unlearn-jax check-presets wrote."
    present(folder, ["check.json"], missing)
    with reading(f"the check in {folder} cannot be read", again):
        return manifest_of(folder, "check.json", "check", again, ENTRIES)


def render_check(told: dict[str, Any]) -> str:
    """The whole page as one HTML document."""
    asked, presets = told["asked"], told["presets"]
    return page(
        "check.html",
        title=f"What the presets {presets['name']} change: {told['dataset']}",
        answer=_answer(told),
        cautions=[f"{line[:1].upper()}{line[1:]}." for line in words.cautions(told)],
        facts=facts(_facts(told)),
        counts=_counts(told),
        groups=[(f"{GROUPS[g]} ({len(names)})", ", ".join(names)) for g, names in _groups(told) if names],
        changes=drawn(drawings_of(told)["changes"], "changes", "Residual distance of each method"),
        farthest=f"{FARTHEST:g}",
        methods=_methods(told),
        made=made(
            told,
            {name: value for name, value in asked.items() if name != "hp"},
            Presets=f"{presets['name']}, digest {presets['digest'][:12]}",
            Left_at_their_defaults=", ".join(told["kept"]),
        ),
    )


def drawings_of(told: dict[str, Any]) -> dict[str, Callable]:
    """The figure by its name, as a function of the width in inches."""
    return {"changes": partial(changes_figure, told)}


def _groups(told: dict[str, Any]):
    """Which methods gain, and which lose."""
    return told["summary"]["groups"].items()


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


def _counts(told: dict[str, Any]) -> Table:
    """A row for each figure."""
    rows = []
    for name, (called, digits, *_) in words.FIGURES.items():
        own = told["summary"]["figures"][name]
        medians = [words.number(own[f"median_{side}"], digits) for side in ("defaults", "preset")]
        rows.append(row(called, [*(own[kind] for kind in VERDICTS), *medians]))
    return table("Figure", (*VERDICTS, "median, defaults", "median, presets"), rows)


def _methods(told: dict[str, Any]) -> Table:
    """A row for each method, those that come nearest by the presets first."""
    difference = lambda one: one["figures"][DISTANCE]["difference"][0]
    ordered = sorted(told["methods"], key=lambda one: (difference(one) is None, difference(one) or 0.0))
    heads = [
        head for called, *_ in words.FIGURES.values() for head in (f"{called}: defaults", "presets", "difference", "")
    ]
    heads += ["members that diverged", "setting of the presets"]
    return table("Method", heads, [row(label_of(one), _cells(one)) for one in ordered])


def _cells(one: dict[str, Any]) -> list:
    """Every figure of a method at its defaults, with the presets and in between, who diverged, and the setting."""
    cells = []
    for name, (_, digits, *_) in words.FIGURES.items():
        own = one["figures"][name]
        cells += [number(own[side][0], digits) for side in ("defaults", "preset")]
        cells += [figure_cell(own["difference"], digits), words.said(name, own["verdict"])]
    lost = one["diverged"]
    return [*cells, f"{lost['defaults']}, {lost['preset']}" if any(lost.values()) else "", one["setting"]]


@styled
def changes_figure(told: dict[str, Any], width: float = WIDE):
    """An arrow for each method from its residual distance at the defaults to that with the presets."""
    found = [(one, ends) for one in told["methods"] if (ends := _ends(one)) is not None]
    found.sort(key=lambda pair: pair[0]["figures"][DISTANCE]["difference"][0], reverse=True)
    figure, grid = sheet(width, 0.9 + 0.17 * max(1, len(found)))
    axes = grid[0, 0]
    for place, (one, ends) in enumerate(found):
        usual, other = (min(end, FARTHEST) for end in ends)
        tone = colour(TONES.get(one["figures"][DISTANCE]["verdict"], "band"))
        axes.plot([usual, other], [place, place], color=tone, linewidth=1.6, solid_capstyle="butt")
        axes.plot(usual, place, "o", color=tone, markersize=3.5, markerfacecolor=colour("paper"))
        axes.plot(other, place, ">" if other > usual else "<", color=tone, markersize=4.5)
    retrain = told["references"]["retrain"][DISTANCE][0]
    if retrain is not None:
        axes.axvline(min(retrain, FARTHEST), color=colour("retrain"), linestyle="--", linewidth=1)
    axes.set_yticks(range(len(found)), [label_of(one) for one, _ in found], fontsize=small())
    axes.set_ylim(-0.8, max(1, len(found)) - 0.2)
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    bare(axes)
    axes.set_xlabel("residual distance" + " (0 = the oracle, 1 = the original)" * (width > 6))
    return figure


def _ends(row: dict[str, Any]) -> tuple[float, float] | None:
    """Distance at the defaults and with the presets; None where one of them is not known."""
    own = row["figures"][DISTANCE]
    usual, other = own["defaults"][0], own["preset"][0]
    return None if usual is None or other is None else (usual, other)

"""A check of presets, what they change method by method: its sentences, its figure and its page."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from unlearn_jax.reports.load import number_told
from unlearn_jax.reports.panels import bare, sheet, styled
from unlearn_jax.reports.reading import opened
from unlearn_jax.reports.render import Table, drawn, facts, figure_cell, made, number, page, row, table
from unlearn_jax.reports.style import WIDE, colour, small
from unlearn_jax.sweeps.changes import DISTANCE, GROUPS, REST, TEST, VERDICTS, label_of

ENTRIES = ("asked", "presets", "warnings", "references", "methods", "summary", "kept", "copies", "status")
FIGURES = {  # figure -> what it is called, decimals, what falling and rising are called
    DISTANCE: ("residual distance", 2, "nearer", "farther"),
    TEST: ("held-out accuracy lost, points", 1, "regained", "lost"),
    REST: ("accuracy lost on rest, points", 1, "regained", "lost"),
}
TONES = {"falls": "oracle", "rises": "original"}
FARTHEST = 2.0  # residual distance at the right edge


def read_check(folder: Path) -> dict[str, Any]:
    """check.json of a folder; raises `InputError` where it is missing, unfinished or damaged."""
    with opened(Path(folder), "check", ENTRIES) as manifest:
        return manifest


def render_check(check: dict[str, Any]) -> str:
    """The whole page as one HTML document."""
    study, presets, summary = check["asked"], check["presets"], check["summary"]
    near, lost = (summary["figures"][name] for name in (DISTANCE, TEST))
    answer = (
        f"Of {summary['methods']} methods that leave their defaults, {near['falls']} come nearer to the oracle "
        f"and {near['rises']} go farther from it; {lost['falls']} regain held-out accuracy and {lost['rises']} lose it."
    )
    return page(
        "check.html",
        title=f"What the presets {presets['name']} change: {check['dataset']}",
        answer=answer,
        cautions=[f"{line[:1].upper()}{line[1:]}." for line in cautions(check)],
        facts=facts(_facts(check)),
        counts=_counts(check),
        groups=[(f"{GROUPS[g]} ({len(names)})", ", ".join(names)) for g, names in summary["groups"].items() if names],
        changes=drawn(drawings_of(check)["changes"], "changes", "Residual distance of each method"),
        farthest=f"{FARTHEST:g}",
        methods=_methods(check),
        made=made(
            check,
            {name: value for name, value in study.items() if name != "hp"},
            Presets=f"{presets['name']}, digest {presets['digest'][:12]}",
            Left_at_their_defaults=", ".join(check["kept"]),
        ),
    )


def drawings_of(check: dict[str, Any]) -> dict[str, Callable]:
    """The figure by its name, as a function of the width in inches."""
    return {"changes": partial(changes_figure, check)}


def _facts(told: dict[str, Any]) -> dict[str, Any]:
    """The setting."""
    study = told["asked"]
    return {
        "Presets": told["presets"]["name"],
        "Data": study["benchmark"] or told["dataset"],
        "Targets": f"{number_told(study, told.get('target_counts'))} {study['targets']}".strip(),
        "Copies": told["copies"],
        "Members": study["members"],
        "Requests": study["requests"] if study["requests"] > 1 else None,
        "Requests passed over": study["skip_requests"] or None,
    }


def _counts(check: dict[str, Any]) -> Table:
    """A row for each figure."""
    rows = []
    for name, (called, digits, *_) in FIGURES.items():
        result = check["summary"]["figures"][name]
        medians = [number(result[f"median_{side}"], digits, "-") for side in ("defaults", "preset")]
        rows.append(row(called, [*(result[kind] for kind in VERDICTS), *medians]))
    return table("Figure", (*VERDICTS, "median, defaults", "median, presets"), rows)


def _methods(check: dict[str, Any]) -> Table:
    """A row for each method, those that come nearest by the presets first."""
    difference = lambda one: one["figures"][DISTANCE]["difference"][0]
    ordered = sorted(check["methods"], key=lambda one: (difference(one) is None, difference(one) or 0.0))
    heads = [head for called, *_ in FIGURES.values() for head in (f"{called}: defaults", "presets", "difference", "")]
    heads += ["members that diverged", "setting of the presets"]
    return table("Method", heads, [row(label_of(one), _cells(one)) for one in ordered])


def _cells(one: dict[str, Any]) -> list:
    """Every figure of a method at its defaults, with the presets and in between, who diverged, and the setting."""
    cells = []
    for name, (_, digits, *_) in FIGURES.items():
        result = one["figures"][name]
        cells += [number(result[side][0], digits) for side in ("defaults", "preset")]
        cells += [figure_cell(result["difference"], digits), verdict_of(name, result["verdict"])]
    lost = one["diverged"]
    return [*cells, f"{lost['defaults']}, {lost['preset']}" if any(lost.values()) else "", one["setting"]]


@styled
def changes_figure(check: dict[str, Any], width: float = WIDE):
    """An arrow for each method from its residual distance at the defaults to that with the presets."""
    shown = [(label_of(one), one["figures"][DISTANCE]) for one in check["methods"]]
    shown = [(name, result) for name, result in shown if None not in (result["defaults"][0], result["preset"][0])]
    shown.sort(key=lambda pair: pair[1]["difference"][0], reverse=True)
    figure, grid = sheet(width, 0.9 + 0.17 * max(1, len(shown)))
    axes = grid[0, 0]
    for place, (_, result) in enumerate(shown):
        usual, other = (min(result[side][0], FARTHEST) for side in ("defaults", "preset"))
        tone = colour(TONES.get(result["verdict"], "band"))
        axes.plot([usual, other], [place, place], color=tone, linewidth=1.6, solid_capstyle="butt")
        axes.plot(usual, place, "o", color=tone, markersize=3.5, markerfacecolor=colour("paper"))
        axes.plot(other, place, ">" if other > usual else "<", color=tone, markersize=4.5)
    retrain = check["references"]["retrain"][DISTANCE][0]
    if retrain is not None:
        axes.axvline(min(retrain, FARTHEST), color=colour("retrain"), linestyle="--", linewidth=1)
    axes.set_yticks(range(len(shown)), [name for name, _ in shown], fontsize=small())
    axes.set_ylim(-0.8, max(1, len(shown)) - 0.2)
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    bare(axes)
    axes.set_xlabel("residual distance" + " (0 = the oracle, 1 = the original)" * (width > 6))
    return figure


def verdict_of(name: str, verdict: str) -> str:
    """A verdict in the words of its figure."""
    _, _, falls, rises = FIGURES[name]
    return {"falls": falls, "rises": rises}.get(verdict, verdict)


def _text(value: float | None, digits: int) -> str:
    """A number for the terminal; a dash where it is not known."""
    return number(value, digits, "-").replace("−", "-")


def _interval(values, digits: int) -> str:
    """A figure with its interval, for the terminal."""
    value, low, high = (_text(x, digits) for x in values)
    return f"{value} [{low}, {high}]"


def lines(check: dict[str, Any]) -> list[str]:
    """A heading, and a line for each method."""
    heads = "distance: defaults, preset, difference"
    texts = [f"{'method':<22} {heads:<52} {'held-out points lost: the same'}"]
    for method in check["methods"]:
        cells = []
        for name in (DISTANCE, TEST):
            result, digits = method["figures"][name], FIGURES[name][1]
            pair = f"{_text(result['defaults'][0], digits):>6} {_text(result['preset'][0], digits):>6}"
            cells.append(
                f"{pair}  {_interval(result['difference'], digits):<22} {verdict_of(name, result['verdict']):<12}"
            )
        texts.append(f"{label_of(method):<22} {'   '.join(cells)}".rstrip())
    return texts


def findings(check: dict[str, Any]) -> list[str]:
    """Counts and medians by figure, and the methods by group."""
    summary, retrain = check["summary"], check["references"]["retrain"][DISTANCE]
    kept = len(check["kept"])
    texts = [f"{summary['methods']} methods leave their defaults, {kept} {'keeps' if kept == 1 else 'keep'} them"]
    for name, (called, digits, falls, rises) in FIGURES.items():
        result = summary["figures"][name]
        medians = " to ".join(_text(result[f"median_{side}"], digits) for side in ("defaults", "preset"))
        beside = f"; retrain {_interval(retrain, digits)}" if name == DISTANCE else ""
        counts = f"{falls} {result['falls']}, {rises} {result['rises']}, not told {result['not told']}"
        counts += f", not defined {result['not defined']}" if result["not defined"] else ""
        texts.append(f"{called}: {counts} (median {medians}{beside})")
    return texts + [f"{GROUPS[group]}: {', '.join(names)}" for group, names in summary["groups"].items() if names]


def cautions(check: dict[str, Any]) -> list[str]:
    """What to beware of, a sentence each."""
    texts = [f"warning: {one}" for one in check["warnings"]]
    if not check["references"]["identifiable"]:
        texts.append("warning: residuals are not identifiable here: fewer than 8 members, or the span is within noise")
    lost = [(label_of(row), row["diverged"]) for row in check["methods"] if any(row["diverged"].values())]
    if lost := [f"{n} {m['defaults']} at the defaults, {m['preset']} with the presets" for n, m in lost]:
        texts.append(f"warning: members diverged, and figures are of the others: {'; '.join(lost)}")
    return texts + [f"note: {one}" for one in check["notes"]]

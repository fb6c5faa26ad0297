"""What a check of presets found, in words: for the terminal and for the page."""

from __future__ import annotations

import math
from typing import Any

from unlearn_jax.sweeps.changes import DISTANCE, GROUPS, REST, TEST, label_of

FIGURES = {  # figure -> what it is called, decimals, what falling and rising are called
    DISTANCE: ("residual distance", 2, "nearer", "farther"),
    TEST: ("held-out accuracy lost, points", 1, "regained", "lost"),
    REST: ("accuracy lost on rest, points", 1, "regained", "lost"),
}


def number(value: float | None, digits: int = 2) -> str:
    """A number; a dash where it is not known."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "-"
    return f"{value:.{digits}f}" if round(value, digits) else f"{0:.{digits}f}"  # no minus on zero


def said(name: str, verdict: str) -> str:
    """A verdict in the words of its figure."""
    _, _, falls, rises = FIGURES[name]
    return {"falls": falls, "rises": rises}.get(verdict, verdict)


def interval(values, digits: int) -> str:
    """A figure with its interval."""
    value, low, high = (number(x, digits) for x in values)
    return f"{value} [{low}, {high}]"


def lines(told: dict[str, Any]) -> list[str]:
    """A heading, and a line for each method."""
    heads = "distance: defaults, preset, difference"
    found = [f"{'method':<22} {heads:<52} {'held-out points lost: the same'}"]
    for row in told["methods"]:
        cells = []
        for name in (DISTANCE, TEST):
            own, digits = row["figures"][name], FIGURES[name][1]
            pair = f"{number(own['defaults'][0], digits):>6} {number(own['preset'][0], digits):>6}"
            cells.append(f"{pair}  {interval(own['difference'], digits):<22} {said(name, own['verdict']):<12}")
        found.append(f"{label_of(row):<22} {'   '.join(cells)}".rstrip())
    return found


def findings(told: dict[str, Any]) -> list[str]:
    """Counts and medians by figure, and the methods by group."""
    summary, retrain = told["summary"], told["references"]["retrain"][DISTANCE]
    kept = len(told["kept"])
    found = [f"{summary['methods']} methods leave their defaults, {kept} {'keeps' if kept == 1 else 'keep'} them"]
    for name, (called, digits, falls, rises) in FIGURES.items():
        own = summary["figures"][name]
        medians = " to ".join(number(own[f"median_{side}"], digits) for side in ("defaults", "preset"))
        beside = f"; retrain {interval(retrain, digits)}" if name == DISTANCE else ""
        counts = f"{falls} {own['falls']}, {rises} {own['rises']}, not told {own['not told']}"
        counts += f", not defined {own['not defined']}" if own["not defined"] else ""
        found.append(f"{called}: {counts} (median {medians}{beside})")
    return found + [f"{GROUPS[group]}: {', '.join(names)}" for group, names in summary["groups"].items() if names]


def cautions(told: dict[str, Any]) -> list[str]:
    """What to beware of, a sentence each."""
    found = [f"warning: {one}" for one in told["warnings"]]
    if not told["references"]["identifiable"]:
        found.append("warning: residuals are not identifiable here: fewer than 8 members, or the span is within noise")
    if lost := [_lost(row) for row in told["methods"] if any(row["diverged"].values())]:
        found.append(f"warning: members diverged, and figures are of the others: {'; '.join(lost)}")
    return found + [f"note: {one}" for one in told["notes"]]


def _lost(row: dict[str, Any]) -> str:
    """How many members diverged."""
    return (
        f"{label_of(row)} {row['diverged']['defaults']} at the defaults, {row['diverged']['preset']} with the presets"
    )

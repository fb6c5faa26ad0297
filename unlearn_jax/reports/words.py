"""The answer of a study in a sentence, claiming no more than the intervals support."""

from __future__ import annotations

import math
from collections.abc import Sequence

from unlearn_jax.metrics.residual import why_unidentifiable
from unlearn_jax.reports.load import Run, number_told
from unlearn_jax.reports.render import interval, number
from unlearn_jax.reports.summary import Cell, Summary

CONTROLS = ("do_nothing",)
UNREADABLE = {  # by what `why_unidentifiable` says
    "few": "there are too few members (fewer than 8 in a request)",
    "lost": "too many members of the original or the oracle diverged",
    "noise": "the original and the oracle differ too little on the targets",
}


def percent(cell: Sequence[float]) -> str:
    """81% [78, 84], of whatever begins with value, low and high."""
    return f"{number(100 * cell[0], 0, '?')}% {interval(100 * cell[1], 100 * cell[2], 0)}".strip()


def plain(cell: Sequence[float], digits: int = 2) -> str:
    """0.81 [0.78, 0.84], of whatever begins with value, low and high."""
    return f"{number(cell[0], digits, '?')} {interval(cell[1], cell[2], digits)}".strip()


def copies_of(summary: Summary, level: int) -> str:
    """4 near copies of each."""
    kind = summary.facts["similarity"]
    if kind.startswith("natural"):
        return f"{level} nearest neighbour{'s' * (level != 1)} of each"
    return f"{level} {kind + ' ' if kind else ''}{'copy' if level == 1 else 'copies'} of each"


def stay_of(summary: Summary, level: int) -> str:
    """4 near copies of each; where the request names some of them, 3 of the 4 near copies of each."""
    named = summary.requested(level) - 1
    return f"{level - named or 'none'} of the {copies_of(summary, level)}" if named else copies_of(summary, level)


def asked_of(run: Run, level: int) -> str:
    """The 30 targets; where the request names more, the 30 targets and 1 of the 4 near copies of each."""
    named = run.summary.requested(level) - 1
    return targets_of(run) + (f" and {named} of the {copies_of(run.summary, level)}" if named else "")


def targets_of(run: Run) -> str:
    """The 30 targets."""
    config = run.manifest["config"]
    number, requests = number_told(config, run.sizes), config.get("requests") or 1
    named = f"the {number} targets" if number else "the targets"
    return f"{named} of a request" if requests > 1 else named


def headline(run: Run) -> str:
    """The answer in one sentence, about the largest copies level."""
    summary, level = run.summary, run.summary.levels[-1]
    cell, band = summary.residual(level, "retrain"), summary.band(level)
    stay = f"when {stay_of(summary, level)} stayed" if level else "with no copies in the training set"
    if math.isnan(cell.mean):
        return "This run did not measure retraining, so it cannot say what deletion leaves behind."
    asked, left = asked_of(run, level), percent(cell)
    if not summary.identifiable(level):
        why = f"with {copies_of(summary, level)}, {why_unreadable(run, level)} for this run to say"
        return f"Not identifiable: {why} what deleting {asked} leaves behind."
    if _is_noise(cell, band):
        return f"Deleting {asked} and retraining left no influence that this run can tell from none, {stay}: {left}."
    return f"Deleting {asked} and retraining left {left} of their influence in place {stay}{_caveat(cell, band)}."


def without_remedy(summary: Summary, level: int) -> list[str]:
    """What each method with a remedy leaves beside the same method without it, the nearest first: the fair baseline."""
    told = []
    for entry in summary.entries(level):
        alone = next((e for e in summary.entries(level) if e.method == entry.method and not e.remedy), None)
        if entry.remedy and alone is not None and not summary.wrecked(level, entry):
            mine, its = summary.distance(level, entry), summary.distance(level, alone)
            if math.isfinite(mine.mean + its.mean):
                told.append(f"{summary.label(entry)} is at {plain(mine)}, {summary.label(alone)} alone at {plain(its)}")
    return told


def why_unreadable(run: Run, level: int) -> str:
    """Why residuals of a level cannot be read."""
    summary, config = run.summary, run.manifest["config"]
    diverged = [summary.find(level, name, "n_diverged").mean for name in ("original", "oracle")]
    why = why_unidentifiable(
        (config.get("members") or 0) // (config.get("requests") or 1),
        sum(int(count) for count in diverged if math.isfinite(count)),
        summary.span(level).low,
        summary.find(level, "oracle", "null_band", reference="oracle").mean,
    )
    return UNREADABLE[why]


def without_copies(summary: Summary) -> str:
    """How the level without copies came out, where retrain and oracle see the same data: same, noise or apart; '' =
    not known."""
    cell = summary.residual(0, "retrain")
    if len(summary.levels) == 1:
        return ""
    if cell.mean == 0.0:
        return "same"
    if not (math.isfinite(cell.mean + summary.band(0)) and summary.identifiable(0)):
        return ""
    return "noise" if _is_noise(cell, summary.band(0)) else "apart"


def _caveat(cell: Cell, band: float) -> str:
    """What the interval and the null band forbid to claim."""
    if math.isnan(cell.mean):
        return ""
    if abs(cell.mean) <= band:
        return f" (within the null band of ±{number(100 * band, 0)}%, not told from none)"
    if cell.low <= 0 <= cell.high:
        return " (the interval includes 0, not told from none)"
    if cell.high < 0:
        return " (over-forgotten)"
    if abs(cell.mean - 1) < 0.005:
        return " (as good as untouched)"
    if cell.low <= 1 <= cell.high:
        return " (the interval includes 100%, not told from untouched)"
    return " (more than untouched)" if cell.low > 1 else ""


def _is_noise(cell: Cell, band: float) -> bool:
    """Whether a residual cannot be told from 0."""
    return abs(cell.mean) <= band or cell.low <= 0 <= cell.high

"""The findings in plain words, from the numbers, claiming no more than the intervals support."""

from __future__ import annotations

import math
from collections.abc import Sequence

from unlearn_jax.metrics.residual import why_unidentifiable
from unlearn_jax.reports.load import Run, number_told
from unlearn_jax.reports.render import interval, number
from unlearn_jax.reports.summary import Cell, Entry, Summary

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
        why = f"with {copies_of(summary, level)}, {_why(run, level)} for this run to say"
        return f"Not identifiable: {why} what deleting {asked} leaves behind."
    if _is_noise(cell, band):
        return f"Deleting {asked} and retraining left no influence that this run can tell from none, {stay}: {left}."
    return f"Deleting {asked} and retraining left {left} of their influence in place {stay}{_caveat(cell, band)}."


def _why(run: Run, level: int) -> str:
    """Why residuals of a level cannot be read."""
    summary, config = run.summary, run.manifest["config"]
    lost = [summary.find(level, name, "n_diverged").mean for name in ("original", "oracle")]
    why = why_unidentifiable(
        (config.get("members") or 0) // (config.get("requests") or 1),
        sum(int(count) for count in lost if math.isfinite(count)),
        summary.span(level).low,
        summary.find(level, "oracle", "null_band", reference="oracle").mean,
    )
    return UNREADABLE[why]


def findings(run: Run) -> list[tuple[str, str]]:
    """What was found, as (subject, sentences)."""
    summary, level = run.summary, run.summary.levels[-1]
    if not summary.identifiable(level):
        found = [("Not identifiable", _unreadable(run, level)), ("Copies", _negative_control(summary))]
    else:
        found = [
            ("Controls", _controls(summary, level)),
            ("Copies", _negative_control(summary)),
            ("Methods", _methods(summary, level)),
        ]
    return [(lead, " ".join(sentences)) for lead, sentences in found if sentences]


def _unreadable(run: Run, level: int) -> list[str]:
    """Why the figures of a level cannot be read."""
    span = run.summary.span(level)
    band = run.summary.find(level, "oracle", "null_band", reference="oracle")
    measured = ""
    if math.isfinite(span.mean):
        measured = f" Original and oracle differ by {plain(span)} nats, the null band is {band.mean:.2f}."
    return [
        f"At {level} copies {_why(run, level)}.{measured}",
        "The figures of this level are shown, but they support no claim and no ranking.",
    ]


def _controls(summary: Summary, level: int) -> list[str]:
    """What placebo and dedup say, by differences whose draws are shared with retrain's."""
    sentences = []
    placebo, dedup = (summary.residual(level, name) for name in ("placebo", "dedup"))
    apart = summary.find(level, "placebo", "residual_difference")
    if math.isfinite(placebo.mean) and level:
        sentence = f"The placebo, which drops as many other samples instead of the copies, kept {percent(placebo)}"
        if _is_noise(summary.residual(level, "retrain"), summary.band(level)) or math.isnan(apart.mean):
            end = "."
        elif apart.low <= 0 <= apart.high:
            end = f", {percent(apart)} beyond retrain: the copies carry it, not the size of the training set."
        else:
            end = f", {percent(apart)} beyond retrain: the size of the training set matters too, by that much."
        sentences.append(sentence + end)
    if math.isfinite(dedup.mean) and level:
        recall = summary.find(level, "dedup", "dedup_recall").mean
        found = f" (its detector found {number(100 * recall, 0)}% of the copies)" if math.isfinite(recall) else ""
        kept = f"{percent(dedup)}{_caveat(dedup, summary.band(level))}"
        sentences.append(f"Retraining after automatic deduplication{found} kept {kept}.")
    return sentences


def _negative_control(summary: Summary) -> list[str]:
    """What the level without copies says of all others: retrain and oracle see the same data there."""
    cell = summary.residual(0, "retrain")
    if 0 not in summary.levels or len(summary.levels) == 1:
        return []
    if cell.mean == 0.0:
        return ["The value at 0 copies is exactly 0, which means that one population was used twice."]
    if not (math.isfinite(cell.mean + summary.band(0)) and summary.identifiable(0)):
        return []
    same = "At 0 copies retrain and oracle see the same data, "
    if _is_noise(cell, summary.band(0)):
        return [f"{same}and the figure is noise about 0, as it must be."]
    return [f"{same}yet the figure is outside the noise: distrust the other levels."]


def _methods(summary: Summary, level: int) -> list[str]:
    """The best method of practice by residual distance, and whether its place is settled."""
    entries = [e for e in summary.entries(level) if not e.is_reference and e.method not in CONTROLS and not e.kind]
    measured = lambda e: math.isfinite(summary.distance(level, e).mean) and not summary.wrecked(level, e)
    entries = list(filter(measured, entries))
    if not entries:
        return []
    best, residual = entries[0], summary.residual(level, entries[0])
    verb = "came closest to the oracle" if len(entries) > 1 else "is the one method measured"
    distance = f"residual distance {plain(summary.distance(level, best))}"
    signed = f"signed residual {percent(residual)}{_caveat(residual, summary.band(level))}"
    sentences = [f"`{summary.label(best)}` {verb}: {distance}, {signed}.", *_against_retrain(summary, level, best)]
    sentences += _place(summary, level, best, len(entries)) if len(entries) > 1 else []
    diverged = [e for e in summary.entries(level) if summary.find(level, e, "n_diverged").mean > 0]
    if names := ", ".join(f"`{summary.label(e)}`" for e in diverged):
        sentences.append(f"Some members diverged (NaN) under {names}; read these rows with care.")
    return sentences


def _against_retrain(summary: Summary, level: int, entry: Entry) -> list[str]:
    """The paired difference of a method's distance from retrain's."""
    retrain, apart = summary.distance(level, "retrain"), summary.find(level, entry, "distance_difference")
    if not math.isfinite(retrain.mean + apart.mean):
        return []
    verdict = "nearer than" if apart.high < 0 else "further than" if apart.low > 0 else "not told apart from"
    return [f"That is {verdict} retraining itself at {plain(retrain)}; they differ by {plain(apart)}."]


def _place(summary: Summary, level: int, entry: Entry, number: int) -> list[str]:
    """Whether first place is settled, by the ranks over shared draws."""
    rank = summary.find(level, entry, "distance_rank")
    if math.isnan(rank.mean):
        return []
    if rank.high <= 1:
        return [f"First place among the {number} is settled."]
    return [f"First place is not settled: over the draws its rank goes from {rank.low:.0f} to {rank.high:.0f}."]


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

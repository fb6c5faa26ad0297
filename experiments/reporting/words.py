"""The findings in plain words, from the numbers, claiming no more than the intervals support."""

from __future__ import annotations

import math

from .load import Run
from .summary import Cell, Entry, Summary

CONTROLS = ("do_nothing",)


def percent(cell: Cell) -> str:
    """81% [78, 84]."""
    interval = f" [{_round(100 * cell.low)}, {_round(100 * cell.high)}]" if math.isfinite(cell.low + cell.high) else ""
    return f"{_round(100 * cell.mean)}%{interval}"


def plain(cell: Cell, digits: int = 2) -> str:
    """0.81 [0.78, 0.84]."""
    mean, low, high = (minus(f"{value:.{digits}f}") for value in cell[:3])
    return mean + (f" [{low}, {high}]" if math.isfinite(cell.low + cell.high) else "")


def minus(text: str) -> str:
    """A number with a true minus sign, and with none on zero."""
    return text.replace("-", "−") if float(text) else text.replace("-", "")


def copies_of(summary: Summary, level: int) -> str:
    """4 near copies of each."""
    kind = summary.facts["similarity"]
    return f"{level} {kind + ' ' if kind else ''}{'copy' if level == 1 else 'copies'} of each"


def targets_of(run: Run) -> str:
    """The 30 targets."""
    number = run.num_targets or run.manifest["config"].get("num_targets")
    return f"the {number} targets" if number else "the targets"


def headline(run: Run) -> str:
    """The answer in one sentence, about the largest copies level."""
    summary, level = run.summary, run.summary.levels[-1]
    cell, band = summary.residual(level, "retrain"), summary.band(level)
    stay = f"when {copies_of(summary, level)} stayed" if level else "with no copies in the training set"
    if math.isnan(cell.mean):
        return "This run did not measure retraining, so it cannot say what deletion leaves behind."
    if not summary.identifiable(level):
        return (
            f"Not identifiable: with {copies_of(summary, level)} the original and the oracle differ too "
            f"little on {targets_of(run)} for this run to say what deletion leaves behind."
        )
    if _is_noise(cell, band):
        return (
            f"Deleting {targets_of(run)} and retraining left no influence that this run can tell from none, "
            f"{stay}: {percent(cell)}."
        )
    return f"Deleting {targets_of(run)} and retraining left {percent(cell)} of their influence in place {stay}."


def findings(run: Run) -> list[tuple[str, str]]:
    """What was found, as (subject, sentences)."""
    summary, level = run.summary, run.summary.levels[-1]
    if not summary.identifiable(level):
        found = [("Not identifiable", _unreadable(summary, level)), ("Copies", _along_levels(summary))]
    else:
        found = [
            ("Deletion", _retrain(run, level) + _controls(summary, level)),
            ("Copies", _along_levels(summary)),
            ("Methods", _methods(summary, level)),
            ("Price", _forced_price(summary, level)),
        ]
    return [(lead, " ".join(sentences)) for lead, sentences in found if sentences]


def _unreadable(summary: Summary, level: int) -> list[str]:
    """Why the figures of a level cannot be read."""
    span, band = summary.find(level, "original", "influence_span"), summary.find(level, "oracle", "null_band")
    measured = ""
    if math.isfinite(span.mean):
        measured = f" (it is {plain(span)} nats, the null band {band.mean:.2f})"
    return [
        f"At {level} copies the difference between original and oracle is too small beside the noise of the "
        f"populations, or there are too few members{measured}.",
        "The figures of this level are shown, but they support no claim and no ranking.",
    ]


def _retrain(run: Run, level: int) -> list[str]:
    """What retraining kept, against the two ends of the scale."""
    summary = run.summary
    cell, band = summary.residual(level, "retrain"), summary.band(level)
    if math.isnan(cell.mean):
        return ["Retraining without the request was not measured in this run."]
    named = summary.requested(level) - 1
    what = targets_of(run) + (f" and {named} of the {level} copies of each" if named else "")
    stay = f"when {copies_of(summary, level)} stayed behind" if level else "with no copies of them in the training set"
    stay = stay if named == 0 else f"when {level - named} copies of each stayed behind"
    return [
        f"Retraining without {what} kept {percent(cell)} of their influence {stay}{_caveat(cell, band)}. A "
        "model that never saw the clusters (the oracle) stands at 0%, one that saw everything (the original) "
        "at 100%.",
    ]


def _controls(summary: Summary, level: int) -> list[str]:
    """What placebo and dedup say."""
    sentences = []
    retrain, band = summary.residual(level, "retrain"), summary.band(level)
    placebo, dedup = summary.residual(level, "placebo"), summary.residual(level, "dedup")
    if math.isfinite(placebo.mean + retrain.mean) and level:
        if _is_noise(retrain, band) or _is_noise(placebo, band):
            end = "is the control for the size of the training set."
        elif _overlap(placebo, retrain):
            end = (
                "agrees with retrain within the intervals: dropping as many other samples, not the copies, "
                "leaves the influence there, so the copies carry it, not the size of the training set."
            )
        else:
            end = "differs from retrain beyond the intervals, so the size of the training set matters too."
        sentences.append(f"The placebo, at {percent(placebo)}, {end}")
    if math.isfinite(dedup.mean) and level:
        recall = summary.find(level, "dedup", "dedup_recall").mean
        found = f" (recall of its detector: {_round(100 * recall)}%)" if math.isfinite(recall) else ""
        sentences.append(
            f"Retraining after automatic deduplication{found} kept {percent(dedup)}{_caveat(dedup, band)}."
        )
    return sentences


def _along_levels(summary: Summary) -> list[str]:
    """Retrain's residual along the copies axis, with the negative control at 0 copies."""
    if len(summary.levels) == 1:
        return []
    parts, control = [], ""
    for m in summary.levels:
        cell = summary.residual(m, "retrain")
        if math.isfinite(cell.mean):
            note = "" if summary.identifiable(m) else ", not identifiable"
            parts.append(f"{percent(cell)} at {m}{note}")
        if m == 0 and cell.mean == 0.0:
            control = " The value at 0 copies is exactly 0, which means that one population was used twice."
        elif m == 0 and math.isfinite(cell.mean + summary.band(0)) and summary.identifiable(0):
            inside = abs(cell.mean) <= summary.band(0) or cell.low <= 0 <= cell.high
            control = (
                " At 0 copies retrain and oracle see the same data, and the figure is noise about 0, as it must be."
                if inside
                else " At 0 copies retrain and oracle see the same data, yet the figure is outside the "
                "noise: distrust the other levels."
            )
    return [f"By number of copies, retrain kept {'; '.join(parts)}.{control}"] if parts else []


def _methods(summary: Summary, level: int) -> list[str]:
    """The best and the worst method by residual distance, and what they cost."""
    entries = [
        e
        for e in summary.entries(level)
        if not e.is_reference and e.method not in CONTROLS and math.isfinite(summary.distance(level, e).mean)
    ]
    bounds = [e for e in entries if e.is_bound]
    entries = [e for e in entries if not e.is_bound]
    told = ", ".join(f"{summary.label(e)} at residual distance {plain(summary.distance(level, e))}" for e in bounds)
    upper = [f"Upper bounds, which are given the outputs of retrained models: {told}."] if bounds else []
    if not entries:
        return upper
    best, worst = entries[0], entries[-1]
    sentences = [
        _describe(
            summary,
            level,
            best,
            "came closest to the oracle" if len(entries) > 1 else "is the one method measured",
        )
    ]
    if len(entries) == 1:
        return sentences + upper
    second, retrain = summary.distance(level, entries[1]), summary.distance(level, "retrain")
    if _overlap(summary.distance(level, best), second):
        sentences.append(
            f"Its interval overlaps that of {summary.label(entries[1])} ({plain(second)}), so that first "
            "place is not settled by this run."
        )
    if math.isfinite(retrain.mean):
        closer = summary.distance(level, best).high < retrain.low
        sentences.append(
            f"Retraining itself lies at {plain(retrain)}, "
            + ("clearly further away." if closer else "not clearly further away than that.")
        )
    sentences.append(_describe(summary, level, worst, "ended furthest from it"))
    if len(entries) > 2 and _overlap(summary.distance(level, worst), summary.distance(level, entries[-2])):
        sentences.append(f"It is not clearly further away than {summary.label(entries[-2])}.")
    bad = [summary.label(e) for e in summary.entries(level) if summary.find(level, e, "n_diverged").mean > 0]
    if bad:
        sentences.append(f"Some members diverged (NaN) under {', '.join(bad)}; read these rows with care.")
    return sentences + upper


def _describe(summary: Summary, level: int, entry: Entry, verb: str) -> str:
    """One method: distance, signed residual, excess price."""
    residual, price = summary.residual(level, entry), []
    for split in ("similar", "test"):
        cell = summary.find(level, entry, "price_accuracy", split, "oracle")
        if math.isfinite(cell.mean):
            unclear = ", not told from zero" if cell.low <= 0 <= cell.high else ""
            price.append(f"{plain(cell, 1)} points on {split}{unclear}")
    cost = f", at an excess price of {' and '.join(price)}" if price else ""
    return (
        f"{summary.label(entry)} {verb}: residual distance "
        f"{plain(summary.distance(level, entry))}, signed residual "
        f"{plain(residual)}{_caveat(residual, summary.band(level))}{cost}."
    )


def _forced_price(summary: Summary, level: int) -> list[str]:
    """What forgetting the near copies' influence costs on the similar samples under the oracle itself."""
    oracle = summary.find(level, "oracle", "accuracy", "similar")
    retrain = summary.find(level, "retrain", "accuracy", "similar")
    if not math.isfinite(oracle.mean + retrain.mean):
        return []
    measured = (
        f"Accuracy on the similar samples is {100 * retrain.mean:.1f}% under retrain and "
        f"{100 * oracle.mean:.1f}% under the oracle, which never saw them."
    )
    if retrain.mean <= oracle.mean or retrain.low <= oracle.high:
        return [measured + " These intervals do not show that forgetting the copies' influence forces a price."]
    return [
        measured + " Some of the price therefore cannot be avoided: a model free of what the copies carry loses "
        "this much, and excess price counts only what a method loses beyond it (negative: it loses less)."
    ]


def _caveat(cell: Cell, band: float) -> str:
    """What the interval and the null band forbid to claim."""
    if math.isnan(cell.mean):
        return ""
    if abs(cell.mean) <= band:
        return f" (within the null band of ±{_round(100 * band)}%, not told from none)"
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


def _overlap(a: Cell, b: Cell) -> bool:
    """Whether two intervals overlap; unknown ends count as overlapping."""
    return not (a.high < b.low or b.high < a.low)


def _round(value: float) -> str:
    """A whole number without a minus on zero."""
    return minus(f"{value:.0f}") if math.isfinite(value) else "?"

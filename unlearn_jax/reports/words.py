"""The findings in plain words, from the numbers, claiming no more than the intervals support."""

from __future__ import annotations

import math
import re
from html import escape

from unlearn_jax.evaluation.frontier import GATE
from unlearn_jax.metrics.residual import why_unidentifiable
from unlearn_jax.reports.load import Run, number_told
from unlearn_jax.reports.summary import ANEW, GIVEN, Cell, Entry, Summary

CONTROLS = ("do_nothing",)
UNREADABLE = {  # by what `why_unidentifiable` says
    "few": "there are too few members (fewer than 8 in a request)",
    "lost": "too many members of the original or the oracle diverged",
    "noise": "the original and the oracle differ too little on the targets",
}


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
    if not summary.identifiable(level):
        return (
            f"Not identifiable: with {copies_of(summary, level)}, {_why(run, level)} for this run to say what "
            f"deleting {asked_of(run, level)} leaves behind."
        )
    if _is_noise(cell, band):
        return (
            f"Deleting {asked_of(run, level)} and retraining left no influence that this run can tell from none, "
            f"{stay}: {percent(cell)}."
        )
    return f"Deleting {asked_of(run, level)} and retraining left {percent(cell)} of their influence in place {stay}."


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
        found = [("Not identifiable", _unreadable(run, level)), ("Copies", _along_levels(summary))]
    else:
        found = [
            ("Deletion", _retrain(run, level) + _controls(summary, level)),
            ("Copies", _along_levels(summary)),
            ("Methods", _methods(summary, level)),
            ("Price", _forced_price(summary, level)),
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


def _retrain(run: Run, level: int) -> list[str]:
    """What retraining kept, against the two ends of the scale."""
    summary = run.summary
    cell, band = summary.residual(level, "retrain"), summary.band(level)
    if math.isnan(cell.mean):
        return ["Retraining without the request was not measured in this run."]
    stay = f"when {stay_of(summary, level)} stayed behind" if level else "with no copies of them in the training set"
    return [
        f"Retraining without {asked_of(run, level)} kept {percent(cell)} of their influence {stay}"
        f"{_caveat(cell, band)}. A model that never saw the clusters (the oracle) stands at 0%, one that saw "
        "everything (the original) at 100%.",
    ]


def _controls(summary: Summary, level: int) -> list[str]:
    """What placebo and dedup say, by differences whose draws are shared with retrain's."""
    sentences = []
    placebo, dedup = summary.residual(level, "placebo"), summary.residual(level, "dedup")
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
        found = f" (its detector found {_round(100 * recall)}% of the copies)" if math.isfinite(recall) else ""
        sentences.append(
            f"Retraining after automatic deduplication{found} kept {percent(dedup)}"
            f"{_caveat(dedup, summary.band(level))}."
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
    others = [*_apart(summary, level, entries)]
    wrecked = [e for e in entries if summary.wrecked(level, e)]
    others += _wrecked(summary, level, wrecked)
    entries = [e for e in entries if not e.kind and e not in wrecked]
    if not entries:
        return others
    best, worst = entries[0], entries[-1]
    verb = "came closest to the oracle" if len(entries) > 1 else "is the one method measured"
    sentences = [_describe(summary, level, best, verb), *_against_retrain(summary, level, best)]
    if len(entries) > 1:
        sentences += [*_place(summary, level, best, len(entries)), _describe(summary, level, worst, "ended furthest")]
    bad = [code(summary, e) for e in summary.entries(level) if summary.find(level, e, "n_diverged").mean > 0]
    if bad:
        sentences.append(f"Some members diverged (NaN) under {', '.join(bad)}; read these rows with care.")
    return sentences + others


def _wrecked(summary: Summary, level: int, entries: list[Entry]) -> list[str]:
    """Methods that are left out of the order because they ruin the model, with what they keep."""
    if not entries:
        return []
    rest = lambda e: 100 * summary.find(level, e, "accuracy", "rest").mean
    named = ", ".join(f"{code(summary, e)} ({rest(e):.1f}% right on rest)" for e in entries)
    return [
        f"Not ranked, because less than {100 * GATE:.0f}% of the oracle's accuracy on rest "
        f"({rest('oracle'):.1f}%) is left, so that no distance speaks for them: {named}."
    ]


def _apart(summary: Summary, level: int, entries: list[Entry]) -> list[str]:
    """What is no method of practice: given retrained models, or trained anew in full."""
    found = []
    for lead, kinds in (
        ("Given the outputs of other retrained models", set(GIVEN.values())),
        ("Trained anew at full cost", {ANEW}),
    ):
        told = [
            f"{code(summary, e)}{f' ({e.kind})' if e.kind != ANEW else ''} at {plain(summary.distance(level, e))}"
            for e in entries
            if e.kind in kinds
        ]
        found += [f"{lead}, and so apart: {', '.join(told)}."] if told else []
    return found


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


def _describe(summary: Summary, level: int, entry: Entry, verb: str) -> str:
    """One method: distance, signed residual, accuracy on the targets, excess price."""
    residual = summary.residual(level, entry)
    words = [f"residual distance {plain(summary.distance(level, entry))}"]
    words.append(f"signed residual {percent(residual)}{_caveat(residual, summary.band(level))}")
    own, theirs = (summary.find(level, e, "accuracy", "forget").mean for e in (entry, "oracle"))
    if math.isfinite(own + theirs):
        words.append(f"{100 * own:.0f}% of the targets right (the oracle {100 * theirs:.0f}%)")
    prices = [_price(summary.find(level, entry, "price_accuracy", s, "oracle"), s) for s in ("similar", "test")]
    return f"{code(summary, entry)} {verb}: {', '.join([*words, *filter(None, prices)])}."


def _price(cell: Cell, split: str) -> str:
    """2.6 [1.7, 3.6] points worse than the oracle on test."""
    if not math.isfinite(cell.mean):
        return ""
    if cell.low <= 0 <= cell.high:
        return f"on {split} as good as the oracle within {plain(cell, 1)} points"
    worse = cell.mean > 0
    points = cell if worse else Cell(-cell.mean, -cell.high, -cell.low)
    return f"{plain(points, 1)} points {'worse' if worse else 'better'} than the oracle on {split}"


def named(text: str) -> str:
    """Escaped text in which names between backquotes are set as code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))


def code(summary: Summary, entry: Entry) -> str:
    """A population's name, marked as a name."""
    return f"`{summary.label(entry)}`"


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
        return [measured + " These intervals do not show that losing the copies' influence costs accuracy there."]
    return [
        measured + f" The oracle pays {100 * (retrain.mean - oracle.mean):.0f} points there, and excess price is "
        "measured from that: a method can match the oracle on the targets and pay less."
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


def _round(value: float) -> str:
    """A whole number without a minus on zero."""
    return minus(f"{value:.0f}") if math.isfinite(value) else "?"

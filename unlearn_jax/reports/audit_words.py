"""What an audit found, in plain words, claiming no more than intervals and null bands support."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

from unlearn_jax.reports.audit_load import Audit, Key, Row
from unlearn_jax.reports.metric_rows import Shown, main_rows, targeted_rows
from unlearn_jax.reports.words import percent


def main_keys(audit: Audit, reference: str) -> list[tuple[Shown, Key]]:
    """The main metrics against a reference, as far as they were measured."""
    keys = [(metric, audit.find(metric.metric, metric.variant, metric.split, reference)) for metric in main_rows()]
    return [(metric, key) for metric, key in keys if key is not None]


def apart(row: Row) -> bool | None:
    """Whether a figure lies outside its null band with its whole interval; None where there is no band or interval.

    A distance that lies below the band is not apart, nor a likeness above it: two alike populations can be no nearer.
    """
    if row.inside is None or not math.isfinite(row.low + row.high):
        return None
    above, below = row.low > row.null_high, row.high < row.null_low
    return not row.inside and ((above and row.better != "large") or (below and row.better != "small"))


def seen(audit: Audit, reference: str, label: str) -> tuple[int, int]:
    """How many metrics of the targets put a population outside the null band with its interval, and of how many."""
    targeted = targeted_rows()
    rows = [audit.figures[key].get(label) for metric, key in main_keys(audit, reference) if metric in targeted]
    verdicts = [one for one in (apart(row) for row in rows if row is not None) if one is not None]
    return sum(verdicts), len(verdicts)


def headline(audit: Audit) -> str:
    """The answer in one sentence: which of the audits see the influence that stayed in the similar samples."""
    if "oracle" not in audit.references:
        return (
            "There is no oracle (models trained without the targets and all of their similar samples), so it cannot be "
            "known how much influence stayed in the similar samples: retraining keeps that influence too, and the "
            "figures say only how far each population is from retraining."
        )
    outside, of = seen(audit, "oracle", "retrain")
    if not of:
        return (
            "Retraining was not measured against the oracle, so this audit cannot say which metrics see the influence "
            "that stays in similar samples."
        )
    chance, _ = seen(audit, audit.kind, "null")
    apart_anyway = f"{outside} of {of} metrics tell retraining from the oracle"
    if outside <= max(2 * chance, 0.1 * of):  # one figure in twenty lies outside by chance, and figures hang together
        return f"{apart_anyway}, no more than chance would{_retrain_first(audit)}."
    if audit.manifest["facts"].get("copies") == 0 or "similar" not in audit.manifest["examples"]:
        return f"Against the oracle, {apart_anyway}{_retrain_first(audit)}."
    what = "see the influence that retraining left in the similar samples"
    return f"Against the oracle, {outside} of {of} metrics {what}{_retrain_first(audit)}."


def counts(audit: Audit) -> dict[str, str]:
    """By population, how many metrics put it outside the null band: 3 of 12; what further populations and the placebo
    show by chance, or of the methods where nothing is known of retraining."""
    if seen(audit, "oracle", "retrain")[1]:
        asked = {"null": (audit.kind, "null"), "placebo": ("oracle", "placebo")}
    else:
        reference = "oracle" if "oracle" in audit.references else "retrain"
        asked = {label: (reference, label) for label in audit.methods[:8]}
    outside = {name: seen(audit, *where) for name, where in asked.items()}
    return {name: f"{number} of {of}" for name, (number, of) in outside.items() if of}


def _retrain_first(audit: Audit) -> str:
    """Which method is ranked first most often with retraining as the reference, and what that method keeps."""
    first, number = Counter(), 0
    for metric in targeted_rows():
        ranks = audit.ranking(audit.find(metric.metric, metric.variant, metric.split, "retrain"))
        places = {m: p[0] for m, p in (ranks.places if ranks else {}).items() if math.isfinite(p[0])}
        if len(places) > 1:
            number += 1
            first.update({method: int(place == 1) for method, place in places.items()})
    if not number:
        return ""
    method, count = first.most_common(1)[0]
    kept = audit.figures.get(("residual_influence", "", "forget", "oracle"), {}).get(method)
    aside = ""
    if kept is not None and math.isfinite(kept.low + kept.high):
        aside = f", which keeps {percent(kept[:3])} of the targets' influence,"
    return f"; against retrain, the reference of most papers, {method}{aside} ranks first by {count} of {number}"


def disagreement(audit: Audit) -> str:
    """Where the two references disagree about the methods; '' where there are not two."""
    if len(audit.references) < 2 or len(audit.methods) < 2:
        return ""
    other = opposite = number = 0
    for metric in main_rows():
        both = [audit.ranking(audit.find(metric.metric, metric.variant, metric.split, r)) for r in audit.references]
        pair = [ranks for ranks in both if ranks is not None]
        if len(pair) < len(both) or not all(math.isfinite(p[0]) for ranks in pair for p in ranks.places.values()):
            continue
        best = [{m for m, p in ranks.places.items() if p[0] == 1} for ranks in pair]
        number += 1
        other += not best[0] & best[1]
        opposite += any(_reversed(pair, a, b) for a, b in combinations(pair[0].places, 2))
    if not number:
        return ""
    return (
        f"Oracle and retrain name different best methods by {other} of {number} metrics. By {opposite or 'none'} of "
        f"{number}, at least one pair of methods stands in opposite order, with rank bounds that overlap under neither "
        "reference."
    )


def _reversed(pair, a: str, b: str) -> bool:
    """Whether two methods stand in opposite order under two rankings, both settled."""
    signs = []
    for ranks in pair:
        (_, low_a, high_a), (_, low_b, high_b) = ranks.places[a], ranks.places[b]
        signs.append(-1 if high_a < low_b else 1 if high_b < low_a else 0)
    return signs[0] * signs[1] < 0


def summary(audit: Audit) -> list[str]:
    """The lines for the page of the study."""
    return [line for line in (headline(audit), disagreement(audit)) if line]

"""What can be concluded from a released log beside those of retrained models, a sentence and a verdict each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from unlearn_jax.released.compare import Aggregate, Interval, Quality
from unlearn_jax.released.rules import is_truth_ratio

STANDS, NOISE, FAILS = "stands", "within noise", "fails"
MARGIN = 0.01  # of utility, that counts as none
KEPT = ("model_utility", "retain_knowmem_ROUGE", "retain_Q_A_Prob", "retain_Q_A_ROUGE")
FORGOTTEN = (
    "forget_Q_A_Prob", "forget_Q_A_ROUGE", "forget_knowmem_ROUGE", "forget_verbmem_ROUGE", "exact_memorization",
    "extraction_strength",
)  # fmt: skip


class Conclusion(NamedTuple):
    """One claim that a reader of the log might make."""

    about: str  # the metric
    claim: str
    verdict: str  # STANDS, NOISE or FAILS
    sentence: str


def conclusions(
    found: Sequence[Aggregate], quality: Quality | None, retrained: int, has_full: bool
) -> list[Conclusion]:
    """Claims and verdicts.

    Args:
        found: every metric.
        quality: forget quality; None = it cannot be made.
        retrained: number of retrained models.
        has_full: whether there is a log of the original.
    """
    out = _consistent(found)
    if quality is not None and retrained:
        out.append(_quality(quality))
    for one in found:
        if one.recomputed is None:
            continue
        if one.difference is not None and (one.name in FORGOTTEN or one.name.startswith("mia_") or _forget_ratio(one)):
            out.append(_as_retrained(one))
        if one.change is not None and (one.name in FORGOTTEN or one.name.startswith("mia_")):
            out.append(_forgot_anything(one))
        if one.name in KEPT and (one.change if has_full else one.difference) is not None:
            out.append(_kept(one, has_full))
    return out


def _consistent(found: Sequence[Aggregate]) -> list[Conclusion]:
    """Whether stated aggregates are those of the values by question."""
    both = [one for one in found if one.agrees is not None]
    if not both:
        return []
    wrong = [one for one in both if not one.agrees]
    if not wrong:
        words = f"All {len(both)} stated aggregates follow from the values by question."
        return [Conclusion("aggregates", "stated aggregates follow from the values by question", STANDS, words)]
    told = "; ".join(
        f"{one.name} is stated as {one.stated:.6g} and its questions give {one.recomputed:.6g}" for one in wrong
    )
    words = f"{len(wrong)} of {len(both)} stated aggregates do not follow from the values by question: {told}."
    return [Conclusion("aggregates", "stated aggregates follow from the values by question", FAILS, words)]


def _quality(one: Quality) -> Conclusion:
    """Whether "passes against retrain" means anything."""
    n, m = one.questions
    claim = "truth ratios are distributed as after retraining"
    told = f"Forget quality is {_p(one.p_value)} (D = {one.distance:.3f}, {n} and {m} questions)"
    among = max(one.among_retrained, default=None)
    if one.p_value < 0.05:
        if among is not None and one.distance <= among:
            words = (
                f"{told}, but two retrained models differ by as much (D = {among:.3f}): the test finds the seed too."
            )
            return Conclusion("forget_quality", claim, NOISE, words)
        beside = "" if among is None else f", beyond the {among:.3f} at most between retrained models"
        return Conclusion("forget_quality", claim, FAILS, f"{told}{beside}: the two can be told apart.")
    power = f"so many questions give p below .05 from D = {one.smallest:.3f} on"
    if among is not None and one.distance <= among:
        words = f"{told}: no further apart than two retrained models are (D = {among:.3f}); {power}."
        return Conclusion("forget_quality", claim, STANDS, words)
    if among is not None:
        words = (
            f"{told}: no difference is found, though retrained models lie nearer each other (D = {among:.3f}); {power}."
        )
        return Conclusion("forget_quality", claim, NOISE, words)
    words = f"{told}: no difference is found, which is not the same as none; {power}, and one retrained model does not "
    return Conclusion("forget_quality", claim, NOISE, words + "say how far another would lie.")


def _as_retrained(one: Aggregate) -> Conclusion:
    """Whether a metric of what was to be forgotten is where retraining puts it."""
    claim = f"{one.name} is as after retraining"
    assert one.recomputed is not None and one.difference is not None
    mean = one.recomputed - one.difference
    told = f"{one.name} is {one.recomputed:.3f}, after retraining {mean:.3f}, a difference of {one.difference:+.3f}"
    told += f" {_range(one.difference_interval)} over questions"
    if one.residual is not None:
        told += f", {one.residual:.2f} {_range(one.residual_interval)} of the original's"
    apart = not _holds(one.difference_interval, 0.0)
    inside = one.band is not None and _holds(one.band, one.recomputed)
    seeds = (
        "" if one.band is None else f"; a further retraining lies within {_range(one.band)} ({len(one.retain)} seen)"
    )
    if apart and not inside:
        left = _more_is_left(one)
        what = "more is left than retraining leaves" if left else "it is beyond retraining: too much was changed"
        unseen = "; one retrained model does not say how far another would lie" if one.band is None else ""
        return Conclusion(one.name, claim, FAILS, f"{told}{seeds}: {what}{unseen}.")
    if not apart and inside:
        return Conclusion(one.name, claim, STANDS, f"{told}{seeds}.")
    why = "questions alone would not tell them apart" if not apart else "retrained models differ by as much"
    if one.band is None:
        why += ", and one retrained model does not say how far another would lie"
    return Conclusion(one.name, claim, NOISE, f"{told}{seeds}: {why}.")


def _more_is_left(one: Aggregate) -> bool:
    """Whether a difference from retraining points to the original; without it, to what knows more."""
    assert one.difference is not None and one.recomputed is not None
    if one.full is not None:
        return one.difference * (one.full - (one.recomputed - one.difference)) > 0
    return (one.difference < 0) if _forget_ratio(one) else (one.difference > 0)


def _forgot_anything(one: Aggregate) -> Conclusion:
    """Whether unlearning moved a metric at all."""
    claim = f"unlearning moved {one.name}"
    told = f"{one.name} is {one.recomputed:.3f}, of the original {one.full:.3f}, a change of {one.change:+.3f}"
    told += f" {_range(one.change_interval)} over questions"
    if _holds(one.change_interval, 0.0):
        return Conclusion(one.name, claim, NOISE, f"{told}: no change can be told.")
    return Conclusion(one.name, claim, STANDS, f"{told}.")


def _kept(one: Aggregate, has_full: bool) -> Conclusion:
    """Whether what should stay has stayed, within `MARGIN`."""
    change, interval = (one.change, one.change_interval) if has_full else (one.difference, one.difference_interval)
    whose = "the original's" if has_full else "retraining's"
    claim = f"{one.name} is kept"
    told = f"{one.name} is {one.recomputed:.3f}, {change:+.4f} {_range(interval)} from {whose}"
    if interval is None:
        return Conclusion(one.name, claim, NOISE, f"{told}.")
    if interval[0] > -MARGIN:
        return Conclusion(one.name, claim, STANDS, f"{told}: not down by {MARGIN:g} or more.")
    if interval[1] < -MARGIN:
        return Conclusion(one.name, claim, FAILS, f"{told}: down by more than {MARGIN:g}.")
    return Conclusion(
        one.name, claim, NOISE, f"{told}: so many questions do not tell whether it is down by {MARGIN:g}."
    )


def _forget_ratio(one: Aggregate) -> bool:
    """Whether a metric is the truth ratio of what was to be forgotten."""
    return is_truth_ratio(one.name) and one.name.startswith("forget")


def _holds(interval: Interval | None, value: float) -> bool:
    """Whether a value lies in an interval; one that is not known holds everything."""
    return interval is None or interval[0] <= value <= interval[1]


def _range(interval: Interval | None) -> str:
    """An interval in words."""
    return "[unknown]" if interval is None or np.isnan(interval[0]) else f"[{interval[0]:.3f}, {interval[1]:.3f}]"


def _p(value: float) -> str:
    """A p-value."""
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"

"""Released logs side by side: aggregates made again, intervals over questions, where another retraining would lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import t as student

from unlearn_jax.metrics.summary import percentiles
from unlearn_jax.metrics.tofu import forget_quality
from unlearn_jax.released.logs import Entry, Log
from unlearn_jax.released.rules import (
    NO_REFERENCE,
    REFERRED,
    Look,
    Lost,
    as_it_is,
    forget_ratios,
    recomputed,
    variants,
)
from unlearn_jax.released.together import Resampling, resampling

CLOSE = 1e-6  # largest difference at which a stated and a recomputed aggregate agree
LEVEL = 0.95  # of all intervals
Interval = tuple[float, float]


class Aggregate(NamedTuple):
    """One metric of the unlearned model, beside the others."""

    name: str
    stated: float | None
    recomputed: float | None
    variant: str  # which published rule gives the stated value; "" = that of open-unlearning's configuration
    missing: str  # why it was not made again
    interval: Interval | None  # over questions
    retain: tuple[float, ...]  # of each retrained model
    full: float | None
    difference: float | None  # from the mean of the retrained models
    difference_interval: Interval | None
    change: float | None  # from the original
    change_interval: Interval | None
    residual: float | None  # of the original's difference from retraining: 1 = as the original, 0 = as retraining
    residual_interval: Interval | None
    band: Interval | None  # where another independent retraining lies

    @property
    def agrees(self) -> bool | None:
        """Whether the stated value is what its questions give; None where one of the two is missing."""
        if self.stated is None or self.recomputed is None:
            return None
        return abs(self.stated - self.recomputed) <= CLOSE * max(1.0, abs(self.stated))


class Quality(NamedTuple):
    """TOFU's forget quality, taken apart."""

    p_value: float
    distance: float  # D, the statistic
    questions: tuple[int, int]  # of the unlearned and of the retrained model
    smallest: float  # D from which on so many questions give p < .05
    among_retrained: tuple[float, ...]  # D between every two retrained models


def value_of(log: Log | None, name: str, look: Look = as_it_is, reference: Log | None = None) -> Any:
    """An aggregate of one log, the stated one where it cannot be made; None where there is neither."""
    if log is None or name not in log.entries:
        return None
    try:
        return recomputed(log, name, look, reference)
    except Lost:
        return log.entries[name].stated


def aggregates(
    log: Log, retain: Sequence[Log], full: Log | None, *, draws: int = 1000, seed: int = 0
) -> list[Aggregate]:
    """Every metric of a log, made again and compared.

    Args:
        log: of the unlearned model.
        retain: logs of retrained models; the first is the reference of `REFERRED`, unless another one, or
            open-unlearning's default, gives what the log states.
        full: log of the original; None = there is none.
        draws: of questions, behind an interval.
        seed: of the draws.
    """
    resampled = resampling([log, *retain, *([full] if full else [])], draws, seed)
    return [_aggregate(log, name, entry, retain, full, resampled) for name, entry in log.entries.items()]


def _aggregate(
    log: Log, name: str, entry: Entry, retain: Sequence[Log], full: Log | None, resampled: Resampling
) -> Aggregate:
    """One metric."""
    value, variant, reference, missing = again(log, name, entry, retain)
    empty = Aggregate(name, entry.stated, value, variant, missing, None, (), *[None] * 8)
    if value is None:
        return empty
    point = lambda one: value_of(one, name, as_it_is, reference)
    others = tuple(float(one) for one in map(point, retain) if one is not None)
    original = point(full)
    known = empty._replace(retain=others, full=None if original is None else float(original), band=band_of(others))
    if name == "forget_quality" or variant in variants(name):
        return known
    under = lambda one: value_of(one, name, resampled.look, reference)
    mine, theirs, before = under(log), [v for v in map(under, retain) if v is not None], under(full)
    known = known._replace(interval=_interval(mine))
    if original is not None:
        known = known._replace(change=float(value - original), change_interval=_interval(mine - before))
    if not others or name == "privleak":  # which is a comparison with a retrained model already
        return known
    mean, middle = float(np.mean(others)), np.mean(theirs, axis=0)
    known = known._replace(difference=float(value - mean), difference_interval=_interval(mine - middle))
    if original is not None and (span := _interval(before - middle)) and span[0] * span[1] > 0:
        ratio = (mine - middle) / (before - middle)
        known = known._replace(residual=float((value - mean) / (original - mean)), residual_interval=_interval(ratio))
    return known


def again(log: Log, name: str, entry: Entry, retain: Sequence[Log]) -> tuple[float | None, str, Log | None, str]:
    """(value, variant, reference, why it is missing) of an aggregate: whichever published rule gives the stated one."""
    references = [*retain, None] if name in REFERRED else [None]
    tried: list[tuple[float, str, Log | None]] = []
    missing = "a SUMMARY has no values by question: give the EVAL log" if log.kind == "summary" else ""
    for variant in ("", *variants(name)):
        for reference in references:
            try:
                value = float(recomputed(log, name, as_it_is, reference, variant))
            except Lost as lost:
                missing = missing or str(lost)
                continue
            tried.append((value, variant or _against(reference, retain, name), reference))
    tried = [one for one in tried if not np.isnan(one[0])]
    fits = [one for one in tried if entry.stated is not None and abs(one[0] - entry.stated) <= CLOSE]
    if not fits and name == "privleak" and not retain and tried:
        return None, "", None, "it needs --retain"
    if not tried:
        return None, "", None, missing or "its questions have no values"
    return *(fits or tried)[0], ""


def _against(reference: Log | None, retain: Sequence[Log], name: str) -> str:
    """Which reference a metric of `REFERRED` has, where it is not the first retrained model."""
    if name not in REFERRED or (retain and reference is retain[0]):
        return ""
    return f"against {reference.name}" if reference else f"against an AUC of {NO_REFERENCE}"


def band_of(values: Sequence[float]) -> Interval | None:
    """Where a further independent retraining lies in 95% of cases, of two or more: Student's prediction interval.

    Shares stay within [0, 1].
    """
    if len(values) < 2:
        return None
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
    reach = float(student.ppf((1 + LEVEL) / 2, len(values) - 1)) * spread * np.sqrt(1 + 1 / len(values))
    low, high = mean - reach, mean + reach
    return (max(low, 0.0), min(high, 1.0)) if all(0 <= value <= 1 for value in values) else (low, high)


def _interval(draws: Any) -> Interval | None:
    """Percentiles of draws; None where none is defined."""
    low, high = percentiles(np.ravel(draws), LEVEL)
    return None if np.isnan(low) else (low, high)


def quality(log: Log, retain: Sequence[Log]) -> Quality | None:
    """Forget quality against the first retrained model, and what it can find; None where it cannot be made."""
    try:
        ratios = [forget_ratios(one) for one in (log, *retain)]
    except (Lost, ValueError):
        return None
    ratios = [one[~np.isnan(one)] for one in ratios]
    found = forget_quality(ratios[0], ratios[1])
    n, m = len(ratios[0]), len(ratios[1])
    pairs = [(a, b) for place, a in enumerate(ratios[1:]) for b in ratios[2 + place :]]
    return Quality(
        float(found.p_value),
        float(found.distance),
        (n, m),
        float(np.sqrt(-np.log(0.05 / 2) / 2 * (n + m) / (n * m))),
        tuple(float(forget_quality(*pair).distance) for pair in pairs),
    )

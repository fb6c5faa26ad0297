"""What is memorized is hard to unlearn."""

from __future__ import annotations

from pathlib import Path

from unlearn_jax.metrics import combine
from unlearn_jax.studies.config import StudyConfig

from .claim import Claim, ClaimResult, Table, cell, told
from .random_requests import METHODS, forgotten
from .read import StoredLevel, populations, read_level
from .tow import gaps, scores

SKIPPED = {"high": 0, "middle": 18, "low": 36}  # requests of 30 down the order of how atypical samples are, of 40


def studies() -> dict[str, StudyConfig]:
    """Requests from the top, the middle and the bottom of the order of how hard samples are for models without them."""
    common = {"targets": "atypical", "copies": "0", "requests": 2, "methods": METHODS}
    return {name: StudyConfig(skip_requests=skipped, **common) for name, skipped in SKIPPED.items()}


def _all(level: StoredLevel, names: list[str]) -> list:
    """What `scores` takes of several methods."""
    return [one for name in names for one in gaps(level, name)]


def estimate(runs: dict[str, Path]) -> ClaimResult:
    """Memorization of each group, the methods' mean tug of war, and the difference between high and low."""
    levels = {name: read_level(runs[name], salt=number) for number, name in enumerate(SKIPPED)}
    names = [name for name in populations(levels["high"]) if name != "do_nothing"]
    figures = []
    for group, level in levels.items():
        memorized = combine(lambda a, b: a - b, *forgotten(level))
        mean = combine(scores, *_all(level, names), low=0.0, high=1.0)
        figures.append(told(f"{group}: memorization", memorized, "falls from high to low"))
        figures.append(told(f"{group}: tug of war, mean of {len(names)} methods", mean, "rises from high to low"))
    half = 6 * len(names)
    easier = combine(
        lambda *s: scores(*s[:half]) - scores(*s[half:]), *_all(levels["low"], names), *_all(levels["high"], names)
    )
    figures.append(told("mean tug of war, low less high", easier, "above 0", null=0.0, claimed="above"))
    rows = []
    for name in [*names, "do_nothing"]:
        rows.append((name, [cell(combine(scores, *gaps(level, name), low=0.0, high=1.0)) for level in levels.values()]))
    table = Table("Tug of war by method; 1 = like retraining.", ("method", *levels), rows, (2,) * len(levels))
    return ClaimResult(figures, (table,))


CLAIM = Claim(
    name="memorization",
    title="What is memorized is hard to unlearn",
    statement="Methods come less near retraining on requests of highly memorized samples than on requests of samples "
    "that are hardly memorized.",
    sources=(
        "Zhao et al. 2024, What makes unlearning hard, arXiv 2406.01257 (RUM): memorization and entanglement make "
        "unlearning harder; the measure is theirs, ToW (abstract read; the rest as in our notes)",
    ),
    expected="Memorization above .3 in the first group and near 0 in the last; mean tug of war near 1 in the last "
    "group and lower in the first.",
    rule="The mean tug of war over the methods, low less high, must have its whole 95% interval above 0.",
    limits=(
        "Groups are made by the margin under pilot models that were not trained on the sample, which stands in for "
        "memorization as in our other studies; memorization itself is then measured: the share recognised by the "
        "original models less that by models without the request, all of it left out together.",
        "Methods run with one setting for all groups; the source tunes them by group.",
    ),
    minutes=3.0,
    studies=studies,
    estimate=estimate,
)

"""Retraining leaves the more influence, the more copies stay."""

from __future__ import annotations

from pathlib import Path

from unlearn_jax.metrics import combine
from unlearn_jax.studies.config import StudyConfig

from .claim import Claim, ClaimResult, Figure, told
from .read import StoredLevel, draws, ends, read_level, residual, share

AXES = {"images": (0, 1, 4, 8), "facts": (0, 1, 4)}
EXPECTED = {0: "0, noise", 1: "near .5", 4: "near .8", 8: "near .9"}


def studies() -> dict[str, StudyConfig]:
    """Images with near copies, and a language model with paraphrases; references alone."""
    return {
        "images": StudyConfig(benchmark="vision-copies-small", methods="none"),
        "facts": StudyConfig(benchmark="facts-paraphrase-small", methods="none"),
    }


def rise(fewer: StoredLevel, more: StoredLevel):
    """Residual of retraining at more copies less that at fewer, over shared draws."""
    parts = [one for level in (more, fewer) for one in (draws(level, "retrain"), *ends(level))]
    return combine(lambda u, o, c, v, p, d: share(u, o, c) - share(v, p, d), *parts)


def estimate(runs: dict[str, Path]) -> ClaimResult:
    """The residual at every number of copies, and each step."""
    figures: list[Figure] = []
    for name, axis in AXES.items():
        levels = {m: read_level(runs[name], copies=m) for m in axis}
        for m, level in levels.items():
            figures.append(told(f"{name}: residual(retrain), {m} copies", residual(level, "retrain"), EXPECTED[m]))
        for fewer, more in zip(axis, axis[1:]):
            step = rise(levels[fewer], levels[more])
            words = f"{name}: rise from {fewer} to {more} copies"
            figures.append(told(words, step, "above 0", null=0.0, claimed="above"))
    return ClaimResult(figures)


CLAIM = Claim(
    name="residual_copies",
    title="Retraining leaves more influence, the more copies stay",
    statement="The residual influence of retraining without the targets rises with every step of the copies that stay, "
    "from 0 without any.",
    sources=(
        "Xu et al. 2026, Forgetting Similar Samples, arXiv 2601.06938: a gap even for retraining from scratch where "
        "similar samples stay (abstract read; its figures are on its own four sets)",
        "Ye et al. 2025, Data Duplication, arXiv 2501.16663: retraining fails where data were duplicated (abstract "
        "read)",
        "The numbers: m / (m + 1), what ridge regression keeps of m exact copies at small leverage (our derivation)",
    ),
    expected="0 at no copies, near .5 at 1, .8 at 4, .9 at 8 on images; rising on facts as well.",
    rule="Each step between neighbouring numbers of copies must have its whole 95% interval above 0.",
    limits=("Copies are made by us: shifted, turned and tinted images; the same fact in other words.",),
    minutes=4.0,
    studies=studies,
    estimate=estimate,
)

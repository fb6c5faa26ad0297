"""GradDiff cancels where forget and retained text look alike."""

from __future__ import annotations

from pathlib import Path

from unlearn_jax.metrics import combine
from unlearn_jax.studies.config import StudyConfig

from .claim import Claim, ClaimResult, told
from .read import StoredLevel, draws, read_level

ASCENT = ("lr=3e-4", "bound=inf", "momentum=.9")  # as GradDiff's, so that both differ in the retain term alone


def studies() -> dict[str, StudyConfig]:
    """Facts without copies and with four exact ones, and with four paraphrases."""
    hp = ("grad_diff.lr=3e-4", *(f"gradient_ascent.{word}" for word in ASCENT))
    common = {"benchmark": "facts-paraphrase-small", "methods": "grad_diff,gradient_ascent", "hp": hp}
    return {
        "exact": StudyConfig(similarity="exact", copies="0,4", **common),
        "paraphrase": StudyConfig(copies="4", **common),
    }


def population(level: StoredLevel, method: str) -> str:
    """The population of a method, with its settings in the name."""
    return next(name for name in level.margins if name.partition("@")[0] == method)


def fallen(level: StoredLevel):
    """Draws of the margin on the targets: original, after GradDiff, after ascent alone."""
    return [draws(level, name) for name in ("original", population(level, "grad_diff"),
                                            population(level, "gradient_ascent"))]  # fmt: skip


def left(original, both, ascent):
    """What the retain term leaves of the ascent: GradDiff's fall of the margin over that of the ascent alone."""
    return (original - both) / (original - ascent)


def estimate(runs: dict[str, Path]) -> ClaimResult:
    """The fall of the targets' margin with and without copies, alone and beside the ascent's."""
    levels = {
        "no copies": read_level(runs["exact"], copies=0),
        "4 exact copies": read_level(runs["exact"], copies=4),
        "4 paraphrases": read_level(runs["paraphrase"], copies=4),
    }
    figures = []
    for name, level in levels.items():
        margins = fallen(level)
        figures += [
            told(f"{name}: fall by GradDiff, nats", combine(lambda o, u: o - u, *margins[:2])),
            told(f"{name}: fall by ascent alone, nats", combine(lambda o, u: o - u, margins[0], margins[2])),
            told(f"{name}: share of the ascent that is left", combine(left, *margins)),
        ]
    plain, copied = (fallen(levels[name]) for name in ("no copies", "4 exact copies"))
    lost = combine(lambda *d: left(*d[:3]) - left(*d[3:]), *plain, *copied)
    words = "share of the ascent left, no copies less 4 exact copies"
    figures.append(told(words, lost, "above 0", null=0.0, claimed="above"))
    return ClaimResult(figures)


CLAIM = Claim(
    name="graddiff_cancels",
    title="GradDiff cancels where forget and retained text look alike",
    statement="Of the fall of the targets' margin that gradient ascent alone brings, the retain term of GradDiff takes "
    "back more where copies of the targets are retained.",
    sources=(
        "zjunlp/unlearn, issue 8 (github.com/zjunlp/unlearn/issues/8): a user finds both losses alike, their sum "
        "near 0, "
        "and no unlearning; a report, which the authors answer with rates and weights, not a paper's claim (read)",
        "arXiv 2605.05871 (ROSU), on retain-orthogonal updates where the gradients are coupled (known from a summary)",
    ),
    expected="The share left is clearly smaller with 4 exact copies than without, paraphrases in between.",
    rule="The share left without copies less that with 4 exact copies must have its whole 95% interval above 0.",
    limits=(
        "A tiny decoder and statements of one sentence; retained batches are drawn from all retained statements, of "
        "which exact copies are a fifth.",
    ),
    minutes=5.0,
    studies=studies,
    estimate=estimate,
)

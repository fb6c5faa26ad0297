"""KLOM is biased where there are few models."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.metrics import NullBand, energy_distance, klom, split_band
from unlearn_jax.studies.config import StudyConfig

from .claim import Claim, ClaimResult, Figure, Table
from .read import first_request, read_level

SIZES = (8, 16, 32, 64)
EXPECTED = {8: "6.4", 16: "3.9", 32: "1.7", 64: "near .6"}


def studies() -> dict[str, StudyConfig]:
    """Large reference populations of images with four near copies."""
    return {"references": StudyConfig(benchmark="vision-copies-small", copies="4", members=128, methods="none")}


def bands(oracle: np.ndarray, figure, sizes=SIZES) -> dict[int, NullBand]:
    """By size, where a figure lies between two parts of one population; sizes that it has no members for are left out.

    Args:
        oracle: margins (members, targets).
        figure: maps two populations to values of the examples.
        sizes: members of each part.
    """
    mean = lambda u, o: float(np.mean(figure(u, o)))
    return {n: split_band(mean, oracle, members=n, splits=100) for n in sizes if 2 * n <= len(oracle)}


def estimate(runs: dict[str, Path]) -> ClaimResult:
    """KLOM of two parts of the oracle by size, beside that of retraining and a figure that is fair at any size."""
    level = first_request(read_level(runs["references"]))
    at = level.index["split"] == "forget"
    oracle, retrain = (level.margins[name][:, at] for name in ("oracle", "retrain"))
    oracle, retrain = (x[np.isfinite(x).all(axis=1)] for x in (oracle, retrain))
    like_bands, fair = bands(oracle, klom), bands(oracle, energy_distance)
    if len(like_bands) < 2:
        raise InputError(
            f"{len(oracle)} oracles of a request are too few to halve at two sizes: give --members 32 or more."
        )
    figures, rows = [], []
    for n, band in like_bands.items():
        more = {"null": 0.0, "claimed": "above"} if n == SIZES[0] else {}
        words = f"KLOM of two like populations of {n}"
        figures.append(Figure(words, band.centre, band.low, band.high, EXPECTED[n], **more))
        part = klom(retrain[:n], oracle[:n]).mean()
        plain = (float(part), np.nan, np.nan)
        bare = (float(energy_distance(retrain[:n], oracle[:n]).mean()), np.nan, np.nan)
        both = ((one.centre, one.low, one.high) for one in (band, fair[n]))
        like, equal = both
        rows.append((str(n), [like, plain, equal, bare]))
    first, last = like_bands[SIZES[0]], like_bands[max(like_bands)]
    words = f"KLOM of like populations of {SIZES[0]} less that of {max(like_bands)}"
    gap = (first.centre - last.centre, first.low - last.high, first.high - last.low)
    figures.append(Figure(words, *gap, "above 0", null=0.0, claimed="above"))
    heads = (
        "members",
        "KLOM, like",
        "KLOM, retrain and oracle",
        "energy distance, like",
        "energy distance, retrain and oracle",
    )
    caption = "Median and middle 95% of 100 random pairs of parts of one population, and the first members of two."
    return ClaimResult(figures, (Table(caption, heads, rows, (2, 2, 2, 2)),))


CLAIM = Claim(
    name="klom_bias",
    title="KLOM is biased where there are few models",
    statement="Two populations that differ in nothing but their seeds have a KLOM far above 0 where they are small, "
    "and less the larger they are.",
    sources=(
        "KLOM: Georgiev et al. 2024, arXiv 2410.23232; also arXiv 2602.16400 (the definition; neither states this "
        "claim)",
        "The claim is ours: 6.4 nats at 8 members, 3.9 at 16, 1.7 at 32, .33 at 100 for normal margins",
    ),
    expected="6.4 nats at 8 members, 3.9 at 16, 1.7 at 32, near .6 at 64; 0 would be unbiased.",
    rule="At 8 members the band that holds 95% of pairs must lie above 0, and so must its lower end less the upper end "
    "of the band at the largest size.",
    limits=(
        "The bands are of random halvings of 128 oracles, not of fresh populations; at 64 all halves are of the same "
        "128.",
    ),
    minutes=3.0,
    studies=studies,
    estimate=estimate,
    least=32,  # two sizes of halves
)

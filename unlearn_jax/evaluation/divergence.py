"""Which members of a population have diverged: weights or margins that are not finite, or margins far beyond all sense.

A network that blew up often ends with finite weights, and a mean over members with one margin of 1e30 says nothing of
the others. Forgetting too much is no divergence: the reach is five times the width of the originals' own margins, and
at least 104 nats, beyond which a probability is no number in float32 (the smallest is 2^-149 = e^-103.3).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from unlearn_jax.population.evaluate import Evaluation

MIN_NATS = 104.0  # nats
WIDE = 5.0  # times the width of the originals' margins
ENDS = (0.01, 0.5, 0.99)  # quantiles over examples, so that single examples set no width


def reach_of(original: np.ndarray) -> tuple[float, float]:
    """The middle of the originals' margins (members, examples), and how far from it a sound member is at most, in nats.

    Medians over members of each one's quantiles, so that a few originals that blew up do not widen it.
    """
    sound = original[np.isfinite(original).all(axis=1)].astype(np.float64)
    if not sound.size:
        return 0.0, np.inf
    low, middle, high = np.median(np.quantile(sound, ENDS, axis=1), axis=1)
    return float(middle), max(MIN_NATS, WIDE * float(high - low))


def diverged(margin: np.ndarray, original: np.ndarray, forget: list[np.ndarray]) -> Bool[np.ndarray, " N"]:
    """Whether each member has diverged.

    A member has where a margin is not finite, or where margins are farther from the middle of the originals' than
    `reach_of` says, on average over its targets or over all other examples.

    Args:
        margin: (N, n) of a population, nats.
        original: (M, n) of the originals on the same examples.
        forget: of each member the columns of its targets.

    Returns:
        (N,) bool.
    """
    middle, reach = reach_of(original)
    bad = ~np.all(np.isfinite(margin), axis=1)
    for member in np.flatnonzero(~bad):
        away = np.abs(margin[member].astype(np.float64) - middle)
        targets = np.isin(np.arange(len(away)), forget[member])
        bad[member] = any(away[part].mean() > reach for part in (targets, ~targets) if part.any())
    return bad


def marked(scores: Evaluation, original: np.ndarray, forget: list[np.ndarray]) -> Evaluation:
    """The scores with NaN for members that have diverged, as they are for those whose weights are not finite."""
    bad = diverged(scores.margin, original, forget)
    if not bad.any():
        return scores
    mark = np.where(bad[:, None], np.float32(np.nan), np.float32(0.0))
    return scores._replace(margin=scores.margin + mark, correct=scores.correct + mark)

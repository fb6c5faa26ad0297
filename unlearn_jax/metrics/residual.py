"""Residual influence and residual distance: how much of the targets' influence a population still carries.

Both compare a population with the oracle, which never saw the targets' clusters, in units of what the original
has beyond the oracle, D. The signed residual is a ratio of means over the targets, never a mean of ratios; the
distance is an unbiased squared distance per target, which scrambling cannot fool.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from unlearn_jax.errors import InputError
from unlearn_jax.metrics.draws import (
    RESAMPLES,
    Draws,
    Values,
    as_values,
    draws_of,
    mean_draws,
    member_means,
    member_weights,
    pooled_mean,
)
from unlearn_jax.metrics.summary import Estimate, combine, estimate_of

MIN_MEMBERS = 8


def influence_span(original, oracle, *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """D = mean over targets of (margin of original - margin of oracle), in nats; what there is to be removed.

    Example:
        >>> import numpy as np
        >>> influence_span(np.full((8, 3), 5.0), np.full((8, 3), -1.0)).value
        6.0
    """
    setting = {"seed": seed, "resamples": resamples}
    full, none = mean_draws(original, role="original", **setting), mean_draws(oracle, role="oracle", **setting)
    return combine(lambda a, b: a - b, full, none)


def residual_influence(
    unlearned, original, oracle, *, role: str = "original", seed: int = 0, resamples: int = RESAMPLES
) -> Estimate:
    """Signed residual influence: 1 = untouched, 0 = gone, below 0 = over-forgotten.

    Args:
        unlearned: margins (members, targets) of the population under test, a list of such blocks by request, or draws
            of their mean made before (`mean_draws`).
        original: margins of the models that saw everything.
        oracle: margins of the models that never saw the targets' clusters.
        role: whose member draws ``unlearned`` shares; a method started from the originals shares theirs.
        seed: of the draws.
        resamples: number of draws.

    Returns:
        ``(m_u - m_oracle) / (m_original - m_oracle)``, m = mean over members and targets, as a ratio of means with
        the same draws above and below.

    Raises:
        InputError: arrays that are not (members, targets), or target counts that differ.

    Example:
        >>> import numpy as np
        >>> residual_influence(np.full((2, 3), 1.0), np.full((2, 3), 2.0), np.zeros((2, 3))).value
        0.5
    """
    populations = [(unlearned, role), (original, "original"), (oracle, "oracle")]
    check_targets([data for data, _ in populations])
    draws = [mean_draws(data, role=name, seed=seed, resamples=resamples) for data, name in populations]
    return combine(lambda u, full, none: (u - none) / (full - none), *draws)


def residual_distance(
    unlearned, original, oracle, *, role: str = "original", seed: int = 0, resamples: int = RESAMPLES
) -> Estimate:
    """Residual distance ``sqrt(max(0, Q(unlearned) / Q(original)))``: 1 = as far off as the original, 0 = there.

    Q(u) estimates the mean over targets of (E m_u - E m_oracle)^2 without the bias that finitely many members bring:
    products are taken over distinct members only. This is the limit of "margins of one half of the members times
    margins of the other half" over all halvings of both populations, so no random split is needed. In a
    resample, draws of the same member are likewise never multiplied with each other.

    Arguments (but no draws), errors and intervals as in `residual_influence`; NaN where the oracle is no nearer than
    noise to begin with (Q(original) <= 0).

    Example:
        >>> import numpy as np
        >>> oracle, original = np.zeros((4, 2)), np.full((4, 2), 2.0)
        >>> scrambled = np.tile([1.0, -1.0], (4, 1))
        >>> residual_influence(scrambled, original, oracle).value, residual_distance(scrambled, original, oracle).value
        (0.0, 0.5)
    """
    draws = distance_draws(unlearned, original, oracle, role=role, seed=seed, resamples=resamples)
    return estimate_of(draws, low=0.0)


def distance_draws(
    unlearned, original, oracle, *, role: str = "original", seed: int = 0, resamples: int = RESAMPLES
) -> Draws:
    """The draws behind `residual_distance`, from which paired differences and ranks are made; same arguments."""
    check_targets([unlearned, original, oracle])
    u, full, none = as_values(unlearned, role), as_values(original, "original"), as_values(oracle, "oracle")
    squares = [squared_distance(v, none, seed, resamples) for v in (u, full)]

    def figure(weights: list[np.ndarray]) -> np.ndarray:
        top, bottom = (pooled_mean(s, weights) for s in squares)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(bottom > 0, np.sqrt(np.maximum(top, 0.0) / bottom), np.nan)

    draws = draws_of(figure, u, seed, resamples)
    fewest = [max(1, v.members - len(v.blocks)) for v in (u, full, none)]
    return draws._replace(n=min(v.members for v in (u, full, none)), freedom=min(fewest))


def squared_distance(
    a: Values, b: Values, seed: int = 0, resamples: int = 0
) -> list[Float64[np.ndarray, "{resamples}+1 _"]]:
    """Unbiased (E a - E b)^2 per example for independent populations, by block; (1 + resamples, examples)."""
    moments = [(distinct_products(v, seed, resamples), member_means(v, seed, resamples)) for v in (a, b)]
    (aa, ma), (bb, mb) = moments
    return [p - 2.0 * x * y + q for p, x, q, y in zip(aa, ma, bb, mb)]


def distinct_products(values: Values, seed: int, resamples: int) -> list[Float64[np.ndarray, "{resamples}+1 _"]]:
    """Weighted mean of x_i x_j over pairs of distinct members, per example; NaN with fewer than two members."""
    out = []
    for index, block in enumerate(values.blocks):
        finite, weight = member_weights(values, index, seed, resamples)
        block = np.where(finite[:, None], block, 0.0)
        pairs = (weight.sum(axis=1) ** 2 - (weight**2).sum(axis=1))[:, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            out.append(np.where(pairs > 0, ((weight @ block) ** 2 - weight**2 @ block**2) / pairs, np.nan))
    return out


def null_band(oracle) -> float:
    """How far two populations of this size that differ in nothing but their seeds lie apart, in margin units.

    Half the width of the interval that holds 95% of the differences of mean margin, by Student's t with the variance of
    the members' means; blocks add as Welch and Satterthwaite do. It is the limit of "95% quantile over halvings of the
    oracle, over sqrt 2", and unlike that holds its 95% at small N as well (halvings: .89 at 8 members, .94 at 32). NaN
    with fewer than 2 members in a block.

    Args:
        oracle: margins (members, targets) or a list of blocks.

    Example:
        >>> import numpy as np
        >>> round(null_band(np.array([[-1.0], [1.0], [-1.0], [1.0]])), 3)  # t(.975, 3) sd sqrt(2 / 4)
        2.598
    """
    from scipy.special import stdtrit

    blocks = [block[np.isfinite(block).all(axis=1)] for block in as_values(oracle, "oracle").blocks]
    if min(len(block) for block in blocks) < 2:
        return float("nan")
    examples = sum(block.shape[1] for block in blocks)
    spread = np.asarray([2.0 / len(block) * (block.sum(axis=1) / examples).var(ddof=1) for block in blocks])
    total, freedom = spread.sum(), np.asarray([len(block) - 1.0 for block in blocks])
    if total == 0:
        return 0.0
    return float(stdtrit(total**2 / np.sum(spread**2 / freedom), 0.975) * np.sqrt(total))


class Identifiability(NamedTuple):
    """Whether a study can tell residuals apart from noise."""

    span: Estimate  # D, margin units
    band: float  # margin units
    band_ratio: float  # units of D
    identifiable: bool


def identifiability(original, oracle, *, seed: int = 0, resamples: int = RESAMPLES) -> Identifiability:
    """D, the null band, and whether D's lower 95% bound reaches three bands with at least 8 members in each block.

    Example:
        >>> import numpy as np
        >>> noise = np.random.default_rng(0).normal(size=(2, 16, 10))
        >>> [identifiability(span + noise[0], noise[1]).identifiable for span in (6, 0.01)]
        [True, False]
    """
    span = influence_span(original, oracle, seed=seed, resamples=resamples)
    band = null_band(oracle)
    values = [as_values(original, "original"), as_values(oracle, "oracle")]
    fewest = min(int(np.isfinite(b).all(axis=1).sum()) for v in values for b in v.blocks)
    enough = fewest >= MIN_MEMBERS and bool(span.ci_low >= 3.0 * band)
    return Identifiability(span, band, band / span.value if span.value else float("nan"), enough)


def why_unidentifiable(members: int, lost: int, low: float, band: float) -> str:
    """The first reason that keeps residuals from being identifiable: ``few`` members, ``lost`` ones, or ``noise``.

    Args:
        members: of the request that has the fewest, as configured; 0 = unknown.
        lost: of the originals and of the oracle, those that diverged.
        low: lower end of the interval of `influence_span`, nats; NaN where it has none.
        band: null band, nats; likewise.

    Example:
        >>> why_unidentifiable(2, 0, float("nan"), float("nan")), why_unidentifiable(16, 0, 0.1, 0.5)
        ('few', 'noise')
    """
    if 0 < members < MIN_MEMBERS:
        return "few"
    if low < 3.0 * band:
        return "noise"
    return "lost" if lost else "few"


def check_targets(populations: list) -> None:
    """Raise `InputError` unless the populations agree on requests and targets (draws were checked when made)."""
    shapes = [[b.shape[1] for b in as_values(p).blocks] for p in populations if not isinstance(p, Draws)]
    if any(shape != shapes[0] for shape in shapes):
        raise InputError(f"targets by request are {shapes}: give all populations the same targets.")

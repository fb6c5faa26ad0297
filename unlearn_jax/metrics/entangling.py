"""How the forget set relates to the retained data: entanglement, discrepancy of features, coupling of gradients."""

from __future__ import annotations

from numbers import Real
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from unlearn_jax.errors import InputError, choose
from unlearn_jax.metrics.representation import ROWS, _each, _square_gaps

MEDIAN_POINTS = 2000  # points whose distances give the median bandwidth


def entanglement(
    features_retain, features_forget, *, centre: str = "midpoint"
) -> float | Float64[np.ndarray, " members"]:
    """Entanglement score of retained and forget set: spread within the two over what lies between; higher = harder.

    Args:
        features_retain: (r, d), or (members, r, d).
        features_forget: (f, d), or (members, f, d).
        centre: what the two means are measured from: ``midpoint`` between them (whatever the sets' sizes), or the
            ``pooled`` mean of all examples.

    Returns:
        A float, or (members,): ``(V_R + V_F) / ((|m_R - c|^2 + |m_F - c|^2) / 2)``, V the mean squared distance of a
        set's features to their mean (divisor n, summed over dimensions). Infinite where the means coincide, NaN where
        all features do. The distance of means of few examples is above the truth, so small sets look less entangled.

    Raises:
        InputError: shapes that do not belong together, no examples, another centre.

    Source: Zhao et al. (arXiv 2406.01257), after Goldblum et al. (arXiv 2002.06753). ``midpoint`` is how we read the
    released code; we are not sure of the centre in the paper's equation.

    Example:
        >>> import numpy as np
        >>> entanglement(np.array([[0.0], [2.0]]), np.array([[4.0], [6.0]]))  # (1 + 1) / ((4 + 4) / 2)
        0.5
    """
    choose("centre", centre, ("midpoint", "pooled"))

    def score(retain: np.ndarray, forget: np.ndarray) -> float:
        means = [x.mean(axis=0) for x in (retain, forget)]
        middle = (means[0] + means[1]) / 2.0 if centre == "midpoint" else np.concatenate([retain, forget]).mean(axis=0)
        within = sum(np.square(x - m).sum(axis=1).mean() for x, m in zip((retain, forget), means))
        between = sum(np.square(m - middle).sum() for m in means) / 2.0
        least = 1e-24 * sum(np.square(x).sum(axis=1).mean() for x in (retain, forget))  # what rounding leaves
        if between <= least:
            return np.inf if within > least else np.nan
        return within / between

    return _each(score, features_retain, features_forget, least=1, paired=False, same_width=True)


def mmd(x, y, *, bandwidth: float | str = "median") -> float | Float64[np.ndarray, " members"]:
    """Squared maximum mean discrepancy of two samples with a Gaussian kernel, unbiased; 0 on average for one law.

    Args:
        x: features (n, d), or (members, n, d).
        y: features (m, d), or (members, m, d).
        bandwidth: s in ``exp(-|a - b|^2 / (2 s^2))``; ``median`` = the median distance between points of both samples
            together (of 2,000 evenly spaced ones at most), where that is 0 the median of the distances above 0.

    Returns:
        A float, or (members,); below 0 at times. Constant features: 0 where both are the same.

    Raises:
        InputError: shapes that do not belong together, under two examples on a side, or another bandwidth.

    Source: Gretton et al., "A kernel two-sample test" (2012), its unbiased estimate; the median is its heuristic.

    Example:
        >>> import numpy as np
        >>> x, y = np.array([[0.0], [0.0]]), np.array([[2.0], [2.0]])
        >>> round(mmd(x, y, bandwidth=1.0), 4)  # 1 + 1 - 2 exp(-2)
        1.7293
    """
    if bandwidth != "median" and not (isinstance(bandwidth, Real) and float(bandwidth) > 0):
        raise InputError(f"bandwidth is {bandwidth}: give 'median' or a distance above 0.")

    def discrepancy(a: np.ndarray, b: np.ndarray) -> float:
        width = _median_gap(np.concatenate([a, b])) if bandwidth == "median" else float(bandwidth)
        within = [(_kernel_sum(s, s, width) - len(s)) / (len(s) * (len(s) - 1.0)) for s in (a, b)]
        return within[0] + within[1] - 2.0 * _kernel_sum(a, b, width) / (len(a) * len(b))

    return _each(discrepancy, x, y, least=2, paired=False, same_width=True)


def _median_gap(points: np.ndarray) -> float:
    """Median distance between points, 1 where all are the same."""
    points = points[np.linspace(0, len(points) - 1, min(len(points), MEDIAN_POINTS)).astype(int)]
    gaps = np.sqrt(_square_gaps(points, points)[np.triu_indices(len(points), 1)])
    apart = gaps[gaps > 1e-7 * max(gaps.max(), 1e-300)]  # rounding leaves a little between equal points
    median = float(np.median(gaps))
    return median if median > 0 and len(apart) > len(gaps) / 2 else float(np.median(apart)) if len(apart) else 1.0


def _kernel_sum(x: np.ndarray, y: np.ndarray, width: float) -> float:
    parts = (x[start : start + ROWS] for start in range(0, len(x), ROWS))
    return float(sum(np.exp(_square_gaps(part, y) / (-2.0 * width**2)).sum() for part in parts))


class GradientCoupling(NamedTuple):
    """How much forgetting pulls on what is to be kept: cosines in [-1, 1]."""

    pairs: np.ndarray  # (a, b), each forget gradient with each retained one
    mean: float  # of the pairs that are defined
    total: float  # cosine of the two mean gradients


def gradient_coupling(g_forget, g_retain) -> GradientCoupling:
    """Cosines between gradients of forget and retained examples, pair by pair and of the two means.

    Args:
        g_forget: flat gradients of the loss, (a, P).
        g_retain: (b, P), of neighbours, say.

    Returns:
        `GradientCoupling`. A gradient of 0, or one that is not finite, has no direction: its pairs are NaN, left out of
        ``mean``; ``total`` leaves out those that are not finite.

    Raises:
        InputError: arrays that are not (examples, P) of one P.

    Source: the coupling that arXiv 2605.05871 relates to difficulty (from its abstract: ``total``; pairs are ours).

    Example:
        >>> import numpy as np
        >>> found = gradient_coupling(np.array([[1.0, 0.0]]), np.array([[2.0, 0.0], [0.0, 3.0]]))
        >>> found.pairs.tolist(), found.mean, round(found.total, 4)
        ([[1.0, 0.0]], 0.5, 0.5547)
    """
    forget, retain = np.asarray(g_forget, np.float64), np.asarray(g_retain, np.float64)
    if forget.ndim != 2 or retain.ndim != 2 or forget.shape[1] != retain.shape[1] or not forget.size * retain.size:
        raise InputError(f"gradients are {forget.shape} and {retain.shape}: give (examples, parameters) of one model.")
    finite = [g[np.isfinite(g).all(axis=1)] for g in (forget, retain)]
    pairs = _unit(forget) @ _unit(retain).T
    defined = np.isfinite(pairs)
    mean = float(pairs[defined].mean()) if defined.any() else np.nan
    if not min(len(g) for g in finite):
        return GradientCoupling(pairs, mean, np.nan)
    ends = [_unit(g.mean(axis=0, keepdims=True))[0] for g in finite]
    return GradientCoupling(pairs, mean, float(ends[0] @ ends[1]))


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1; NaN for those without a direction."""
    rows = np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, np.nan)
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norm > 0, norm, np.nan)

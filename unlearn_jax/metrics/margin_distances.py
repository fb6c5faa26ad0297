"""Distances between the margins of two populations that are fit for few members, where `klom` is not."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from unlearn_jax.errors import InputError, choose
from unlearn_jax.metrics.arrays import CLIP, pair_of
from unlearn_jax.metrics.klom import CHUNK

GAUSSIAN = ("plain", "shared", "unbiased")


STATISTICS = ("u", "v")


def gaussian_kl(
    unlearned, oracle, *, variant: str = "plain", floor: float = 1e-2, clip: float = CLIP
) -> Float64[np.ndarray, " n"]:
    """KL(unlearned || oracle) between normal distributions fitted to the margins of each example.

    Args:
        unlearned: margins (members, n), nats.
        oracle: margins of the reference, (members, n).
        variant: ``plain`` puts means and variances (divisor members - 1) into the formula; it lies above the truth, by
            .37 at 8 members and .07 at 32 where nothing differs. ``unbiased`` corrects each term to be right on average
            where margins are normal, and may be negative; it takes four oracle members. ``shared`` averages each
            population's variance over the examples, as LiRA's fixed variance does, and takes from the squared gap of
            means what noise adds to it: about right on average where examples scatter alike, and the one to take under
            16 members, where an example's own variance is so uncertain that intervals are far too wide.
        floor: standard deviations below count as this, nats.
        clip: margins beyond count as this.

    Returns:
        (n,) nats: ``log(s_o / s_u) + (s_u^2 + (m_u - m_o)^2) / (2 s_o^2) - 1/2``. Constant margins have the spread
        ``floor``: the figure is then large, and says only that they differ. Diverged members (NaN) are left out, an
        infinite margin counts as ``clip``; with fewer than two members on a side (``unbiased``: four of the oracle's):
        NaN. ``unbiased`` is not corrected right where the floor holds.

    Raises:
        InputError: arrays that are not (members, n), other examples, an unknown variant, a floor that is not positive.

    Source: the closed form for normal distributions; our small-N substitute for KLOM.

    Example:
        >>> import numpy as np
        >>> one, other = np.array([[-1.0], [1.0]]), np.array([[1.0], [3.0]])  # means 0 and 2, variances 2
        >>> gaussian_kl(one, other).round(6).tolist()
        [1.0]
    """
    choose("variant of the Gaussian KL", variant, GAUSSIAN)
    if not floor > 0:
        raise InputError(f"floor is {floor}: give the least standard deviation in nats, above 0.")
    u, none = pair_of(unlearned, oracle, clip)
    least = 4 if variant == "unbiased" else 2
    if len(u) < 2 or len(none) < least:
        return np.full(u.shape[1], np.nan)
    gap = u.mean(axis=0) - none.mean(axis=0)
    v_u, v_o = (np.maximum(x.var(axis=0, ddof=1), floor**2) for x in (u, none))
    if variant == "shared":
        v_u, v_o = v_u.mean(), v_o.mean()
        return 0.5 * (np.log(v_o / v_u) + (v_u + gap**2 - v_u / len(u) - v_o / len(none)) / v_o - 1.0)
    if variant == "plain":
        return 0.5 * (np.log(v_o / v_u) + (v_u + gap**2) / v_o - 1.0)
    f_o = len(none) - 1.0
    logs = np.log(v_o / v_u) - _log_bias(f_o) + _log_bias(len(u) - 1.0)
    ratio = (f_o - 2.0) / f_o * (v_u * (1.0 - 1.0 / len(u)) + gap**2) / v_o - 1.0 / len(none)
    return 0.5 * (logs + ratio - 1.0)


def _log_bias(freedom: float) -> float:
    """Mean of log(chi2 / freedom): how far the logarithm of a sample variance lies off."""
    from scipy.special import digamma

    return float(digamma(freedom / 2.0) - np.log(freedom / 2.0))


def energy_distance(unlearned, oracle, *, statistic: str = "u", clip: float = CLIP) -> Float64[np.ndarray, " n"]:
    """Energy distance ``2 E|U - O| - E|U - U'| - E|O - O'|`` of the margins of each example.

    Args:
        unlearned: margins (members, n), nats.
        oracle: margins of the reference, (members, n).
        statistic: ``u`` averages over pairs of distinct members: right on average at any number of members, 0 where
            nothing differs, and so sometimes negative. ``v`` averages over all pairs: never negative, but above 0
            where nothing differs.
        clip: margins beyond count as this.

    Returns:
        (n,) nats: twice the integral of the squared difference of the distribution functions (no root is taken).
        Constant margins: twice their difference. Diverged members (NaN) are left out, an infinite margin counts as
        ``clip``; with fewer than two members on a side (``v``: one): NaN.

    Raises:
        InputError: arrays that are not (members, n), other examples, an unknown statistic.

    Source: Székely and Rizzo, "Energy statistics" (2013); some code reports the square root.

    Example:
        >>> import numpy as np
        >>> one, other = np.array([[0.0], [2.0]]), np.array([[1.0], [1.0]])
        >>> energy_distance(one, other, statistic="v").tolist(), energy_distance(one, other).tolist()
        ([1.0], [0.0])
    """
    choose("statistic of the energy distance", statistic, STATISTICS)
    u, none = pair_of(unlearned, oracle, clip)
    n, m, least = len(u), len(none), 2 if statistic == "u" else 1
    if min(n, m) < least:
        return np.full(u.shape[1], np.nan)
    distance = np.empty(u.shape[1])
    for start in range(0, u.shape[1], CHUNK):
        a, b = (np.ascontiguousarray(x[:, start : start + CHUNK].T) for x in (u, none))
        first, second, joint = (_pair_gaps(x) for x in (a, b, np.concatenate([a, b], axis=1)))
        pairs = [n * (n - 1.0), m * (m - 1.0)] if statistic == "u" else [float(n) ** 2, float(m) ** 2]
        gaps = (joint - first - second) / (n * m) - first / pairs[0] - second / pairs[1]
        distance[start : start + CHUNK] = 2.0 * gaps
    return distance


def _pair_gaps(values: np.ndarray) -> np.ndarray:
    """Sum of |x_i - x_j| over unordered pairs of each row; (examples, members) -> (examples,)."""
    size = values.shape[1]
    return np.sort(values - values[:, :1], axis=1) @ (2.0 * np.arange(size) - size + 1.0)


def wasserstein_1(unlearned, oracle, *, clip: float = CLIP) -> Float64[np.ndarray, " n"]:
    """Wasserstein-1 distance of the margins of each example: how far margin has to be moved, on average.

    Args:
        unlearned: margins (members, n), nats.
        oracle: margins of the reference, (members, n).
        clip: margins beyond count as this.

    Returns:
        (n,) nats, the integral of the absolute difference of the distribution functions; above 0 where nothing differs
        (about 1.7 standard deviations over the root of the members). Constant margins: their difference. Diverged
        members (NaN) are left out, an infinite margin counts as ``clip``; a side without a member: NaN.

    Raises:
        InputError: arrays that are not (members, n), or other examples.

    Source: the closed form on the line.

    Example:
        >>> import numpy as np
        >>> wasserstein_1(np.array([[0.0], [1.0]]), np.array([[2.0], [5.0]])).tolist()
        [3.0]
    """
    u, none = pair_of(unlearned, oracle, clip)
    if not min(len(u), len(none)):
        return np.full(u.shape[1], np.nan)
    if len(u) == len(none):
        return np.abs(np.sort(u, axis=0) - np.sort(none, axis=0)).mean(axis=0)
    step = np.concatenate([np.full(len(u), 1.0 / len(u)), np.full(len(none), -1.0 / len(none))])
    joint = np.concatenate([u, none]).T
    order = np.argsort(joint, axis=1)
    gaps = np.diff(np.take_along_axis(joint, order, axis=1), axis=1)
    return np.einsum("em,em->e", np.abs(np.cumsum(step[order], axis=1)[:, :-1]), gaps)


def rank_effect(unlearned, oracle) -> Float64[np.ndarray, " n"]:
    """Mann-Whitney effect size of each example: P(unlearned margin > oracle margin), ties count half.

    Args:
        unlearned: margins (members, n), nats.
        oracle: margins of the reference, (members, n).

    Returns:
        (n,) in [0, 1]; .5 = the same, 1 = every unlearned model is surer than every oracle. Right on average at any
        number of members, and unchanged by any increasing function of the margins; it saturates where the two no
        longer overlap. Constant margins: 0, .5 or 1. Diverged members (NaN) are left out, an infinite margin is the
        largest; a side without a member: NaN.

    Raises:
        InputError: arrays that are not (members, n), or other examples.

    Source: Mann and Whitney (1947); our small-N substitute for KLOM.

    Example:
        >>> import numpy as np
        >>> rank_effect(np.array([[1.0], [3.0]]), np.array([[0.0], [3.0]])).tolist()
        [0.625]
    """
    u, none = pair_of(unlearned, oracle, np.inf)
    if not min(len(u), len(none)):
        return np.full(u.shape[1], np.nan)
    ranks = np.empty(u.shape[1])
    for start in range(0, u.shape[1], CHUNK):
        joint = np.concatenate([x[:, start : start + CHUNK].T for x in (u, none)], axis=1)
        ranks[start : start + CHUNK] = _rank_sums(joint, len(u))
    return (ranks - len(u) * (len(u) + 1.0) / 2.0) / (len(u) * len(none))


def _rank_sums(joint: np.ndarray, first: int) -> np.ndarray:
    """Sum of the ranks that the first columns have in their row, ties sharing their mean rank."""
    from scipy.stats import rankdata

    order = np.argsort(joint, axis=1)
    sums = (order < first) @ np.arange(1.0, joint.shape[1] + 1.0)
    ordered = np.take_along_axis(joint, order, axis=1)
    tied = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    if tied.any():  # slow, and seldom needed for margins
        sums[tied] = rankdata(joint[tied], axis=1)[:, :first].sum(axis=1)
    return sums

"""How far the margins of two populations lie apart, example by example: KLOM, and figures for few members.

KLOM compares histograms and needs a hundred members or more: two populations that differ in nothing but their seeds
are 6.4 nats apart at 8 members, 3.9 at 16, 1.7 at 32, .33 at 100 and .14 at 200 (normal margins). Print its null band
(`split_band`), or take an estimator that is fair to small populations: `energy_distance` and `rank_effect` average to
0 and 1/2 at any number of members where nothing differs, `gaussian_kl` with ``variant="unbiased"`` to 0 where margins
are normal.

Intervals: `half_draws` with `t_estimate`. They speak of the figure to be expected at this number of members, and are
wider than they need be where nothing differs, for a distance has no first-order noise at its least: there, look at
the band. A band from an oracle of twice the members holds 90% of null populations for KLOM and the Wasserstein distance
at 8 members, 93 to 95% for the others and at 32; one from three times the members 93 to 95% for all.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from unlearn_jax.errors import InputError, choose
from unlearn_jax.metrics.arrays import CLIP, as_members, same_examples

EDGES = ("closed", "public")
GAUSSIAN = ("plain", "shared", "unbiased")
STATISTICS = ("u", "v")
CHUNK = 2048  # examples at once, so that what is sorted and counted stays in the cache


def klom(
    unlearned, oracle, *, bins: int = 20, clip: float = CLIP, floor: float = 1e-5, edge: str = "closed"
) -> np.ndarray:
    """KL divergence of margins, KL(unlearned || oracle) between their histograms, of each example.

    Args:
        unlearned: margins (members, n), nats.
        oracle: margins of the reference, (members, n); the two numbers of members may differ.
        bins: equal bins on the joint range of the two samples of an example.
        clip: margins beyond count as this, nats.
        floor: least share of the oracle in a bin that the unlearned population has members in.
        edge: ``closed`` counts the joint maximum in the last bin; ``public`` has that bin open on the right and drops
            it, as the released code does.

    Returns:
        (n,) nats, both histograms made to sum to 1 after the floor; at most about ``-log(floor)``. Constant margins:
        0 where both are the same, about ``-log(floor)`` where they differ. Diverged members (NaN) are left out, an
        infinite margin counts as ``clip``; fewer than two members on a side: NaN. ``public`` is NaN where the drop
        leaves no member of ``unlearned`` (its members all at the joint maximum, or all margins alike).

    Raises:
        InputError: arrays that are not (members, n), other examples, bins or floor that make no histogram.

    Source: Georgiev et al. (arXiv 2410.23232), also arXiv 2602.16400; ``public`` follows the benchmark's histogram.

    Example:
        >>> import numpy as np
        >>> u, none = np.array([[0.0], [1.0], [1.0], [1.0]]), np.array([[0.0], [0.0], [1.0], [1.0]])
        >>> klom(u, none).round(4).tolist()  # .25 log(.25 / .5) + .75 log(.75 / .5)
        [0.1308]
    """
    choose("edge of the last bin", edge, EDGES)
    if not (isinstance(bins, int | np.integer) and bins > 0 and 0 < floor < 1 and clip > 0):
        raise InputError(f"bins {bins}, floor {floor}, clip {clip}: give a whole number of bins and a floor in (0, 1).")
    u, none = _pair(unlearned, oracle, clip)
    if min(len(u), len(none)) < 2:
        return np.full(u.shape[1], np.nan)
    found = np.empty(u.shape[1])
    for start in range(0, u.shape[1], CHUNK):
        at = slice(start, start + CHUNK)
        counts = _histograms(u[:, at], none[:, at], int(bins), edge == "closed")
        found[at] = _floored_kl(counts[0] / len(u), counts[1] / len(none), floor)
    return found


def _histograms(u: np.ndarray, none: np.ndarray, bins: int, closed: bool) -> list[np.ndarray]:
    """Counts (examples, bins) of both samples over their joint range."""
    low, high = np.minimum(u.min(axis=0), none.min(axis=0)), np.maximum(u.max(axis=0), none.max(axis=0))
    span = np.where(high > low, high - low, 1.0)
    first = bins * np.arange(u.shape[1])
    out = []
    for sample in (u, none):
        place = (sample - low) * bins
        place /= span
        index = np.minimum(place.astype(np.int64), bins - 1)
        index += first
        index = index.ravel() if closed else index[sample < high]
        out.append(np.bincount(index, minlength=bins * u.shape[1]).reshape(-1, bins))
    return out


def _floored_kl(p: np.ndarray, q: np.ndarray, floor: float) -> np.ndarray:
    """KL(p || q) over the last axis, q floored where p has mass and both made to sum to 1; NaN where p has none."""
    q = np.where(p > 0, np.maximum(q, floor), q)
    with np.errstate(invalid="ignore", divide="ignore"):
        p, q = p / p.sum(axis=-1, keepdims=True), q / q.sum(axis=-1, keepdims=True)
        return np.where(p == 0, 0.0, p * np.log(p / q)).sum(axis=-1)


class KlomSummary(NamedTuple):
    """KLOM over the examples of a split; report it beside its null band."""

    mean: float
    median: float
    p95: float  # 95% quantile


def klom_summary(values) -> KlomSummary:
    """Mean, median and 95% quantile of a per-example figure over the examples of a split.

    Args:
        values: (n,), of `klom` or another figure here.

    Returns:
        NaN throughout where a value is NaN: leaving examples out would change what is averaged.

    Raises:
        InputError: no examples, or more than one axis.

    Source: Georgiev et al. (arXiv 2410.23232) report mean and 95% quantile of forget, retained and validation sets.

    Example:
        >>> klom_summary([0.0, 1.0, 2.0, 5.0]).mean
        2.0
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values):
        raise InputError(f"values are {values.shape}: give one number for each example of a split.")
    return KlomSummary(float(values.mean()), float(np.median(values)), float(np.quantile(values, 0.95)))


def gaussian_kl(unlearned, oracle, *, variant: str = "plain", floor: float = 1e-2, clip: float = CLIP) -> np.ndarray:
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
    u, none = _pair(unlearned, oracle, clip)
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


def energy_distance(unlearned, oracle, *, statistic: str = "u", clip: float = CLIP) -> np.ndarray:
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
    u, none = _pair(unlearned, oracle, clip)
    n, m, least = len(u), len(none), 2 if statistic == "u" else 1
    if min(n, m) < least:
        return np.full(u.shape[1], np.nan)
    found = np.empty(u.shape[1])
    for start in range(0, u.shape[1], CHUNK):
        a, b = (np.ascontiguousarray(x[:, start : start + CHUNK].T) for x in (u, none))
        own, other, joint = (_pair_gaps(x) for x in (a, b, np.concatenate([a, b], axis=1)))
        pairs = [n * (n - 1.0), m * (m - 1.0)] if statistic == "u" else [float(n) ** 2, float(m) ** 2]
        found[start : start + CHUNK] = 2.0 * ((joint - own - other) / (n * m) - own / pairs[0] - other / pairs[1])
    return found


def _pair_gaps(values: np.ndarray) -> np.ndarray:
    """Sum of |x_i - x_j| over unordered pairs of each row; (examples, members) -> (examples,)."""
    size = values.shape[1]
    return np.sort(values - values[:, :1], axis=1) @ (2.0 * np.arange(size) - size + 1.0)


def wasserstein_1(unlearned, oracle, *, clip: float = CLIP) -> np.ndarray:
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
    u, none = _pair(unlearned, oracle, clip)
    if not min(len(u), len(none)):
        return np.full(u.shape[1], np.nan)
    if len(u) == len(none):
        return np.abs(np.sort(u, axis=0) - np.sort(none, axis=0)).mean(axis=0)
    step = np.concatenate([np.full(len(u), 1.0 / len(u)), np.full(len(none), -1.0 / len(none))])
    joint = np.concatenate([u, none]).T
    order = np.argsort(joint, axis=1)
    gaps = np.diff(np.take_along_axis(joint, order, axis=1), axis=1)
    return np.einsum("em,em->e", np.abs(np.cumsum(step[order], axis=1)[:, :-1]), gaps)


def rank_effect(unlearned, oracle) -> np.ndarray:
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
    u, none = _pair(unlearned, oracle, np.inf)
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


def _pair(unlearned, oracle, clip: float) -> tuple[np.ndarray, np.ndarray]:
    """Both populations without diverged members, on the same examples."""
    if not clip > 0:
        raise InputError(f"clip is {clip}: give the largest margin that counts, in nats, above 0.")
    u, none = as_members(unlearned, "unlearned", clip=clip), as_members(oracle, "oracle", clip=clip)
    same_examples(unlearned=u, oracle=none)
    return u, none

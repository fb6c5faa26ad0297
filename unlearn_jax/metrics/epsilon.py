"""The forgetting score of the NeurIPS 2023 competition: how well any threshold tells unlearned from reference models.

Per example, the margins of the unlearned and of the reference models are two samples; each rule that calls one of them
bounds epsilon from below, as in the definition of (epsilon, delta) indistinguishability, and the strongest counts.
The rules are those of the released scorer, on its grid of thresholds; which of them are reached is worked out from
the order of the margins, so that no threshold is tried one by one.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from unlearn_jax.errors import InputError
from unlearn_jax.metrics.arrays import as_members, mean_of_finite, same_examples

CAP = 50.0  # nats
PER_UNIT = 100  # thresholds a nat
REACH = 2.0  # nats by which the ends of an interval may leave the range of the narrower sample
POINTS = 400  # thresholds over twice the reach
MIN_RATIO = 0.01  # of the two ranges
BUCKET = 0.5  # nats
SHARE = 300_000  # pairs of thresholds looked at in one piece


def forgetting_epsilon(unlearned, reference, *, delta: float = 1e-5) -> Float64[np.ndarray, " n"]:
    """Forgetting epsilon of each example: 0 = no rule tells unlearned from reference, 50 = one always does.

    The rules are single thresholds, 100 per nat over the range of both samples (at the threshold or above = the sample
    with the larger median), and intervals (inside = the sample with the narrower range) whose ends lie within 2 nats
    of where they would hold just that sample, 100 per nat each. A rule that is never wrong gives 50; a rule with
    exactly one error rate of 0 is dropped, for lack of samples.

    Args:
        unlearned: margins (members, n), nats.
        reference: margins (members, n) of models that never saw the examples; retrain or oracle, say which.
        delta: of the definition.

    Returns:
        (n,) in [0, 50], the largest of ``ln((1 - delta - FPR) / FNR)`` and ``ln((1 - delta - FNR) / FPR)``. 50 where
        one range is under a hundredth of the other, constant margins included, unless both are the same constant (0).
        NaN with fewer than two members on a side, and where no rule survives, as for samples that lie within .01 nats;
        the scorer stops with an error there. Infinite margins count as 100 nats. For intervals take the points of
        the score: one example at 50 moves a mean of epsilons so far that with 16 members they hold all and say little.

    Raises:
        InputError: shapes that do not belong together, or a delta outside [0, 1).

    Source: Triantafillou et al. (arXiv 2406.09073), variant of the released scorer. That holds its results to be true
    as a whole array, which fails where more than one threshold survives.

    Example:
        >>> import numpy as np
        >>> low = np.array([[0.0], [1.0], [2.0], [3.0]])
        >>> forgetting_epsilon(low, low + 1.5).round(2)  # ln(.75 / .25), at the threshold 2.5
        array([1.1])
    """
    if not 0 <= delta < 1:
        raise InputError(f"delta is {delta}: give a small probability in [0, 1).")
    u, r = as_members(unlearned, "unlearned"), as_members(reference, "reference")
    same_examples(unlearned=u, reference=r)
    if min(len(u), len(r)) < 2:
        return np.full(u.shape[1], np.nan)
    size = max(1, SHARE // (len(u) + len(r) + 1) ** 2)
    pieces = range(0, u.shape[1], size)
    return np.concatenate([_epsilon(u[:, i : i + size].T, r[:, i : i + size].T, delta) for i in pieces])


def _epsilon(u: np.ndarray, r: np.ndarray, delta: float) -> np.ndarray:
    """Epsilon of samples (n, members) that hold finite values."""
    spans = np.stack([np.ptp(u, axis=1), np.ptp(r, axis=1)])
    narrow, wide = spans.min(axis=0), spans.max(axis=0)
    constant = wide == 0
    peaked = np.where(constant, u[:, 0] != r[:, 0], narrow < MIN_RATIO * wide)
    order = np.argsort(np.concatenate([u, r], axis=1), axis=1, kind="stable")
    points = np.take_along_axis(np.concatenate([u, r], axis=1), order, axis=1)
    start = np.zeros((len(u), 1), int)
    counts = [
        np.concatenate([start, np.cumsum(of, axis=1)], axis=1) for of in (order < u.shape[1], order >= u.shape[1])
    ]
    table = _table(u.shape[1], r.shape[1], delta)
    singles = _single_rules(u, r, points, counts, table)
    intervals = _interval_rules(u, r, spans, points, counts, table)
    best = np.maximum(singles, intervals)
    return np.where(peaked, CAP, np.where(constant, 0.0, np.where(best < 0, np.nan, best)))


def _table(n_u: int, n_r: int, delta: float) -> np.ndarray:
    """Epsilon by (unlearned models called unlearned, reference models called unlearned); -1 = dropped."""
    missed, false = 1.0 - np.arange(n_u + 1)[:, None] / n_u, np.arange(n_r + 1)[None] / n_r
    with np.errstate(divide="ignore", invalid="ignore"):
        one, other = ((1.0 - delta - a) / b for a, b in ((false, missed), (missed, false)))
        value = np.clip(np.log(np.maximum(np.fmax(one, other), 1.0)), 0.0, CAP)
    value[(missed == 0) & (false == 0)] = CAP
    value[(missed == 0) ^ (false == 0)] = -1.0
    return value


def _single_rules(u, r, points, counts, table) -> np.ndarray:
    """Best epsilon of the thresholds over the joint range; (n,)."""
    span = points[:, -1] - points[:, 0]
    last = np.maximum(np.ceil(PER_UNIT * span - 1e-9).astype(int) - 1, 0)
    step = np.where(last > 0, span / np.maximum(last, 1), 1.0)
    first, final = _below(points, points[:, :1], step[:, None], last[:, None])
    larger = np.median(u, axis=1) >= np.median(r, axis=1)  # unlearned models lie at the threshold or above
    below_u, below_r = counts
    above = table[u.shape[1] - below_u, r.shape[1] - below_r]
    under = table[below_u, below_r]
    return np.where(first <= final, np.where(larger[:, None], above, under), -1.0).max(axis=1)


def _interval_rules(u, r, spans, points, counts, table) -> np.ndarray:
    """Best epsilon of the intervals around the narrower sample; (n,)."""
    inside_u = spans[0] < spans[1]  # of equal ranges, that of the smaller median
    tie = spans[0] == spans[1]
    inside_u = np.where(tie, np.median(u, axis=1) < np.median(r, axis=1), inside_u)
    low = np.where(inside_u, u.min(axis=1), r.min(axis=1))[:, None]
    high = np.where(inside_u, u.max(axis=1), r.max(axis=1))[:, None]
    step, last = 2 * REACH / (POINTS - 1), POINTS - 1
    right = _up_to(points, high - REACH, step, last)
    left = _below(points, low - 2 * REACH, step, 2 * last)
    # the left end's place less the right end's is at most 399: each right end has 400 left ends of its own
    ends = [(np.where(a <= b, a, 4 * POINTS), np.where(a <= b, b, -4 * POINTS)) for a, b in (left, right)]
    (left_first, left_final), (right_first, right_final) = ([x.astype(np.int32) for x in end] for end in ends)
    reached = left_final[:, :, None] >= right_first[:, None]
    reached &= left_first[:, :, None] <= right_final[:, None] + np.int32(last)
    reached &= np.tri(points.shape[1] + 1, k=-1, dtype=bool).T  # something lies inside
    code = (counts[0] * table.shape[1] + counts[1]).astype(np.int32)  # place in the table of all that lie below
    code[~inside_u] *= -1  # those outside are called unlearned
    called = code[:, None] - code[:, :, None] + np.where(inside_u, 0, table.size - 1).astype(np.int32)[:, None, None]
    called[~reached] = table.size
    return np.append(table, -1.0)[called].max(axis=(1, 2))


def _below(points: np.ndarray, start, step, last) -> tuple[np.ndarray, np.ndarray]:
    """First and last threshold ``start + i step``, i up to ``last``, with 0, 1, ... points strictly below."""
    places = (points - start) / step
    n = len(points)
    first = np.concatenate([np.full((n, 1), 0), np.floor(places + 1e-9).astype(int) + 1], axis=1)
    final = np.concatenate([np.floor(places + 1e-9).astype(int), np.broadcast_to(last, (n, 1))], axis=1)
    return np.maximum(first, 0), np.minimum(final, last)


def _up_to(points: np.ndarray, start, step, last) -> tuple[np.ndarray, np.ndarray]:
    """First and last threshold with 0, 1, ... points at it or below."""
    places = np.ceil((points - start) / step - 1e-9).astype(int)
    n = len(points)
    first = np.concatenate([np.full((n, 1), 0), places], axis=1)
    final = np.concatenate([places - 1, np.full((n, 1), last)], axis=1)
    return np.maximum(first, 0), np.minimum(final, last)


def forgetting_score(epsilon, *, members: int) -> float:
    """Forgetting score: mean over examples of 1, 1/2, 1/4, ... for an epsilon in the first, second, ... half nat.

    Args:
        epsilon: (n,) as of `forgetting_epsilon`, nats; NaN is left out.
        members: M, models on each side. Half nats beyond ``ceil(ln(M - 1))`` give 0: so few models cannot show them.

    Returns:
        In [0, 1]. NaN with fewer than 3 members, or without an epsilon. 1 is out of reach: epsilon is the largest over
        very many rules, and two populations alike score about .2 (normal margins, 16 to 256 members). Compare
        populations of one size, and give the null band.

    Raises:
        InputError: no epsilon, or a negative one.

    Source: Triantafillou et al. (arXiv 2406.09073), variant of the released scorer.

    Example:
        >>> forgetting_score([0.2, 0.7, 50.0, 1.0], members=16)  # (1 + 1/2 + 0 + 1/4) / 4
        0.4375
    """
    return mean_of_finite(forgetting_points(epsilon, members=members))


def forgetting_points(epsilon, *, members: int) -> Float64[np.ndarray, " n"]:
    """What each epsilon adds to `forgetting_score` before the mean, for intervals; NaN stays NaN; (n,) -> (n,).

    Raises:
        InputError: no epsilon, or a negative one.

    Example:
        >>> forgetting_points([0.2, 0.7], members=16).tolist()
        [1.0, 0.5]
    """
    epsilon = np.asarray(epsilon, np.float64)
    if epsilon.ndim != 1 or not epsilon.size or (epsilon < 0).any():
        raise InputError(f"epsilon is {epsilon.shape}: give (examples,) values of 0 or more, from forgetting_epsilon.")
    if members < 3:
        return np.full(epsilon.shape, np.nan)
    bucket = np.floor(epsilon / BUCKET)
    counted = (bucket + 1) * BUCKET <= np.ceil(np.log(members - 1))
    return np.where(np.isnan(epsilon), np.nan, np.where(counted, 2.0**-bucket, 0.0))


def forgetting_final(
    score: float,
    retain_accuracy: float,
    test_accuracy: float,
    reference_retain_accuracy: float,
    reference_test_accuracy: float,
) -> float:
    """Final score of the competition: forgetting times what is kept of the accuracies on retained and test data.

    Args:
        score: of `forgetting_score`.
        retain_accuracy: mean accuracy of the unlearned models on retained data, in [0, 1].
        test_accuracy: on test data.
        reference_retain_accuracy: of the reference models.
        reference_test_accuracy: of the reference models on test data.

    Returns:
        ``score * RA_u / RA_r * TA_u / TA_r``; above ``score`` where the reference is the less accurate, as in the
        competition. NaN where a reference accuracy is 0 or an argument is NaN.

    Raises:
        InputError: an accuracy outside [0, 1] (per cent, say).

    Source: Triantafillou et al. (arXiv 2406.09073).

    Example:
        >>> round(forgetting_final(0.5, 0.9, 0.8, 1.0, 0.8), 3)
        0.45
    """
    accuracies = (retain_accuracy, test_accuracy, reference_retain_accuracy, reference_test_accuracy)
    if any(a < 0 or a > 1 for a in accuracies):
        raise InputError(f"accuracies are {accuracies}: give shares in [0, 1], not per cent.")
    if reference_retain_accuracy == 0 or reference_test_accuracy == 0:
        return float("nan")
    return float(score * retain_accuracy / reference_retain_accuracy * test_accuracy / reference_test_accuracy)

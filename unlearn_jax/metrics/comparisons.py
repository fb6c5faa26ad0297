"""Which methods differ: paired differences, all pairs at once, and intervals of ranks.

Figures come as `Draws` made from the same seed, so that what methods share (the targets, the originals' members) is in
all of them alike and cancels. `unlearn_jax.metrics.ranks` gives for each figure the middle 95% of its rank over the
draws: a description of one method at a time, whose interval may well miss the rank that a large study would show. The
intervals of `rank_intervals` hold all true ranks together in 95% of studies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.metrics.draws import Draws
from unlearn_jax.metrics.pairs import adjust, difference_of, p_value
from unlearn_jax.metrics.summary import Estimate, combine

CORRECTIONS = ("max_t", "holm", "bonferroni", "none")


class Difference(NamedTuple):
    """How far two figures lie apart, and how often chance alone would show as much."""

    estimate: Estimate
    p: float  # two-sided


class Comparisons(NamedTuple):
    """All pairs: entry (i, j) is of figure i less figure j."""

    names: tuple[str, ...]
    difference: np.ndarray
    ci_low: np.ndarray  # simultaneous over all pairs, but for the correction "none"
    ci_high: np.ndarray
    p: np.ndarray  # two-sided, of each pair by itself
    p_adjusted: np.ndarray
    significant: np.ndarray  # p_adjusted <= 1 - level
    correction: str
    level: float


class RankIntervals(NamedTuple):
    """Ranks, 1 = best, and intervals that hold all true ranks together; NaN for a figure that is not defined."""

    names: tuple[str, ...]
    rank: np.ndarray
    low: np.ndarray
    high: np.ndarray


class RankingGroups(NamedTuple):
    """Names by what a study can say of them, each group from the best figure to the worst."""

    best: tuple[str, ...]  # not separable from the best: no other is significantly better
    worse: tuple[str, ...]
    undefined: tuple[str, ...]  # no figure, hence no rank


def paired_difference(a: Draws, b: Draws) -> Difference:
    """The difference of two figures over shared draws, ``a - b``, with its intervals and a two-sided bootstrap p-value.

    Args:
        a: draws of a figure.
        b: draws of another, made from the same seed.

    Returns:
        `Difference`. p = ``(1 + #{draws: |D* - D| >= |D|}) / (1 + #draws)``: the draws of the difference are moved to
        the null, and the +1 counts the study itself, so p is never 0. For small N the deviations are first put on the
        scale of Student's t, as `combine` does with its intervals. 1 where the two are equal; NaN, with NaN in the
        estimate's value, where either is not defined or fewer than two draws are.

    Raises:
        InputError: draws of different lengths.

    Source: Davison and Hinkley (1997, section 4.4) for the shifted null and the +1; the t scale is ours.

    Example:
        >>> import numpy as np
        >>> draws = np.linspace(-1.0, 1.0, 99)
        >>> make = lambda v, d: Draws(v, v + d, v + d, 8)
        >>> paired_difference(make(3.0, draws), make(1.0, 0 * draws)).p
        0.01
    """
    _check([a, b])
    pair = difference_of(a, b, "both")
    return Difference(combine(lambda x, y: x - y, a, b), p_value(pair, pair.null))


def _check(draws: Sequence[Draws]) -> None:
    lengths = {np.shape(part) for d in draws for part in (d.both, d.members)}
    if len(lengths) != 1:
        raise InputError(f"draws have shapes {sorted(lengths)}: make all of them with the same seed and resamples.")


def compare_all(
    draws: Sequence[Draws],
    names: Sequence[str] | None = None,
    *,
    correction: str = "max_t",
    level: float = 0.95,
    part: str = "both",
) -> Comparisons:
    """Differences of all pairs of figures, and which of them are more than chance among so many.

    Args:
        draws: one for each method, made from the same seed.
        names: of the methods; None = their numbers.
        correction: ``max_t`` (single-step: the largest of all pairs' statistics, draw by draw, is the yardstick, which
            uses how pairs depend on each other), ``holm``, ``bonferroni`` or ``none``. With these three a pair's
            smallest adjusted p is (number of pairs) / (number of draws + 1): take draws enough.
        level: of the intervals together; its complement is the error rate over the family.
        part: ``both`` (members and clusters drawn) or ``members``.

    Returns:
        `Comparisons` of (K, K) arrays. Intervals are ``D +- c s`` with the standard error s: c from the draws of the
        largest statistic (max_t), of the pair's own at 1 - (1 - level) / pairs (holm, bonferroni), or at the level
        (none). A figure that is not defined has NaN in its row and column, is never significant, and does not count
        among the pairs. On the diagonal all is 0 and p = 1.

    Raises:
        InputError: no draws, draws of different lengths, names that do not fit, or another correction, level or part.

    Source: Westfall and Young (1993, "Resampling-based multiple testing"), the single-step max-T; Holm (1979).

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> shared = rng.normal(0, 1, 500)
        >>> make = lambda v: Draws(v, v + shared + 0.1 * rng.normal(0, 1, 500), v + shared, 8)
        >>> compare_all([make(0.2), make(0.21), make(0.9)], ["a", "b", "c"]).significant[0].tolist()
        [False, False, True]
    """
    names = tuple(names) if names is not None else tuple(str(i) for i in range(len(draws)))
    if not draws or len(names) != len(draws):
        raise InputError(f"{len(names)} names for {len(draws)} figures: give one or more figures and a name for each.")
    if correction not in CORRECTIONS or not 0 < level < 1 or part not in ("both", "members"):
        raise InputError(
            f"correction is '{correction}', level {level}, part '{part}': give {', '.join(CORRECTIONS)}, "
            "a level in (0, 1), and both or members."
        )
    _check(draws)
    at = np.argwhere(np.triu(np.ones((len(draws),) * 2), 1))
    pairs = [difference_of(draws[i], draws[j], part) for i, j in at]
    p = np.asarray([p_value(pair, pair.null) for pair in pairs])
    adjusted, critical = adjust(pairs, p, correction, level)
    value, half = np.asarray([q.value for q in pairs]), np.asarray([c * q.error for c, q in zip(critical, pairs)])
    fill = lambda upper, lower, diagonal: _matrix(
        at, upper, lower, np.where([np.isfinite(d.value) for d in draws], diagonal, np.nan)
    )
    difference, ps, matrix = fill(value, -value, 0.0), fill(p, p, 1.0), fill(adjusted, adjusted, 1.0)
    low, high = fill(value - half, -value - half, 0.0), fill(value + half, -value + half, 0.0)
    significant = np.nan_to_num(matrix, nan=1.0) <= 1 - level + 1e-12
    return Comparisons(names, difference, low, high, ps, matrix, significant, correction, level)


def _matrix(at: np.ndarray, upper: np.ndarray, lower: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
    """A square matrix from its diagonal and the entries above and below it."""
    out = np.diag(np.asarray(diagonal, np.float64))
    if len(at):
        out[at[:, 0], at[:, 1]], out[at[:, 1], at[:, 0]] = upper, lower
    return out


def rank_intervals(
    draws: Sequence[Draws],
    names: Sequence[str] | None = None,
    *,
    best: str = "smallest",
    correction: str = "max_t",
    level: float = 0.95,
    part: str = "both",
) -> RankIntervals:
    """Ranks of all figures with intervals that hold every true rank together in ``level`` of studies.

    Args:
        draws: one for each method, made from the same seed.
        names: of the methods.
        best: ``smallest`` or ``largest`` figure has rank 1.
        correction: as in `compare_all`; with ``none`` the intervals do not hold together.
        level: of all intervals together.
        part: as in `compare_all`.

    Returns:
        `RankIntervals`: low = 1 + number of figures that are significantly better, high = K - number that are
        significantly worse, K = number of figures that are defined. Ties share the best of their ranks. A figure that
        is not defined has no rank (NaN); it comes after all others.

    Raises:
        InputError: as in `compare_all`, or another ``best``.

    Source: Mogstad, Romano, Shaikh and Wilhelm (2024, Review of Economic Studies 91:476), joint intervals for all
    ranks from single-step two-sided comparisons.

    Example:
        >>> import numpy as np
        >>> make = lambda v, s: Draws(v, v + 0.01 * np.sin(np.arange(300) * s), np.full(300, v), 8)
        >>> found = rank_intervals([make(0.9, 1.0), make(0.2, 2.0), make(np.nan, 3.0), make(0.2001, 5.0)])
        >>> found.rank.tolist(), found.low.tolist(), found.high.tolist()
        ([3.0, 1.0, nan, 2.0], [3.0, 1.0, nan, 1.0], [3.0, 2.0, nan, 2.0])
    """
    if best not in ("smallest", "largest"):
        raise InputError(f"best is '{best}': give smallest or largest.")
    pairs = compare_all(draws, names, correction=correction, level=level, part=part)
    sign = 1.0 if best == "smallest" else -1.0
    worse = sign * np.nan_to_num(pairs.difference) > 0  # i is worse than j
    defined = np.isfinite(np.diag(pairs.difference))
    only = lambda x: np.where(defined, x, np.nan)
    rank = only(1.0 + worse.sum(axis=1))
    low = only(1.0 + (worse & pairs.significant).sum(axis=1))
    high = only(defined.sum() - (worse & pairs.significant).sum(axis=0))
    return RankIntervals(pairs.names, rank, low, high)


def ranking_groups(draws: Sequence[Draws], names: Sequence[str] | None = None, **setting) -> RankingGroups:
    """Which methods are not separable from the best, which are worse, and which have no figure.

    Args:
        draws: one for each method, made from the same seed.
        names: of the methods.
        setting: ``best``, ``correction``, ``level`` and ``part`` as in `rank_intervals`.

    Returns:
        `RankingGroups`. The first group are those whose rank interval begins at 1; the method that is truly best is
        among them in ``level`` of studies, or more. It is empty only where no figure is defined.

    Raises:
        InputError: as in `rank_intervals`.

    Source: the confidence set for the best of Mogstad, Romano, Shaikh and Wilhelm (2024), from all pairs.

    Example:
        >>> import numpy as np
        >>> make = lambda v, s: Draws(v, v + 0.01 * np.sin(np.arange(300) * s), np.full(300, v), 8)
        >>> ranking_groups([make(0.9, 1.0), make(0.2, 2.0), make(np.nan, 3.0), make(0.2001, 5.0)], ["a", "b", "c", "d"])
        RankingGroups(best=('b', 'd'), worse=('a',), undefined=('c',))
    """
    intervals = rank_intervals(draws, names, **setting)
    order = np.argsort(intervals.rank, kind="stable")  # NaN last
    pick = lambda chosen: tuple(intervals.names[i] for i in order if chosen[i])
    return RankingGroups(pick(intervals.low == 1), pick(intervals.low > 1), pick(np.isnan(intervals.low)))

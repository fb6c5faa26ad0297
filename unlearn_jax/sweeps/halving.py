"""Successive halving in its plainest honest form: rungs of a part of the method's length, each from the originals.

At each rung every setting that is left runs from the original models, with the method's whole schedule squeezed into a
part of its length (as a budget would: what counts in epochs is scaled alike). What is clearly worse is dropped; what is
left begins anew at the next, longer rung. So a setting's last run is exactly what a study of it would be, and the
shorter runs are the price, which is counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple


class Judged(NamedTuple):
    """What a rung says of one setting; ranks sort ascending, best first."""

    rank: tuple
    best: tuple  # its rank at the favourable end of its uncertainty
    cost: float


class Rung(NamedTuple):
    """One rung; settings are numbers into the sweep's list."""

    share: float  # of the method's length
    run: list[int]
    kept: list[int]  # that go on; on the last rung all
    cost: float  # of its runs together


def rung_shares(settings: int, length: int, eta: int, rungs: int) -> list[float]:
    """Shares of the method's length that the rungs take: ..., 1/eta^2, 1/eta, 1.

    At most ``rungs``; fewer where the shortest would be under one unit of ``length``, or where nothing would be left to
    choose from.

    Example:
        >>> rung_shares(16, 10, 2, 3)
        [0.25, 0.5, 1.0]
    """
    count = 1
    while count < rungs and length >= eta**count and settings > eta ** (count - 1):
        count += 1
    return [float(eta) ** -(count - 1 - i) for i in range(count)]


def halve(
    settings: int, shares: list[float], eta: int, judge: Callable[[list[int], float], list[Judged]]
) -> list[Rung]:
    """Run the rungs.

    Args:
        settings: number of settings.
        shares: ascending, the last 1.
        eta: after a rung the best 1/eta of its settings go on (rounded up), and with them each that is not clearly
            worse: whose rank at the favourable end of its uncertainty is no worse than that of the last of these.
        judge: ``(numbers, share) -> what is said of each``.
    """
    left, rungs = list(range(settings)), []
    for share in shares:
        judged = dict(zip(left, judge(left, share)))
        kept = left if share == shares[-1] else _kept(judged, eta)
        rungs.append(Rung(share, left, kept, math.fsum(one.cost for one in judged.values())))
        left = kept
    return rungs


def _kept(judged: dict[int, Judged], eta: int) -> list[int]:
    ranked = sorted(judged, key=lambda number: judged[number].rank)
    line = judged[ranked[math.ceil(len(ranked) / eta) - 1]].rank
    return [number for number, one in judged.items() if one.rank <= line or one.best <= line]

"""A relative three-sample test: is the unlearned population nearer to the reference than the original is?

Two populations that differ only in their seeds or their batches are told apart by any two-sample test with enough
members, so that "not distinguishable from retraining" says how many members there were. The relative question has an
answer that more members only make surer (after arXiv 2601.19755, whose tests are of f-divergences).

The test bets on one member after another. From the members before it learns what leads from the original to the
reference, and stakes that the next unlearned member lies further along than the original's next member does. If it does
not, on average, by more than `least` of the way, the stake's expected value does not grow; so growth by 1 / level is a
false alarm in at most `level` of all cases, whenever one looks and however many members are added (Ville's inequality).

NumPy, in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from unlearn_jax.errors import InputError, choose

KERNELS = ("margins", "gaussian")
WIDTHS = (0.5, 1.0, 2.0)  # of Gaussian kernels, as shares of the median distance
LARGEST_BET = 0.9
LEAST, LEVEL = 0.1, 0.05


class Relative(NamedTuple):
    """Whether an unlearned population is nearer to the reference than the original is."""

    e_value: float  # the stake at the end, from 1
    p_value: float  # anytime-valid: 1 / the largest stake so far, at most 1
    nearer: bool  # p_value <= level
    members: int  # that were looked at
    decided: int | None  # after how many the stake reached 1 / level
    stakes: np.ndarray  # (members,), after each


def relative_test(
    unlearned: Sequence,
    reference: Sequence,
    original: Sequence,
    *,
    kernel: str = "margins",
    least: float = LEAST,
    level: float = LEVEL,
) -> Relative:
    """Test whether the unlearned population has moved from the original towards the reference.

    Args:
        unlearned: by request, values (members, examples) such as margins in nats; one array where there is one request.
        reference: the same of the reference population (retrain or oracle), on the same examples.
        original: the same of the originals; member i is best the one from which unlearned member i started.
        kernel: ``margins`` = how far along the straight line between the two means; ``gaussian`` = a kernel's witness
            function (maximum mean discrepancy), the mean stake of three widths about the median distance.
        least: share of the way that does not count as moved.
        level: rate of false alarms.

    Returns:
        Members in the order given; those with a value that is not finite are passed over. NaN where none is left.

    Raises:
        InputError: populations on other examples, or an unknown kernel.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> original, reference = rng.normal(5, 1, (16, 30)), rng.normal(0, 1, (16, 30))
        >>> relative_test(rng.normal(1, 1, (16, 30)), reference, original).nearer
        True
        >>> relative_test(rng.normal(5, 1, (16, 30)), reference, original).nearer
        False
    """
    choose("kernel", kernel, KERNELS)
    blocks = [_blocks(each) for each in (unlearned, reference, original)]
    shapes = [[block.shape[1] for block in each] for each in blocks]
    if shapes[0] != shapes[1] or shapes[0] != shapes[2]:
        raise InputError(f"populations have {shapes[0]}, {shapes[1]} and {shapes[2]} examples: give all the same ones.")
    widths = (None,) if kernel == "margins" else WIDTHS
    requests = list(zip(*blocks))
    gains = [np.concatenate([_gains(u, r, o, width, least) for u, r, o in requests]) for width in widths]
    stakes = np.mean([np.cumprod(1 + _bets(gain) * gain) for gain in gains], axis=0)
    return _judged(stakes, level)


def _blocks(values: Sequence) -> list[np.ndarray]:
    """By request, (members, examples) of the members whose values are finite."""
    blocks = [values] if isinstance(values, np.ndarray) and values.ndim == 2 else list(values)
    arrays = [np.asarray(block, np.float64) for block in blocks]
    if not arrays or any(block.ndim != 2 for block in arrays):
        raise InputError("values are not (members, examples): give an array, or a list with one for each request.")
    return [block[np.isfinite(block).all(axis=1)] for block in arrays]


def _gains(
    unlearned: np.ndarray, reference: np.ndarray, original: np.ndarray, width: float | None, least: float
) -> Float64[np.ndarray, " m"]:
    """What a stake of 1 on each member gains, in [-1, 1]; nothing on the first, before which nothing is known."""
    count = min(len(unlearned), len(reference), len(original))
    out = np.zeros(count)
    for at in range(1, count):
        moved = _witness(reference[:at], original[:at], width)
        ahead = moved(unlearned[at]) - moved(original[at])
        out[at] = np.clip(ahead - least, -1.0, 1.0)
    return out


def _witness(reference: np.ndarray, original: np.ndarray, width: float | None):
    """How far a member is from the original (0) to the reference (1), as the members so far have it."""
    if width is None:
        begin, way = original.mean(axis=0), reference.mean(axis=0) - original.mean(axis=0)
        return lambda x: (x - begin) @ way / max(way @ way, 1e-300)
    both = np.concatenate([reference, original])
    square = ((both[:, None] - both[None]) ** 2).sum(axis=-1)
    scale = width**2 * np.median(square[np.triu_indices(len(both), 1)]) or 1.0
    like = lambda x, others: np.exp(-((x - others) ** 2).sum(axis=-1) / (2 * scale)).mean()
    towards = lambda x: like(x, reference) - like(x, original)
    begin, end = (np.mean([towards(x) for x in each]) for each in (original, reference))
    return lambda x: (towards(x) - begin) / max(end - begin, 1e-300)


def _bets(gain: np.ndarray) -> np.ndarray:
    """The share that is staked on each member: mean over second moment of what was gained before, in [0, .9].

    Source: the approximate growth-rate-adaptive bets of arXiv 2010.09686.
    """
    before = np.arange(len(gain))
    total, square = (np.concatenate([[0.0], np.cumsum(x)[:-1]]) for x in (gain, gain**2))
    mean, second = (0.25 + total) / (before + 1), (0.5 + square) / (before + 1)
    return np.clip(mean / second, 0.0, LARGEST_BET)


def _judged(stakes: np.ndarray, level: float) -> Relative:
    """What the stakes say."""
    if not len(stakes):
        return Relative(float("nan"), float("nan"), False, 0, None, stakes)
    reached = np.flatnonzero(stakes >= 1 / level)
    decided = int(reached[0]) + 1 if len(reached) else None
    return Relative(
        float(stakes[-1]), float(min(1.0, 1 / stakes.max())), decided is not None, len(stakes), decided, stakes
    )

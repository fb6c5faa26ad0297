"""Intervals by two-way resampling of members and clusters, with draws that are shared wherever the design says so.

NumPy only, in float64. Values come as one array (members, examples), or a list of such blocks, one per request: each
request has its own members and its own clusters, and a pooled figure weighs every cluster alike. A member with a
non-finite value has diverged: it gets weight zero and is counted, never averaged in.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 2000
STARTED = "original"  # role whose member draws are shared by every method that started from it


class Estimate(NamedTuple):
    """A figure with its percentile intervals; NaN where it is not defined."""

    value: float
    ci_low: float  # members and clusters resampled
    ci_high: float
    ci_members_low: float  # members alone
    ci_members_high: float
    n: int  # members that count


class Values(NamedTuple):
    """A population's per-example values, with the draws that it shares.

    ``blocks`` holds one (members, examples) array per request; ``role`` names the member draws (methods started from
    the originals share theirs); ``clusters`` gives each example's cluster number within its block, None = its own.
    ``shared`` says that blocks look at the same examples (test images under several requests): then a cluster number
    means the same cluster in every block, and it is drawn once for all of them.
    """

    blocks: list[np.ndarray]
    role: str
    clusters: list[np.ndarray] | None = None
    shared: bool = False

    @property
    def diverged(self) -> int:
        """Members with a value that is not finite."""
        return sum(int((~np.isfinite(b).all(axis=1)).sum()) for b in self.blocks)

    @property
    def members(self) -> int:
        """Members that count."""
        return sum(len(b) for b in self.blocks) - self.diverged


def as_values(data, role: str = STARTED, clusters=None) -> Values:
    """``data`` as `Values`: an array (members, examples), a list of blocks, or `Values` already.

    Raises:
        ValueError: a block that is not two-dimensional, or has no member or no example.
    """
    if isinstance(data, Values):
        return data
    blocks = [data] if isinstance(data, np.ndarray) or not isinstance(data, Sequence) else list(data)
    blocks = [np.asarray(b, np.float64) for b in blocks]
    for block in blocks:
        if block.ndim != 2 or 0 in block.shape:
            raise ValueError(f"values must be (members, examples) with at least one of each, not {block.shape}.")
    if clusters is not None and not isinstance(clusters, list):
        clusters = [np.asarray(clusters)]
    return Values(blocks, role, clusters)


def _generator(seed: int, *names) -> np.random.Generator:
    """A generator fixed by the seed and the names."""
    return np.random.default_rng([seed, *(zlib.crc32(str(n).encode()) for n in names)])


@functools.lru_cache(maxsize=64)
def member_counts(seed: int, role: str, block: int, members: int, resamples: int) -> np.ndarray:
    """How often each member is drawn in each resample; (resamples, members), the same for every user of the role."""
    return _counts(_generator(seed, "member", role, block, members), members, resamples)


@functools.lru_cache(maxsize=8)
def cluster_counts(seed: int, block: int, clusters: int, resamples: int) -> np.ndarray:
    """How often each cluster is drawn in each resample; (resamples, clusters), shared by all populations."""
    return _counts(_generator(seed, "cluster", block, clusters), clusters, resamples)


def _counts(rng: np.random.Generator, n: int, resamples: int) -> np.ndarray:
    """Multinomial counts of ``n`` draws from ``n``, a row per resample."""
    drawn = rng.integers(n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float64)
    counts.flags.writeable = False
    return counts


def member_means(values: Values, seed: int, resamples: int) -> list[np.ndarray]:
    """Per block, each example's mean over drawn members; (1 + resamples, examples), row 0 the plain mean."""
    out = []
    for index, block in enumerate(values.blocks):
        alive = np.isfinite(block).all(axis=1)
        weight = (
            np.concatenate([np.ones((1, len(block))), member_counts(seed, values.role, index, len(block), resamples)])
            * alive
        )
        total = weight.sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            out.append(np.where(total > 0, (weight @ np.where(alive[:, None], block, 0.0)) / total, np.nan))
    return out


def example_weights(values: Values, seed: int, resamples: int) -> list[np.ndarray]:
    """Per block, how often each example counts when whole clusters are resampled; (1 + resamples, examples)."""
    clusters = values.clusters or [np.arange(block.shape[1]) for block in values.blocks]
    names = [np.unique(np.concatenate(clusters))] * len(clusters) if values.shared else map(np.unique, clusters)
    out = []
    for index, (cluster, known) in enumerate(zip(clusters, names)):
        counts = cluster_counts(seed, 0 if values.shared else index, len(known), resamples)
        drawn = counts[:, np.searchsorted(known, cluster)]
        out.append(np.concatenate([np.ones((1, len(cluster))), drawn]))
    return out


def pooled_mean(means: list[np.ndarray], weights: list[np.ndarray]) -> np.ndarray:
    """Weighted mean over the examples of all blocks; (R, examples) each, weights (R, examples) or (1, examples)."""
    total = sum(m @ w[0] if len(w) == 1 else np.einsum("re,re->r", m, w) for m, w in zip(means, weights))
    return total / sum(w.sum(axis=1) for w in weights)


class Draws(NamedTuple):
    """A figure and its resamples; figures made from the same seed combine draw by draw."""

    value: float
    both: np.ndarray  # (resamples,) members and clusters drawn
    members: np.ndarray  # (resamples,) members drawn
    n: int  # members that count
    clusters: int = 0  # clusters of examples that were drawn, 0 = not told
    freedom: float = 0  # degrees of freedom of the members of all populations together, 0 = n - 1


def draws_of(figure: Callable[[list], np.ndarray], values: Values, seed: int, resamples: int) -> Draws:
    """Resample a figure.

    Args:
        figure: maps ``weights``, a list of (1 + resamples, examples) with row 0 = every example once, or of
            (1, examples) for all draws, to figures (1 + resamples,), row 0 the plain one; the members' draws are its
            own business.
        values: whose members are counted, and whose examples are weighted.
        seed: of the draws.
        resamples: number of draws.
    """
    weights = example_weights(values, seed, resamples)
    both = figure(weights)
    members = figure([np.ones((1, w.shape[1])) for w in weights])
    return Draws(float(both[0]), both[1:], members[1:], values.members)


def mean_draws(data, *, role: str = STARTED, seed: int = 0, resamples: int = RESAMPLES) -> Draws:
    """Draws of the mean over members and examples of an array, blocks or `Values`; `Draws` pass unchanged."""
    if isinstance(data, Draws):
        return data
    values = as_values(data, role)
    means = member_means(values, seed, resamples)
    return draws_of(lambda weights: pooled_mean(means, weights), values, seed, resamples)


def combine(function: Callable[..., np.ndarray], *draws: Draws) -> Estimate:
    """A function of several figures, applied to their values and draw by draw, with its intervals."""
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(function(*(np.float64(d.value) for d in draws)))
        both, members = function(*(d.both for d in draws)), function(*(d.members for d in draws))
    n = min(d.n for d in draws)
    narrow = percentiles(members) if n > 1 else (float("nan"), float("nan"))  # one member says nothing of its spread
    return Estimate(value, *percentiles(both), *narrow, n)


def ranks(draws: Sequence[Draws]) -> list[Estimate]:
    """Rank of each figure among all, 1 = smallest, with the interval of its rank over the shared draws.

    Ties share the best of their ranks. A figure that is not defined has none, and comes last for the others.

    Example:
        >>> import numpy as np
        >>> near, far = (Draws(v, v + np.zeros(4), v + np.zeros(4), 8) for v in (0.2, 0.9))
        >>> [r.value for r in ranks([far, near])]
        [2.0, 1.0]
    """
    places = []
    for part in ("value", "both", "members"):
        table = np.atleast_2d(np.asarray([getattr(d, part) for d in draws], np.float64).T)
        smaller = (table[:, None, :] < table[:, :, None]).sum(axis=2)
        places.append(np.where(np.isfinite(table), 1.0 + smaller, np.nan))
    plain, both, members = places
    shared = lambda i: Draws(float(plain[0, i]), both[:, i], members[:, i], draws[i].n)
    return [combine(lambda x: x, shared(i)) for i in range(len(draws))]


def percentiles(draws: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the draws that are defined; NaN where none is."""
    draws = draws[np.isfinite(draws)]
    if len(draws) == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_estimate(data, *, role: str = STARTED, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """Mean over members and examples with its intervals.

    Args:
        data: (members, examples), a list of blocks, `Values`, or `Draws`.
        role: whose member draws are used.
        seed: of the draws.
        resamples: number of draws.

    Example:
        >>> import numpy as np
        >>> mean_estimate(np.array([[1.0, 3.0], [1.0, 3.0]])).value
        2.0
    """
    return combine(lambda x: x, mean_draws(data, role=role, seed=seed, resamples=resamples))

"""Values by member and example, and the two-way draws of members and clusters that all figures share.

NumPy only, in float64. Values come as one array (members, examples), or a list of such blocks, one per request: each
request has its own members and its own clusters, and a pooled figure weighs every cluster alike. A member with a
non-finite value has diverged: it gets weight zero and is counted, never averaged in. Draws are fixed by the seed and by
what is drawn, so they are shared wherever the design says so. `unlearn_jax.metrics.summary` makes intervals of them.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import numpy as np
from jaxtyping import Float64

from unlearn_jax.errors import InputError
from unlearn_jax.metrics.arrays import cluster_numbers

RESAMPLES = 2000
STARTED = "original"  # role whose member draws are shared by every method that started from it


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
        InputError: a block that is not two-dimensional, or has no member or no example; `Draws`; clusters that are not
            one number for each example of each block.
    """
    if isinstance(data, Values):
        return data
    if isinstance(data, Draws):
        raise InputError("draws of a mean cannot be taken apart again: give the values, (members, examples).")
    apart = isinstance(data, Sequence) and len(data) > 0 and np.ndim(data[0]) > 1
    blocks = [np.asarray(b, np.float64) for b in (data if apart else [data])]
    for block in blocks:
        if block.ndim != 2 or 0 in block.shape:
            raise InputError(f"values are {block.shape}: give (members, examples) with at least one of each.")
    if clusters is not None and not isinstance(clusters, list):
        clusters = [clusters]
    return Values(blocks, role, clusters)


def _generator(seed: int, *names) -> np.random.Generator:
    return np.random.default_rng([seed, *(zlib.crc32(str(n).encode()) for n in names)])


@functools.lru_cache(maxsize=64)
def member_counts(
    seed: int, role: str, block: int, members: int, resamples: int
) -> Float64[np.ndarray, "{resamples} {members}"]:
    """How often each member is drawn in each resample; (resamples, members), the same for every user of the role."""
    return _counts(_generator(seed, "member", role, block, members), members, resamples)


@functools.lru_cache(maxsize=8)
def cluster_counts(
    seed: int, block: int, clusters: int, resamples: int
) -> Float64[np.ndarray, "{resamples} {clusters}"]:
    """How often each cluster is drawn in each resample; (resamples, clusters), shared by all populations."""
    return _counts(_generator(seed, "cluster", block, clusters), clusters, resamples)


def _counts(rng: np.random.Generator, n: int, resamples: int) -> np.ndarray:
    """Multinomial counts of ``n`` draws from ``n``, a row per resample."""
    drawn = rng.integers(n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float64)
    counts.flags.writeable = False
    return counts


def member_weights(values: Values, index: int, seed: int, resamples: int) -> tuple[np.ndarray, np.ndarray]:
    """Which members of a block are finite, (members,), and how often each counts, (1 + resamples, members)."""
    block = values.blocks[index]
    finite = np.all(np.isfinite(block), axis=1)
    drawn = member_counts(seed, values.role, index, len(block), resamples)
    return finite, np.concatenate([np.ones((1, len(block))), drawn]) * finite


def member_means(values: Values, seed: int, resamples: int) -> list[Float64[np.ndarray, "{resamples}+1 _"]]:
    """Per block, each example's mean over drawn members; (1 + resamples, examples), row 0 the plain mean."""
    out = []
    for index, block in enumerate(values.blocks):
        finite, weight = member_weights(values, index, seed, resamples)
        total = weight.sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            out.append(np.where(total > 0, (weight @ np.where(finite[:, None], block, 0.0)) / total, np.nan))
    return out


def example_weights(values: Values, seed: int, resamples: int) -> list[Float64[np.ndarray, "{resamples}+1 _"]]:
    """Per block, how often each example counts when whole clusters are resampled; (1 + resamples, examples).

    Each block draws its own clusters, unless some block has a single one, which alone would show no spread: then the
    clusters of all blocks are drawn together.
    """
    clusters, names = _clusters(values)
    together, start, out = not values.shared and len(names) > 1 and min(map(len, names)) == 1, 0, []
    for index, (cluster, present) in enumerate(zip(clusters, names)):
        total = sum(map(len, names)) if together else len(present)
        counts = cluster_counts(seed, 0 if values.shared or together else index, total, resamples)
        drawn = counts[:, start + np.searchsorted(present, cluster)]
        start += len(present) if together else 0
        out.append(np.concatenate([np.ones((1, len(cluster))), drawn]))
    return out


def _clusters(values: Values) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Per block, each example's cluster and the clusters that are drawn."""
    by_block = [None] * len(values.blocks) if values.clusters is None else values.clusters
    if len(by_block) != len(values.blocks):
        raise InputError(f"clusters are given for {len(by_block)} of {len(values.blocks)} blocks: give them for each.")
    clusters = [cluster_numbers(numbers, block.shape[1]) for numbers, block in zip(by_block, values.blocks)]
    if values.shared:
        return clusters, [np.unique(np.concatenate(clusters))] * len(clusters)
    return clusters, [np.unique(cluster) for cluster in clusters]


def pooled_mean(means: list[np.ndarray], weights: list[np.ndarray]) -> Float64[np.ndarray, " R"]:
    """Weighted mean over the examples of all blocks; (R, examples) each, weights (R, examples) or (1, examples)."""
    total = sum(m @ w[0] if len(w) == 1 else np.einsum("re,re->r", m, w) for m, w in zip(means, weights))
    return cast(np.ndarray, total / sum(w.sum(axis=1) for w in weights))


class Draws(NamedTuple):
    """A figure and its resamples; figures made from the same seed combine draw by draw."""

    value: float
    both: np.ndarray  # (resamples,) members and clusters drawn
    members: np.ndarray  # (resamples,) members drawn
    n: int  # members that count
    clusters: int = 0  # clusters of examples that were drawn, 0 = unknown
    freedom: float = 0  # degrees of freedom of the members of all populations together, 0 = n - 1
    cluster_freedom: float = 0  # degrees of freedom of the clusters, 0 = clusters - 1
    role: str = ""  # whose member draws these are, where they are those of one population


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
    drawn = [len(numbers) for numbers in _clusters(values)[1]]
    members_left, clusters = values.members, drawn[0] if values.shared else sum(drawn)
    apart = 1 if values.shared or min(drawn) == 1 else len(drawn)  # groups that are drawn each by itself
    freedom = max(1, members_left - len(values.blocks)), max(0, clusters - apart)
    return Draws(float(both[0]), both[1:], members[1:], members_left, clusters, *freedom)


class Steps(NamedTuple):
    """A population's values as steps of a distribution function."""

    shares: list[np.ndarray]  # by block: what each member weighs in each draw, (1 + resamples, members)
    order: np.ndarray  # that sorts the values of all blocks
    place: np.ndarray  # number of values at or below each point of the grid


def steps_of(values: Values, grid: np.ndarray, seed: int, resamples: int) -> Steps:
    """Member weights of every draw, and where the values lie on the grid."""
    shares = []
    for index in range(len(values.blocks)):
        weight = member_weights(values, index, seed, resamples)[1]
        with np.errstate(invalid="ignore"):
            shares.append(weight / weight.sum(axis=1, keepdims=True))
    flat = np.concatenate([block.ravel() for block in values.blocks])
    order = np.argsort(flat, kind="stable")
    return Steps(shares, order, np.searchsorted(flat[order], grid, side="right"))


def distribution_of(steps: Steps, weights: list[np.ndarray], at: slice) -> np.ndarray:
    """Share of the population at or below each point of the grid, a row per draw."""
    parts = [s[at][:, :, None] * w[:, None, :] for s, w in zip(steps.shares, weights)]
    flat = np.concatenate([p.reshape(len(p), -1) for p in parts], axis=1)[:, steps.order]
    reached = np.concatenate([np.zeros((len(flat), 1)), np.cumsum(flat, axis=1)], axis=1)
    return reached[:, steps.place] / sum(w.sum(axis=1, keepdims=True) for w in weights)


def mean_draws(data, *, role: str = STARTED, seed: int = 0, resamples: int = RESAMPLES) -> Draws:
    """Draws of the mean over members and examples of an array, blocks or `Values`; `Draws` pass unchanged."""
    if isinstance(data, Draws):
        return data
    values = as_values(data, role)
    means = member_means(values, seed, resamples)
    return draws_of(lambda weights: pooled_mean(means, weights), values, seed, resamples)._replace(role=values.role)

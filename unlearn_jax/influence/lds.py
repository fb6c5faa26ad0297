"""The linear datamodelling score: do summed scores rank models by the subsets that they were trained on?

Park et al. 2023 (arXiv 2303.14186, section 4): the Spearman correlation, by query, between the sum of the scores of the
examples in a subset and the output of the model trained on it, averaged over queries. Difference: an interval over
queries and members together (theirs is over queries), from the same draws as the other metrics of populations.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from unlearn_jax.errors import InputError
from unlearn_jax.influence.groups import as_masks, as_outputs
from unlearn_jax.metrics.bands import t_estimate
from unlearn_jax.metrics.resampling import DRAWS, subset_draws

ROUNDING = 2.0**-40  # sums closer than this share of the absolute scores are the same


class Lds(NamedTuple):
    """A linear datamodelling score with its 95% intervals."""

    value: float  # mean over queries, in [-1, 1]; NaN where no query counts
    ci_low: float  # members and queries
    ci_high: float
    ci_members_low: float  # members alone
    ci_members_high: float
    per_query: np.ndarray  # (q,) NaN where the outputs do not vary
    excluded: int  # queries without a value
    members: int  # members that count


def lds(
    scores,
    masks,
    outputs,
    *,
    clusters: np.ndarray | None = None,
    level: float = 0.95,
    resamples: int = DRAWS,
    seed: int = 0,
) -> Lds:
    """Linear datamodelling score of a scorer.

    Args:
        scores: (n, q) of any scorer, positive = training on i helped q; the scale of each query plays no part.
        masks: (M, n) 1 where model m was trained on example i.
        outputs: (M, q) its margin on q, or minus its loss: what is higher the better. Averages over seeds for each
            subset raise the score that a perfect scorer can reach, which noise of training keeps below 1.
        clusters: (q,) cluster number of each query, drawn together for the interval; None = each its own.
        level: of the interval.
        resamples: draws behind it, of three quarters of the members each (`unlearn_jax.metrics.resampling`).
        seed: of the draws.

    Returns:
        `Lds`. Ties have their mean rank. A query whose outputs do not vary, or are NaN for every member, has no value
        and is left out of the mean. A query whose sums do not vary ranks nothing: 0, else a scorer that says nothing
        would be forgiven. An example that all members saw, or none, ranks nothing either, so its scores may be NaN. A
        member with a NaN output on another query has diverged and is left out. NaN bounds with fewer than four members.
        In simulations (150 studies each) the interval holds .97 at 48 members and 30 queries, .95 at 48 and 100, .93 at
        16 and 20, .91 at 8 and 10.

    Raises:
        InputError: shapes that do not match, clusters of another length, masks other than 0 and 1, NaN scores of
            examples that do matter, infinite scores, fewer than three members left.

    Example:
        >>> import numpy as np
        >>> masks = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1], [0, 0, 1]])
        >>> scores = np.array([[3.0], [2.0], [1.0]])
        >>> lds(scores, masks, masks @ scores).value, lds(-scores, masks, masks @ scores).value
        (1.0, -1.0)
    """
    outputs = np.array(outputs, np.float64)
    silent = np.all(np.isnan(outputs), axis=0) if outputs.ndim == 2 and outputs.size else np.zeros(1, bool)
    if not silent.all():
        outputs[:, silent] = 0.0  # constant, so without a value
    outputs, finite = as_outputs(outputs)
    masks = as_masks(masks, ("outputs", outputs))[finite]
    outputs, scores = outputs[finite], np.asarray(scores, np.float64)
    if scores.shape != (masks.shape[1], outputs.shape[1]):
        raise InputError(
            f"scores are {scores.shape} for {masks.shape[1]} examples in masks and {outputs.shape[1]} queries in "
            f"outputs: give (examples, queries)."
        )
    scores = np.where(silent[None], 0.0, scores)
    if clusters is not None and np.shape(clusters) != silent.shape:
        raise InputError(f"clusters are {np.shape(clusters)} for {len(silent)} queries: give one number for each.")
    if len(masks) < 3:
        raise InputError(f"{len(masks)} members are left: give three or more, and dozens for a score that holds.")
    sums = subset_sums(scores, masks)
    per_query = spearman(sums, outputs)
    counts = np.isfinite(per_query)
    if not counts.any():
        nan = (float("nan"),) * 5
        return Lds(*nan, per_query=per_query, excluded=len(counts), members=len(masks))
    clusters = None if clusters is None else np.asarray(clusters)[counts]
    draws = subset_draws(
        spearman, sums[:, counts], outputs[:, counts],
        clusters=clusters, roles=("members", "members"), seed=seed, resamples=resamples,
    )  # fmt: skip
    estimate = t_estimate(draws, low=-1.0, high=1.0, level=level)
    bounds = estimate[1:5] if len(masks) > 3 else (np.nan,) * 4
    excluded = int((~counts).sum())
    return Lds(estimate.value, *map(float, bounds), per_query=per_query, excluded=excluded, members=len(masks))


def subset_sums(scores, masks) -> Float64[np.ndarray, "M q"]:
    """Summed scores of each subset, (n, q), (M, n) -> (M, q), equal where they differ by rounding alone.

    Rows of examples that all members saw, or none, are left out: they add the same to all.
    """
    varied = masks.any(axis=0) & ~masks.all(axis=0)
    scores, masks = scores[varied], masks[:, varied]
    if not np.isfinite(scores).all():
        raise InputError("scores hold NaN or infinite values: drop those examples or queries.")
    step = ROUNDING * np.abs(scores).sum(axis=0)
    return np.round(masks.astype(np.float64) @ scores / np.where(step > 0, step, 1.0))


def spearman(sums: np.ndarray, outputs: np.ndarray) -> Float64[np.ndarray, " q"]:
    """Spearman correlation by column, (M, q), (M, q) -> (q,): NaN where outputs, 0 where sums alone are constant."""
    from scipy.stats import rankdata

    one, other = (rankdata(x, axis=0) - (len(x) + 1) / 2 for x in (sums, outputs))
    size = np.sqrt((one**2).sum(axis=0) * (other**2).sum(axis=0))
    correlation = (one * other).sum(axis=0) / np.where(size > 0, size, 1.0)
    return np.where((other != 0).any(axis=0), np.clip(correlation, -1.0, 1.0), np.nan)

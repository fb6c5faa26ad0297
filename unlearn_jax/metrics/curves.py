"""Curves: what is recognised around forgotten samples, error against distance to them, and time to learn them again.

Populations are (members, examples, ...). Odd input: a member with a NaN or an infinite value in its probabilities has
diverged and is left out; a population without a member gives NaN; shapes that do not belong together: `InputError`.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np
from jaxtyping import Float64

from unlearn_jax.errors import InputError, choose
from unlearn_jax.metrics.arrays import matched_members, same_examples, whole_number
from unlearn_jax.metrics.draws import Draws
from unlearn_jax.metrics.resampling import DRAWS, subset_draws

PAIRINGS = ("all", "matched", "mean")


class ResidualKnowledge(NamedTuple):
    """Recognition of perturbed forget samples at each radius, each (radii,)."""

    ratio: np.ndarray  # unlearned over reference; above 1 = leak
    unlearned: np.ndarray  # mean probability of the true label
    reference: np.ndarray


def residual_knowledge(p_unlearned, p_reference) -> ResidualKnowledge:
    """How much more often than the reference a population gives perturbed forget samples their true label, by radius.

    Args:
        p_unlearned: probability of the true label at perturbed inputs, or correctness (0 or 1), (members, n, radii) or
            (members, n, radii, draws of noise); of the unlearned population. The perturbations are the caller's:
            Gaussian noise scaled to the radius, or an attack.
        p_reference: the same, at the same perturbed inputs, of a population that never saw the samples.

    Returns:
        Ratios of means over members, examples and draws, never means of ratios, which one example that the reference
        hardly recognises would rule. Where neither recognises anything (0 / 0) the ratio is 1: nothing can be said of
        the samples. Where the reference alone never does, it is infinite. A constant population is like any other.

    Raises:
        InputError: shapes that do not belong together, or values outside [0, 1].

    Source: Hsu et al. (arXiv 2601.22359). The paper defines the ratio sample by sample; ratios of means are ours.

    Example:
        >>> import numpy as np
        >>> u, r = np.array([[[1.0, 0.8], [1.0, 0.4]]]), np.array([[[1.0, 0.2], [1.0, 0.4]]])
        >>> residual_knowledge(u, r).ratio.round(3).tolist()
        [1.0, 2.0]
    """
    u, r = _recognised(p_unlearned, p_reference)
    means = [x.mean(axis=(0, 1)) if len(x) else np.full(x.shape[2], np.nan) for x in (u, r)]
    return ResidualKnowledge(_ratio(*means), *means)


def residual_knowledge_draws(
    p_unlearned,
    p_reference,
    *,
    roles: tuple[str, str] = ("original", "reference"),
    clusters: np.ndarray | None = None,
    seed: int = 0,
    resamples: int = DRAWS,
) -> list[Draws]:
    """Draws of the ratio at each radius, for `t_estimate` with ``low=0``; arguments as in `residual_knowledge`.

    Args:
        p_unlearned: (members, n, radii) or (members, n, radii, draws of noise).
        p_reference: the same of the reference.
        roles: whose member draws each shares; all radii share theirs.
        clusters: (n,) cluster number of each example.
        seed: of the draws.
        resamples: number of draws.

    Returns:
        One `Draws` a radius: subsets of the members, clusters with replacement, the same examples above and below. With
        a single member (of either) its spread is not known, and the interval too narrow; without one, NaN.

    Example:
        >>> import numpy as np
        >>> draws = residual_knowledge_draws(np.full((4, 3, 1), 0.6), np.full((4, 3, 1), 0.3), resamples=20)
        >>> round(draws[0].value, 6)
        2.0
    """
    u, r = _recognised(p_unlearned, p_reference)
    if not min(len(u), len(r)):
        nothing = np.full(resamples, np.nan)
        return [Draws(float("nan"), nothing, nothing, 0, u.shape[1]) for _ in range(u.shape[2])]
    setting = {"clusters": clusters, "seed": seed, "resamples": resamples}
    out = []
    for radius in range(u.shape[2]):
        mean = lambda x: x.mean(axis=0)
        top, bottom = (subset_draws(mean, x[..., radius], roles=(role,), **setting) for x, role in zip((u, r), roles))
        parts = [
            _ratio(np.asarray(getattr(top, k)), np.asarray(getattr(bottom, k))) for k in ("value", "both", "members")
        ]
        freedom = top.freedom if roles[0] == roles[1] else _welch_of_ratio(top, bottom)
        out.append(Draws(float(parts[0]), parts[1], parts[2], min(top.n, bottom.n), top.clusters, freedom))
    return out


def _welch_of_ratio(top: Draws, bottom: Draws) -> float:
    """Welch and Satterthwaite's degrees of freedom of the members of a ratio, from both relative variances."""
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = (float(np.nanvar(d.members) / np.square(np.float64(d.value))) for d in (top, bottom))
    if not 0 < a + b < np.inf:
        return min(top.freedom, bottom.freedom)
    return (a + b) ** 2 / sum(v * v / max(1.0, d.freedom) for v, d in ((a, top), (b, bottom)) if v > 0)


def _recognised(p_unlearned, p_reference) -> tuple[np.ndarray, np.ndarray]:
    """Both populations (members, n, radii), averaged over draws of noise, without diverged members."""
    u, r = (_probabilities(p, name, (3, 4)) for p, name in ((p_unlearned, "unlearned"), (p_reference, "reference")))
    u, r = (x.mean(axis=3) if x.ndim == 4 else x for x in (u, r))
    same_examples(unlearned=u[..., 0], reference=r[..., 0])
    if u.shape[2] != r.shape[2]:
        raise InputError(
            f"{u.shape[2]} and {r.shape[2]} radii: evaluate both populations at the same perturbed inputs."
        )
    return u, r


def _probabilities(values, name: str, ndims: tuple[int, ...]) -> np.ndarray:
    """Probabilities in float64 without diverged members."""
    values = np.asarray(values, np.float64)
    if values.ndim not in ndims or 0 in values.shape:
        axes = "(members, examples, radii[, draws])" if 4 in ndims else "(members, examples[, classes])"
        raise InputError(f"{name} is {values.shape}: give {axes} with at least one of each.")
    values = values[np.isfinite(values).reshape(len(values), -1).all(axis=1)]
    if (values < -1e-9).any() or (values > 1 + 1e-6).any():
        raise InputError(f"{name} has values outside [0, 1]: give probabilities or correctness.")
    return values


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((top == 0) & (bottom == 0), 1.0, top / bottom)


class DistanceCurve(NamedTuple):
    """Error against distance to the forget set, B bins."""

    edges: np.ndarray  # (B + 1,) quantiles of the distance
    centre: np.ndarray  # (B,) mean distance in the bin
    value: np.ndarray  # (B,) mean error
    count: np.ndarray  # (B,) examples
    members: np.ndarray  # (members of the unlearned population, B), whose mean is ``value``
    bin: np.ndarray  # (n,) each example's bin


def error_against_distance(p_unlearned, p_reference, distance, *, bins: int = 8, pairing: str = "all") -> DistanceCurve:
    """Mean difference of predicted probability to the reference, by distance to the forget set.

    Args:
        p_unlearned: probability of the true class, (members, n); or of all classes, (members, n, classes), compared by
            the sum of absolute differences (L1).
        p_reference: the same of the reference.
        distance: (n,) of each example to the forget set, in any space.
        bins: of equally many examples, as far as ties allow: equal edges are merged, and bins fewer. An example on an
            edge is in the bin above, the last bin holds its upper edge.
        pairing: ``all`` = each member with every reference member, which is not 0 where nothing differs; ``matched`` =
            member i with member i (a diverged one goes with its partner); ``mean`` = of the mean predictions.

    Returns:
        `DistanceCurve`. For intervals of a bin: `subset_draws` with ``lambda u, r: error_of(u, r).mean(axis=0)`` on its
        examples. Constant distances: one bin. Without a member on a side: NaN.

    Raises:
        InputError: shapes that do not belong together, values outside [0, 1], distances that are not finite, more bins
            than examples, an unknown pairing.

    Source: after Dolgova and Stich (arXiv 2605.31317), whose abstract we know; bins by quantiles are ours.

    Example:
        >>> import numpy as np
        >>> u, r = np.array([[0.9, 0.8, 0.5, 0.5]]), np.array([[0.5, 0.6, 0.5, 0.5]])
        >>> found = error_against_distance(u, r, [1.0, 2.0, 8.0, 9.0], bins=2)
        >>> found.centre.tolist(), found.value.round(3).tolist(), found.count.tolist()
        ([1.5, 8.5], [0.3, 0.0], [2, 2])
    """
    error = error_of(p_unlearned, p_reference, pairing=pairing)
    distance = np.asarray(distance, np.float64)
    if distance.shape != error.shape[1:] or not np.isfinite(distance).all():
        raise InputError(f"distance is {distance.shape}: give a finite distance for each of {error.shape[1]} examples.")
    if whole_number(bins, "bins") > len(distance):
        raise InputError(f"{bins} bins of {len(distance)} examples: give between 1 and as many bins as examples.")
    edges = _quantile_edges(distance, bins)
    edges = edges if len(edges) > 1 else np.repeat(edges, 2)
    bin_of = np.clip(np.searchsorted(edges, distance, side="right") - 1, 0, len(edges) - 2)
    filled, bin_of = np.unique(bin_of, return_inverse=True)  # a bin between two edges may be empty
    edges = np.concatenate([edges[filled], edges[-1:]])
    count = np.bincount(bin_of)
    sums = error @ (bin_of[:, None] == np.arange(len(count))).astype(np.float64)
    members = sums / count
    return DistanceCurve(edges, np.bincount(bin_of, distance) / count, members.mean(axis=0), count, members, bin_of)


def _quantile_edges(values: np.ndarray, bins: int) -> np.ndarray:
    """Distinct quantiles at 0, 1 / bins, ..., 1; exactly a value where they fall on one."""
    ordered = np.sort(values)
    place, rest = np.divmod((len(values) - 1) * np.arange(bins + 1), bins)
    above = np.minimum(place + 1, len(values) - 1)
    return np.unique(ordered[place] + rest / bins * (ordered[above] - ordered[place]))


def error_of(p_unlearned, p_reference, *, pairing: str = "all") -> Float64[np.ndarray, "members n"]:
    """Absolute difference of probabilities (L1 of vectors), per member and example; what the curve averages.

    Args:
        p_unlearned: (members, n) or (members, n, classes).
        p_reference: the same of the reference.
        pairing: as in `error_against_distance`.

    Returns:
        (members, n), with ``mean`` (1, n); one row of NaN without a member on a side.

    Raises:
        InputError: shapes that do not belong together, values outside [0, 1], an unknown pairing.

    Example:
        >>> import numpy as np
        >>> error_of(np.array([[0.9]]), np.array([[0.5], [1.0]])).round(3).tolist()
        [[0.25]]
    """
    choose("pairing", pairing, PAIRINGS)
    u, r = np.asarray(p_unlearned, np.float64), np.asarray(p_reference, np.float64)
    if pairing == "matched" and u.ndim == r.ndim and u.ndim > 1:
        u, r = matched_members(u, r, lambda x: ~np.isfinite(x))
    u, r = (_probabilities(x, name, (2, 3)) for x, name in ((u, "unlearned"), (r, "reference")))
    if u.shape[1:] != r.shape[1:]:
        raise InputError(f"outputs are of {u.shape[1:]} and {r.shape[1:]}: give both the same examples and classes.")
    if not min(len(u), len(r)):
        return np.full((1, u.shape[1]), np.nan)
    gap = lambda a, b: np.abs(a - b) if a.ndim == 2 else np.abs(a - b).sum(axis=2)
    if pairing == "matched":
        return gap(u, r)
    if pairing == "mean":
        return gap(u.mean(axis=0, keepdims=True), r.mean(axis=0, keepdims=True))
    return cast(np.ndarray, sum(gap(u, member[None]) for member in r)) / len(r)

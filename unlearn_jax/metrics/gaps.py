"""Accuracy gaps to a reference folded into one score, and what forgetting costs beside retraining.

Accuracies are shares in [0, 1] by split (``forget``, ``retain``, ``test``, and ``mia`` for the share of the forget set
that a membership attack calls non-members), one number a member: (N,) of the unlearned population, (N_r,) of the
reference. The sign of a gap is unlearned minus reference: forgetting too little or too much both count, and neither
"lower is better".

An absolute value can be taken after the mean over members or before it, and the two differ:

* ``means``: |mean of u - mean of r|. Falls towards the true gap with more members.
* ``runs``: mean of |u_i - r_i| over runs of one number. At least as large, and never 0 where runs scatter.

Odd input: a member with a NaN in any split has diverged and is left out of all of them (``runs``: with its partner); a
population without a member gives NaN; infinite or other values outside [0, 1], splits that differ: `InputError`. The
estimates take correctness (members, examples) by split, and give intervals over members and clusters.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from unlearn_jax.errors import InputError, choose
from unlearn_jax.metrics.accuracies import accuracies_of, both_accuracies
from unlearn_jax.metrics.arrays import mean_of_finite
from unlearn_jax.metrics.draws import RESAMPLES, Values, mean_draws
from unlearn_jax.metrics.summary import Estimate, combine

VARIANTS = ("means", "runs")
ROLES = ("original", "reference")  # of whose members the two populations share draws


def signed_gaps(unlearned: Mapping, reference: Mapping) -> dict[str, float]:
    """Accuracy of the unlearned population minus that of the reference, in points, by split.

    Args:
        unlearned: by split, accuracies (N,) in [0, 1].
        reference: the same splits, (N_r,).

    Returns:
        By split, the difference of means over members, in [-100, 100]; 0 = like the reference.

    Raises:
        InputError: splits that differ, or accuracies outside [0, 1].

    Example:
        >>> signed_gaps({"forget": [0.9, 0.7]}, {"forget": [0.75]})
        {'forget': 5.0}
    """
    u, r = both_accuracies(unlearned, reference)
    return {name: float(round(100.0 * (mean_of_finite(u[name]) - mean_of_finite(r[name])), 10)) for name in u}


def average_gap(unlearned: Mapping, reference: Mapping, *, variant: str = "means") -> float:
    """Average gap: mean over splits of the absolute accuracy gaps to the reference, in points; 0 = like it.

    Args:
        unlearned: by split, accuracies (N,); the papers' four are ``forget``, ``retain``, ``test`` and ``mia``.
        reference: the same splits, (N_r,).
        variant: ``means`` (the papers': tables print the mean over trials and its gap) or ``runs``, see the module.

    Raises:
        InputError: splits that differ, accuracies outside [0, 1]; ``runs`` with other numbers of members.

    Source: Fan et al. (arXiv 2310.12508); unlearning accuracy 1 - A_F has the same absolute gap as A_F.

    Example:
        >>> average_gap({"forget": [0.9], "test": [0.5]}, {"forget": [0.8], "test": [0.8]})
        20.0
    """
    gaps = _absolute(unlearned, reference, variant)
    return float(round(100.0 * np.mean([np.mean(g) for g in gaps.values()]), 10))


def tow(unlearned: Mapping, reference: Mapping, *, variant: str = "means") -> float:
    """Tug of war: ``(1 - |dA_F|)(1 - |dA_R|)(1 - |dA_T|)``; 1 = like the reference on all three.

    Args:
        unlearned: accuracies (N,) of ``forget``, ``retain`` and ``test``; other splits are not used.
        reference: the same, (N_r,).
        variant: ``means``, or ``runs``: the product of each run beside the retraining of its number, then the mean
            (the authors' released analysis, with a t interval over runs). See the module.

    Returns:
        A number in [0, 1].

    Raises:
        InputError: as `average_gap`, or a split that is missing.

    Source: Zhao et al. (arXiv 2406.01257).

    Example:
        >>> one = {"forget": [0.9], "retain": [1.0], "test": [0.8]}
        >>> round(tow(one, {"forget": [0.5], "retain": [1.0], "test": [0.9]}), 4)  # .6 * 1 * .9
        0.54
    """
    return _product(unlearned, reference, ("forget", "retain", "test"), variant)


def tow_mia(unlearned: Mapping, reference: Mapping, *, variant: str = "means") -> float:
    """ToW-MIA: `tow` with the attack's share of the forget set (``mia``) in place of its accuracy.

    Args:
        unlearned: ``mia``, ``retain`` and ``test``, (N,). The paper's attack is a support vector classifier on
            confidence, and the share that of the forget set called non-member.
        reference: the same, (N_r,).
        variant: as in `tow`.

    Returns:
        A number in [0, 1].

    Raises:
        InputError: as `tow`.

    Source: Zhao et al. (arXiv 2406.01257).

    Example:
        >>> one = {"mia": [0.9], "retain": [1.0], "test": [0.8]}
        >>> round(tow_mia(one, {"mia": [0.5], "retain": [1.0], "test": [0.9]}), 4)
        0.54
    """
    return _product(unlearned, reference, ("mia", "retain", "test"), variant)


def aus(unlearned_test, unlearned_forget, original_test) -> float:
    """Adaptive unlearning score ``(1 - (A_T of original - A_T)) / (1 + A_F)`` when a whole class is forgotten.

    It takes 0 for the accuracy that forgetting should leave, so it means nothing where single samples are forgotten:
    their accuracy after retraining is far from 0. No reference enters.

    Args:
        unlearned_test: test accuracy of the classes kept, (N,), in [0, 1].
        unlearned_forget: accuracy on the class forgotten, (N,).
        original_test: the original's test accuracy, (N_o,).

    Returns:
        A number, of means over members; 1 = no test accuracy lost and nothing of the class left.

    Raises:
        InputError: accuracies outside [0, 1].

    Source: Cotogni et al. (arXiv 2312.02052), for forgetting a class. (For single samples the paper measures A_F from
    the test accuracy instead, as we remember it; not offered.)

    Example:
        >>> aus([0.9], [0.0], [0.9]), round(aus([0.8], [0.5], [0.9]), 4)
        (1.0, 0.6)
    """
    u = accuracies_of({"test": unlearned_test, "forget": unlearned_forget}, "unlearned")
    test, forget = (mean_of_finite(u[name]) for name in ("test", "forget"))
    original = mean_of_finite(accuracies_of({"test": original_test}, "original")["test"])
    return float((1.0 - (original - test)) / (1.0 + forget))


def average_gap_estimate(unlearned: Mapping, reference: Mapping, **setting) -> Estimate:
    """`average_gap` (``means``) with its intervals.

    Args:
        unlearned: by split, correctness (0 or 1) or what else is averaged, (members, examples).
        reference: the same splits and examples, of another number of members if need be.
        setting: ``roles``, ``clusters`` (by split), ``seed``, ``resamples``: as in `price`.

    Returns:
        Points, with expanded percentile intervals of two-way resamples: the same members in all splits, and clusters.
        The interval speaks of the figure to be expected at this number of members: above 0 where nothing differs,
        since an absolute value cannot fall below it; judge it beside the null band. Simulated at 8 to 32 members it
        holds 95 to 98% where there is a gap, and more than 99% where there is none.

    Raises:
        InputError: splits or examples that differ, or values outside [0, 1].

    Example:
        >>> import numpy as np
        >>> average_gap_estimate({"test": np.ones((2, 3))}, {"test": np.zeros((2, 3))}).value
        100.0
    """
    return _estimate(lambda *gaps: 100.0 * np.mean(np.abs(gaps), axis=0), unlearned, reference, None, 100.0, **setting)


def tow_estimate(unlearned: Mapping, reference: Mapping, *, mia: bool = False, **setting) -> Estimate:
    """`tow` (``means``), or with ``mia`` `tow_mia`, with its intervals; the rest as in `average_gap_estimate`.

    Example:
        >>> import numpy as np
        >>> one = {name: np.ones((2, 3)) for name in ("forget", "retain", "test")}
        >>> tow_estimate(one, one).value
        1.0
    """
    names = ("mia" if mia else "forget", "retain", "test")
    return _estimate(lambda *gaps: np.prod(1.0 - np.abs(gaps), axis=0), unlearned, reference, names, 1.0, **setting)


def _absolute(unlearned: Mapping, reference: Mapping, variant: str, names=None) -> dict[str, np.ndarray]:
    """Absolute gaps by split, of the means or of each run whose two members count."""
    choose("variant", variant, VARIANTS)
    u, r = both_accuracies(unlearned, reference, names)
    if variant == "means":
        return {n: np.abs(np.array([mean_of_finite(u[n]) - mean_of_finite(r[n])])) for n in u}
    gaps = {}
    for n in u:
        if len(u[n]) != len(r[n]):
            raise InputError(f"{len(u[n])} runs cannot be paired with {len(r[n])}: take variant 'means', or as many.")
        gap = np.abs(u[n] - r[n])
        gaps[n] = gap[np.isfinite(gap)] if np.isfinite(gap).any() else np.array([np.nan])
    return gaps


def _product(unlearned: Mapping, reference: Mapping, names: tuple[str, ...], variant: str) -> float:
    gaps = _absolute(unlearned, reference, variant, names)
    return float(np.mean(np.prod([1.0 - gaps[n] for n in names], axis=0)))


def _estimate(
    function, unlearned, reference, names, high, *, roles=ROLES, clusters=None, seed=0, resamples=RESAMPLES
) -> Estimate:
    """A function of the signed gaps of several splits, from the same draws of members."""
    u, r = both_accuracies(unlearned, reference, names, ndim=2)
    clusters = clusters or {}
    unknown = [n for n in clusters if n not in u]
    if unknown:
        raise InputError(f"clusters are given for {', '.join(unknown)}: name the splits {', '.join(u)}.")
    draws = []
    for n in u:
        if u[n].shape[1] != r[n].shape[1]:
            raise InputError(f"{n} has {u[n].shape[1]} and {r[n].shape[1]} examples: evaluate both on the same.")
        numbers = [np.asarray(clusters[n])] if n in clusters else None
        values = (Values([p[n]], role, numbers) for p, role in zip((u, r), roles))
        draws += [mean_draws(v, seed=seed, resamples=resamples) for v in values]
    if not min(d.n for d in draws):
        return Estimate(*[float("nan")] * 5, n=0)
    gaps = lambda *means: function(*(one - other for one, other in zip(means[::2], means[1::2])))
    return combine(gaps, *draws, low=0.0, high=high)

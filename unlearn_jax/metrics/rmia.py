"""RMIA: membership by comparing an example with many others, in ratio to what reference models make of them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from unlearn_jax.errors import InputError, choose

VARIANTS = ("offline", "online")
TINY = 1e-300  # least probability of an example at large, so that ratios stay finite


def rmia(
    p_x,
    p_z,
    *,
    out_x,
    out_z,
    unseen_x=None,
    unseen_z=None,
    in_x=None,
    seen_x=None,
    gamma: float = 2.0,
    a: float = 0.3,
    variant: str = "offline",
    strict: bool = True,
    scale_z: bool = False,
) -> Float64[np.ndarray, "targets n"]:
    """Share of population points z that x beats: [p(x) / Pr(x)] / [p(z) / Pr(z)] > gamma; higher = member.

    Args:
        p_x: probability of the true label of the audited examples under the models under attack, (targets, n).
        p_z: the same of population points that none of them trained on, (targets, m).
        out_x: of the audited examples under reference models, (R, n).
        out_z: of the population points under reference models, (R, m) or (another number, m).
        unseen_x: bool like ``out_x``, True = that model has not seen that example; None = it has seen none. Pr is a
            mean over the models that have not seen the example, each example over its own.
        unseen_z: the same for ``out_z``.
        in_x: under reference models that have seen the examples, (R', n); for ``online``.
        seen_x: bool like ``in_x``, True = that model has seen that example; None = all have.
        gamma: how much better x must do, above 0.
        a: of ``offline``, in [0, 1]: how far models that have not seen x stand for those that have.
        variant: ``online``: Pr(x) = (mean IN + mean OUT) / 2; ``offline``: Pr(x) = ((1 + a) mean OUT + 1 - a) / 2.
        strict: True = the ratio must be above gamma, False = gamma is enough. They differ where ratios tie: constant
            probabilities with gamma = 1 give 0 and 1.
        scale_z: False = Pr(z) is the mean OUT of z; True = corrected as Pr(x) is ``offline``, as public code does
            (with gamma = 1).

    Returns:
        (targets, n) in [0, 1]. A target with a NaN has NaN scores, as has an example without a reference of a kind
        that is needed; a population point without one is left out; a reference model with a NaN is left out. A
        probability of 0 is a ratio of 0: it beats none (unless ties count, ``strict=False``), and is beaten by all
        that are not 0.

    Raises:
        InputError: shapes or masks that do not belong together, probabilities outside [0, 1], settings out of range,
            or ``online`` without ``in_x``.

    Source: Zarifzadeh et al. (arXiv 2312.03262). That Pr(z) is not corrected, and the defaults of gamma and a (tuned by
    data set there), are our reading, not checked against the paper's text.

    Example:
        >>> rmia([[0.9, 0.5]], [[0.5, 0.2, 0.8]], out_x=[[0.3, 0.5]], out_z=[[0.5, 0.5, 0.5]], a=1.0).round(2)
        array([[0.67, 0.33]])
    """
    choose("variant", variant, VARIANTS)
    if not gamma > 0 or not 0 <= a <= 1:
        raise InputError(f"gamma is {gamma} and a {a}: give gamma above 0 and a in [0, 1].")
    p_x, p_z = _probabilities(p_x, "p_x"), _probabilities(p_z, "p_z")
    if len(p_x) != len(p_z):
        raise InputError(f"p_x has {len(p_x)} targets, p_z {len(p_z)}: evaluate both sets under the same models.")
    out, at_large = _mean(out_x, unseen_x, p_x, "out_x"), _mean(out_z, unseen_z, p_z, "out_z")
    if variant == "online":
        if in_x is None:
            raise InputError("online needs in_x: give reference models that have seen the examples, or take offline.")
        prior = (_mean(in_x, seen_x, p_x, "in_x") + out) / 2
    else:
        prior = ((1 + a) * out + 1 - a) / 2
    at_large = ((1 + a) * at_large + 1 - a) / 2 if scale_z else at_large
    usable, diverged = ~np.isnan(at_large), np.any(np.isnan(p_x), axis=1) | np.any(np.isnan(p_z), axis=1)
    p_x = np.where(diverged[:, None], np.nan, p_x)
    return _beaten(p_x / np.maximum(prior, TINY), p_z[:, usable] / np.maximum(at_large[usable], TINY), gamma, strict)


def _beaten(ratio_x: np.ndarray, ratio_z: np.ndarray, gamma: float, strict: bool) -> np.ndarray:
    """Share of the points whose ratio times gamma is below that of x; (targets, n)."""
    shares = np.full(ratio_x.shape, np.nan)
    for share, x, z in zip(shares, ratio_x, ratio_z):
        if z.size:
            with np.errstate(over="ignore"):
                share[:] = np.searchsorted(np.sort(gamma * z), x, side="left" if strict else "right") / z.size
    return np.where(np.isnan(ratio_x), np.nan, shares)


def _probabilities(values, name: str) -> np.ndarray:
    """Probabilities (models, examples) in float64."""
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or 0 in values.shape:
        raise InputError(f"{name} is {values.shape}: give (models, examples) with at least one of each.")
    if (values < -1e-6).any() or (values > 1 + 1e-6).any():  # float32 may round beyond the ends
        raise InputError(f"{name} runs from {np.nanmin(values)} to {np.nanmax(values)}: give probabilities in [0, 1].")
    return np.clip(values, 0.0, 1.0)


def _mean(values, chosen, like: np.ndarray, name: str) -> np.ndarray:
    """Mean per example over the chosen reference models that did not diverge; NaN where there is none."""
    values = _probabilities(values, name)
    chosen = np.ones(values.shape, bool) if chosen is None else np.asarray(chosen)
    if values.shape[1] != like.shape[1] or chosen.dtype != bool or chosen.shape != values.shape:
        raise InputError(
            f"{name} is {values.shape} with a mask {chosen.dtype} {chosen.shape} for {like.shape[1]} examples: "
            "give a probability and True or False for each."
        )
    finite = ~np.isnan(values).any(axis=1)
    values, chosen = values[finite], chosen[finite]
    count = chosen.sum(axis=0)
    return np.where(count > 0, np.where(chosen, values, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)

"""LiRA, the likelihood-ratio attack on membership, from the margins of shadow models that trained on a sample or not.

The shadow models must be others than the models under attack: a model that helped to fit a score stands out by that
alone. `unlearn_jax.metrics.u_lira` turns it on unlearned models.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from unlearn_jax.errors import InputError, choose
from unlearn_jax.metrics.arrays import CLIP, as_members

MIN_SPREAD = 1e-3  # nats; shadow models that agree more closely than this count as this far apart
VARIANTS = ("online", "online_fixed", "offline", "offline_fixed")


def lira(conf, member, target_conf, *, variant: str = "online") -> Float64[np.ndarray, "... n"]:
    """Likelihood-ratio attack: how much more an example looks trained on than not, from models of both kinds.

    Per example, the centre is the median of the models that trained on it (IN) or did not (OUT), the spread their
    standard deviation (no degree of freedom taken off), at least 0.001 nats. All examples use the same number of IN
    models, the fewest that one of them has (the first ones), and so of OUT models; examples with fewer than two on a
    side that the variant needs are NaN and do not count for that.

    Args:
        conf: margins (shadow models, n), nats.
        member: (shadow models, n) bool, True = trained on it.
        target_conf: margins of the models under attack, (targets, n) or (n,); none of them among the shadows.
        variant: ``online`` = log N(in) - log N(out); ``offline`` = log Phi((conf - centre) / spread) of OUT, the
            paper's one-sided form (the public script takes minus the log density, which calls unlikely low margins
            members too). With ``_fixed``, one spread over all examples' values, IN for IN and OUT for OUT; the public
            script takes the IN spread for both.

    Returns:
        Scores of the shape of ``target_conf``, nats, higher = member. NaN where the target is NaN; shadow models with a
        NaN are left out; infinite margins count as 100 nats. Constant shadows give finite scores by the least spread.

    Raises:
        InputError: shapes that do not belong together, a mask that is not boolean, or an unknown variant.

    Source: Carlini et al. (arXiv 2112.03570), algorithm 1; online, offline and fixed variance are its own variants.

    Example:
        >>> import numpy as np
        >>> conf = np.array([[4.0], [6.0], [0.0], [2.0]])
        >>> lira(conf, np.array([[True], [True], [False], [False]]), np.array([3.0, 4.0])[:, None]).tolist()
        [[0.0], [4.0]]
    """
    choose("variant", variant, VARIANTS)
    conf, member, target = _shadows(conf, member, target_conf)
    fixed = variant.endswith("_fixed")
    outside = _gaussian(conf, ~member, fixed)
    if variant.startswith("offline"):
        from scipy.special import log_ndtr

        return log_ndtr((target - outside[0]) / outside[1])
    return _log_density(target, *_gaussian(conf, member, fixed)) - _log_density(target, *outside)


def _shadows(conf, member, target) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Checked margins and masks of shadow models that did not diverge, and margins of the targets."""
    conf, member = np.asarray(conf, np.float64), np.asarray(member)
    if member.dtype != bool or member.shape != conf.shape:
        raise InputError(f"member is {member.dtype} {member.shape} for conf {conf.shape}: give True or False for each.")
    kept = as_members(conf, "conf")
    member = member[~np.isnan(conf).any(axis=1)]
    target = np.asarray(target, np.float64)
    if target.ndim not in (1, 2) or target.shape[-1] != kept.shape[1] or not target.size:
        raise InputError(f"target_conf is {target.shape} for {kept.shape[1]} examples: give (targets, n) or (n,).")
    return kept, member, np.clip(target, -CLIP, CLIP)


def _gaussian(conf: np.ndarray, chosen: np.ndarray, fixed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Centre and spread per example of the chosen models, all examples with the same number of them."""
    counts = chosen.sum(axis=0)
    enough = counts >= 2
    centre, spread = np.full((2, conf.shape[1]), np.nan)
    if enough.any():
        first = np.argsort(~chosen, axis=0, kind="stable")[: counts[enough].min()]
        values = np.take_along_axis(conf, first, axis=0)[:, enough]
        centre[enough] = np.median(values, axis=0)
        spread[enough] = np.maximum(values.std() if fixed else values.std(axis=0), MIN_SPREAD)
    return centre, spread


def _log_density(x: np.ndarray, centre: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Log density of a Gaussian, without the constant that cancels in a ratio."""
    return -0.5 * ((x - centre) / spread) ** 2 - np.log(spread)

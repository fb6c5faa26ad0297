"""How far the predicted distributions of two populations lie apart: KL, Jensen-Shannon, activation distance, ZRF.

All take logits or log-probabilities (members, n, classes) and give (members of ``unlearned``, n): what each of them is
on average away from the reference, example by example. Which members are compared is the pairing:

* ``all`` (default): each member with every reference member. The mean does not depend on the numbers of members, and
  is not 0 where nothing differs: members of one population are apart too.
* ``excess``: the same, less what distinct members of the reference are from each other on that example: 0 on average
  where nothing differs, at any number of members, and sometimes negative. The one to judge by `split_band`: how far
  apart members are varies from population to population, and for ``all`` the splits of one population cannot show it
  (such a band holds about 40% of null populations). From an oracle of twice the members the band of ``excess`` holds
  90 to 93% at 8 and 16 members, of three times 92 to 94%.
* ``matched``: member i with reference member i, of equally many; a diverged member goes with its partner.
* ``mean``: the two mean predictions, (1, n). Smaller, and falls with more members where nothing differs.

Rows share the reference, so means over rows alone understate the interval: use
``subset_draws(lambda u, r: js_divergence(u, r).mean(axis=0), u, r)`` with `t_estimate`; for ``matched`` with one role
for both, so that partners are drawn together.

Odd input is the same for all: a member with a NaN is left out, an infinite logit is a certain answer, a log-probability
below ``-clip`` counts as that; without a member on a side (``excess``: two of the reference) there is a row of NaN;
constant logits are the uniform distribution; other shapes, other examples or classes: `InputError`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64

from unlearn_jax.errors import InputError, choose
from unlearn_jax.metrics.arrays import CLIP, as_members, log_softmax, matched_members, plogp

PAIRINGS = ("all", "excess", "matched", "mean")
CHUNK = 100_000  # numbers at once where all pairs are met


def kl_to_reference(
    unlearned, reference, *, pairing: str = "all", clip: float = CLIP
) -> Float64[np.ndarray, "members n"]:
    """KL(unlearned || reference) of the predicted distributions, per member and example.

    Args:
        unlearned: logits or log-probabilities, (members, n, classes).
        reference: the same of the reference population.
        pairing: ``all``, ``excess``, ``matched`` or ``mean``, see the module.
        clip: log-probabilities below ``-clip`` count as that, so that one class does not make the figure infinite.

    Returns:
        (members, n) nats, in [0, clip] (not ``excess``). For the other direction exchange the arguments.

    Raises:
        InputError: shapes that do not belong together, an unknown pairing, a clip that is not positive.

    Source: the mean KL to the retrained model of many unlearning papers; which direction and pairing they take is
    often left open.

    Example:
        >>> import numpy as np
        >>> kl_to_reference(np.log([[[0.5, 0.5]]]), np.log([[[0.25, 0.75]]])).round(4).tolist()
        [[0.1438]]
    """
    if not clip > 0:
        raise InputError(f"clip is {clip}: give the largest negative log-probability that counts, above 0.")
    u, r = (np.maximum(x, -clip) for x in _log_populations(unlearned, reference, pairing))

    def pairs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        b = b if pairing == "matched" else b.mean(axis=0, keepdims=True)  # the mean over the reference moves inside
        return np.maximum(np.einsum("mnc,mnc->mn", np.exp(a), a - b), 0.0)

    return _beyond_reference(pairs, u, r, pairing)


def js_divergence(unlearned, reference, *, pairing: str = "all", base: float = 2.0) -> Float64[np.ndarray, "members n"]:
    """Jensen-Shannon divergence of the predicted distributions, per member and example.

    Args:
        unlearned: logits or log-probabilities, (members, n, classes).
        reference: the same of the reference population.
        pairing: ``all``, ``excess``, ``matched`` or ``mean``, see the module. ``all`` takes a logarithm for every pair
            of members, example and class.
        base: of the logarithm; 2 gives bits in [0, 1], ``numpy.e`` nats in [0, .69].

    Returns:
        (members, n), 0 where the distributions are the same; no root is taken.

    Raises:
        InputError: shapes that do not belong together, an unknown pairing, a base that is not above 1.

    Source: Lin, "Divergence measures based on the Shannon entropy" (1991).

    Example:
        >>> import numpy as np
        >>> certain, other = np.array([[[np.inf, 0.0]]]), np.array([[[0.0, np.inf]]])
        >>> js_divergence(certain, other).tolist()
        [[1.0]]
    """
    if not base > 1:
        raise InputError(f"base is {base}: give the base of the logarithm, 2 for bits.")
    u, r = (np.exp(x) for x in _log_populations(unlearned, reference, pairing))

    def pairs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        entropy, other = plogp(a).sum(axis=-1), plogp(b).sum(axis=-1)
        joint = _over_pairs(lambda p, q: plogp((p + q) / 2.0).sum(axis=-1), a, b, pairing)
        other = other if pairing == "matched" else other.mean(axis=0, keepdims=True)
        return np.clip((entropy + other) / 2.0 - joint, 0.0, np.log(2.0)) / np.log(base)

    return _beyond_reference(pairs, u, r, pairing)


def activation_distance(unlearned, reference, *, pairing: str = "all") -> Float64[np.ndarray, "members n"]:
    """Activation distance: Euclidean distance between softmax outputs, per member and example.

    Args:
        unlearned: logits or log-probabilities, (members, n, classes).
        reference: the same of the reference population.
        pairing: ``all``, ``excess``, ``matched`` or ``mean``, see the module.

    Returns:
        (members, n), in [0, 1.42]; papers print the mean over the forget set.

    Raises:
        InputError: shapes that do not belong together, or an unknown pairing.

    Source: Golatkar et al. (arXiv 2003.02960), as used by Chundawat et al. (arXiv 2205.08096).

    Example:
        >>> import numpy as np
        >>> activation_distance(np.log([[[0.8, 0.2]]]), np.log([[[0.5, 0.5]]])).round(4).tolist()
        [[0.4243]]
    """
    u, r = (np.exp(x) for x in _log_populations(unlearned, reference, pairing))
    gap = lambda p, q: np.sqrt(np.square(p - q).sum(axis=-1))
    return _beyond_reference(lambda a, b: _over_pairs(gap, a, b, pairing), u, r, pairing)


def completeness(unlearned, reference, *, pairing: str = "all") -> Float64[np.ndarray, "members n"]:
    """Completeness: share of reference members that predict the same class, per member and example.

    Args:
        unlearned: logits, log-probabilities or probabilities, (members, n, classes).
        reference: the same of the reference population.
        pairing: as in the module; ``matched`` and ``mean`` give 0 or 1.

    Returns:
        (members, n), in [0, 1]; 1 = always the same. Where classes tie, the first of them is predicted. ``mean``
        averages probabilities, so give logits or log-probabilities for it.

    Raises:
        InputError: shapes that do not belong together, or an unknown pairing.

    Source: Cao and Yang, "Towards making systems forget with machine unlearning" (2015).

    Example:
        >>> import numpy as np
        >>> completeness(np.array([[[2.0, 1.0]]]), np.array([[[3.0, 0.0]], [[0.0, 3.0]]])).tolist()
        [[0.5]]
    """
    u, r = _populations(unlearned, reference, pairing)
    if pairing == "mean":
        u, r = (np.exp(log_softmax(x)).mean(axis=0, keepdims=True) for x in (u, r))

    def pairs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        undefined = np.isnan(a).any(axis=-1) | np.isnan(b).any(axis=(0, -1))
        predicted, other = a.argmax(axis=-1), b.argmax(axis=-1)
        if pairing == "matched":
            return np.where(undefined, np.nan, predicted == other)
        shares = (other[..., None] == np.arange(b.shape[-1])).mean(axis=0)
        return np.where(undefined, np.nan, np.take_along_axis(shares[None], predicted[..., None], axis=-1)[..., 0])

    return _beyond_reference(pairs, u, r, pairing, itself=1.0)


def zrf(unlearned, random_init, *, pairing: str = "all") -> Float64[np.ndarray, "members n"]:
    """Zero retrain forgetting, ``1 - JS(unlearned, randomly initialised)`` on the forget set, per member and example.

    It needs no retrained model, and so does not measure closeness to one: it rewards outputs that are as random as
    those of an untrained network, which a model that never saw the forget set rarely has. Read it as a check.

    Args:
        unlearned: logits or log-probabilities on the forget set, (members, n, classes).
        random_init: the same of randomly initialised, untrained models; the paper has one.
        pairing: as in the module; ``excess`` has no meaning here.

    Returns:
        (members, n), in [0, 1] (logarithms of base 2); its mean is the ZRF. 1 = just the outputs of untrained models.

    Raises:
        InputError: shapes that do not belong together, or an unknown pairing.

    Source: Chundawat et al. (arXiv 2205.08096), whose text leaves the base of the logarithm open. Some public code
    under this name compares with a retrained model, or takes another divergence: that is not ZRF.

    Example:
        >>> import numpy as np
        >>> zrf(np.zeros((1, 1, 4)), np.zeros((1, 1, 4))).tolist()
        [[1.0]]
    """
    choose("pairing of ZRF", pairing, [p for p in PAIRINGS if p != "excess"])
    return 1.0 - js_divergence(unlearned, random_init, pairing=pairing)


def _populations(unlearned, reference, pairing: str) -> tuple[np.ndarray, np.ndarray]:
    """Both populations without diverged members (matched: without partners of such); NaN where none is left."""
    choose("pairing", pairing, PAIRINGS)
    u, r = np.asarray(unlearned, np.float64), np.asarray(reference, np.float64)
    if u.ndim == r.ndim == 3 and u.shape[1:] != r.shape[1:]:
        raise InputError(f"outputs are of (examples, classes) {u.shape[1:]} and {r.shape[1:]}: give both the same.")
    if pairing == "matched" and u.ndim == r.ndim == 3:
        u, r = matched_members(u, r, np.isnan)
    u, r = (as_members(x, name, clip=1e300, ndim=3) for x, name in ((u, "unlearned"), (r, "reference")))
    if u.shape[-1] < 2:
        raise InputError("outputs have one class: give logits of two classes or more.")
    u, r = (x if len(x) else np.full((1, *x.shape[1:]), np.nan) for x in (u, r))
    return u, r


def _log_populations(unlearned, reference, pairing: str) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities of both populations, for ``mean`` of their mean predictions."""
    u, r = (log_softmax(x) for x in _populations(unlearned, reference, pairing))
    if pairing == "mean":
        with np.errstate(divide="ignore"):
            u, r = (np.log(np.exp(x).mean(axis=0, keepdims=True)) for x in (u, r))
    return u, r


def _over_pairs(function: Callable, u: np.ndarray, r: np.ndarray, pairing: str) -> np.ndarray:
    """A function of two distributions, unless matched averaged over reference members, a few examples at a time."""
    if pairing in ("matched", "mean") or len(r) == 1:
        return function(u, r)
    total = np.zeros(u.shape[:2])
    step = max(1, CHUNK // (len(u) * u.shape[2]))
    for start in range(0, u.shape[1], step):
        at = slice(start, start + step)
        part = np.ascontiguousarray(u[:, at])
        for member in r[:, at]:
            total[:, at] += function(part, member)
    return total / len(r)


def _beyond_reference(pairs: Callable, u: np.ndarray, r: np.ndarray, pairing: str, itself: float = 0.0) -> np.ndarray:
    """Figures of members met with the reference; for ``excess`` less those of its distinct members."""
    values = pairs(u, r)
    if pairing != "excess":
        return values
    if len(r) < 2:
        return np.full_like(values, np.nan)
    among = (pairs(r, r).mean(axis=0) * len(r) - itself) / (len(r) - 1.0)  # a member is ``itself`` from itself
    return values - among

"""Membership attacks that need no reference models: what one model's losses, entropies and probabilities give away.

Logits are (members, examples, classes) and labels (examples,); scores, losses and entropies (members, examples). Every
attack gives one figure per member, in the members' order, NaN where a member has diverged (a NaN in any of its arrays):
put it in a column, ``figure[:, None]``, and `mean_draws` makes the interval over members. None of these figures has an
ideal value of its own (.5 supposes that forget and test samples are alike): compare with the reference's. They are weak
attacks: what they do not find may be there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from unlearn_jax.errors import InputError, choose
from unlearn_jax.metrics.arrays import CLIP, as_logits, log_softmax
from unlearn_jax.metrics.logistic import logistic_fit
from unlearn_jax.metrics.output_scores import confidence, entropy, modified_entropy
from unlearn_jax.metrics.roc import auc

FEATURES = ("correctness", "confidence", "entropy", "modified_entropy", "probabilities")


class ThresholdAttack(NamedTuple):
    """What a threshold on a score gives away, per member."""

    auc: np.ndarray  # (members,) P(forget > test), ties one half
    balanced_accuracy: np.ndarray  # (members,) at the best threshold, chosen on these very scores: optimistic


def threshold_attack(forget, test) -> ThresholdAttack:
    """How well one threshold on a score tells the forget set from test samples, in each model.

    Args:
        forget: scores that are higher on members, such as `confidence`, or minus the loss, the entropy or the modified
            entropy; (members, n).
        test: the same on samples that no model trained on, (members, m).

    Returns:
        `ThresholdAttack`; .5 where the score says nothing, constant scores included. Infinite scores are the largest.

    Raises:
        InputError: arrays that are not (members, examples), or numbers of members that differ.

    Source: Yeom et al. (arXiv 1709.01604) for the loss, Song and Mittal (arXiv 2003.10595) for the others (there with a
    threshold for each class, tuned on shadow models).

    Example:
        >>> threshold_attack([[3.0, 1.0]], [[2.0, 0.0]]).auc.tolist()
        [0.75]
    """
    (forget, test), finite = _aligned(2, forget=forget, test=test)
    n, m = forget.shape[1], test.shape[1]
    scores = np.concatenate([forget, test], axis=1)
    order = np.argsort(scores, axis=1)[:, ::-1]
    scores = np.take_along_axis(scores, order, axis=1)
    called = np.cumsum(order < n, axis=1)
    gain = called / n - (np.arange(n + m) + 1 - called) / m
    gain[:, :-1][scores[:, 1:] == scores[:, :-1]] = 0.0  # no threshold parts equal scores
    best = 0.5 + np.maximum(gain.max(axis=1), 0.0) / 2
    return ThresholdAttack(np.asarray(auc(forget, test)), np.where(finite, best, np.nan))


def loss_attack(
    forget_loss, test_loss, *, splits: int = 10, held_out: float = 0.1, seed: int = 0
) -> Float64[np.ndarray, " members"]:
    """Held-out accuracy of a logistic regression that tells forget from test samples by their loss, per member.

    Each member draws as many samples of the larger set as the smaller one has, so that guessing gives .5, then
    ``splits`` stratified random splits. A weak attack: with few forget samples each split tests a handful.

    Args:
        forget_loss: (members, n), nats; any other score will do.
        test_loss: (members, m).
        splits: number of stratified shuffle splits.
        held_out: share of each set that is tested, at least one sample.
        seed: of the draws.

    Returns:
        (members,) mean accuracy over the splits. Around .5 where losses are alike, and for constant ones; all NaN with
        fewer than two samples a set. Infinite losses count as 100 nats.

    Raises:
        InputError: arrays that are not (members, examples), or settings out of range.

    Source: the NeurIPS 2023 competition's starting kit (Triantafillou et al., arXiv 2406.09073), whose logistic
    regression (C = 1) and ten splits these are.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> bool(loss_attack(rng.normal(0.0, 0.1, (2, 40)), rng.normal(5.0, 0.1, (2, 90))).min() > 0.95)
        True
    """
    if splits < 1 or not 0 < held_out < 1:
        raise InputError(f"splits is {splits} and held_out {held_out}: give one or more, and a share in (0, 1).")
    (forget, test), finite = _aligned(2, forget_loss=forget_loss, test_loss=test_loss)
    size = min(forget.shape[1], test.shape[1])
    if size < 2:
        return np.full(len(finite), np.nan)
    tested = min(max(1, int(np.ceil(held_out * size - 1e-9))), size - 1)
    rng, sides = np.random.default_rng([seed, size]), []
    for loss in (forget, test):
        chosen = np.argsort(rng.random(loss.shape), axis=1)[:, :size]
        loss = np.take_along_axis(np.clip(loss, -CLIP, CLIP), chosen, axis=1)
        order = np.argsort(rng.random((len(loss), splits, size)), axis=2)
        sides.append(np.take_along_axis(loss[:, None], order, axis=2))
    fit = np.concatenate([side[..., tested:] for side in sides], axis=2)
    slope, offset = logistic_fit(fit, np.repeat([1.0, 0.0], size - tested))
    right = [((np.sign(s * (slope * side[..., :tested] + offset)) + 1) / 2).mean(axis=(1, 2)) for s, side in
             zip((1, -1), sides)]  # fmt: skip
    return np.where(finite, (right[0] + right[1]) / 2, np.nan)


def entropy_attack(forget, retain, test, *, seed: int = 0) -> Float64[np.ndarray, " members"]:
    """Share of the forget set that is called member by a logistic regression on entropy, retain against test.

    Each member draws as many retained samples as there are test samples (or the other way round), so that no kind is
    called for being the larger.

    Args:
        forget: (members, n) entropies as of `entropy`, nats.
        retain: (members, r) of samples that were trained on and stay.
        test: (members, m).
        seed: of the draws.

    Returns:
        (members,) in [0, 1]; a sample on the boundary counts one half, so constant entropies give .5. Higher = more
        like training samples; there is no ideal but the reference's value. Infinite values count as 100 nats.

    Raises:
        InputError: arrays that are not (members, examples), or numbers of members that differ.

    Source: SSD (Foster et al., arXiv 2308.07707) and Bad Teacher (Chundawat et al., arXiv 2205.08096); they do not
    balance the two kinds.

    Example:
        >>> entropy_attack([[0.1, 0.9]], [[0.1, 0.2, 0.0]], [[0.9, 0.8, 1.0]]).tolist()
        [0.5]
    """
    entropies, finite = _aligned(2, forget=forget, retain=retain, test=test)
    forget, retain, test = (np.clip(values, -CLIP, CLIP) for values in entropies)
    chosen, count = _balanced(retain, test, seed)
    slope, offset = logistic_fit(np.concatenate(chosen, axis=1), np.repeat([1.0, 0.0], count))
    called = ((np.sign(slope * forget + offset) + 1) / 2).mean(axis=1)
    return np.where(finite, called, np.nan)


def _balanced(retain: np.ndarray, test: np.ndarray, seed: int) -> tuple[list[np.ndarray], int]:
    """As many random samples of both, drawn apart for each member."""
    rng, count = np.random.default_rng([seed, 1]), min(retain.shape[1], test.shape[1])
    chosen = []
    for values in (retain, test):
        at = np.argsort(rng.random(values.shape[:2]), axis=1)[:, :count]
        chosen.append(np.take_along_axis(values, at.reshape(*at.shape, *[1] * (values.ndim - 2)), axis=1))
    return chosen, count


def svc_attack(
    forget_logits,
    retain_logits,
    test_logits,
    forget_labels,
    retain_labels,
    test_labels,
    *,
    feature: str = "confidence",
    seed: int = 0,
) -> Float64[np.ndarray, " members"]:
    """Forget efficacy: share of the forget set called non-member by a support vector classifier, retain against test.

    Each member draws as many retained samples as there are test samples (or the other way round).

    Args:
        forget_logits: (members, n, C).
        retain_logits: (members, r, C) of samples that were trained on and stay.
        test_logits: (members, m, C).
        forget_labels: (n,) whole numbers.
        retain_labels: (r,).
        test_labels: (m,).
        feature: what the classifier sees: ``correctness`` (0 or 1), ``confidence``, ``entropy``, ``modified_entropy``
            or ``probabilities`` (all classes).
        seed: of the draws.

    Returns:
        (members,) in [0, 1]; higher = fewer called member. There is no ideal but the reference's value. Where the
        feature is constant the classifier calls all alike, whichever: 0 or 1 means nothing then.

    Raises:
        InputError: shapes that do not belong together, or an unknown feature.

    Source: Jia et al. (arXiv 2304.04934) and SalUn (Fan et al., arXiv 2310.12508): C = 3, Gaussian kernel of width
    1 / features.

    Example:
        >>> import numpy as np
        >>> sure, unsure = np.array([[[9.0, 0.0]] * 4]), np.array([[[0.5, 0.0]] * 4])
        >>> svc_attack(unsure, sure, unsure, *np.zeros((3, 4), int)).tolist()
        [1.0]
    """
    choose("feature", feature, FEATURES)
    sets = {"forget": (forget_logits, forget_labels), "retain": (retain_logits, retain_labels)}
    sets["test"] = (test_logits, test_labels)
    logits, finite = _aligned(3, **{f"{name}_logits": of_set for name, (of_set, _) in sets.items()})
    columns = [_feature(z, labels, feature, name) for z, (name, (_, labels)) in zip(logits, sets.items())]
    (retain, test), count = _balanced(columns[1], columns[2], seed)
    from sklearn.svm import SVC

    share, kinds = np.full(len(finite), np.nan), np.repeat([1, 0], count)
    for i in np.flatnonzero(finite):
        model = SVC(C=3.0, gamma="auto").fit(np.concatenate([retain[i], test[i]]), kinds)
        share[i] = (model.predict(columns[0][i]) == 0).mean()
    return share


def _feature(logits: np.ndarray, labels, feature: str, name: str) -> np.ndarray:
    """What a classifier sees of each sample; (members, n, features)."""
    logits, labels = as_logits(logits, labels, f"{name}_logits")
    if feature == "probabilities":
        return np.exp(log_softmax(logits))
    if feature == "correctness":
        value = (logits.argmax(axis=-1) == labels).astype(np.float64)
    elif feature == "entropy":
        value = entropy(logits)
    else:
        value = (confidence if feature == "confidence" else modified_entropy)(logits, labels)
    return value[..., None]


def _aligned(ndim: int, **arrays) -> tuple[list[np.ndarray], np.ndarray]:
    """Arrays of the same members with those that diverged set to NaN, and which did not."""
    values = {name: np.asarray(array, np.float64) for name, array in arrays.items()}
    for name, array in values.items():
        if array.ndim != ndim or 0 in array.shape:
            axes = "(members, examples)" if ndim == 2 else "(members, examples, classes)"
            raise InputError(f"{name} is {array.shape}: give {axes} with at least one of each.")
    counts = {name: (len(array), *array.shape[2:]) for name, array in values.items()}
    if len(set(counts.values())) > 1:
        raise InputError(f"members and classes are {counts}: give the same models in every array.")
    axes = tuple(range(1, ndim))
    finite = ~np.any([np.isnan(array).any(axis=axes) for array in values.values()], axis=0)
    shaped = finite.reshape(-1, *[1] * (ndim - 1))
    return [np.where(shaped, array, np.nan) for array in values.values()], finite

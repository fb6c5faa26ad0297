"""The neighbouring-class attack: do the probabilities of the other classes tell unlearned from reference models?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.metrics.arrays import as_logits, as_members, log_softmax, same_examples
from unlearn_jax.metrics.roc import auc
from unlearn_jax.metrics.u_lira import fold_numbers

RIDGE = 1e-2  # of the mean variance of a class's probability, added to every variance


class ClassAttack(NamedTuple):
    """What the other classes' probabilities tell; .5 = no trace."""

    accuracy: float  # mean over examples of per_example
    per_example: np.ndarray  # (n,) balanced accuracy of the guess over models
    auc: float  # mean over folds of the pooled curve
    members: tuple[int, int]  # unlearned and reference models that count


def cmia(unlearned, reference, labels, *, folds: int = 2, seed: int = 0) -> ClassAttack:
    """Neighbouring-class attack: unlearned against reference models by the probabilities of the other classes alone.

    The true class is taken away and the rest renormalised, so that a method that only lowers the true class's
    probability leaves no trace. For each true class, one linear discriminant over all its examples, each measured from
    its own mean over the models of the fit; fitted on some folds of the models of both kinds, tested on the other.

    Args:
        unlearned: logits (members, n, C) on the forget set, at least three classes.
        reference: logits (members, n, C); retrain or oracle, say which.
        labels: (n,) whole numbers in [0, C).
        folds: disjoint parts of each population, at least two.
        seed: of the split into folds.

    Returns:
        `ClassAttack`; .5 = no trace, constant logits included. NaN where a fit has fewer than two models of a kind.
        Members with a NaN are left out; an infinite logit is a certain answer. Adding a number to all logits of a
        sample, or to those of its true class, changes nothing.

    Raises:
        InputError: arrays that do not belong together, fewer than three classes, or fewer than two folds.

    Source: Ebrahimpour-Boroojeny et al., "Unlearning isn't forgetting" (ICML 2026; arXiv 2506.20893, where it is called
    MIA-NN), our reading of the abstract: classifier, centring and cross-fit are ours, and figures are not theirs.

    Example:
        >>> import numpy as np
        >>> none = np.random.default_rng(0).normal(0.0, 1.0, (2, 32, 10, 4))
        >>> round(cmia(*none, np.zeros(10, int)).accuracy, 1)
        0.5
    """
    populations = [as_members(_finite(p), name, clip=None, ndim=3) for p, name in
                   ((unlearned, "unlearned"), (reference, "reference"))]  # fmt: skip
    same_examples(unlearned=populations[0], reference=populations[1])
    if populations[0].shape[-1] < 3:
        raise InputError(f"logits have {populations[0].shape[-1]} classes: give three or more, or nothing is left.")
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise InputError(f"labels are {labels.shape}: give one for each sample, (n,).")
    for p in populations:
        as_logits(p[:1] if len(p) else np.zeros((1, *p.shape[1:])), labels, "logits")
    members = len(populations[0]), len(populations[1])
    parts = [fold_numbers(n, folds, seed) for n in members]
    fewest = min(int((part != k).sum()) for part in parts for k in range(folds))
    if fewest < 2 or not min(members):
        return ClassAttack(np.nan, np.full(len(labels), np.nan), np.nan, members)
    features = [_others(p, labels) for p in populations]
    scores = [np.full(f.shape[:2], np.nan) for f in features]
    for k in range(folds):
        fit, tested = ([f[(part == k) == test] for f, part in zip(features, parts)] for test in (False, True))
        for label in np.unique(labels):
            at = labels == label
            centre, direction = _discriminant(*(f[:, at] for f in fit))
            for score, part, f in zip(scores, parts, tested):
                score[np.ix_(part == k, at)] = (f[:, at] - centre) @ direction
    return _figures(*scores, *parts, members=members)


def _finite(logits) -> np.ndarray:
    """Logits in float64, infinite ones at the largest numbers that leave differences finite."""
    return np.nan_to_num(np.asarray(logits, np.float64), nan=np.nan, posinf=1e300, neginf=-1e300)


def _others(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Probabilities of the classes other than the true one, which sum to 1; (members, n, C - 1)."""
    classes = np.arange(logits.shape[-1] - 1)
    at = classes + (classes >= labels[:, None])
    return np.exp(log_softmax(np.take_along_axis(logits, at[None], axis=-1)))


def _discriminant(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each example's middle (n, features) and the direction from the second kind to the first."""
    means = one.mean(axis=0), other.mean(axis=0)
    gap = (means[0] - means[1]).mean(axis=0)
    left = np.concatenate([(p - m).reshape(-1, len(gap)) for p, m in zip((one, other), means)])
    spread = left.T @ left / len(left)
    ridge = RIDGE * np.trace(spread) / len(gap) + 1e-12
    return (means[0] + means[1]) / 2, np.linalg.solve(spread + ridge * np.eye(len(gap)), gap)


def _figures(unlearned, reference, part_u, part_r, members) -> ClassAttack:
    right = [((np.sign(s * score) + 1) / 2).mean(axis=0) for s, score in ((1, unlearned), (-1, reference))]
    both = np.intersect1d(part_u, part_r)
    areas = [auc(unlearned[part_u == k].ravel(), reference[part_r == k].ravel()) for k in both]
    accuracy = (right[0] + right[1]) / 2
    return ClassAttack(float(accuracy.mean()), accuracy, float(np.mean(areas)), members)

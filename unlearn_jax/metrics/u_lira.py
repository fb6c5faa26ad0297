"""U-LiRA, the likelihood-ratio attack on unlearning, and the exposure of the similar samples that stay.

Every score is fitted on shadow models and read off other models, from populations of their own or by cross-fitting.
Scores are log likelihood ratios in nats, positive = unlearned rather than reference.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Integer

from unlearn_jax.errors import InputError
from unlearn_jax.metrics.arrays import as_members, same_examples
from unlearn_jax.metrics.lira import MIN_SPREAD, lira
from unlearn_jax.metrics.roc import auc, tpr_at


class UnlearningAttack(NamedTuple):
    """What U-LiRA finds; .5 = unlearned and reference models cannot be separated."""

    accuracy: float  # mean over examples of per_example
    per_example: np.ndarray  # (n,) balanced accuracy of the likelihood-ratio guess over observed models
    auc: float  # mean over examples of per_example_auc
    per_example_auc: np.ndarray  # (n,)
    auc_pooled: float  # one curve for all examples' scores
    tpr_at_1e2: float  # of the pooled scores; NaN with under 100 of the reference
    tpr_at_1e3: float  # NaN with under 1,000
    scores_unlearned: np.ndarray  # (observed unlearned models, n) log likelihood ratios, for curves
    scores_reference: np.ndarray  # (observed reference models, n)
    members: tuple[int, int]  # observed models that count, unlearned and reference


def u_lira(shadow_unlearned, shadow_reference, observed_unlearned, observed_reference) -> UnlearningAttack:
    """U-LiRA: does a Gaussian likelihood ratio of the margin tell unlearned models from reference models?

    Per example, a Gaussian is fitted to the margins of shadow models that trained on it and then unlearned it, and one
    to those of shadow models that never saw it; the ratio is read off observed models, which must be others.

    Args:
        shadow_unlearned: margins (members, n), nats.
        shadow_reference: margins (members, n) of models that never saw the examples; say whether retrain or oracle.
        observed_unlearned: margins (members, n) of models that are none of the shadows.
        observed_reference: likewise.

    Returns:
        `UnlearningAttack`. The accuracy is balanced over both kinds, a ratio of exactly 0 counting one half: constant
        margins give .5. NaN with fewer than two shadows of a kind or no observed model of a kind. Members with a NaN
        are left out; infinite margins count as 100 nats; a spread is at least 0.001 nats.

    Raises:
        InputError: arrays that are not (members, n), or of other examples.

    Source: Hayes et al. (arXiv 2403.01218). Mean and standard deviation by maximum likelihood; some public code takes
    correctness instead of the margin, tests on the models it fitted, and divides by a spread of 0.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> found = u_lira(*(rng.normal(m, 1.0, (200, 50)) for m in (2.0, 0.0, 2.0, 0.0)))
        >>> round(found.accuracy, 1), round(found.auc, 1)  # Phi(1) = .84, Phi(sqrt 2) = .92
        (0.8, 0.9)
    """
    names = ("shadow_unlearned", "shadow_reference", "observed_unlearned", "observed_reference")
    named = zip(names, (shadow_unlearned, shadow_reference, observed_unlearned, observed_reference))
    populations = {name: as_members(values, name) for name, values in named}
    same_examples(**populations)
    in_shadow, out_shadow, in_seen, out_seen = populations.values()
    scores = [_ratio(in_shadow, out_shadow, seen) for seen in (in_seen, out_seen)]
    return _attack(*scores, parts=[np.zeros(len(score), int) for score in scores])


def u_lira_cross_fitted(unlearned, reference, *, folds: int = 2, seed: int = 0) -> UnlearningAttack:
    """`u_lira` on two populations without models to spare: each fold is tested by the ratio fitted on the others.

    Args:
        unlearned: margins (members, n), nats.
        reference: margins (members, n); retrain or oracle, say which.
        folds: disjoint parts of each population, at least two; models of a kind behind a fit are
            ``members (folds - 1) / folds``.
        seed: of the split into folds.

    Returns:
        `UnlearningAttack` over all members, each scored once. An example's AUC is the mean over folds: across folds a
        model is compared with one whose score it helped to fit, which takes .006 off the .5 of 8 + 8 models alike.
        The pooled figures, ruled by pairs of different examples, pool folds too. NaN where a population has so few
        members that a fit has fewer than two of a kind (four members are enough for two folds). Fewer models behind a
        fit make a weaker attack: compare figures of one size, and give the null band. Intervals of `subset_draws` are
        on the safe side: they held .98 with 20 members and two folds, .96 with 32.

    Raises:
        InputError: arrays that are not (members, n) of the same examples, or fewer than two folds.

    Source: Hayes et al. (arXiv 2403.01218); the cross-fit is ours.

    Example:
        >>> import numpy as np
        >>> none = np.random.default_rng(0).normal(0.0, 1.0, (2, 32, 400))
        >>> round(u_lira_cross_fitted(*none).accuracy, 1)
        0.5
    """
    u, r = as_members(unlearned, "unlearned"), as_members(reference, "reference")
    same_examples(unlearned=u, reference=r)
    scores = [np.full(p.shape, np.nan) for p in (u, r)]
    parts = [fold_numbers(len(p), folds, seed) for p in (u, r)]
    for fold in range(folds):
        fit = [p[part != fold] for p, part in zip((u, r), parts)]
        for score, p, part in zip(scores, (u, r), parts):
            score[part == fold] = _ratio(*fit, seen=p[part == fold])
    return _attack(*scores, parts=parts)


def fold_numbers(members: int, folds: int, seed: int) -> Integer[np.ndarray, " {members}"]:
    """Fold of each member, in parts as equal as can be; populations of one size are split alike; (members,)."""
    if isinstance(folds, float) or folds < 2:
        raise InputError(f"folds is {folds}: give two or more, so that no model is tested by a score that it fitted.")
    return np.random.default_rng([seed, members]).permutation(np.arange(members) % folds)


def _ratio(shadow_in: np.ndarray, shadow_out: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Log likelihood ratios of seen models; NaN with fewer than two shadows of a kind."""
    if min(len(shadow_in), len(shadow_out)) < 2:
        return np.full(seen.shape, np.nan)
    # the difference of two parabolas in x, so that the large array of observed models is passed once
    terms = []
    for shadow in (shadow_in, shadow_out):
        centre, spread = shadow.mean(axis=0), np.maximum(shadow.std(axis=0), MIN_SPREAD)
        terms.append((centre, 0.5 / spread**2, np.log(spread)))
    (m, a, s), (n, b, t) = terms
    return b * (seen - n) ** 2 - a * (seen - m) ** 2 + (t - s)


def _attack(unlearned: np.ndarray, reference: np.ndarray, parts: list[np.ndarray]) -> UnlearningAttack:
    """Accuracy, areas and rates of log likelihood ratios (members, n); NaN where they are not defined."""
    n, members = unlearned.shape[1], (len(unlearned), len(reference))
    if not min(members) or np.isnan(unlearned).any() or np.isnan(reference).any():
        nothing = np.full(n, np.nan)
        return UnlearningAttack(np.nan, nothing, np.nan, nothing, np.nan, np.nan, np.nan, unlearned, reference, members)
    right = [((np.sign(side * s) + 1) / 2).mean(axis=0) for side, s in ((1, unlearned), (-1, reference))]
    accuracy, areas = (right[0] + right[1]) / 2, _areas(unlearned, reference, *parts)
    pooled = float(auc(unlearned.ravel(), reference.ravel()))
    at_1e2, at_1e3 = map(float, tpr_at(unlearned, reference))
    means = float(accuracy.mean()), float(areas.mean())
    whole = (means[0], accuracy, means[1], areas, pooled, at_1e2, at_1e3)
    return UnlearningAttack(*whole, unlearned, reference, members)


def _areas(positive: np.ndarray, negative: np.ndarray, folds_positive, folds_negative) -> np.ndarray:
    """Each example's area under the curve, mean over the folds that both kinds have; (n,)."""
    both = np.intersect1d(folds_positive, folds_negative)
    areas = [auc(positive[folds_positive == k].T, negative[folds_negative == k].T) for k in both]
    return np.mean(areas, axis=0) if areas else np.full(positive.shape[1], np.nan)


class Exposure(NamedTuple):
    """How well membership of retained neighbours shows; .5 = not at all."""

    auc_unlearned: float  # unlearned models against models that never saw the neighbours, mean over examples
    auc_original: float  # original models against the same
    exposure: float  # auc_unlearned - auc_original: positive = unlearning exposes the neighbours
    per_example_unlearned: np.ndarray  # (n,)
    per_example_original: np.ndarray  # (n,)
    per_example: np.ndarray  # (n,) their difference
    members: tuple[int, int, int]  # unlearned, original and out models that count


def neighbour_exposure(unlearned, original, out, *, folds: int = 2, seed: int = 0) -> Exposure:
    """Does forgetting expose the similar samples that stay? LiRA of the membership of S, before and after.

    The attacker fits LiRA (``online``, median and spread) on original models as IN and on models that never saw S as
    OUT, and scores other models by it: no observed model, and no original that an observed unlearned model started
    from (member i from original i), is among its shadows.

    Args:
        unlearned: margins (members, n) on S of models that trained on it, then unlearned something else.
        original: margins (members, n) of the models they started from.
        out: margins (members, n) of models that never saw S: the oracle, not the retrained models.
        folds: disjoint parts of each population, at least two.
        seed: of the split into folds.

    Returns:
        `Exposure`. The difference shares members and shadows; for the interval of its ``per_example`` give
        `subset_draws` the three populations and ``roles=("original", "original", "oracle")``, so that ``unlearned``
        and ``original`` are drawn alike. NaN where a fit has fewer than two models of a kind. Members with a NaN are
        left out; infinite margins count as 100 nats; constant margins give .5. With equal margins before and after it
        is exactly 0. The intervals are on the safe side: they held .97 to .99 in trials with 20 to 32 members.

    Raises:
        InputError: arrays that are not (members, n) of the same examples, or fewer than two folds.

    Source: Hayes et al. (arXiv 2403.01218), who find that unlearning may worsen the privacy of retained points; the
    form is ours, with LiRA of Carlini et al. (arXiv 2112.03570).

    Example:
        >>> import numpy as np
        >>> original, out = np.random.default_rng(0).normal(0.0, 1.0, (2, 16, 40)) + np.array([2.0, 0.0])[:, None, None]
        >>> neighbour_exposure(original, original, out).exposure
        0.0
        >>> neighbour_exposure(original + 1.0, original, out).exposure > 0.05
        True
    """
    names = ("unlearned", "original", "out")
    raw = [np.asarray(p, np.float64) for p in (unlearned, original, out)]
    same_examples(**{name: as_members(p, name) for name, p in zip(names, raw)})
    finite = [~np.isnan(p).any(axis=1) for p in raw]
    parts = [fold_numbers(len(p), folds, seed) for p in raw]
    same = min(map(len, parts[:2]))
    parts[0][:same] = parts[1][:same]  # an unlearned model is tested where the original it started from is
    scores = [np.full(p.shape, np.nan) for p in raw]
    for fold in range(folds):
        full, none = (raw[i][finite[i] & (parts[i] != fold)] for i in (1, 2))
        if min(len(full), len(none)) < 2:
            continue
        member = np.repeat([True, False], [len(full), len(none)])[:, None] & np.ones(full.shape[1], bool)
        for i, score in enumerate(scores):
            tested = finite[i] & (parts[i] == fold)
            if tested.any():
                score[tested] = lira(np.concatenate([full, none]), member, raw[i][tested])
    u, full, none = ((score[ok], part[ok]) for score, ok, part in zip(scores, finite, parts))
    areas = [_areas(score, none[0], part, none[1]) for score, part in (u, full)]
    means = [float(a.mean()) for a in areas]
    counts = len(u[0]), len(full[0]), len(none[0])
    gap, gaps = means[0] - means[1], areas[0] - areas[1]
    return Exposure(means[0], means[1], gap, areas[0], areas[1], gaps, counts)

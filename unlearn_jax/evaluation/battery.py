"""How the figures of the metric table are measured: from a `View` of a population, or from the arrays of two.

Figures of single models (accuracy, attacks against held-out samples, relearning) take a `View`; figures that compare a
population with a reference as a whole (KLOM, U-LiRA, epsilon) take arrays of both. `table` has the rows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64

from unlearn_jax.evaluation.views import View
from unlearn_jax.metrics.epsilon import forgetting_epsilon, forgetting_points
from unlearn_jax.metrics.output_scores import confidence, entropy, modified_entropy
from unlearn_jax.metrics.outputs import zrf
from unlearn_jax.metrics.population_attacks import entropy_attack, loss_attack, svc_attack, threshold_attack
from unlearn_jax.metrics.relearn import RelearnTime, relearn_target, relearn_time
from unlearn_jax.metrics.representation import linear_probe
from unlearn_jax.metrics.rmia import rmia
from unlearn_jax.metrics.roc import auc
from unlearn_jax.metrics.u_lira import fold_numbers

PROBED = 500  # examples of the rest that a linear probe is fitted on
SVC_MOST = 300  # examples of each split that a support vector classifier is given
SVC_FEATURES = ("correctness", "confidence", "entropy", "modified_entropy", "probabilities")


def of_split(quantity: str, split: str) -> Callable[[View], np.ndarray | None]:
    """A quantity of a split, None where there is no such example."""
    return lambda view: getattr(view, quantity)(split) if view.has(split) else None


def thresholded(score: Callable) -> Callable[[View], np.ndarray]:
    """Per member, the area under the curve of a score on targets against test samples."""
    return lambda view: threshold_attack(score(view, "forget"), score(view, "test")).auc


def efficacy(feature: str) -> Callable[[View], np.ndarray | None]:
    """Forget efficacy of the support vector attack on one feature."""

    def values(view: View) -> np.ndarray | None:
        if not view.has("rest"):
            return None
        splits = ("forget", "rest", "test")
        logits, labels = (
            [part[:, :SVC_MOST] for part in map(view.logits, splits)],
            [part[:SVC_MOST] for part in map(view.labels, splits)],
        )
        return svc_attack(*logits, *labels, feature=feature)

    return values


def loss_attack_of(view: View) -> np.ndarray:
    """Held-out accuracy of telling targets from test samples by their loss."""
    return loss_attack(*(-SCORES["loss"](view, split) for split in ("forget", "test")))


def entropy_attack_of(view: View) -> np.ndarray | None:
    """Share of the targets called member by their entropy."""
    if not view.has("rest"):
        return None
    return entropy_attack(*(entropy(view.logits(split)) for split in ("forget", "rest", "test")))


SCORES = {
    "loss": lambda view, split: view.logprob(split)[:, np.arange(len(view.labels(split))), view.labels(split)],
    "entropy": lambda view, split: -entropy(view.logits(split)),
    "modified_entropy": lambda view, split: -modified_entropy(view.logits(split), view.labels(split)),
    "confidence": lambda view, split: confidence(view.logits(split), view.labels(split)),
}


def relearned(name: str) -> Callable[[View], np.ndarray | None]:
    """Updates until a member knows nine tenths of what the originals know of the request, at most all there were."""
    return lambda view: None if (times := _times(view, name)) is None else times.steps


def _times(view: View, name: str) -> RelearnTime | None:
    """Relearn times of the members, None where they were not measured."""
    curve, original = view.measured(name), view.original
    if curve is None or original is None or name not in original.measured:
        return None
    return relearn_time(curve, relearn_target(np.nanmean(original.measured[name][:, 0])))


def mostly_censored(name: str) -> Callable[[View], bool]:
    """Whether more than half of the members never knew so much within the updates that there were."""
    return lambda view: (times := _times(view, name)) is not None and bool(np.mean(times.censored) > 0.5)


def area(name: str) -> Callable[[View], np.ndarray | None]:
    """Share of the request known, mean over the updates of relearning."""
    return lambda view: None if (curve := view.measured(name)) is None else curve.mean(axis=1)


def noisy_at(place: int) -> Callable[[View], np.ndarray | None]:
    """Probability of the targets' labels at noisy images, at one of the radii."""

    def values(view: View) -> np.ndarray | None:
        table = view.measured("noisy")
        return None if table is None else table[:, place]

    return values


def zrf_of(view: View) -> np.ndarray | None:
    """Randomness of the answers on the targets; None where no untrained models answered, or of several requests."""
    return None if view.untrained is None else zrf(view.logits("forget"), view.untrained)


def probed(view: View) -> np.ndarray | None:
    """Where a linear probe of the features, fitted on the rest, is right about the targets."""
    train, test = view.features("rest"), view.features("forget")
    if train is None or test is None:
        return None
    return linear_probe(train[:, :PROBED], view.labels("rest")[:PROBED], test, view.labels("forget"))


def mean_over_members(distance: Callable) -> Callable:
    """A distance between predictions, beyond that of two references, as a per-example figure."""
    return lambda u, r: np.mean(distance(u, r, pairing="excess"), axis=0)


def points(u: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Points of the forgetting score, per example; 1 = not separable from the reference."""
    return forgetting_points(forgetting_epsilon(u, r), members=min(len(u), len(r)))


def rmia_auc(u: np.ndarray, r: np.ndarray, *, labels: np.ndarray, folds: int = 2) -> Float64[np.ndarray, " n"]:
    """Per target, the area under the curve of offline RMIA scores of unlearned against reference models.

    Args:
        u: probabilities of the true label on the n targets and then on the population points, (members, n + m).
        r: likewise; one fold at a time is attacked, the other folds are the models that never saw the targets.
        labels: (n,) of the targets.
        folds: of the reference.
    """
    u, r = (p[~np.isnan(p).any(axis=1)] for p in (u, r))
    n, part, areas = len(labels), fold_numbers(len(r), folds, 0), []
    for fold in range(folds):
        out, held = r[part != fold], r[part == fold]
        if not len(u) or not len(out) or not len(held):
            continue
        scores = [rmia(p[:, :n], p[:, n:], out_x=out[:, :n], out_z=out[:, n:]) for p in (u, held)]
        areas.append(auc(*(s.T for s in scores)))
    return np.mean(areas, axis=0) if areas else np.full(n, np.nan)


def true_label_probs(view: View) -> np.ndarray:
    """Probabilities of the true label on targets and on test samples."""
    return np.concatenate([view.true_label_prob("forget"), view.true_label_prob("test")], axis=1)

"""The battery: every metric on every population, each with an interval, and a null band where it has a reference.

Two kinds of metric. *Own* figures are of single models (accuracy, attacks against held-out samples, relearning); they
are told as they are and, in the manner of a signed gap, minus the reference's. *Pair* figures compare a population with
a reference population as a whole (KLOM, U-LiRA, epsilon). References are ``oracle`` and ``retrain``, each apart.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from unlearn_jax.evaluation.panels import SPLITS
from unlearn_jax.evaluation.views import View
from unlearn_jax.metrics.cmia import cmia
from unlearn_jax.metrics.epsilon import forgetting_epsilon, forgetting_points
from unlearn_jax.metrics.klom import klom
from unlearn_jax.metrics.margin_distances import energy_distance, gaussian_kl, rank_effect, wasserstein_1
from unlearn_jax.metrics.output_scores import confidence, entropy, modified_entropy
from unlearn_jax.metrics.outputs import activation_distance, completeness, js_divergence, kl_to_reference
from unlearn_jax.metrics.population_attacks import entropy_attack, loss_attack, svc_attack, threshold_attack
from unlearn_jax.metrics.relearn import RelearnTime, relearn_target, relearn_time
from unlearn_jax.metrics.representation import linear_probe
from unlearn_jax.metrics.rmia import rmia
from unlearn_jax.metrics.roc import auc
from unlearn_jax.metrics.u_lira import fold_numbers, neighbour_exposure, u_lira_cross_fitted

REFERENCES = ("oracle", "retrain")
PROBED = 500  # examples of the rest that a linear probe is fitted on
SVC_MOST = 300  # examples of each split that a support vector classifier is given
SVC_FEATURES = ("correctness", "confidence", "entropy", "modified_entropy", "probabilities")


class ModelMetric(NamedTuple):
    """A figure of single models."""

    metric: str
    variant: str
    split: str
    values: Callable[[View], np.ndarray | None]  # -> (members, n) of the split, (members,), or None = not there
    low: float = -np.inf
    high: float = np.inf
    blind: Callable[[View], bool] | None = None  # two populations of which this holds cannot be compared


class PopulationMetric(NamedTuple):
    """A figure of two populations, per example.

    ``figure`` maps arrays (members, n, ...) of the population, of the reference, and of those in ``also``, to (n,).
    """

    metric: str
    variant: str
    split: str
    figure: Callable
    takes: Callable[[View], np.ndarray | None]  # -> the array of a population, there where the split is
    sides: int = 1  # of the null band; 1 = small is good, -1 = large is good, 2 = near the ideal is good
    low: float = -np.inf
    high: float = np.inf
    scale: str = "plain"
    also: tuple[str, ...] = ()  # further populations
    labelled: bool = False  # the figure takes labels= of the split
    against: tuple[str, ...] = REFERENCES
    ideal: float | None = None  # None = what two populations show that differ in nothing
    banded: bool = True  # has a null band
    classes: int = 2  # fewest that it takes


def _of(quantity: str, split: str) -> Callable[[View], np.ndarray | None]:
    """A quantity of a split, None where there is no such example."""
    return lambda view: getattr(view, quantity)(split) if view.has(split) else None


def _thresholded(score: Callable) -> Callable[[View], np.ndarray]:
    """Per member, the area under the curve of a score on targets against test samples."""
    return lambda view: threshold_attack(score(view, "forget"), score(view, "test")).auc


def _efficacy(feature: str) -> Callable[[View], np.ndarray | None]:
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


def _loss_attack(view: View) -> np.ndarray:
    """Held-out accuracy of telling targets from test samples by their loss."""
    return loss_attack(*(-SCORES["loss"](view, split) for split in ("forget", "test")))


def _entropy_attack(view: View) -> np.ndarray | None:
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
OWN = (
    *(ModelMetric("accuracy", "", s, _of("correct", s), 0.0, 1.0) for s in SPLITS),
    *(ModelMetric("margin", "", s, _of("margin", s)) for s in ("forget", "similar")),
    *(ModelMetric("threshold_auc", name, "forget", _thresholded(score), 0.0, 1.0) for name, score in SCORES.items()),
    ModelMetric("loss_attack", "logistic", "forget", _loss_attack, 0.0, 1.0),
    ModelMetric("entropy_attack", "logistic", "forget", _entropy_attack, 0.0, 1.0),
    *(ModelMetric("svc_efficacy", f, "forget", _efficacy(f), 0.0, 1.0) for f in SVC_FEATURES),
)  # fmt: skip


def _relearned(name: str) -> Callable[[View], np.ndarray | None]:
    """Updates until a member knows nine tenths of what the originals know of the request, at most all there were."""
    return lambda view: None if (found := _times(view, name)) is None else found.steps


def _times(view: View, name: str) -> RelearnTime | None:
    """Relearn times of the members, None where they were not measured."""
    curve, original = view.measured(name), view.original
    if curve is None or original is None or name not in original.measured:
        return None
    return relearn_time(curve, relearn_target(np.nanmean(original.measured[name][:, 0])))


def _mostly_censored(name: str) -> Callable[[View], bool]:
    """Whether more than half of the members never knew so much within the updates that there were."""
    return lambda view: (found := _times(view, name)) is not None and bool(np.mean(found.censored) > 0.5)


def _area(name: str) -> Callable[[View], np.ndarray | None]:
    """Share of the request known, mean over the updates of relearning."""
    return lambda view: None if (curve := view.measured(name)) is None else curve.mean(axis=1)


def noisy_at(place: int) -> ModelMetric:
    """How sure members are of the targets' labels at noisy images, at one of the radii."""

    def values(view: View) -> np.ndarray | None:
        table = view.measured("noisy")
        return None if table is None else table[:, place]

    return ModelMetric("noisy_recognition", f"radius {place}", "forget", values, 0.0, 1.0)


def _probed(view: View) -> np.ndarray | None:
    """Where a linear probe of the features, fitted on the rest, is right about the targets."""
    train, test = view.features("rest"), view.features("forget")
    if train is None or test is None:
        return None
    return linear_probe(train[:, :PROBED], view.labels("rest")[:PROBED], test, view.labels("forget"))


def _mean_over_members(distance: Callable, pairing: str = "excess") -> Callable:
    """A distance between predictions as a per-example figure."""
    return lambda u, r: np.mean(distance(u, r, pairing=pairing), axis=0)


def _points(u: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Points of the forgetting score, per example; 1 = cannot be told from the reference."""
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


def _sure(view: View) -> np.ndarray:
    """Probabilities of the true label on targets and on test samples."""
    return np.concatenate([view.true_label_prob("forget"), view.true_label_prob("test")], axis=1)


_WAYS = {"relearning": "on the request", "benign_relearning": "on similar samples"}
RELEARNING = tuple(
    ModelMetric(f"{name}_steps", way, "forget", _relearned(name), 0.0, blind=_mostly_censored(name))
    for name, way in _WAYS.items()
)
RELEARNED = tuple(ModelMetric(f"{name}_area", way, "forget", _area(name), 0.0, 1.0) for name, way in _WAYS.items())
OWN = (*OWN, *RELEARNING, *RELEARNED, ModelMetric("linear_probe", "logistic", "forget", _probed, 0.0, 1.0))
_margins, _logits = _of("margin", "forget"), _of("logits", "forget")
PAIRS = (
    *(PopulationMetric("klom", "closed", s, klom, _of("margin", s), low=0.0)
      for s in ("forget", "similar", "rest", "test")),
    PopulationMetric("klom", "public", "forget", functools.partial(klom, edge="public"), _margins),
    PopulationMetric("gaussian_kl", "shared", "forget", functools.partial(gaussian_kl, variant="shared"), _margins),
    PopulationMetric("energy_distance", "unbiased", "forget", energy_distance, _margins),
    PopulationMetric("wasserstein_1", "", "forget", wasserstein_1, _margins, low=0.0),
    PopulationMetric("rank_effect", "mann_whitney", "forget", rank_effect, _margins, 2, 0.0, 1.0, "logit"),
    PopulationMetric("forgetting_epsilon", "", "forget", forgetting_epsilon, _margins, low=0.0, high=50.0),
    PopulationMetric("forgetting_score", "without accuracies", "forget", _points, _margins, -1, 0.0, 1.0),
    PopulationMetric(
        "u_lira_accuracy", "cross-fitted", "forget",
        lambda u, r: u_lira_cross_fitted(u, r).per_example, _margins, low=0.0, high=1.0, scale="logit",
    ),
    PopulationMetric(
        "u_lira_auc", "cross-fitted", "forget",
        lambda u, r: u_lira_cross_fitted(u, r).per_example_auc, _margins, low=0.0, high=1.0, scale="logit",
    ),
    PopulationMetric(
        "lira_auc", "online", "forget", lambda u, r, o: neighbour_exposure(u, o, r).per_example_unlearned, _margins,
        2, 0.0, 1.0, "logit", ("original",),
    ),
    PopulationMetric("rmia_auc", "offline", "forget", rmia_auc, _sure, 2, 0.0, 1.0, "logit", labelled=True),
    PopulationMetric("cmia_accuracy", "cross-fitted", "forget", lambda u, r, labels: cmia(u, r, labels).per_example,
         _logits, low=0.0, high=1.0, scale="logit", labelled=True, classes=3),
    PopulationMetric(
        "neighbour_exposure", "online", "similar", lambda u, r, o: neighbour_exposure(u, o, r).per_example,
        _of("margin", "similar"), 2, -1.0, 1.0, also=("original",), against=("oracle",), ideal=0.0, banded=False,
    ),
    PopulationMetric("js_divergence", "excess", "forget", _mean_over_members(js_divergence), _logits),
    PopulationMetric("kl_to_reference", "excess", "forget", _mean_over_members(kl_to_reference), _logits),
    PopulationMetric("activation_distance", "excess", "forget", _mean_over_members(activation_distance), _logits),
    PopulationMetric("completeness", "excess", "forget", _mean_over_members(completeness), _logits, -1, -1.0, 1.0),
)  # fmt: skip

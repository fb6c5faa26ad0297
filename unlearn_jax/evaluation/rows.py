"""Rows of the metric table for what is measured of populations, in the order in which pages show them.

Audits measure all of them, studies and sweeps those that need margins alone and are named by ``--metrics`` (`table`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from unlearn_jax.evaluation import battery as of
from unlearn_jax.evaluation.metric import SEVERAL, CompositeMetric, MatchedMetric, Metric, ModelMetric, PopulationMetric
from unlearn_jax.evaluation.panels import SPLITS
from unlearn_jax.metrics.cmia import cmia
from unlearn_jax.metrics.epsilon import forgetting_epsilon
from unlearn_jax.metrics.klom import klom
from unlearn_jax.metrics.margin_distances import energy_distance, gaussian_kl, rank_effect, wasserstein_1
from unlearn_jax.metrics.outputs import activation_distance, completeness, js_divergence, kl_to_reference
from unlearn_jax.metrics.representation import knn_overlap, linear_cka
from unlearn_jax.metrics.u_lira import neighbour_exposure, u_lira_cross_fitted

POPULATIONS, ATTACKS, OUTPUTS, GAPS = "Populations of margins", "Attacks", "Outputs", "Gaps"
AGAIN, FEATURES, SIMILAR = "Relearning and perturbed inputs", "Features", "Similar samples"
MIDDLE = 3  # place of the radius among those of perturbed images of the single figure
NEIGHBOURS = 10
SPLIT_NAMES = {split: split.replace("_", " ") for split in SPLITS} | {"forget": "targets"}

_margins, _logits = of.of_split("margin", "forget"), of.of_split("logits", "forget")


def _of_margins(metric: str, figure: Callable, **row) -> PopulationMetric:
    """A row that compares the targets' margins under two populations."""
    settings = {"group": POPULATIONS, "needs": ("margin",), "digits": 2, "takes": _margins} | row
    return PopulationMetric(metric=metric, figure=figure, **settings)


def _attack(metric: str, figure: Callable, **row) -> PopulationMetric:
    """A row of an attack that tells the models of two populations, or the targets under them; .5 = it cannot."""
    settings = {"group": ATTACKS, "ideal": 0.5, "low": 0.0, "high": 1.0, "spread": "logit", "unit": "share"} | row
    return PopulationMetric(metric=metric, figure=figure, **({"needs": ("margin",), "takes": _margins} | settings))


def _between_outputs(metric: str, distance: Callable, **row) -> PopulationMetric:
    """A row that compares predictions, beyond what two reference models differ by."""
    figure = of.mean_over_members(distance)
    return PopulationMetric(metric=metric, variant="excess", figure=figure, takes=_logits, group=OUTPUTS, **row)


def _share(metric: str, values: Callable, **row) -> ModelMetric:
    return ModelMetric(metric=metric, values=values, **({"low": 0.0, "high": 1.0, "unit": "share"} | row))


ACCURACIES = tuple(
    _share(
        "accuracy", of.of_split("correct", s), split=s, title=f"accuracy, {SPLIT_NAMES[s]}", group=GAPS, digits=1,
        scale=100.0, needs=("margin",), listed=s == "forget", source="2310.12508", ideal=None,
        what="Share of right answers (on pages in points).",
    ) for s in SPLITS
)  # fmt: skip
MARGINS = tuple(
    ModelMetric(
        metric="margin", values=of.of_split("margin", s), split=s, unit="nats", needs=("margin",), listed=s == "forget",
        ideal=None, what="Log-odds of the true label.",
    ) for s in ("forget", "similar")
)  # fmt: skip
_THRESHOLDS = {  # title, source
    "loss": ("loss", "1709.01604"),
    "entropy": ("entropy", "2003.10595"),
    "modified_entropy": ("modified entropy", "2003.10595"),
    "confidence": ("confidence", "2003.10595"),
}
THRESHOLDS = tuple(
    _share(
        "threshold_auc", of.thresholded(of.SCORES[score]), variant=score, title=f"{title} attack, AUC", group=ATTACKS,
        unit="AUC", source=source, ideal=None,
        what=("AUC of one threshold on the loss, targets against test samples" if score == "loss"
              else f"The same, {title}") + ".",
    ) for score, (title, source) in _THRESHOLDS.items()
)  # fmt: skip
EFFICACIES = tuple(
    _share(
        "svc_efficacy", of.efficacy(feature), variant=feature, title=f"SVC efficacy, {feature.replace('_', ' ')}",
        group=ATTACKS, source="2304.04934, 2310.12508", ideal=None,
        what=("Forget efficacy of a support vector classifier fitted on rest and test: share of targets called "
              "non-member" if feature == "correctness" else "The same") + f", by {feature.replace('_', ' ')}.",
    ) for feature in of.SVC_FEATURES
)  # fmt: skip
_WAYS = {  # by what was measured: variant, title, what of the updates, what of the area, source
    "relearning": (
        "on the request", "relearning", "Updates of gradient descent on the request until nine tenths of what the "
        "originals know of it are back (members that never get there count with all updates; not told where most on "
        "both sides do not); fewer = back sooner.",
        "Share of the request known, mean over the updates on it; more = knows it sooner.", "1911.04933, 2201.05629",
    ),
    "benign_relearning": (
        "on similar samples", "benign relearning", "The same with updates on the similar samples only.",
        "The same with updates on the similar samples only.", "this project, after 2201.05629",
    ),
}  # fmt: skip
UPDATES = tuple(
    ModelMetric(
        metric=f"{name}_steps", variant=way, title=f"{title}, updates", group=AGAIN, unit="updates", digits=1,
        needs=("relearning",), what=what, source=source, ideal=None,
        values=of.relearned(name), low=0.0, blind=of.mostly_censored(name),
    ) for name, (way, title, what, _, source) in _WAYS.items()
)  # fmt: skip
AREAS = tuple(
    _share(
        f"{name}_area", of.area(name), variant=way, title=f"{title}, area", group=AGAIN, needs=("relearning",),
        what=what, source="this project", ideal=None,
    ) for name, (way, title, _, what, _) in _WAYS.items()
)  # fmt: skip
NOISY = _share(
    "noisy_recognition", of.noisy_at(MIDDLE), variant=f"radius {MIDDLE}", needs=("noisy",), ideal=None,
    what="Probability of the targets' labels at noisy inputs, at one radius.",
)  # fmt: skip


def _mean_gap(u: np.ndarray, r: np.ndarray) -> np.ndarray:
    return 100.0 * np.abs(u - r).mean(axis=0)


def _product(u: np.ndarray, r: np.ndarray) -> np.ndarray:
    return (1.0 - np.abs(u - r)).prod(axis=0)


def _ratio(u: np.ndarray, r: np.ndarray) -> np.ndarray:
    return u[0] / r[0]


_FORGET, _, _REST, _TEST, _ = ACCURACIES
_MIA = EFFICACIES[of.SVC_FEATURES.index("confidence")]


def _combined(metric: str, variant: str, parts: tuple, function: Callable, **row) -> CompositeMetric:
    needs = tuple(sorted({need for part in parts for need in part.needs}))
    settings = {"split": "", "needs": needs, "ideal": 1.0, "low": 0.0} | row
    return CompositeMetric(metric=metric, variant=variant, parts=parts, function=function, **settings)


MEASURED: tuple[Metric, ...] = (
    _of_margins("klom", klom, variant="closed", title="KLOM", unit="nats", ideal=None, low=0.0, source="2410.23232",
        what="KL divergence of histograms of the margin (20 bins, nats), population against reference, mean over the "
        "targets; variant closed (the last bin holds the maximum)."),
    *(_of_margins("klom", klom, variant="closed", split=s, takes=of.of_split("margin", s), unit="nats", ideal=None,
        low=0.0, source="2410.23232", what="The same on other splits.", listed=False)
      for s in ("similar", "rest", "test")),
    _of_margins("klom", functools.partial(klom, edge="public"), variant="public", unit="nats", ideal=None,
        source="2410.23232", what="The same without the joint maximum, as the released code does.", listed=False),
    _of_margins("gaussian_kl", functools.partial(gaussian_kl, variant="shared"), variant="shared", unit="nats",
        title="Gaussian KL", ideal=None, source="closed form",
        what="KL divergence of fitted normal distributions of the margin; variant shared (a pooled spread)."),
    _of_margins("energy_distance", energy_distance, variant="unbiased", title="energy distance", unit="nats",
        ideal=None, source="Székely and Rizzo 2013",
        what="Energy distance of the margins; unbiased, so that it can be below 0."),
    _of_margins("wasserstein_1", wasserstein_1, title="Wasserstein-1", unit="nats", ideal=None, low=0.0,
        source="closed form", what="Mean distance between the sorted margins, nats."),
    _of_margins("rank_effect", rank_effect, variant="mann_whitney", title="rank effect", unit="probability", ideal=0.5,
        digits=3, sides=2, low=0.0, high=1.0, spread="logit", source="Mann and Whitney 1947",
        what="Chance that a model of the population has a larger margin than one of the reference."),
    _of_margins("forgetting_epsilon", forgetting_epsilon, title="forgetting ε", unit="nats", ideal=None, low=0.0,
        high=50.0, source="2406.09073",
        what="Largest log ratio of error rates over threshold and interval rules that tell population and reference, "
        "target by target; at most 50."),
    _of_margins("forgetting_score", of.points, variant="without accuracies", title="forgetting score", unit="points",
        ideal=None, digits=3, sides=-1, low=0.0, high=1.0, source="2406.09073",
        what="Mean of 2 to the minus bucket of ε, without the accuracies' factors; larger is better."),
    _attack("u_lira_accuracy", lambda u, r: u_lira_cross_fitted(u, r).per_example, variant="cross-fitted",
        title="U-LiRA accuracy", source="2403.01218",
        what="How often a likelihood ratio of Gaussians, fitted on other models, tells an unlearned model from a "
        "reference, target by target."),
    _attack("u_lira_auc", lambda u, r: u_lira_cross_fitted(u, r).per_example_auc, variant="cross-fitted",
        title="U-LiRA AUC", unit="AUC", source="2403.01218", what="Area under the curve of the same scores."),
    _attack("lira_auc", lambda u, r, o: neighbour_exposure(u, o, r).per_example_unlearned, variant="online", sides=2,
        also=("original",), title="LiRA AUC", unit="AUC", source="2112.03570",
        what="AUC of a membership attack whose shadows are the originals (in) and the reference (out), on models of "
        "the population against the reference."),
    _attack("rmia_auc", of.rmia_auc, variant="offline", sides=2, labelled=True, takes=of.true_label_probs,
        needs=("logits",), title="RMIA AUC", unit="AUC", source="2312.03262",
        what="AUC of the share of test samples that a target's likelihood ratio beats; reference models are the out "
        "models."),
    _attack("cmia_accuracy", lambda u, r, labels: cmia(u, r, labels).per_example, variant="cross-fitted",
        labelled=True, takes=_logits, needs=("logits",), classes=3, title="CMIA accuracy", source="2506.20893",
        what="As U-LiRA, from the probabilities of the other classes."),
    *THRESHOLDS,
    _share("loss_attack", of.loss_attack_of, variant="logistic", title="loss attack, accuracy", group=ATTACKS,
        ideal=None, source="2406.09073",
        what="Held-out accuracy of a logistic regression on the loss, targets against test samples."),
    _share("entropy_attack", of.entropy_attack_of, variant="logistic", title="entropy attack, share", group=ATTACKS,
        ideal=None, source="2308.07707, 2205.08096",
        what="Share of the targets that a logistic regression on the entropy, fitted on rest and test, calls members."),
    *EFFICACIES,
    _between_outputs("js_divergence", js_divergence, title="JS divergence", unit="bits", source="Lin 1991",
        what="Between the predictions of population and reference, beyond that between two reference models; bits."),
    _between_outputs("kl_to_reference", kl_to_reference, title="KL to reference", unit="nats", source="many papers",
        what="The same with the KL divergence, nats."),
    _between_outputs("activation_distance", activation_distance, title="activation distance", unit="probability",
        source="2003.02960, 2205.08096", what="The same with the Euclidean distance of probabilities."),
    _between_outputs("completeness", completeness, title="completeness", unit="share", sides=-1, low=-1.0, high=1.0,
        source="Cao and Yang 2015",
        what="Share of equal predictions, less the share between two reference models."),
    _share("zrf", of.zrf_of, variant="all", title="ZRF", group=OUTPUTS, needs=("logits", "untrained"), ideal=None,
        source="2205.08096", what="One minus the JS divergence to untrained models; rewards randomness."),
    *ACCURACIES, *MARGINS,
    _combined("average_gap", "means", (_FORGET, _REST, _TEST, _MIA), _mean_gap, title="average gap", group=GAPS,
        digits=2, unit="points", ideal=0.0, high=100.0, sides=1, source="2310.12508",
        what="Mean of the absolute gaps of the accuracies on targets, rest and test and of the SVC efficacy by "
        "confidence, points."),
    _combined("tow", "means", (_FORGET, _REST, _TEST), _product, title="ToW", group=GAPS, unit="share", high=1.0,
        sides=-1, source="2406.01257",
        what="Product of one minus the absolute accuracy gaps on targets, rest and test."),
    _combined("tow_mia", "means", (_MIA, _REST, _TEST), _product, title="ToW-MIA", group=GAPS, unit="share", high=1.0,
        sides=-1, source="2406.01257",
        what="The same with the SVC efficacy by confidence in place of the targets' accuracy."),
    *UPDATES, *AREAS,
    _combined("relearning_ratio", "AIN", UPDATES[:1], _ratio, split="forget", unit="ratio", source="2201.05629",
        what="Updates until the request is known again, over the reference's (the anamnesis index)."),
    _combined("relearning_ratio", "benign", UPDATES[1:], _ratio, split="forget", unit="ratio", source="2201.05629",
        what="The same with updates on the similar samples only."),
    _combined("residual_knowledge", "gaussian", (NOISY,), _ratio, split="forget", title="residual knowledge",
        group=AGAIN, digits=2, unit="ratio", source="2601.22359",
        what="Probability of the targets' labels at noisy inputs, over the reference's, at one radius."),
    MatchedMetric(metric="linear_cka", variant="debiased", split=SEVERAL, title="linear CKA", group=FEATURES,
        unit="share", ideal=None, needs=("features",), source="1905.00414, 2010.15327",
        what="Likeness of features, model beside model; debiased.",
        likeness=lambda x, y: linear_cka(x, y, debiased=True), fewest=4),
    MatchedMetric(metric="knn_overlap", variant=f"k={NEIGHBOURS}", split=SEVERAL, title="kNN overlap", group=FEATURES,
        unit="share", ideal=None, needs=("features",), source="2405.07987",
        what=f"Share of the {NEIGHBOURS} nearest neighbours that two feature spaces have in common.",
        likeness=lambda x, y: knn_overlap(x, y, NEIGHBOURS).mean(axis=-1), fewest=NEIGHBOURS + 1),
    _share("linear_probe", of.probed, variant="logistic", title="linear probe", group=FEATURES,
        needs=("logits", "features"), ideal=None, source="1610.01644",
        what="Accuracy on the targets of a logistic regression on the features, fitted on the rest."),
    _attack("neighbour_exposure", lambda u, r, o: neighbour_exposure(u, o, r).per_example, variant="online",
        split="similar", takes=of.of_split("margin", "similar"), sides=2, low=-1.0, high=1.0, spread="plain",
        also=("original",), references=("oracle",), ideal=0.0, banded=False, title="neighbours exposed", group=SIMILAR,
        unit="AUC", source="2403.01218, 2112.03570",
        what="AUC of LiRA on the similar samples that stay, minus that before unlearning; above 0 = forgetting the "
        "targets exposes them, below 0 = hides them; ranked by its size."),
)  # fmt: skip

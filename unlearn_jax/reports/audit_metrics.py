"""The metrics that the page of an audit shows: names, groups, digits, and one line on each."""

from __future__ import annotations

from typing import NamedTuple


class Metric(NamedTuple):
    """One metric in one variant."""

    metric: str
    variant: str
    split: str | None  # None = whichever the audit has
    name: str
    group: str
    digits: int
    ideal: str
    what: str
    source: str = ""  # arXiv number, or a name
    scale: float = 1.0  # the page shows value * scale
    line: bool = True  # has a definition of its own


RESIDUAL, POPULATIONS, ATTACKS, OUTPUTS = "Residual influence", "Populations of margins", "Attacks", "Outputs"
GAPS, AGAIN, FEATURES, NEIGHBOURS = "Gaps", "Relearning and perturbed inputs", "Features", "Similar samples"
ALIKE = "what two alike populations show (the null band)"
_ATTACK = "Minus the reference's."
_SVC = "Forget efficacy of a support vector classifier fitted on rest and test: share of targets called non-member"
SPLITS = {"forget": "targets", "similar": "similar", "rest": "rest", "test": "test", "test_similar": "test similar"}


def _svc(feature: str) -> Metric:
    """The support vector attack on a feature."""
    name = f"SVC efficacy gap, {feature.replace('_', ' ')}"
    lead = _SVC if feature == "correctness" else "The same"
    what = f"{lead}, by {feature.replace('_', ' ')}. {_ATTACK}"
    return Metric("svc_efficacy_gap", feature, "forget", name, ATTACKS, 3, "0", what, "2304.04934, 2310.12508")


def _threshold(score: str, name: str, source: str) -> Metric:
    """The threshold attack on a score."""
    lead = "AUC of one threshold on the loss, targets against test samples" if score == "loss" else f"The same, {name}"
    what = f"{lead}. {_ATTACK}"
    return Metric("threshold_auc_gap", score, "forget", f"{name} attack, AUC gap", ATTACKS, 3, "0", what, source)


def _gap(split: str) -> Metric:
    """The accuracy gap on a split."""
    what = "Accuracy minus the reference's, signed, in points; of each split."
    name = f"accuracy gap, {SPLITS[split]}"
    return Metric("accuracy_gap", "", split, name, GAPS, 1, "0", what, "2310.12508", 100.0, line=split == "forget")


MAIN = (
    Metric("residual_influence", "", "forget", "residual influence", RESIDUAL, 3, "0",
           "(margin − oracle's) / (original's − oracle's), a ratio of means over the targets; 1 = untouched.",
           "this project"),
    Metric("residual_distance", "", "forget", "residual distance", RESIDUAL, 3, "0",
           "Root of the mean squared difference to the oracle's margins, target by target, over the original's. "
           "It has no null band; its interval tells.", "this project"),
    Metric("klom", "closed", "forget", "KLOM", POPULATIONS, 2, ALIKE,
           "KL divergence of histograms of the margin (20 bins, nats), population against reference, mean over the "
           "targets; variant closed (the last bin holds the maximum).", "2410.23232"),
    Metric("gaussian_kl", "shared", "forget", "Gaussian KL", POPULATIONS, 2, ALIKE,
           "KL divergence of fitted normal distributions of the margin; variant shared (a pooled spread).",
           "closed form"),
    Metric("energy_distance", "unbiased", "forget", "energy distance", POPULATIONS, 2, ALIKE,
           "Energy distance of the margins; unbiased, so that it can be below 0.", "Székely and Rizzo 2013"),
    Metric("wasserstein_1", "", "forget", "Wasserstein-1", POPULATIONS, 2, ALIKE,
           "Mean distance between the sorted margins, nats.", "closed form"),
    Metric("rank_effect", "mann_whitney", "forget", "rank effect", POPULATIONS, 3, "0.5",
           "Chance that a model of the population has a larger margin than one of the reference.",
           "Mann and Whitney 1947"),
    Metric("forgetting_epsilon", "", "forget", "forgetting ε", POPULATIONS, 2, ALIKE,
           "Largest log ratio of error rates over threshold rules that tell population and reference, target by "
           "target; at most 50.", "2406.09073"),
    Metric("forgetting_score", "without accuracies", "forget", "forgetting score", POPULATIONS, 3, ALIKE,
           "Mean of 2 to the minus bucket of ε, without the accuracies' factors; larger is better.", "2406.09073"),
    Metric("u_lira_accuracy", "cross-fitted", "forget", "U-LiRA accuracy", ATTACKS, 3, "0.5",
           "How often a likelihood ratio of Gaussians, fitted on other models, tells an unlearned model from a "
           "reference, target by target.", "2403.01218"),
    Metric("u_lira_auc", "cross-fitted", "forget", "U-LiRA AUC", ATTACKS, 3, "0.5",
           "Area under the curve of the same scores.", "2403.01218"),
    Metric("lira_auc", "online", "forget", "LiRA AUC", ATTACKS, 3, "0.5",
           "AUC of a membership attack whose shadows are the originals (in) and the reference (out), on models of "
           "the population against the reference.", "2112.03570"),
    Metric("rmia_auc", "offline", "forget", "RMIA AUC", ATTACKS, 3, "0.5",
           "AUC of the share of test samples that a target's likelihood ratio beats; reference models are the out "
           "models.", "2312.03262"),
    Metric("cmia_accuracy", "cross-fitted", "forget", "CMIA accuracy", ATTACKS, 3, "0.5",
           "As U-LiRA, from the probabilities of the other classes.", "2506.20893"),
    _threshold("loss", "loss", "1709.01604"),
    _threshold("entropy", "entropy", "2003.10595"),
    _threshold("modified_entropy", "modified entropy", "2003.10595"),
    _threshold("confidence", "confidence", "2003.10595"),
    Metric("loss_attack_gap", "logistic", "forget", "loss attack, accuracy gap", ATTACKS, 3, "0",
           f"Held-out accuracy of a logistic regression on the loss, targets against test samples. {_ATTACK}",
           "2406.09073"),
    Metric("entropy_attack_gap", "logistic", "forget", "entropy attack, share gap", ATTACKS, 3, "0",
           "Share of the targets that a logistic regression on the entropy, fitted on rest and test, calls members. "
           f"{_ATTACK}", "2308.07707, 2205.08096"),
    *(_svc(feature) for feature in ("correctness", "confidence", "entropy", "modified_entropy", "probabilities")),
    Metric("js_divergence", "excess", "forget", "JS divergence", OUTPUTS, 3, "0",
           "Between the predictions of population and reference, beyond that between two reference models; bits.",
           "Lin 1991"),
    Metric("kl_to_reference", "excess", "forget", "KL to reference", OUTPUTS, 3, "0",
           "The same with the KL divergence, nats.", "many papers"),
    Metric("activation_distance", "excess", "forget", "activation distance", OUTPUTS, 3, "0",
           "The same with the Euclidean distance of probabilities.", "2003.02960, 2205.08096"),
    Metric("completeness", "excess", "forget", "completeness", OUTPUTS, 3, "0",
           "Share of equal predictions, less the share between two reference models.", "Cao and Yang 2015"),
    Metric("zrf_gap", "all", "forget", "ZRF gap", OUTPUTS, 3, "0",
           "One minus the JS divergence to untrained models; rewards randomness. Minus the reference's.", "2205.08096"),
    *(_gap(split) for split in SPLITS),
    Metric("average_gap", "means", "", "average gap", GAPS, 2, "0",
           "Mean of the absolute gaps of the accuracies on targets, rest and test and of the SVC efficacy by "
           "confidence, points.", "2310.12508"),
    Metric("tow", "means", "", "ToW", GAPS, 3, "1",
           "Product of one minus the absolute accuracy gaps on targets, rest and test.", "2406.01257"),
    Metric("tow_mia", "means", "", "ToW-MIA", GAPS, 3, "1",
           "The same with the SVC efficacy by confidence in place of the targets' accuracy.", "2406.01257"),
    Metric("relearning_steps_gap", "on the request", "forget", "relearning, updates gap", AGAIN, 1, "0",
           "Updates of gradient descent on the request until nine tenths of what the originals know of it are back "
           "(members that never get there count with all updates; not told where most on both sides do not). Minus the "
           "reference's; negative = back sooner.", "1911.04933, 2201.05629"),
    Metric("benign_relearning_steps_gap", "on similar samples", "forget", "benign relearning, updates gap", AGAIN, 1,
           "0",
           "The same with updates on the similar samples only.", "this project, after 2201.05629"),
    Metric("relearning_area_gap", "on the request", "forget", "relearning, area gap", AGAIN, 3, "0",
           "Share of the request known, mean over the updates on it. Minus the reference's; above 0 = knows it sooner.",
           "this project"),
    Metric("benign_relearning_area_gap", "on similar samples", "forget", "benign relearning, area gap", AGAIN, 3, "0",
           "The same with updates on the similar samples only.", "this project"),
    Metric("residual_knowledge", "gaussian", "forget", "residual knowledge", AGAIN, 2, "1",
           "Probability of the targets' labels at noisy inputs, over the reference's, at one radius.", "2601.22359"),
    Metric("linear_cka", "debiased", None, "linear CKA", FEATURES, 3, ALIKE,
           "Likeness of features, model beside model; debiased.", "1905.00414, 2010.15327"),
    Metric("knn_overlap", "k=10", None, "kNN overlap", FEATURES, 3, ALIKE,
           "Share of the 10 nearest neighbours that two feature spaces have in common.", "2405.07987"),
    Metric("linear_probe_gap", "logistic", "forget", "linear probe gap", FEATURES, 3, "0",
           "Accuracy on the targets of a logistic regression on the features, fitted on the rest. Minus the "
           "reference's.", "1610.01644"),
    Metric("neighbour_exposure", "online", "similar", "neighbours exposed", NEIGHBOURS, 3, "0",
           "AUC of LiRA on the similar samples that stay, minus that before unlearning; above 0 = forgetting the "
           "targets exposes them, below 0 = hides them; ranked by its size.", "2403.01218, 2112.03570"),
)  # fmt: skip


TARGETED = tuple(m for m in MAIN if m.split in ("forget", "") and m.group != RESIDUAL)  # what is known of the targets


def named(key) -> Metric:
    """A metric of audit.csv that is not among the main ones."""
    metric, variant, split, _ = key
    told = ", ".join(part.replace("_", " ") for part in (metric, variant, split) if part)
    return Metric(metric, variant, split, told, "", 3, "", "")

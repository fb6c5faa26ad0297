"""Aggregates of a log from its values by question, as open-unlearning defines them.

A rule reads arrays (..., n) of n questions, so that it serves the log as it is and thousands of resamples of it alike.
Where the values of a derived metric are missing they are made from those that it is derived from.

Source: open-unlearning (arXiv 2506.12618), TOFU (2401.06121), MUSE (2407.06460).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from unlearn_jax.metrics.roc import auc
from unlearn_jax.metrics.tofu import forget_quality
from unlearn_jax.released.logs import SIDES, Log, Scores

TINY = 1e-10  # which open-unlearning adds to what it divides by
NO_REFERENCE = 0.5  # AUC of a retrained model that open-unlearning assumes where it has no log of one
UTILITY = (
    "retain_Q_A_Prob", "retain_Q_A_ROUGE", "retain_Truth_Ratio", "ra_Q_A_Prob_normalised", "ra_Q_A_ROUGE",
    "ra_Truth_Ratio", "wf_Q_A_Prob_normalised", "wf_Q_A_ROUGE", "wf_Truth_Ratio",
)  # fmt: skip
ROUGES = ("rougeL_recall", "rougeL_f1", "rouge1_recall")
REFERRED = ("forget_quality", "privleak")  # which compare with a log of a retrained model
Look = Callable[[Scores, str], np.ndarray]  # (scores, field) -> (..., n) or (..., n, K)


class Lost(Exception):
    """A metric that cannot be made from what the log has; the words say what is missing."""


def as_it_is(scores: Scores, field: str) -> np.ndarray:
    """The values as the log has them."""
    return scores.fields[field]


def recomputed(log: Log, name: str, look: Look = as_it_is, reference: Log | None = None, variant: str = ""):
    """An aggregate from values by question.

    Args:
        log: of the model.
        name: of the metric, as in the log.
        look: reads a field of its values; may add leading axes.
        reference: log of a retrained model, for the metrics of `REFERRED`; `privleak` goes without by `NO_REFERENCE`.
        variant: one of `variants`; "" = that of open-unlearning's configuration.

    Returns:
        (...), or NaN where a question that is needed has no value.

    Raises:
        Lost: the log has not what it takes.
    """
    return _rule(name)(log, name, look, reference, variant)


def variants(name: str) -> tuple[str, ...]:
    """Other aggregates that are published under a metric's name."""
    if name.endswith("_ROUGE"):
        return tuple(one for one in ROUGES if one != _rouge_type(name))
    if is_truth_ratio(name):
        return ("prob_mean",)  # of right / (right + wrong), since December 2025
    return ()


def is_truth_ratio(name: str) -> bool:
    """Whether a metric is a truth ratio."""
    return name.lower().endswith("truth_ratio")


def _rule(name: str) -> Callable:
    """The rule of a metric."""
    if name in SPECIAL:
        return SPECIAL[name]
    if name.startswith("mia_"):
        return _attack
    if is_truth_ratio(name):
        return _truth_ratio
    for ending, rule in (("_Prob_normalised", _normalised), ("_Prob", _mean_of("prob")), ("_ROUGE", _rouge)):
        if name.endswith(ending):
            return rule
    return _mean_of("score")


def scores_of(log: Log, name: str, field: str) -> Scores:
    """A metric's values by question.

    Raises:
        Lost: the log has no such metric, or no such values of it.
    """
    found = log.entries.get(name)
    if found is None:
        raise Lost(f"{name} is missing")
    if found.scores is None or field not in found.scores.fields:
        raise Lost(f"{name} has no {field} by question")
    return found.scores


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is there; NaN of nothing."""
    there = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(there, values, 0.0).sum(axis=-1) / there.sum(axis=-1)


def _mean_of(field: str) -> Callable:
    """The rule that averages a field."""

    def rule(log: Log, name: str, look: Look, reference: Log | None, variant: str):
        scores = scores_of(log, name, field)
        return _mean(by_question(scores, field, look))

    return rule


def by_question(scores: Scores, field: str, look: Look) -> np.ndarray:
    """A field, (..., n), with several answers of a question averaged."""
    values = look(scores, field)
    return _mean(values) if scores.fields[field].ndim == 2 else values


def _rouge_type(name: str) -> str:
    """Which ROUGE is averaged: recall in TOFU, F1 in MUSE."""
    return "rougeL_recall" if "_Q_A_" in name else "rougeL_f1"


def _rouge(log: Log, name: str, look: Look, reference: Log | None, variant: str):
    """Mean ROUGE."""
    return _mean_of(variant or _rouge_type(name))(log, name, look, reference, variant)


def _normalised(log: Log, name: str, look: Look, reference: Log | None, variant: str):
    """Mean probability of the right answer among right and wrong ones."""
    found = log.entries.get(name)
    if found is not None and found.scores is not None and "prob" in found.scores.fields:
        return _mean(look(found.scores, "prob"))
    split = name.removesuffix("_Prob_normalised")
    right, wrong = (scores_of(log, f"{split}{part}_Prob", "prob") for part in ("", "_PERT"))
    true, false = look(right, "prob"), look(wrong, "prob")
    total = true + (false.sum(axis=-1) if wrong.fields["prob"].ndim == 2 else false)
    return _mean(true / (total + (TINY if log.kind == "eval" else 0.0)))


def _aggregator(name: str) -> str:
    """How truth ratios are averaged: of what is to be forgotten alike is best, elsewhere right is."""
    return "closer_to_1_better" if name.startswith("forget") else "true_better"


def truth_ratios(log: Log, name: str, look: Look) -> np.ndarray:
    """Truth ratios by question, (..., n): of the log, or from the losses of right and wrong answers."""
    found = log.entries.get(name)
    if found is not None and found.scores is not None and "score" in found.scores.fields:
        return look(found.scores, "score")
    split = name[: -len("_truth_ratio")]
    right = f"{split}_Q_A{'_PARA' if split in ('forget', 'retain') else ''}_Prob"
    true, false = (scores_of(log, one, "avg_loss") for one in (right, f"{split}_Q_A_PERT_Prob"))
    right_loss, wrong_loss = (by_question(scores, "avg_loss", look) for scores in (true, false))
    return np.exp(-wrong_loss) / (np.exp(-right_loss) + (TINY if log.kind == "eval" else 0.0))


def _truth_ratio(log: Log, name: str, look: Look, reference: Log | None, variant: str):
    """Mean of truth ratios as the aggregator has them."""
    ratio, how = truth_ratios(log, name, look), variant or _aggregator(name)
    if how == "prob_mean":
        return _mean(ratio)
    return _mean(np.minimum(ratio, 1 / (ratio + TINY)) if how == "closer_to_1_better" else np.maximum(0.0, 1 - ratio))


def forget_ratios(log: Log, look: Look = as_it_is) -> np.ndarray:
    """The truth ratios of what is to be forgotten, under either of its names."""
    name = next((one for one in log.entries if one.lower() == "forget_truth_ratio"), "forget_truth_ratio")
    return truth_ratios(log, name, look)


def _forget_quality(log: Log, name: str, look: Look, reference: Log | None, variant: str):
    """The p-value of the Kolmogorov-Smirnov test between truth ratios; one sample, not resamples."""
    if reference is None:
        raise Lost("it needs --retain")
    pair = [ratios[~np.isnan(ratios)] for ratios in (forget_ratios(log, look), forget_ratios(reference, look))]
    return forget_quality(*pair).p_value


def _attack(log: Log, name: str, look: Look, reference: Log | None, variant: str):
    """AUC of telling what is to be forgotten (lower scores) from held-out texts."""
    return attack_auc(*attack_scores(log, name, look))


def attack_scores(log: Log, name: str, look: Look = as_it_is) -> tuple[np.ndarray, np.ndarray]:
    """Scores of an attack on what is to be forgotten and on held-out texts, (..., n) and (..., m)."""
    found = log.entries.get(name)
    if found is not None and all("score" in found.sides[s].fields for s in SIDES if s in found.sides) and found.sides:
        return look(found.sides["forget"], "score"), look(found.sides["holdout"], "score")
    if name == "mia_min_k" and "forget_minKpc_neg_logprob" in log.entries:  # logs before April 2025
        pair = [scores_of(log, f"{side}_minKpc_neg_logprob", "score") for side in SIDES]
        return look(pair[0], "score"), look(pair[1], "score")
    raise Lost(f"{name} is missing" if found is None else f"{name} has no score by text")


def attack_auc(forget: np.ndarray, holdout: np.ndarray) -> np.ndarray:
    """P(a held-out text scores higher), (...)."""
    lead = forget.shape[:-1]
    pairs = zip(forget.reshape(-1, forget.shape[-1]), holdout.reshape(-1, holdout.shape[-1]))
    values = [auc(h[~np.isnan(h)], f[~np.isnan(f)]) for f, h in pairs]
    return np.asarray(values).reshape(lead)[()]


def _privleak(log: Log, name: str, look: Look, reference: Log | None, variant: str):
    """Relative difference of the Min-K attack's AUC from a retrained model's, in percent."""
    mine = 1 - _attack(log, "mia_min_k", look, None, "")
    theirs = 1 - (NO_REFERENCE if reference is None else _reference_auc(reference, look))
    return (mine - theirs) / (theirs + TINY) * 100


def _reference_auc(log: Log, look: Look):
    """AUC of the Min-K attack on a retrained model; as it is stated where there are no scores."""
    stated = log.entries["mia_min_k"].stated if "mia_min_k" in log.entries else None
    try:
        return _attack(log, "mia_min_k", look, None, "")
    except Lost:
        if stated is None:
            raise
        return stated


def _utility(log: Log, name: str, look: Look, reference: Log | None, variant: str):
    """Harmonic mean of TOFU's nine components."""
    parts = np.stack([np.asarray(recomputed(log, one, look)) for one in UTILITY])
    with np.errstate(divide="ignore"):
        return len(UTILITY) / (1 / parts).sum(axis=0)


SPECIAL = {"forget_quality": _forget_quality, "privleak": _privleak, "model_utility": _utility}

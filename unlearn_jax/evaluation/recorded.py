"""Rows of the metric table for what runs record of themselves: what a study is about, prices, costs, answers in words.

`scoring`, `frontier`, `language`, `sweeps.figures` and `measured` write these figures; here is what they mean.
"""

from __future__ import annotations

from typing import Any

from unlearn_jax.evaluation.metric import SEVERAL, RecordedMetric

RESIDUAL, PRICES, COSTS, WORDS = "Residual influence", "Prices", "Costs", "Answers in words"
CHOICE, SEARCHED, SETTING = "What a practitioner can see", "What was searched for", "What the study is like"
OF_EVERY_STUDY = ("accuracy", "margin")  # figures of single models that every study records
_ORACLE, _BOTH, _ALL = ("oracle",), ("oracle", "retrain"), ("oracle", "retrain", "original")


def _row(group: str, metric: str, unit: str, what: str, **more: Any) -> RecordedMetric:
    """One row, of margins and right answers unless it says otherwise."""
    row = {"needs": ("margin",), "source": "this project"} | more
    return RecordedMetric(metric=metric, group=group, unit=unit, what=what, **row)


def _of_models(group: str, metric: str, unit: str, what: str, **more: Any) -> RecordedMetric:
    """One row of whole models, with no ideal."""
    return _row(group, metric, unit, what, **({"split": "", "ideal": None, "needs": ()} | more))


def _of_words(metric: str, unit: str, what: str, source: str, **more: Any) -> RecordedMetric:
    return _row(WORDS, metric, unit, what, **({"needs": ("answers",), "source": source, "ideal": None} | more))


RECORDED: tuple[RecordedMetric, ...] = (
    _row(RESIDUAL, "residual_influence", "share", references=_ORACLE, title="residual influence",
         what="(margin − oracle's) / (original's − oracle's), a ratio of means over the targets; 1 = untouched."),
    _row(RESIDUAL, "residual_distance", "share", references=_ORACLE, title="residual distance",
         what="Root of the mean squared difference to the oracle's margins, target by target, over the original's. It "
         "has no null band; its interval tells."),
    _row(RESIDUAL, "relative_p", "p-value", "Whether the population is nearer to the reference than the original is, "
         "by a tenth of the way at least: an anytime-valid p-value of the targets' margins, small where it is "
         "(docs/relative.md).", ideal=None, references=_BOTH),
    _row(RESIDUAL, "distance_rank", "rank", "Rank by residual distance among methods of practice.", ideal=1.0,
         references=_ORACLE),
    _row(RESIDUAL, "residual_vs_retrain", "share", "Residual influence with retraining in place of the oracle.",
         references=("retrain",)),
    _row(RESIDUAL, "residual_difference", "share", "Residual influence minus retraining's own.", ideal=None,
         references=("retrain",)),
    _row(RESIDUAL, "distance_difference", "share", "Residual distance minus retraining's own.", ideal=None,
         references=("retrain",)),
    _row(RESIDUAL, "influence_span", "nats", "How far the original's margins are above a reference's.", ideal=None,
         references=_BOTH),
    _row(RESIDUAL, "null_band", "nats", "How far the mean margins of two populations like the reference lie apart, "
         "at most in 95% of cases.",
         ideal=None, references=_BOTH),
    _row(RESIDUAL, "null_band_ratio", "share", "The same, as a share of the span.", ideal=None, references=_BOTH),
    _row(RESIDUAL, "identifiable", "yes or no", "Whether the span, lower end of its interval, is at least three bands "
         "and a request has 8 members, so that ratios to the span mean something.", ideal=None, references=_BOTH),
    _row(PRICES, "price_accuracy", "points", "Accuracy of the reference minus the population's.", split=SEVERAL,
         references=_ALL),
    _row(PRICES, "price_margin", "nats", "The same of margins.", split=SEVERAL, references=_ALL),
    _row(PRICES, "largest_price", "points", "The larger of the prices on rest and on test.", split="",
         references=_ORACLE),
    _row(PRICES, "passes_gate", "yes or no", "Whether accuracy on rest is at least 95% of the oracle's; else no rank.",
         split="", ideal=1.0, references=_ORACLE),
    _row(PRICES, "on_frontier", "yes or no", "Whether no other method of practice that passes the gate is better in "
         "distance or largest price and no worse in the other.", split="", ideal=1.0, references=_ORACLE),
    _row(PRICES, "frontier_share", "share", "In how many of the draws it is.", split="", ideal=1.0, references=_ORACLE),
    _of_models(COSTS, "cost_share", "share", "Gradient evaluations over those of one training from scratch (in an "
         "audit: of retraining).",
               ideal=0.0),
    _of_models(COSTS, "goal_cost", "yes or no", "Whether that is at most a tenth.", ideal=1.0, references=_ORACLE),
    _of_models(PRICES, "goal_rest", "yes or no", "Whether the price on rest is below .3 points.", ideal=1.0,
               needs=("margin",), references=_ORACLE),
    _of_models(PRICES, "goal_test", "yes or no", "Whether the price on test is below .3 points.", ideal=1.0,
               needs=("margin",), references=_ORACLE),
    _of_models(RESIDUAL, "goal_distance", "yes or no", "Whether the distance, upper end of its interval, is at most a "
               "fifth of retraining's.", ideal=1.0, needs=("margin",), references=_ORACLE),
    _of_models(RESIDUAL, "meets_goal", "yes or no", "Whether all four are so; where the oracle is identifiable.",
         ideal=1.0, needs=("margin",), references=_ORACLE),
    _of_models(COSTS, "grad_evals_forget", "gradient evaluations", "Of one model on requested examples; a forward pass "
               "is a third."),
    _of_models(COSTS, "grad_evals_retain", "gradient evaluations", "Of one model on retained examples."),
    _of_models(COSTS, "seconds", "seconds", "Of one model; whole programs on this machine, compiling left out."),
    _of_models(COSTS, "n_diverged", "models", "Members that have diverged, which no other figure counts.", ideal=0.0),
    _of_models(COSTS, "cost_forget", "gradient evaluations", "As grad_evals_forget, in an audit."),
    _of_models(COSTS, "cost_retain", "gradient evaluations", "As grad_evals_retain, in an audit."),
    _of_models(COSTS, "cost_total", "gradient evaluations", "Both together."),
    _of_models(COSTS, "cost_rte", "ratio", "Seconds of retraining over those of the method; above 1 = faster.",
               source="many papers"),
    _row(CHOICE, "heldout_margin_error", "nats", "How far margins of validation examples are from the original's.",
         split="validation", title="held-out margin error, nats"),
    _row(CHOICE, "heldout_accuracy_drop", "points", "Accuracy lost on validation examples against the original.",
         split="validation", title="held-out accuracy lost, points"),
    _row(CHOICE, "retained_accuracy_drop", "points", "Accuracy lost on retained samples, similar ones among them.",
         split="rest", title="retained accuracy lost, points"),
    _row(CHOICE, "request_margin_gap", "nats", "How much surer of the request a model is than held-out examples "
         "suggest.", title="request surer than expected, nats"),
    _row(CHOICE, "attack_auc", "AUC", "How often a target's margin is above a held-out one's.", ideal=0.5,
         title="attack AUC", source="1709.01604"),
    _row(CHOICE, "attack_advantage", "AUC", "How far that is from one half.", source="1709.01604"),
    _row(SEARCHED, "found_precision", "share", "Similar samples among what a remedy's search found.", split="similar",
         ideal=1.0, needs=()),
    _row(SEARCHED, "found_recall", "share", "What it found of the similar samples.", split="similar", ideal=1.0,
         needs=()),
    _row(SEARCHED, "found_rows", "samples", "How many it found.", split="similar", ideal=None, needs=()),
    _row(SEARCHED, "dedup_precision", "share", "Samples in the detector's groups whose group is one cluster.",
         split="similar", ideal=1.0, needs=()),
    _row(SEARCHED, "dedup_recall", "share", "Similar samples, of clusters that keep two or more, found to have a "
         "near duplicate there.",
         split="similar", ideal=1.0, needs=()),
    _of_words("answer_probability", "probability", "Of the right answer, per token (geometric mean).", "2401.06121",
              split=SEVERAL),
    _of_words("rouge_l", "share", "ROUGE-L recall of the greedy answer.", "2401.06121", split=SEVERAL),
    _of_words("exact_memorisation", "share", "Tokens of the answer that are the likeliest ones.", "2205.10770"),
    _of_words("extraction_strength", "share", "One minus the shortest part of the answer after which all the rest "
         "is right.",
              "2406.09179, 2012.07805"),
    _of_words("truth_ratio_forget", "share", "Truth ratio R, wrong answers over a right one in new words, as min(R, "
         "1/R); "
              "1 = no preference.", "2401.06121", split="test_similar", ideal=1.0),
    _of_words("truth_ratio_retain", "share", "The same as max(0, 1 - R).", "2401.06121", split="test"),
    _of_words("log_truth_ratio", "nats", "log R, mean over wrong answers of probabilities, as the paper has it.",
              "2401.06121", split=SEVERAL),
    _of_words("log_truth_ratio_public", "nats", "log R, mean over wrong answers of log-probabilities, as released "
         "code has it.", "2401.06121", split=SEVERAL),
    _of_words("model_utility", "share", "Harmonic mean of probability, ROUGE-L and truth ratio on rest and test.",
              "2401.06121", split="rest"),
    _of_words("forget_quality_distance", "share", "Kolmogorov-Smirnov distance of log truth ratios from a reference's.",
              "2401.06121", split="test_similar", references=_BOTH, ideal=None),
    _of_words("forget_quality", "p-value", "Its p-value, of models paired by number.", "2401.06121",
              split="test_similar", references=_BOTH, ideal=None),
    *(_of_words(f"auc_{score}", "AUC", f"Targets against test statements by {name}.", source)
      for score, name, source in (("loss", "loss", "1709.01604"), ("min_k", "min-k%", "2310.16789"),
                                  ("min_k_plus_plus", "min-k%++", "2404.02936"), ("zlib", "loss over zlib entropy",
                                  "2012.07805"))),
    _of_words("privleak", "per cent", "One minus the AUC of min-k%, over a reference's, less one; below 0 = still "
         "leaks.",
         "2407.06460", references=_BOTH,
              ideal=0.0),
    _row(SETTING, "carried_by_similar", "share", "What clusters say of their targets by influence: the share that the "
         "similar samples say.", ideal=None, needs=("gradients",)),
    *(_row(SETTING, f"similarity_{kind}", unit, f"Of similar samples and their targets: {what}.", split="similar",
           ideal=None, needs=())
      for kind, unit, what in (
          ("pixel", "cosine", "cosine of pixels"), ("embedding", "cosine", "cosine of the originals' features"),
          ("edit", "share", "edit distance, the share of words and marks to change; 0 = identical"),
          ("tfidf", "cosine", "cosine of TF-IDF weights of words"), ("words", "cosine", "cosine of counts of words"),
          ("minilm", "cosine", "cosine of MiniLM embeddings"))),
    _of_models(SETTING, "gradient_coupling", "cosine", "Gradients on the targets and on another split.", split=SEVERAL,
               needs=("gradients",), source="2605.05871"),
    _of_models(SETTING, "entanglement", "ratio", "Spread of features within targets and another split over what "
         "lies between; higher = harder.",
               split=SEVERAL, needs=("features",), source="2406.01257"),
    _of_models(SETTING, "mmd", "squared distance", "Maximum mean discrepancy of the same features, Gaussian "
         "kernel.", split=SEVERAL,
               needs=("features",), source="Gretton and others 2012"),
    _of_models(SETTING, "weight_distance", "relative", "Euclidean distance of a layer's weights from the original's or "
               "the retrained model's.", needs=("weights",), source="1911.04933, 2111.08947"),
)  # fmt: skip

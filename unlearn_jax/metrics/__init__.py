"""Metrics on plain arrays: residual influence, price, answers of language models, intervals; NumPy only."""

from unlearn_jax.metrics.language import answer_probability, candidate_margin, sequence_margin
from unlearn_jax.metrics.memorization_text import (
    exact_memorisation,
    extraction_strength,
    membership_auc,
    min_k,
    min_k_plus_plus,
    privleak,
    rouge_l_recall,
    zlib_score,
)
from unlearn_jax.metrics.residual import (
    Identifiability,
    distance_draws,
    identifiability,
    influence_span,
    null_band,
    residual_distance,
    residual_influence,
)
from unlearn_jax.metrics.summary import Draws, Estimate, Values, combine, mean_draws, mean_estimate, ranks
from unlearn_jax.metrics.tofu import (
    forget_quality,
    forget_quality_interval,
    model_utility,
    truth_ratio,
    truth_ratio_aggregate,
    truth_ratio_scores,
)
from unlearn_jax.metrics.utility import price

__all__ = [
    "Draws",
    "Estimate",
    "Identifiability",
    "Values",
    "answer_probability",
    "candidate_margin",
    "combine",
    "distance_draws",
    "exact_memorisation",
    "extraction_strength",
    "forget_quality",
    "forget_quality_interval",
    "identifiability",
    "influence_span",
    "mean_draws",
    "mean_estimate",
    "membership_auc",
    "min_k",
    "min_k_plus_plus",
    "model_utility",
    "null_band",
    "price",
    "privleak",
    "ranks",
    "residual_distance",
    "residual_influence",
    "rouge_l_recall",
    "sequence_margin",
    "truth_ratio",
    "truth_ratio_aggregate",
    "truth_ratio_scores",
    "zlib_score",
]

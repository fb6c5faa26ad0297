"""Metrics on plain arrays (members x examples, or logits), each with intervals and null bands; no model, no device.

Margins, the log-odds of the true label, come from logits by `margin`. Per-example functions return arrays, others named
tuples or numbers. Intervals: `subset_draws` with `t_estimate` for figures of whole populations, `mean_draws` with
`combine` for means over members and examples, `bootstrap_interval` for others. Null bands: `split_band`, `null_band`.
"""

from unlearn_jax.metrics.arrays import log_softmax, margin
from unlearn_jax.metrics.bands import NullBand, split_band, t_estimate
from unlearn_jax.metrics.cmia import ClassAttack, cmia
from unlearn_jax.metrics.comparisons import (
    Comparisons,
    Difference,
    RankingGroups,
    RankIntervals,
    compare_all,
    paired_difference,
    rank_intervals,
    ranking_groups,
)
from unlearn_jax.metrics.costs import Cost, CostShare, cost_share, rte
from unlearn_jax.metrics.curves import (
    DistanceCurve,
    ResidualKnowledge,
    error_against_distance,
    error_of,
    residual_knowledge,
    residual_knowledge_draws,
)
from unlearn_jax.metrics.draws import Draws, Values, mean_draws
from unlearn_jax.metrics.entangling import GradientCoupling, entanglement, gradient_coupling, mmd
from unlearn_jax.metrics.epsilon import forgetting_epsilon, forgetting_final, forgetting_points, forgetting_score
from unlearn_jax.metrics.frontier import Frontier, frontier, pareto_set
from unlearn_jax.metrics.gaps import aus, average_gap, average_gap_estimate, signed_gaps, tow, tow_estimate, tow_mia
from unlearn_jax.metrics.heldout import heldout_margin_error
from unlearn_jax.metrics.intervals import BootstrapInterval, bootstrap_interval
from unlearn_jax.metrics.klom import KlomSummary, klom, klom_summary
from unlearn_jax.metrics.language import answer_probability, candidate_margin, sequence_margin
from unlearn_jax.metrics.lira import lira
from unlearn_jax.metrics.margin_distances import energy_distance, gaussian_kl, rank_effect, wasserstein_1
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
from unlearn_jax.metrics.output_scores import confidence, entropy, modified_entropy
from unlearn_jax.metrics.outputs import activation_distance, completeness, js_divergence, kl_to_reference, zrf
from unlearn_jax.metrics.population_attacks import (
    ThresholdAttack,
    entropy_attack,
    loss_attack,
    svc_attack,
    threshold_attack,
)
from unlearn_jax.metrics.relearn import Anamnesis, RelearnTime, ain, relearn_target, relearn_time
from unlearn_jax.metrics.representation import knn_overlap, linear_cka, linear_probe, weight_distance
from unlearn_jax.metrics.resampling import subset_draws, subset_draws_pooled
from unlearn_jax.metrics.residual import (
    Identifiability,
    distance_draws,
    identifiability,
    influence_span,
    null_band,
    residual_distance,
    residual_influence,
)
from unlearn_jax.metrics.rmia import rmia
from unlearn_jax.metrics.roc import AttackSummary, Roc, attack_summary, auc, log_grid, on_grid, roc, tpr_at
from unlearn_jax.metrics.summary import Estimate, combine, mean_estimate, ranks
from unlearn_jax.metrics.tofu import (
    forget_quality,
    forget_quality_draws,
    forget_quality_interval,
    model_utility,
    tofu_forget_quality,
    tofu_truth_ratio,
    truth_ratio,
    truth_ratio_aggregate,
    truth_ratio_scores,
)
from unlearn_jax.metrics.u_lira import Exposure, UnlearningAttack, neighbour_exposure, u_lira, u_lira_cross_fitted
from unlearn_jax.metrics.utility import price

__all__ = [
    "Anamnesis", "AttackSummary", "BootstrapInterval", "ClassAttack", "Comparisons", "Cost", "CostShare", "Difference",
    "DistanceCurve", "Draws", "Estimate", "Exposure", "Frontier", "GradientCoupling", "Identifiability", "KlomSummary",
    "NullBand", "RankIntervals", "RankingGroups", "RelearnTime", "ResidualKnowledge", "Roc", "ThresholdAttack",
    "UnlearningAttack", "Values", "activation_distance", "ain", "answer_probability", "attack_summary", "auc", "aus",
    "average_gap", "average_gap_estimate", "bootstrap_interval", "candidate_margin", "cmia", "combine", "compare_all",
    "completeness", "confidence", "cost_share", "distance_draws", "energy_distance", "entanglement", "entropy",
    "entropy_attack", "error_against_distance", "error_of", "exact_memorisation", "extraction_strength",
    "forget_quality", "forget_quality_draws", "forget_quality_interval", "forgetting_epsilon", "forgetting_final",
    "forgetting_points", "forgetting_score", "frontier", "gaussian_kl", "gradient_coupling", "heldout_margin_error",
    "identifiability", "influence_span", "js_divergence", "kl_to_reference", "klom", "klom_summary", "knn_overlap",
    "linear_cka", "linear_probe", "lira", "log_grid", "log_softmax", "loss_attack", "margin", "mean_draws",
    "mean_estimate", "membership_auc", "min_k", "min_k_plus_plus", "mmd", "model_utility", "modified_entropy",
    "neighbour_exposure", "null_band", "on_grid", "paired_difference", "pareto_set", "price", "privleak", "rank_effect",
    "rank_intervals", "ranking_groups", "ranks", "relearn_target", "relearn_time", "residual_distance",
    "residual_influence", "residual_knowledge", "residual_knowledge_draws", "rmia", "roc", "rouge_l_recall", "rte",
    "sequence_margin", "signed_gaps", "split_band", "subset_draws", "subset_draws_pooled", "svc_attack", "t_estimate",
    "threshold_attack", "tofu_forget_quality", "tofu_truth_ratio", "tow", "tow_estimate", "tow_mia", "tpr_at",
    "truth_ratio", "truth_ratio_aggregate", "truth_ratio_scores", "u_lira", "u_lira_cross_fitted", "wasserstein_1",
    "weight_distance", "zlib_score", "zrf",
]  # fmt: skip

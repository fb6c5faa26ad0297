"""Influence of training examples on predictions, by vectorised gradients, from populations and by exact removal.

Every scorer has one sign and one unit. ``score[i, q]``, (train, queries): positive = training on i helped q, and
``score / n`` is the predicted rise of q's loss in nats, or with ``quantity="margin"`` fall of its margin, when i is
removed and the normaliser n is kept (objective ``sum_i w_i loss_i + n l2 / 2 |w|^2``). A group's score is the sum of
its members' or, better for near-duplicates, one Newton step with the group's own curvature removed
(`group_influence`).
"""

from unlearn_jax.influence.checks import check_targets
from unlearn_jax.influence.curvature import (
    block,
    dense,
    diagonal,
    fisher_product,
    ggn_product,
    hessian_product,
    operator,
    sampled_labels,
)
from unlearn_jax.influence.datamodels import Datamodels, datamodels
from unlearn_jax.influence.ekfac import ekfac_influence, ekfac_self_influence
from unlearn_jax.influence.exact import (
    copies_pull,
    deletion_effect,
    logistic_fit,
    logistic_removal,
    removal_effects,
    ridge_removal,
)
from unlearn_jax.influence.gram import cosine, gradient_norms, gram
from unlearn_jax.influence.group_influence import group_influence
from unlearn_jax.influence.groups import groups_of
from unlearn_jax.influence.iterations import cg, lissa
from unlearn_jax.influence.kfac import ekfac_fit
from unlearn_jax.influence.kronecker import Kronecker
from unlearn_jax.influence.lds import Lds, lds
from unlearn_jax.influence.low_rank import lanczos, nystrom_cg
from unlearn_jax.influence.memorization import InOut, feldman_influence, memorization
from unlearn_jax.influence.per_example import (
    Flat,
    batch_of,
    example_gradients,
    flatten,
    jacobian_products,
    mean_gradient,
    quantity_of,
    values,
)
from unlearn_jax.influence.projection import project, project_factors, projected_gradients
from unlearn_jax.influence.representer import representer, representer_logits, representer_values
from unlearn_jax.influence.rows import ekfac_rows
from unlearn_jax.influence.scores import influence, self_influence
from unlearn_jax.influence.solvers import Solution, damping_of, explicit, mean_eigenvalue
from unlearn_jax.influence.subsets import (
    GroupEffects,
    LeaveOut,
    Predictions,
    leave_out_effects,
    leave_out_masks,
    outputs_of,
    subset_masks,
    train_subsets,
)
from unlearn_jax.influence.taps import Factors, layer_factors, layer_gradients, layer_gram, layer_square_norms, untapped
from unlearn_jax.influence.tracin import tracin, tracin_self
from unlearn_jax.influence.trak import trak

__all__ = [
    "Datamodels", "Factors", "Flat", "GroupEffects", "InOut", "Kronecker", "Lds", "LeaveOut", "Predictions", "Solution",
    "batch_of", "block", "cg", "check_targets", "copies_pull", "cosine", "damping_of", "datamodels", "deletion_effect",
    "dense", "diagonal", "ekfac_fit", "ekfac_influence", "ekfac_rows", "ekfac_self_influence", "example_gradients",
    "explicit", "feldman_influence", "fisher_product", "flatten", "ggn_product", "gradient_norms", "gram",
    "group_influence", "groups_of", "hessian_product", "influence", "jacobian_products", "lanczos", "layer_factors",
    "layer_gradients", "layer_gram", "layer_square_norms", "lds", "leave_out_effects", "leave_out_masks", "lissa",
    "logistic_fit", "logistic_removal", "mean_eigenvalue", "mean_gradient", "memorization", "nystrom_cg", "operator",
    "outputs_of", "project", "project_factors", "projected_gradients", "quantity_of", "removal_effects", "representer",
    "representer_logits", "representer_values", "ridge_removal", "sampled_labels", "self_influence", "subset_masks",
    "tracin", "tracin_self", "train_subsets", "trak", "untapped", "values",
]  # fmt: skip

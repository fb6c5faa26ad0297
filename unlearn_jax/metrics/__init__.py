"""Metrics on plain arrays: residual influence, price, intervals; NumPy only."""

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
from unlearn_jax.metrics.utility import price

__all__ = [
    "Draws",
    "Estimate",
    "Identifiability",
    "Values",
    "combine",
    "distance_draws",
    "identifiability",
    "influence_span",
    "mean_draws",
    "mean_estimate",
    "null_band",
    "price",
    "ranks",
    "residual_distance",
    "residual_influence",
]

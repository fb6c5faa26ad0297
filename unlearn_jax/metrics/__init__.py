"""Metrics on plain arrays: residual influence, price, intervals; NumPy only."""

from unlearn_jax.metrics.residual import (
    Identifiability,
    identifiability,
    influence_span,
    null_band,
    residual_distance,
    residual_influence,
)
from unlearn_jax.metrics.summary import Draws, Estimate, Values, mean_draws, mean_estimate
from unlearn_jax.metrics.utility import price

__all__ = [
    "Draws",
    "Estimate",
    "Identifiability",
    "Values",
    "identifiability",
    "influence_span",
    "mean_draws",
    "mean_estimate",
    "null_band",
    "price",
    "residual_distance",
    "residual_influence",
]

"""Attribution studies: estimators of influence held against what removal really does, one example or a cluster."""

from unlearn_jax.attribution.config import AttributionConfig
from unlearn_jax.attribution.run import run_attribution

__all__ = ["AttributionConfig", "run_attribution"]

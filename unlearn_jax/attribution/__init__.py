"""Attribution studies: estimators of influence held against what removal really does, one example or a cluster.

Intervals are over clusters (memorization: examples, clusters whole; ``lds``: models and queries) alone and include no
noise of the ensembles that scores and truths come from.
"""

from unlearn_jax.attribution.config import AttributionConfig
from unlearn_jax.attribution.run import run_attribution

__all__ = ["AttributionConfig", "run_attribution"]

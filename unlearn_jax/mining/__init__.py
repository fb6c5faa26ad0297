"""Mining similar samples: embeddings by name, exact nearest neighbours, clusters, and what they say of the data."""

from unlearn_jax.mining.config import MiningConfig
from unlearn_jax.mining.embeddings import EMBEDDINGS
from unlearn_jax.mining.run import run_mining

__all__ = ["EMBEDDINGS", "MiningConfig", "run_mining"]

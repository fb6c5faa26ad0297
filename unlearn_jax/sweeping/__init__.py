"""Sweeps over a method's hyperparameters: settings, halving, choices that never look at the oracle, and their price."""

from unlearn_jax.sweeping.config import SweepConfig, sweep_name
from unlearn_jax.sweeping.run import run_sweep

__all__ = ["SweepConfig", "run_sweep", "sweep_name"]

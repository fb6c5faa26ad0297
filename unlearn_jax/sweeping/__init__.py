"""Sweeps over methods' hyperparameters: settings, halving, choices that never look at the oracle, and their price."""

from unlearn_jax.sweeping.checking import check_name, run_check
from unlearn_jax.sweeping.config import SweepConfig, sweep_name
from unlearn_jax.sweeping.run import run_sweep
from unlearn_jax.sweeping.several import are_several, run_sweeps

__all__ = ["SweepConfig", "are_several", "check_name", "run_check", "run_sweep", "run_sweeps", "sweep_name"]

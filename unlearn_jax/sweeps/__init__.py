"""Sweeps over methods' hyperparameters: settings, halving, choices that never look at the oracle, and their price."""

from unlearn_jax.sweeps.by_size import Seen, best, points_of, seen_at
from unlearn_jax.sweeps.checking import check_name, run_check
from unlearn_jax.sweeps.config import SweepConfig, sweep_name
from unlearn_jax.sweeps.run import run_sweep
from unlearn_jax.sweeps.sampling import draw_settings, parse_space
from unlearn_jax.sweeps.several import are_several, run_sweeps

__all__ = [
    "Seen", "SweepConfig", "are_several", "best", "check_name", "draw_settings", "parse_space", "points_of",
    "run_check", "run_sweep", "run_sweeps", "seen_at", "sweep_name",
]  # fmt: skip

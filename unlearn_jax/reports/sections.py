"""Documents as pages show them."""

from unlearn_jax.reports.render import MAX_LETTERS, readable

__all__ = ["MAX_LETTERS", "readable"]

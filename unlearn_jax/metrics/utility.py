"""What forgetting costs: prices in accuracy points and in margin, against any reference."""

from __future__ import annotations

from unlearn_jax.errors import InputError
from unlearn_jax.metrics.draws import RESAMPLES, Draws, as_values, mean_draws
from unlearn_jax.metrics.residual import check_targets
from unlearn_jax.metrics.summary import Estimate, combine


def price(
    unlearned,
    reference,
    *,
    unit: str = "accuracy",
    roles: tuple[str, str] = ("original", "reference"),
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Estimate:
    """How much worse than the reference a population is on a split; positive = worse.

    Args:
        unlearned: correctness (0/1) or margins, (members, examples), blocks, `Values`, or draws of their mean.
        reference: the same of the reference population.
        unit: ``accuracy`` (points of a hundred) or ``margin`` (nats).
        roles: whose member draws each of the two shares.
        seed: of the draws.
        resamples: number of draws.

    Raises:
        InputError: another unit, other examples in the two, accuracies outside [0, 1].

    Example:
        >>> import numpy as np
        >>> price(np.array([[1.0, 0.0]]), np.array([[1.0, 1.0]])).value
        50.0
    """
    if unit not in ("accuracy", "margin"):
        raise InputError(f"unit is '{unit}': give accuracy or margin.")
    check_targets([unlearned, reference])
    for data in (d for d in (unlearned, reference) if unit == "accuracy" and not isinstance(d, Draws)):
        if any((block < 0).any() or (block > 1).any() for block in as_values(data).blocks):
            raise InputError("correctness has values outside [0, 1]: give shares, not points, or unit='margin'.")
    scale = 100.0 if unit == "accuracy" else 1.0
    draws = [mean_draws(d, role=r, seed=seed, resamples=resamples) for d, r in zip((unlearned, reference), roles)]
    return combine(lambda worse, better: scale * (better - worse), *draws)

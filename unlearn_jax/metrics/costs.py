"""What unlearning costs beside retraining: live examples passed and seconds, request and retained data apart."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from unlearn_jax.errors import InputError

FORWARD, PRODUCT = 1.0 / 3.0, 2.0  # gradient evaluations that a forward pass and a Hessian-vector product count as


class Cost(NamedTuple):
    """What a population cost, per member: live examples passed, those to be forgotten and those retained apart."""

    gradients_forget: float = 0.0  # forward and backward passes
    gradients_retain: float = 0.0
    forwards_forget: float = 0.0  # forward passes alone
    forwards_retain: float = 0.0
    products_forget: float = 0.0  # Hessian-vector products
    products_retain: float = 0.0
    seconds: float = float("nan")  # of the population's run after compilation, over its members
    members: int = 1  # that it ran with: seconds a member fall with it

    @property
    def forget(self) -> float:
        """Gradient evaluations on the forget set: a forward pass counts a third, a Hessian-vector product two."""
        return self.gradients_forget + FORWARD * self.forwards_forget + PRODUCT * self.products_forget

    @property
    def retain(self) -> float:
        """Gradient evaluations on retained samples, which many papers leave out."""
        return self.gradients_retain + FORWARD * self.forwards_retain + PRODUCT * self.products_retain

    @property
    def total(self) -> float:
        """Gradient evaluations on both."""
        return self.forget + self.retain


class CostShare(NamedTuple):
    """A cost beside that of retraining."""

    forget: float  # gradient evaluations
    retain: float
    total: float
    share: float  # of retraining's gradient evaluations
    rte: float  # retraining's seconds over these


def cost_share(cost: Cost, retrain: Cost) -> CostShare:
    """A method's cost, counted apart on forget set and retained samples, beside that of retraining.

    Args:
        cost: of the method.
        retrain: of retraining, on the same machine and with as many members where seconds are compared.

    Returns:
        `CostShare`; NaN where retraining has no count, or either has no seconds.

    Raises:
        InputError: negative counts, or seconds that are 0.

    Example:
        >>> found = cost_share(Cost(10, 20, forwards_retain=30, seconds=2.0), Cost(0, 400, seconds=8.0))
        >>> found.forget, found.retain, found.share, found.rte
        (10.0, 30.0, 0.1, 4.0)
    """
    if any(value < 0 for c in (cost, retrain) for value in c):
        raise InputError("a cost is negative: give numbers of live examples passed, and seconds.")
    share = cost.total / retrain.total if retrain.total > 0 else float("nan")
    seconds = np.array([retrain.seconds, cost.seconds])
    speed = rte(*seconds) if np.isfinite(seconds).all() else float("nan")
    return CostShare(float(cost.forget), float(cost.retain), float(cost.total), float(share), speed)


def rte(seconds_retrain: float, seconds_unlearn: float) -> float:
    """Run-time efficiency as a ratio: seconds of retraining over seconds of unlearning; above 1 = faster.

    Args:
        seconds_retrain: after compilation, per member.
        seconds_unlearn: the same, at the same number of members.

    Raises:
        InputError: seconds that are not above 0.

    Source: the ratio is the speed-up of many papers; the SalUn line (arXiv 2310.12508) prints RTE in minutes instead.

    Example:
        >>> rte(30.0, 2.0)
        15.0
    """
    if not (seconds_retrain > 0 and seconds_unlearn > 0):
        raise InputError(f"seconds are {seconds_retrain} and {seconds_unlearn}: give measured times above 0.")
    return float(seconds_retrain / seconds_unlearn)

"""Plans: which kind of update happens when, on which batches, at what cost; fixed before anything runs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Sizes(NamedTuple):
    """The largest sets that any member has."""

    forget: int
    retain: int


class Plan(NamedTuple):
    """One row per update, common to all members of a population.

    Costs are gradient evaluations per live example of the batch: forward and backward = 1, forward only = 1/3.
    """

    phase: np.ndarray  # (T,) int32, meaning defined by the method
    forget_step: np.ndarray  # (T,) int32, number of the batch in the forget stream
    retain_step: np.ndarray  # (T,) int32, number of the batch in the retain stream
    forget_cost: np.ndarray  # (T,) float
    retain_cost: np.ndarray  # (T,) float
    rate: np.ndarray  # (T,) float32, multiplier of the learning rate
    forget_batch: int
    retain_batch: int

    @property
    def steps(self) -> int:
        """Number of updates T."""
        return len(self.phase)

    @property
    def grad_evals_forget(self) -> float:
        """Gradient evaluations on requested examples, per member."""
        return float(self.forget_cost.sum() * self.forget_batch)

    @property
    def grad_evals_retain(self) -> float:
        """Gradient evaluations on retained examples, per member."""
        return float(self.retain_cost.sum() * self.retain_batch)


FORWARD = 1.0 / 3.0


def uniform_plan(
    steps: int,
    *,
    forget_batch: int = 0,
    retain_batch: int = 0,
    forget_cost: float = 1.0,
    retain_cost: float = 1.0,
    rate: np.ndarray | None = None,
) -> Plan:
    """``steps`` updates of one kind, each on the next batch of both streams; ``rate`` (steps,) is 1 by default."""
    count = np.arange(steps, dtype=np.int32)
    return Plan(
        phase=np.zeros(steps, np.int32),
        forget_step=count,
        retain_step=count,
        forget_cost=np.full(steps, forget_cost if forget_batch else 0.0),
        retain_cost=np.full(steps, retain_cost if retain_batch else 0.0),
        rate=np.ones(steps, np.float32) if rate is None else np.asarray(rate, np.float32),
        forget_batch=forget_batch,
        retain_batch=retain_batch,
    )


def phased_plan(
    phases: np.ndarray,
    *,
    forget_batch: int,
    retain_batch: int,
    forget_cost: tuple,
    retain_cost: tuple,
    rate: np.ndarray | None = None,
) -> Plan:
    """Updates of several kinds; a stream moves on only in the phases that cost something on it.

    Args:
        phases: (T,) int phase of each update.
        forget_batch: slots of a forget batch.
        retain_batch: slots of a retain batch.
        forget_cost: by phase, gradient evaluations per forget example (0 = unused).
        retain_cost: by phase, gradient evaluations per retained example (0 = unused).
        rate: (T,) multiplier of the learning rate; 1 by default.
    """
    phases = np.asarray(phases, np.int32)
    forget = np.asarray(forget_cost, float)[phases]
    retain = np.asarray(retain_cost, float)[phases]

    def counter(cost: np.ndarray) -> np.ndarray:
        return np.maximum(np.cumsum(cost > 0) - 1, 0).astype(np.int32)

    rate = np.ones(len(phases), np.float32) if rate is None else np.asarray(rate, np.float32)
    return Plan(phases, counter(forget), counter(retain), forget, retain, rate, forget_batch, retain_batch)


def passes(size: int, batch: int) -> int:
    """Batches that show every one of ``size`` examples at least once."""
    return max(1, -(-size // batch))

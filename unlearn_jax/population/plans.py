"""Plans: which kind of update happens when, on which batches, at what cost; fixed before anything runs."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Sizes(NamedTuple):
    """The largest sets that any member has."""

    forget: int
    retain: int
    classes: int = 10


class Plan(NamedTuple):
    """One row per update, common to all members of a population.

    Costs are gradient evaluations per live example of the batch: forward and backward = 1, forward only = 1/3. With the
    size of a set, slots beyond its last example in an exact pass are known to be dead and cost nothing.
    """

    phase: np.ndarray  # (T,) int32, meaning defined by the method
    forget_step: np.ndarray  # (T,) int32, number of the batch in the forget stream
    retain_step: np.ndarray  # (T,) int32, number of the batch in the retain stream
    forget_cost: np.ndarray  # (T,) float
    retain_cost: np.ndarray  # (T,) float
    rate: np.ndarray  # (T,) float32, multiplier of the learning rate
    forget_batch: int
    retain_batch: int
    forget_pass: int = 0  # batches in a pass that shows every example exactly once; 0 = the stream flows on
    retain_pass: int = 0
    forget_size: int = 0  # examples in the largest set of any member; 0 = unknown
    retain_size: int = 0

    @property
    def steps(self) -> int:
        """Number of updates T."""
        return len(self.phase)

    def first(self, count: int) -> Plan:
        """The first ``count`` updates."""
        return self._replace(
            **{name: column[:count] for name, column in self._asdict().items() if isinstance(column, np.ndarray)}
        )

    @property
    def grad_evals_forget(self) -> float:
        """Gradient evaluations on requested examples, per member."""
        live = _live(self.forget_step, self.forget_batch, self.forget_pass, self.forget_size)
        return float((self.forget_cost * live).sum())

    @property
    def grad_evals_retain(self) -> float:
        """Gradient evaluations on retained examples, per member."""
        live = _live(self.retain_step, self.retain_batch, self.retain_pass, self.retain_size)
        return float((self.retain_cost * live).sum())


def _live(step: np.ndarray, batch: int, length: int, size: int) -> np.ndarray:
    """(T,) live slots of each update's batch."""
    if not (length and size):
        return np.full(len(step), float(batch))
    return np.clip(size - step % length * batch, 0, batch).astype(float)


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
    """``steps`` updates of one kind, each on the next batch of both streams; ``rate`` (steps,) is 1 by default.

    Example:
        >>> uniform_plan(20, retain_batch=16).phase.shape
        (20,)
    """
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
    forget_pass: int = 0,
    retain_pass: int = 0,
) -> Plan:
    """Updates of several kinds; a stream moves on only in the phases that cost something on it.

    Args:
        phases: (T,) int phase of each update.
        forget_batch: slots of a forget batch.
        retain_batch: slots of a retain batch.
        forget_cost: by phase, gradient evaluations per forget example (0 = unused).
        retain_cost: by phase, gradient evaluations per retained example (0 = unused).
        rate: (T,) multiplier of the learning rate; 1 by default.
        forget_pass: batches in an exact pass over the request; 0 = the stream flows on.
        retain_pass: the same of the retained data.
    """
    phases = np.asarray(phases, np.int32)
    forget = np.asarray(forget_cost, float)[phases]
    retain = np.asarray(retain_cost, float)[phases]

    def counter(cost: np.ndarray) -> np.ndarray:
        return np.maximum(np.cumsum(cost > 0) - 1, 0).astype(np.int32)

    rate = np.ones(len(phases), np.float32) if rate is None else np.asarray(rate, np.float32)
    steps = counter(forget), counter(retain)
    return Plan(phases, *steps, forget, retain, rate, forget_batch, retain_batch, forget_pass, retain_pass)


def passes(size: int, batch: int) -> int:
    """Batches that show every one of ``size`` examples at least once."""
    return max(1, -(-size // batch))


def request_batch(sizes: Sizes, batch: int, pieces: int = 0) -> int:
    """Slots of a forget batch: ``batch``, or the largest request, or the ``pieces``-th part of it, where smaller."""
    return min(batch, passes(sizes.forget, max(pieces, 1)))


def request_batches(sizes: Sizes, batch: int, pieces: int = 0) -> int:
    """Batches of `request_batch` in a pass over the request: with ``pieces`` never more, whatever its size.

    A request of more than ``pieces`` times ``batch`` examples is not shown whole by one pass; the stream flows on.

    Example:
        >>> [request_batches(Sizes(count, 1000), 128, 4) for count in (2, 30, 150, 6000)]
        [2, 4, 4, 4]
        >>> request_batches(Sizes(6000, 1000), 128)
        47
    """
    whole = passes(sizes.forget, request_batch(sizes, batch, pieces))
    return min(whole, pieces) if pieces else whole


def epochs_over_retained(
    sizes: Sizes,
    static: dict,
    recipe: Any = None,
    *,
    forget_cost: float = 0.0,
    retain_cost: float = 1.0,
    rate: np.ndarray | None = None,
) -> Plan:
    """``static["epochs"]`` passes over the retained data by ``static["batch"]``; the request is cycled beside them.

    A cost of 0 on the request leaves it out. The recipe is not read: the function may stand as an entry's plan.
    """
    steps = static["epochs"] * passes(sizes.retain, static["batch"])
    forget = request_batch(sizes, static["batch"]) if forget_cost else 0
    costs = {"forget_cost": forget_cost, "retain_cost": retain_cost}
    return uniform_plan(steps, forget_batch=forget, retain_batch=static["batch"], rate=rate, **costs)


def epochs_over_request(
    sizes: Sizes,
    static: dict,
    recipe: Any = None,
    *,
    forget_cost: float = 1.0,
    retain_cost: float = 0.0,
) -> Plan:
    """``static["epochs"]`` passes over the request by ``static["batch"]``; retained batches beside if they cost.

    Where there are ``static["pieces"]``, a pass has at most as many batches, whatever the size of the request.
    """
    split = sizes, static["batch"], static.get("pieces", 0)
    batch = request_batch(*split)
    retain = static["batch"] if retain_cost else 0
    steps = static["epochs"] * request_batches(*split)
    return uniform_plan(
        steps, forget_batch=batch, retain_batch=retain, forget_cost=forget_cost, retain_cost=retain_cost
    )


def cosine(steps: int, last: float = 0.0) -> np.ndarray:
    """(steps,) multiplier that falls from 1 to ``last`` along half a cosine."""
    at = np.arange(steps) / max(steps, 1)
    return last + (1.0 - last) * 0.5 * (1.0 + np.cos(np.pi * at))

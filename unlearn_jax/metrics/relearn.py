"""Relearn times and the anamnesis index, from curves of what is known of the forget set while a model relearns it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from unlearn_jax.errors import InputError, choose

KINDS = ("accuracy", "loss")


class RelearnTime(NamedTuple):
    """When each member has relearned, each (members,)."""

    steps: np.ndarray  # NaN for a member that diverged
    censored: np.ndarray  # True where the target was not reached: ``steps`` is then the last checkpoint's


def relearn_time(curve, target, *, kind: str = "accuracy", steps=None, interpolate: bool = False) -> RelearnTime:
    """First step at which each member's curve reaches the target while it is trained on the forget set again.

    Args:
        curve: accuracy or loss on the forget set at each checkpoint, (members, checkpoints).
        target: a number, or (members,); `relearn_target` gives what lies within a margin of the original's.
        kind: ``accuracy`` is reached from below, ``loss`` from above.
        steps: (checkpoints,) increasing step numbers; None = 0, 1, 2, ...
        interpolate: on a straight line between the checkpoint that reaches the target and the one before.

    Returns:
        `RelearnTime`. A curve that has reached the target at the first checkpoint has that checkpoint's step; one that
        never does is censored at the last. Later falls below the target do not count. A member with a NaN up to the
        checkpoint that reaches the target has step NaN and is not censored. Infinite values count as they are.

    Raises:
        InputError: shapes that do not belong together, steps that do not increase, an unknown kind.

    Source: Golatkar et al. (arXiv 1911.04933) and Tarun et al. (arXiv 2111.08947), in epochs or mini-batches.

    Example:
        >>> found = relearn_time([[0.1, 0.5, 0.9], [0.1, 0.2, 0.3]], 0.8, steps=[0, 10, 20])
        >>> found.steps.tolist(), found.censored.tolist()
        ([20.0, 20.0], [False, True])
    """
    choose("kind of curve", kind, KINDS)
    curve = np.asarray(curve, np.float64)
    if curve.ndim != 2 or not curve.size:
        raise InputError(f"curve is {curve.shape}: give (members, checkpoints) with at least one of each.")
    steps = np.arange(curve.shape[1]) if steps is None else np.asarray(steps, np.float64)
    if steps.shape != curve.shape[1:] or not (np.diff(steps) > 0).all():
        raise InputError(f"steps are {steps.shape} for {curve.shape[1]} checkpoints: give one each, increasing.")
    target = np.asarray(target, np.float64)
    if target.shape not in ((), (len(curve),)):
        raise InputError(f"target is {target.shape} for {len(curve)} members: give a number, or one each.")
    sign = 1.0 if kind == "accuracy" else -1.0
    height, level = sign * curve, np.broadcast_to(sign * target, (len(curve),))
    reached = height >= level[:, None] - 1e-6 * np.maximum(1.0, np.abs(level[:, None]))  # curves may be float32
    censored, at = ~reached.any(axis=1), reached.argmax(axis=1)
    at = np.where(censored, curve.shape[1] - 1, at)
    undefined = (np.isnan(curve) & (np.arange(curve.shape[1]) <= at[:, None])).any(axis=1) | np.isnan(level)
    when = steps[at].astype(np.float64)
    if interpolate:
        rows, before = np.arange(len(curve)), np.maximum(at - 1, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = (level - height[rows, before]) / (height[rows, at] - height[rows, before])
            between = steps[before] + np.clip(share, 0.0, 1.0) * (steps[at] - steps[before])
        when = np.where((at > 0) & ~censored & np.isfinite(between), between, when)
    return RelearnTime(np.where(undefined, np.nan, when), censored & ~undefined)


def relearn_target(original_value, *, alpha: float = 0.1, kind: str = "accuracy"):
    """Within a margin of the original's value: ``(1 - alpha)`` of its accuracy, or ``(1 + alpha)`` of its loss.

    Example:
        >>> float(relearn_target(0.9, alpha=0.1).round(3)), float(relearn_target(2.0, alpha=0.5, kind="loss"))
        (0.81, 3.0)
    """
    choose("kind of curve", kind, KINDS)
    if not 0 <= alpha < 1:
        raise InputError(f"alpha is {alpha}: give the margin as a share in [0, 1), .1 for 10%.")
    return np.asarray(original_value, np.float64) * (1.0 - alpha if kind == "accuracy" else 1.0 + alpha)


class Anamnesis(NamedTuple):
    """The anamnesis index, and the relearn times behind it."""

    value: float  # 1 = like retraining, below 1 = relearns faster: something was left
    unlearned: RelearnTime
    retrain: RelearnTime


def ain(
    unlearned_curve,
    retrain_curve,
    original_value: float,
    *,
    alpha: float = 0.1,
    kind: str = "accuracy",
    steps=None,
    interpolate: bool = False,
) -> Anamnesis:
    """Anamnesis index: mean relearn time of the unlearned population over that of the retrained one.

    Args:
        unlearned_curve: accuracy (or loss) on the forget set while it is relearned, (members, checkpoints).
        retrain_curve: the same of the retrained population, relearning by the same recipe.
        original_value: the original's accuracy (or loss) on the forget set, its mean over members.
        alpha: margin around it within which it counts as relearned; papers take 5 to 10%.
        kind: ``accuracy`` or ``loss``.
        steps: (checkpoints,) of both curves; None = 0, 1, 2, ...
        interpolate: as in `relearn_time`.

    Returns:
        `Anamnesis`. Above 1 = slower than retraining, over-forgotten. Members that diverged are left out. Censored
        times enter as the last checkpoint's: where only ``unlearned`` has some the index is a lower bound, where only
        ``retrain`` has some an upper one. NaN where the retrained population needs no step, or no member is left. For
        an interval over members give ``steps[:, None]`` of both to `subset_draws`, and read ``ci_members_low`` and
        ``ci_members_high``.

    Raises:
        InputError: as `relearn_time`, or an original value that is not positive.

    Source: Chundawat et al., "Zero-shot machine unlearning" (arXiv 2201.05629): the ratio of the numbers of
    mini-batches in which unlearned and retrained model come within alpha of the original's accuracy.

    Example:
        >>> ain([[0.5, 0.9, 0.9]], [[0.1, 0.5, 0.9]], 0.9).value
        0.5
    """
    if not np.all(np.asarray(original_value) > 0):
        raise InputError(f"original_value is {original_value}: give the original's accuracy or loss, above 0.")
    target = relearn_target(original_value, alpha=alpha, kind=kind)
    times = [
        relearn_time(curve, target, kind=kind, steps=steps, interpolate=interpolate)
        for curve in (unlearned_curve, retrain_curve)
    ]
    finished = [t.steps[np.isfinite(t.steps)] for t in times]
    if not min(map(len, finished)) or finished[1].mean() <= 0:
        return Anamnesis(float("nan"), *times)
    return Anamnesis(float(finished[0].mean() / finished[1].mean()), *times)

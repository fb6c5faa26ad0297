"""Memorisation and influence by training on random subsets.

Feldman & Zhang 2020 (arXiv 2008.03703): an example is memorised as far as models that saw it are right on it more often
than models that did not; its influence on a query is the same difference of the query's accuracy. Differences: the
subsets may be any (theirs are random of 70%), and standard errors are given.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.influence.groups import as_masks, as_outputs


class InOut(NamedTuple):
    """Differences of accuracy between members that saw an example and members that did not."""

    value: np.ndarray  # (n,) or (n, q), in [-1, 1]; NaN for an example that all members saw, or none
    error: np.ndarray  # the same shape, standard errors
    members_in: np.ndarray  # (n,) members that saw each example
    members_out: np.ndarray  # (n,) those that did not
    diverged: int  # members left out


def memorization(correct, masks) -> InOut:
    """How far each training example is memorised: ``acc_i(in) - acc_i(out)``.

    Args:
        correct: (M, n) whether member m is right on training example i, or the share of the time; in [0, 1]. A member
            with a NaN has diverged and is left out.
        masks: (M, n) 1 where it was trained on it.

    Returns:
        `InOut` with (n,) values: 1 = right only where seen, 0 = as right without. NaN value and error for an example
        that all members saw or none did, of which nothing can be known. Standard errors are those of Agresti & Caffo
        (2000, Am. Stat. 54:280), one success and one failure added to each side, so that a side that is always right
        is not taken for certain.

    Raises:
        InputError: shapes that differ, values outside [0, 1], masks other than 0 and 1, or all members diverged.

    Example:
        >>> import numpy as np
        >>> masks = np.array([[1, 1], [1, 0], [0, 1], [0, 0]])
        >>> memorization(masks * [1, 0] + [0, 1] * np.ones((4, 1)), masks).value.tolist()
        [1.0, 0.0]
    """
    correct, masks, diverged = _checked(correct, masks)
    if correct.shape != masks.shape:
        raise InputError(f"correct is {correct.shape} and masks {masks.shape}: give both by (members, examples).")
    inside, right = masks.sum(axis=0), (masks * correct).sum(axis=0)
    return _difference(right, correct.sum(axis=0) - right, inside, len(masks) - inside, inside, len(masks), diverged)


def feldman_influence(correct, masks) -> InOut:
    """Influence of each training example on each query: ``acc_q(i in) - acc_q(i out)``.

    Args:
        correct: (M, q) whether member m is right on query q; in [0, 1].
        masks: (M, n).

    Returns:
        `InOut` with (n, q) values, positive = training on i helped q. The unit is accuracy: n times the value is the
        scale of the other scorers' (n times the fall when i is removed, of accuracy instead of margin), at a training
        set as large as the subsets. NaN and errors as of `memorization`.

    Raises:
        InputError: as `memorization`.

    Example:
        >>> import numpy as np
        >>> masks = np.array([[1, 1], [1, 0], [0, 1], [0, 0]])
        >>> feldman_influence(masks[:, :1], masks).value.tolist()  # right where the first example was seen
        [[1.0], [0.0]]
    """
    correct, masks, diverged = _checked(correct, masks)
    inside, right = masks.sum(axis=0), masks.T.astype(float) @ correct
    count = inside[:, None]
    return _difference(
        right, correct.sum(axis=0)[None] - right, count, len(masks) - count, inside, len(masks), diverged
    )


def _checked(correct, masks) -> tuple[np.ndarray, np.ndarray, int]:
    """Correctness and masks of the members that did not diverge, and how many did."""
    correct, finite = as_outputs(correct, "correct")
    masks = as_masks(masks, ("correct", correct))[finite]
    correct = correct[finite]
    if (correct < 0).any() or (correct > 1).any():
        raise InputError("correct holds values outside [0, 1]: give 1 where a member is right and 0 where it is not.")
    return correct, masks, int((~finite).sum())


def _difference(right_in, right_out, inside, outside, members_in, members: int, diverged: int) -> InOut:
    """Accuracy within less accuracy without, from sums and counts, with its error."""
    share = lambda right, count: (right + 1.0) / (count + 2.0)
    variance = sum(share(r, c) * (1.0 - share(r, c)) / (c + 2.0) for r, c in ((right_in, inside), (right_out, outside)))
    seen_by_some = (inside > 0) & (outside > 0)
    value = np.where(seen_by_some, right_in / np.maximum(inside, 1) - right_out / np.maximum(outside, 1), np.nan)
    return InOut(value, np.where(seen_by_some, np.sqrt(variance), np.nan), members_in, members - members_in, diverged)

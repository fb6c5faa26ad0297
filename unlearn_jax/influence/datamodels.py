"""Datamodels: a query's margin as a linear function of which examples were trained on.

Ilyas et al. 2022 (arXiv 2202.00622). Differences: theirs is a lasso on 0/1 masks, this is ridge regression on centred
+-1 masks, in closed form for all queries at once through the smaller of the two Gram matrices; the ridge is chosen by
exact leave-one-out error (Allen's PRESS) over all queries, where theirs is cross-validated for each.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.influence.groups import as_masks, as_outputs

GRID = np.logspace(-4, 4, 33)  # ridges tried, in units of the mean eigenvalue


class Datamodels(NamedTuple):
    """Linear datamodels of q queries."""

    weights: np.ndarray  # (n, q) theta, per unit of a +-1 mask: out -> in raises the output by 2 theta
    intercept: np.ndarray  # (q,) output at the mean mask
    scores: np.ndarray  # (n, q) = 2 n theta, in the unit of the scorers
    ridge: float
    explained: np.ndarray  # (q,) share of the variance that is foretold when a member is left out; NaN if constant
    diverged: int  # members left out


def datamodels(masks, outputs, *, ridge: float | None = None) -> Datamodels:
    """Ridge regression from centred +-1 inclusion masks to outputs.

    Args:
        masks: (M, n) 1 where member m was trained on example i.
        outputs: (M, q) margins, or minus the loss. A member with a NaN has diverged and is left out.
        ridge: penalty lambda of ``sum_m (y_m - b - z_m . theta)^2 + lambda |theta|^2``, above 0; None = the one of 33
            between 1e-4 and 1e4 mean eigenvalues of ``Z Z'`` with the smallest leave-one-out error, added up over
            queries in units of their variances (constant queries have no say).

    Returns:
        `Datamodels`. ``scores = 2 n theta`` are n times the fall of the output when i is removed, positive = i helped:
        the unit of every scorer, at a training set as large as the subsets. An example that all members saw, or none,
        has weight 0: nothing is known of it. Noise of training pulls all weights to 0; ``explained`` near 0 or below
        says that there are too few members for anything more.

    Raises:
        InputError: fewer than three members left, no mask that varies, a ridge not above 0, infinite outputs.

    Example:
        >>> import numpy as np
        >>> masks = np.array([[1, 1], [1, 0], [0, 1], [0, 0]])
        >>> found = datamodels(masks, masks @ [[3.0], [0.0]], ridge=1e-9)  # the first example is worth 3
        >>> found.scores.round(4).tolist()  # twice 3, for n is 2
        [[6.0], [0.0]]
    """
    outputs, finite = as_outputs(outputs)
    signs = 2.0 * as_masks(masks, ("outputs", outputs))[finite] - 1.0
    outputs = outputs[finite]
    if len(signs) < 3:
        raise InputError(f"{len(signs)} members are left: give three or more, and many more for weights that hold.")
    if not np.isfinite(outputs).all():
        raise InputError("outputs hold infinite values: clip the margins first.")
    if ridge is not None and not 0 < ridge < np.inf:
        raise InputError(f"ridge is {ridge}: give a penalty above 0, or None to have one chosen.")
    signs, middle = signs - signs.mean(axis=0), outputs.mean(axis=0)
    vectors, spectrum = _spectrum(signs)
    centred = outputs - middle
    along = vectors.T @ centred
    none = _left_out(vectors, spectrum, along, centred, np.inf)
    varied = none > 1e-24 * np.maximum(1.0, np.abs(middle)) ** 2  # constant but for rounding
    if ridge is None:
        tried = GRID * spectrum.mean()
        error = [(_left_out(vectors, spectrum, along, centred, r)[varied] / none[varied]).sum() for r in tried]
        ridge = float(tried[int(np.argmin(error))])
    weights = signs.T @ (vectors @ (along / (spectrum + ridge)[:, None]))
    left = _left_out(vectors, spectrum, along, centred, ridge)
    explained = np.where(varied, 1.0 - left / np.where(varied, none, 1.0), np.nan)
    scores = 2.0 * signs.shape[1] * weights
    return Datamodels(weights, middle, scores, float(ridge), explained, int((~finite).sum()))


def _spectrum(signs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Left singular vectors (M, r) of the centred masks and their squared singular values, by the smaller Gram."""
    dual = len(signs) <= signs.shape[1]
    values, vectors = np.linalg.eigh(signs @ signs.T if dual else signs.T @ signs)
    live = values > 1e-10 * max(values[-1], 0.0)
    if not values[-1] > 0:
        raise InputError("masks are the same for all members: train them on different subsets.")
    values, vectors = values[live], vectors[:, live]
    return (vectors if dual else signs @ vectors / np.sqrt(values)), values


def _left_out(vectors, spectrum, along, centred, ridge: float) -> np.ndarray:
    """(q,) mean squared error at each member by the fit without it, the intercept too; ridge inf = the mean alone."""
    shrink = spectrum / (spectrum + ridge)
    hat = (vectors**2) @ shrink + 1.0 / len(vectors)
    rest = centred - vectors @ (shrink[:, None] * along)
    return ((rest / np.maximum(1.0 - hat, 1e-12)[:, None]) ** 2).mean(axis=0)

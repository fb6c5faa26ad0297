"""Multinomial logistic regression fitted and refitted without groups of rows, to rounding, in float64 NumPy.

Removal keeps the normaliser (see `unlearn_jax.influence.exact`). The fit takes damped Newton steps with the dense
Hessian. The refits take theirs all at once: each is solved by conjugate gradients, for which the inverse Hessian of the
full fit is the preconditioner of all (inexact Newton: Nocedal & Wright 2006, chapter 7.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float64

from unlearn_jax.errors import InputError
from unlearn_jax.influence.groups import as_groups, as_rows
from unlearn_jax.metrics.arrays import log_softmax

TOLERANCE = 1e-10  # norm of the gradient of the objective over n
STEPS = 200  # Newton steps at most
HALVINGS = 40
LARGEST = 8000  # parameters for which a dense Hessian is formed
ROOM = 4_000_000  # float64 numbers of (groups, n, K) side by side


def logistic_fit(
    inputs,
    labels,
    *,
    l2: float,
    weight=None,
    classes: int | None = None,
    start: np.ndarray | None = None,
    tolerance: float = TOLERANCE,
) -> Float64[np.ndarray, "d K"]:
    """Multinomial logistic regression by Newton's method, to rounding.

    Args:
        inputs: (n, d).
        labels: (n,) whole numbers from 0.
        l2: weight decay, above 0; the objective is ``sum_i w_i loss_i + n l2 / 2 |W|^2``, loss = cross-entropy in nats.
        weight: (n,) of the rows, 0 = absent (but counted in n); 1 by default.
        classes: K; the largest label + 1 by default.
        start: (d, K) to begin at; 0 by default.
        tolerance: largest norm of the gradient of the objective over n.

    Returns:
        (d, K) weights: logits are ``inputs @ weights``. They are unique, for l2 is above 0.

    Raises:
        InputError: as `ridge_removal`; labels that are no whole numbers from 0; more than 8,000 parameters; or a
            tolerance that rounding does not let it reach.

    Example:
        >>> import numpy as np
        >>> w = logistic_fit([[1.0], [-1.0]], [0, 1], l2=0.1)
        >>> bool(abs(w[0, 0] + w[0, 1]) < 1e-12), bool(w[0, 0] > 1)
        (True, True)
    """
    x, y, weight = _problem(inputs, labels, l2, weight, classes)
    begin = _start(start, x, y)
    dense = lambda w, p, v, g: (g.reshape(1, -1) @ _inverse(_hessian(x, p[0], v[0], l2))).reshape(g.shape)
    return _newton(x, y, weight[None], begin[None], l2, dense, tolerance)[0]


def logistic_removal(
    inputs,
    labels,
    groups: Sequence | None = None,
    *,
    l2: float,
    weight=None,
    classes: int | None = None,
    start: np.ndarray | None = None,
    tolerance: float = TOLERANCE,
) -> Float64[np.ndarray, "groups d K"]:
    """Logistic regression refitted to rounding after the removal of each group.

    Args:
        inputs: (n, d).
        labels: (n,).
        groups: arrays of rows, see `as_groups`; None = each row by itself.
        l2: weight decay, as of `logistic_fit`; n stays what it is.
        weight: (n,) of the rows before removal.
        classes: K, as of `logistic_fit`.
        start: (d, K) the full fit, from which every refit begins; computed by default.
        tolerance: as of `logistic_fit`, for every refit.

    Returns:
        (groups, d, K). Any start gives the same to rounding; a good one is quick.

    Raises:
        InputError: as `logistic_fit`.

    Example:
        >>> import numpy as np
        >>> x, y = np.array([[1.0], [-1.0], [2.0]]), [0, 1, 0]
        >>> gone = logistic_removal(x, y, [[2]], l2=0.1)
        >>> np.allclose(gone[0], logistic_fit(x, y, l2=0.1, weight=[1, 1, 0]), atol=1e-8)
        True
    """
    x, y, weight = _problem(inputs, labels, l2, weight, classes)
    groups = as_groups(groups, len(x))
    if start is None:
        start = logistic_fit(inputs, labels, l2=l2, weight=weight, classes=y.shape[1])
    start = _start(start, x, y)
    inverse = _inverse(_hessian(x, np.exp(log_softmax(x @ start)), weight, l2))
    solve = lambda w, p, v, g: _conjugate(x, p, v, l2, g, inverse)
    out, width = np.empty((len(groups), *start.shape)), max(1, ROOM // y.size)
    for first in range(0, len(groups), width):
        part = groups[first : first + width]
        weights = np.repeat(weight[None], len(part), axis=0)
        for row, group in zip(weights, part):
            row[group] = 0.0
        begin = np.repeat(start[None], len(part), axis=0)
        out[first : first + width] = _newton(x, y, weights, begin, l2, solve, tolerance)
    return out


def _problem(inputs, labels, l2: float, weight, classes: int | None) -> tuple:
    """Inputs, labels as (n, K) ones and zeros, weight."""
    inputs, labels, weight = as_rows(inputs, labels, l2, weight)
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise InputError(f"labels are {labels.dtype} from {labels.min()}: give whole numbers from 0.")
    count = int(labels.max()) + 1 if classes is None else int(classes)
    if count < max(2, int(labels.max()) + 1):
        raise InputError(f"there are {count} classes and labels up to {labels.max()}: give two classes or more.")
    if inputs.shape[1] * count > LARGEST:
        raise InputError(
            f"{inputs.shape[1]} inputs and {count} classes are over {LARGEST:,} parameters: project the inputs first."
        )
    return inputs, (labels[:, None] == np.arange(count)).astype(np.float64), weight


def _start(start, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where to begin, (d, K)."""
    shape = (x.shape[1], y.shape[1])
    start = np.zeros(shape) if start is None else np.asarray(start, np.float64)
    if start.shape != shape or not np.isfinite(start).all():
        raise InputError(f"start is {start.shape}: give finite weights {shape}.")
    return start


def _hessian(x: np.ndarray, p: np.ndarray, weight: np.ndarray, l2: float) -> np.ndarray:
    """Hessian of the objective over n, (d K, d K), at probabilities p (n, K)."""
    (n, d), count = x.shape, p.shape[1]
    out = np.empty((d, count, d, count))
    for k in range(count):
        curve = (weight * p[:, k] / n)[:, None] * ((np.arange(k, count) == k) - p[:, k:])  # (n, K - k)
        block = (x.T @ (x[:, :, None] * curve[:, None]).reshape(n, -1)).reshape(d, d, -1)
        out[:, k, :, k:] = block
        out[:, k:, :, k] = block.swapaxes(1, 2)  # symmetric in both pairs
    return out.reshape(d * count, -1) + l2 * np.eye(d * count)


def _inverse(hessian: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.inv(hessian)
    except np.linalg.LinAlgError:
        raise InputError("the Hessian is singular to rounding: scale the inputs to about 1, or raise l2.") from None


def _value(x, y, weight, w, l2: float) -> np.ndarray:
    """Objective over n of each fit, (G,)."""
    loss = -(log_softmax(x @ w) * y).sum(axis=-1)
    return (weight * loss).mean(axis=1) + l2 / 2 * (w**2).sum(axis=(1, 2))


def _newton(x, y, weight, w, l2: float, solve: Callable, tolerance: float) -> np.ndarray:
    """Fits (G, d, K) from where they are to a gradient below the tolerance; those that are there are left alone."""
    w, open_ = w.copy(), np.arange(len(w))
    for _ in range(STEPS):
        mine, weights = w[open_], weight[open_]
        p = np.exp(log_softmax(x @ mine))
        slope = x.T @ (weights[..., None] * (p - y) / len(x)) + l2 * mine
        far = np.linalg.norm(slope, axis=(1, 2)) > tolerance
        if not far.any():
            return w
        open_, mine, weights, p, slope = open_[far], mine[far], weights[far], p[far], slope[far]
        w[open_] = _descend(x, y, weights, mine, l2, slope, solve(mine, p, weights, slope))
    raise InputError(f"a gradient of {tolerance:g} was not reached: scale the inputs to about 1, or raise l2.")


def _descend(x, y, weight, w, l2: float, slope, step) -> np.ndarray:
    """The fits after a step each, halved while the objective does not fall by what the slope promises."""
    length, now = np.ones(len(w)), _value(x, y, weight, w, l2)
    promised = 1e-4 * (slope * step).sum(axis=(1, 2))
    for _ in range(HALVINGS):
        after = _value(x, y, weight, w - length[:, None, None] * step, l2)
        short = after > now - length * promised + 1e-13 * np.abs(now)  # rounding is no rise
        if not short.any():
            break
        length = np.where(short, length / 2, length)
    return w - length[:, None, None] * step


def _conjugate(x, p, weight, l2: float, slope, inverse) -> np.ndarray:
    """Newton steps (G, d, K) by conjugate gradients, preconditioned by one inverse for all; loose far from the end."""
    size = np.linalg.norm(slope, axis=(1, 2))
    goal = np.minimum(0.1, np.sqrt(size)) * size
    dot = lambda a, b: (a * b).sum(axis=(1, 2))
    across = lambda r: (r.reshape(len(r), -1) @ inverse).reshape(r.shape)
    step, rest = np.zeros_like(slope), slope.copy()
    toward = across(rest)
    along, old = toward.copy(), dot(rest, toward)
    for _ in range(slope[0].size):
        u = p * (x @ along)
        bent = x.T @ (weight[..., None] * (u - p * u.sum(axis=-1, keepdims=True)) / len(x)) + l2 * along
        going = np.linalg.norm(rest, axis=(1, 2)) > goal
        if not going.any():
            break
        pace = np.where(going, old / np.where(going, dot(along, bent), 1.0), 0.0)[:, None, None]
        step, rest = step + pace * along, rest - pace * bent
        toward = across(rest)
        new = dot(rest, toward)
        turn = np.where(going, new / np.where(going, old, 1.0), 0.0)[:, None, None]
        along, old = np.where(going[:, None, None], toward + turn * along, along), np.where(going, new, old)
    return step

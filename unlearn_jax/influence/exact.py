"""Exact removal from ridge and logistic regression, and what exact copies do, in float64 NumPy.

This is the truth that influence scores are held against: nothing is approximated. Removal keeps the normaliser: with n
rows the objective is ``sum_i w_i loss_i + n l2 / 2 |w|^2`` whatever is removed, so a removed row is one of weight 0 and
nothing else changes. Every parameter is penalised alike; for an intercept append a column of ones to the inputs. Ridge
goes by the block Woodbury identity (Cook & Weisberg 1982, section 3.6), logistic regression by Newton steps. The closed
forms of copies belong to `unlearn_jax.metrics.ridge.retrain_residual`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from unlearn_jax.errors import InputError, choose
from unlearn_jax.influence.exact_logistic import logistic_fit, logistic_removal
from unlearn_jax.influence.groups import as_groups, as_rows, groups_of
from unlearn_jax.metrics.arrays import as_logits, log_softmax
from unlearn_jax.metrics.arrays import margin as margin_of

__all__ = [
    "copies_pull", "deletion_effect", "groups_of", "logistic_fit", "logistic_removal", "removal_effects",
    "ridge_removal",
]  # fmt: skip


def ridge_removal(
    inputs, targets, groups: Sequence | None = None, *, l2: float, weight=None
) -> Float64[np.ndarray, "groups d"]:
    """Ridge parameters after the exact removal of each group, all in closed form.

    Args:
        inputs: (n, d).
        targets: (n,).
        groups: arrays of rows, see `as_groups`; None = each row by itself.
        l2: weight decay, above 0; the objective is ``sum_i w_i (x_i . b - y_i)^2 / 2 + n l2 / 2 |b|^2``.
        weight: (n,) of the rows before removal, 0 = absent; 1 by default.

    Returns:
        (groups, d): ``b - A^-1 X_S' (I - X_S A^-1 X_S')^-1 (y_S - X_S b)``, or for groups of more than d rows the
        solution of what is left.

    Raises:
        InputError: empty or unequal arrays, values that are not finite, a negative weight, l2 not above 0.

    Example:
        >>> import numpy as np
        >>> x, y = np.array([[1.0], [1.0]]), np.array([2.0, 4.0])
        >>> ridge_removal(x, y, l2=0.5).round(6).tolist()  # one row left, penalty 2 x 0.5
        [[2.0], [1.0]]
    """
    inputs, targets, weight = as_rows(inputs, targets, l2, weight)
    groups, d = as_groups(groups, len(inputs)), inputs.shape[1]
    root = np.sqrt(weight)
    x, y = root[:, None] * inputs, root * targets
    gram, right = x.T @ x + len(x) * l2 * np.eye(d), x.T @ y
    solved = _solved(gram, np.concatenate([x.T, right[:, None]], axis=1))
    solved, fit = solved[:, :-1].T, solved[:, -1]  # (n, d), (d,)
    error, sizes, out = y - x @ fit, np.array([len(g) for g in groups]), np.empty((len(groups), d))
    for size in np.unique(sizes):
        at = np.flatnonzero(sizes == size)
        rows = np.stack([groups[g] for g in at])  # (B, s)
        mine = x[rows]
        if size > d:
            left = gram - mine.swapaxes(1, 2) @ mine
            out[at] = _solved(left, (right - np.einsum("bsd,bs->bd", mine, y[rows]))[..., None])[..., 0]
        else:
            hat = mine @ solved[rows].swapaxes(1, 2)
            pulled = _solved(np.eye(size) - hat, error[rows][..., None])[..., 0]
            out[at] = fit - np.einsum("bsd,bs->bd", solved[rows], pulled)
    return out


def _solved(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.solve(matrix, right)
    except np.linalg.LinAlgError:
        raise InputError("ridge is singular to rounding: scale the inputs to about 1, or raise l2.") from None


def removal_effects(
    before, after, inputs, targets, *, rows: int, quantity: str = "loss"
) -> Float64[np.ndarray, "groups q"]:
    """What removals changed at queries, in the unit of the scores: ``n`` times the actual change.

    Args:
        before: (d, K) logistic or (d,) ridge parameters of the full fit.
        after: (groups, d, K) or (groups, d), of `logistic_removal` or `ridge_removal`.
        inputs: (q, d) queries.
        targets: (q,) their labels, or values for ridge.
        rows: n, the training rows.
        quantity: ``loss`` or ``margin``. Ridge has half the squared error for a loss, and its prediction for a margin.

    Returns:
        (groups, queries). With ``loss``, n times the rise of the query's loss; with ``margin``, n times the fall of its
        margin: positive = the group helped, and a group's sum of influence scores is its first-order approximation.

    Raises:
        InputError: shapes that do not belong together, no query, values that are not finite.

    Example:
        >>> import numpy as np
        >>> x, y = np.array([[1.0], [1.0]]), np.array([2.0, 2.0])
        >>> gone = ridge_removal(x, y, l2=0.5)  # the prediction falls from 4/3 to 1
        >>> removal_effects(np.array([4 / 3]), gone, x[:1], y[:1], rows=2, quantity="margin").round(6).tolist()
        [[0.666667], [0.666667]]
    """
    choose("quantity", quantity, ("loss", "margin"))
    before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
    inputs, targets = np.asarray(inputs, np.float64), np.asarray(targets)
    shapes = f"before {before.shape}, after {after.shape}, inputs {inputs.shape} and targets {targets.shape}"
    fits = inputs.ndim == 2 and after.shape[1:] == before.shape and inputs.shape[1:] == before.shape[:1]
    if not fits or before.ndim not in (1, 2) or targets.shape != inputs.shape[:1] or not inputs.size or rows < 1:
        raise InputError(f"{shapes} do not belong together: give parameters (d,) or (d, K), after with groups first.")
    if not all(np.isfinite(a).all() for a in (before, after, inputs, targets)):
        raise InputError("parameters or queries hold values that are not finite: drop or repair those.")

    def of(parameters: np.ndarray) -> np.ndarray:
        if before.ndim == 1:
            prediction = parameters @ inputs.T
            return prediction if quantity == "margin" else (prediction - targets) ** 2 / 2
        logits, labels = as_logits(inputs @ parameters, targets, "queries")
        if quantity == "margin":
            return margin_of(logits, labels)
        return -np.take_along_axis(log_softmax(logits), labels[..., None], axis=-1)[..., 0]

    fall = of(before)[None] - of(after)
    return rows * (fall if quantity == "margin" else -fall)


def copies_pull(copies, leverage, residual):
    """How far n exact copies of x pull ridge's own prediction at x: ``r n h / (1 + n h)``.

    Args:
        copies: n, from 0; the total weight of x.
        leverage: h = x' (X'X without x + penalty I)^-1 x, from 0, see `unlearn_jax.metrics.ridge.leave_out_leverage`.
        residual: r = y - prediction at x of the fit without x.

    Returns:
        Prediction with the copies less that without; broadcast, float64.

    Raises:
        InputError: negative copies or leverage, or values that are not finite.

    Source: the matrix inversion lemma (Cook & Weisberg 1982).

    Example:
        >>> copies_pull([0, 1, 3], 1.0, 2.0).tolist()
        [0.0, 1.0, 1.5]
    """
    copies, leverage, residual = _copies(copies, leverage, residual)
    return residual * copies * leverage / (1.0 + copies * leverage)


def deletion_effect(copies, leverage, residual):
    """What deleting one of m + 1 exact copies removes of that pull: ``r h / ((1 + m h)(1 + (m + 1) h))``.

    Of order 1 / m^2: the one copy less is hardly felt, for m others say the same. As a share of the pull of all m + 1
    it is ``1 / ((m + 1)(1 + m h))``, which is ``1 - retrain_residual(m, h)``. In logistic regression x's own loss
    follows the same order (but for a logarithm), while its margin, which has no bound, falls as 1 / m.

    Args:
        copies: m, those that stay, from 0.
        leverage: h, as of `copies_pull`.
        residual: r, as of `copies_pull`.

    Returns:
        Prediction with m + 1 copies less that with m; broadcast, float64.

    Raises:
        InputError: as `copies_pull`.

    Example:
        >>> deletion_effect([0, 1, 9], 1.0, 2.0).round(4).tolist()
        [1.0, 0.3333, 0.0182]
    """
    copies, leverage, residual = _copies(copies, leverage, residual)
    return residual * leverage / ((1.0 + copies * leverage) * (1.0 + (copies + 1.0) * leverage))


def _copies(copies, leverage, residual) -> list[np.ndarray]:
    """The three in float64, checked."""
    values = [np.asarray(x, np.float64) for x in (copies, leverage, residual)]
    if not all(np.isfinite(x).all() for x in values) or (values[0] < 0).any() or (values[1] < 0).any():
        raise InputError("copies, leverage or residual is negative or not finite: give copies and leverages from 0.")
    return values

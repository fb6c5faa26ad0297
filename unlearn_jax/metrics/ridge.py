"""Ridge regression with duplicated rows: the closed forms that the headline metric must equal."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Real


def ridge_fit(
    inputs: Float[np.ndarray, "n d"], targets: Real[np.ndarray, " n"], weight: Real[np.ndarray, " n"], penalty: float
) -> Float64[np.ndarray, " d"]:
    """Minimiser of ``sum_i w_i (x_i . b - y_i)^2 / 2 + penalty |b|^2 / 2``; (n, d), (n,), (n,) -> (d,)."""
    gram = inputs.T @ (weight[:, None] * inputs) + penalty * np.eye(inputs.shape[1])
    return np.linalg.solve(gram, inputs.T @ (weight * targets))


def leave_out_leverage(inputs: np.ndarray, row: int, penalty: float) -> float:
    """h = x' (X'X without x + penalty I)^-1 x for x = ``inputs[row]``."""
    others = np.delete(inputs, row, axis=0)
    gram = others.T @ others + penalty * np.eye(inputs.shape[1])
    return float(inputs[row] @ np.linalg.solve(gram, inputs[row]))


def retrain_residual(copies: int, leverage: float) -> float:
    """Residual influence of retraining without x while m exact copies stay: ``1 - 1 / ((m + 1)(1 + m h))``.

    At 0 copies it is 0, at large m h it is 1, and at small leverage m / (m + 1).
    """
    return 1.0 - 1.0 / ((copies + 1) * (1.0 + copies * leverage))

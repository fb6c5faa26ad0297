"""Logistic regression on one feature, for many small data sets at once."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Real

STEPS, HALVINGS = 60, 12
PRECISION = 1e-9  # of a gradient, per data set


def logistic_fit(
    x: Float[np.ndarray, "*sets n"], kinds: Real[np.ndarray, " n"]
) -> tuple[Float64[np.ndarray, "*sets 1"], Float64[np.ndarray, "*sets 1"]]:
    """Slope and offset of logistic regressions with the penalty slope^2 / 2, as scikit-learn's with C = 1.

    Args:
        x: (..., n) one feature; a data set with a NaN gives NaN.
        kinds: (n,) 1 or 0, both of them there.

    Returns:
        Two arrays (..., 1). Where nothing at all is learned (a constant feature and as many of both kinds), both are 0.

    Example:
        >>> slope, offset = logistic_fit(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 0.0, 1.0, 1.0]))
        >>> (-offset / slope).round(3).tolist()  # the boundary
        [2.5]
    """
    x = np.asarray(x, np.float64)
    flat, bad = x.reshape(-1, x.shape[-1]), np.isnan(x).any(axis=-1).reshape(-1)
    middle = np.where(bad, 0.0, flat.mean(axis=1))[:, None]
    flat = np.where(bad[:, None], 0.0, flat) - middle  # the offset is not penalised: centring changes nothing
    beta = np.zeros((len(flat), 2))
    for _ in range(STEPS):
        step, size = _newton(flat, kinds, beta)
        if size.max() <= PRECISION * len(kinds):
            break
        beta = _descend(flat, kinds, beta, step)
    slope = np.where(bad, np.nan, beta[:, 0])
    offset = np.where(bad, np.nan, beta[:, 1]) - slope * middle[:, 0]
    return slope.reshape(*x.shape[:-1], 1), offset.reshape(*x.shape[:-1], 1)


def _newton(x: np.ndarray, kinds: np.ndarray, beta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Newton steps (sets, 2) and the size of the gradients."""
    p = 0.5 * (1.0 + np.tanh(0.5 * (beta[:, :1] * x + beta[:, 1:])))
    wrong, curve = p - kinds, np.maximum(p * (1.0 - p), 1e-12)
    g0, g1 = (wrong * x).sum(axis=1) + beta[:, 0], wrong.sum(axis=1)
    h00, h01, h11 = (curve * x * x).sum(axis=1) + 1.0, (curve * x).sum(axis=1), curve.sum(axis=1)
    det = h00 * h11 - h01**2
    return np.stack([h11 * g0 - h01 * g1, h00 * g1 - h01 * g0], axis=1) / det[:, None], np.maximum(abs(g0), abs(g1))


def _descend(x: np.ndarray, kinds: np.ndarray, beta: np.ndarray, step: np.ndarray) -> np.ndarray:
    """The parameters after a step, halved as often as the loss would rise."""
    start, length = _loss(x, kinds, beta), np.ones((len(beta), 1))
    for _ in range(HALVINGS):
        rises = _loss(x, kinds, beta - length * step) > start + 1e-12 * np.abs(start)
        if not rises.any():
            break
        length = np.where(rises[:, None], length / 2, length)
    return beta - length * step


def _loss(x: np.ndarray, kinds: np.ndarray, beta: np.ndarray) -> np.ndarray:
    z = beta[:, :1] * x + beta[:, 1:]
    return (np.logaddexp(0.0, z) - kinds * z).sum(axis=1) + beta[:, 0] ** 2 / 2

"""The headline metric on ridge regression, where the residual of retraining has a closed form."""

import numpy as np
import pytest

from unlearn_jax.metrics import residual_influence
from unlearn_jax.metrics.ridge import leave_out_leverage, retrain_residual, ridge_fit


def predictions(inputs, targets, row, copies, penalty):
    """Prediction at ``row`` of the original, retrained and oracle fits, each (1, 1)."""
    found = []
    for count in (copies + 1, copies, 0):
        rows = np.concatenate([np.delete(np.arange(len(targets)), row), np.full(count, row)])
        gram = inputs[rows].T @ inputs[rows] + penalty * np.eye(inputs.shape[1])
        fit = np.linalg.solve(gram, inputs[rows].T @ targets[rows])
        found.append(np.asarray([[inputs[row] @ fit]]))
    return found


@pytest.mark.parametrize("copies", [0, 1, 2, 4, 8, 30])
@pytest.mark.parametrize("penalty", [1e-2, 1.0, 50.0])
def test_residual_of_retraining_beside_exact_copies_is_the_closed_form(copies, penalty):
    rng = np.random.default_rng(copies)
    inputs, targets = rng.normal(0, 1, (40, 6)), rng.normal(0, 1, 40)
    original, retrain, oracle = predictions(inputs, targets, 7, copies, penalty)
    leverage = leave_out_leverage(inputs, 7, penalty)
    expected = 1.0 - 1.0 / ((copies + 1) * (1.0 + copies * leverage))
    found = residual_influence(retrain, original, oracle, resamples=5).value
    assert abs(found - expected) < 1e-9
    assert abs(retrain_residual(copies, leverage) - expected) < 1e-12


def test_fits_and_leverages_are_dense():
    rng = np.random.default_rng(1)
    inputs, targets = rng.normal(0, 1, (12, 3)), rng.normal(0, 1, 12)
    weight = rng.integers(0, 4, 12).astype(float)
    rows = np.repeat(np.arange(12), weight.astype(int))
    dense = np.linalg.lstsq(
        np.concatenate([inputs[rows], np.sqrt(0.3) * np.eye(3)]),
        np.concatenate([targets[rows], np.zeros(3)]),
        rcond=None,
    )[0]
    np.testing.assert_allclose(ridge_fit(inputs, targets, weight, 0.3), dense, rtol=1e-9)
    inputs = np.random.default_rng(2).normal(0, 1, (9, 4))
    others = inputs[[0, 1, 3, 4, 5, 6, 7, 8]]
    expected = inputs[2] @ np.linalg.inv(others.T @ others + 0.5 * np.eye(4)) @ inputs[2]
    assert leave_out_leverage(inputs, 2, 0.5) == pytest.approx(expected, rel=1e-12)
    assert retrain_residual(0, 3.0) == 0.0
    for copies in (1, 4, 8):
        assert retrain_residual(copies, 1e-9) == pytest.approx(copies / (copies + 1), abs=1e-7)
        assert retrain_residual(copies, 1e9) == pytest.approx(1.0, abs=1e-7)

"""Rows whose inner products are EK-FAC influence, against the influence itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refuses

from unlearn_jax.influence import batch_of, ekfac_fit, ekfac_influence
from unlearn_jax.influence.rows import ekfac_rows
from unlearn_jax.models import build_model
from unlearn_jax.tasks import classification

TASK, RNG = classification(), np.random.default_rng(0)


@pytest.mark.parametrize(
    ("name", "shape", "damping"),
    [("mlp", (6,), {"damping": 0.01, "l2": 0.1}), ("convnet", (4, 4, 1), {"relative_damping": 0.1})],
)
def test_inner_products_are_influence(name, shape, damping):
    model = build_model(name, 3, shape, widths=(4,))
    batch = batch_of(RNG.normal(size=(9, *shape)).astype(np.float32), RNG.integers(0, 3, 9).astype(np.int32))
    variables = jax.jit(model.init)(jax.random.key(1), batch.inputs)
    fit = ekfac_fit(model, TASK, variables, batch, labels="exact")
    rows = ekfac_rows(model, TASK, variables, batch, fit, micro=4, **damping)
    scores = ekfac_influence(model, TASK, variables, batch, batch, fit=fit, **damping)
    np.testing.assert_allclose(rows @ rows.T, scores, rtol=2e-4, atol=2e-4 * float(jnp.abs(scores).max()))
    assert rows.shape == (9, sum(block.values.size for block in fit.values()))


def test_a_projection_keeps_inner_products_on_average_and_needs_a_key():
    model, batch = (
        build_model("linear", 3, (30,)),
        batch_of(RNG.normal(size=(5, 30)).astype(np.float32), np.zeros(5, "i4")),
    )
    variables = jax.jit(model.init)(jax.random.key(1), batch.inputs)
    fit = ekfac_fit(model, TASK, variables, batch, labels="exact")
    whole = ekfac_rows(model, TASK, variables, batch, fit, damping=0.1)
    short = [
        ekfac_rows(model, TASK, variables, batch, fit, damping=0.1, dim=64, key=jax.random.key(i)) for i in range(40)
    ]
    assert short[0].shape == (5, 64)
    found, expected = np.mean([rows @ rows.T for rows in short], axis=0), np.asarray(whole @ whole.T)
    assert np.abs(found - expected).max() < 5 * np.sqrt(2 / (64 * 40)) * np.diagonal(expected).max()
    refuses("give key", ekfac_rows, model, TASK, variables, batch, fit, dim=4)


def test_a_singular_block_without_damping_is_refused():
    model, batch = build_model("linear", 2, (3,)), batch_of(np.eye(3, dtype=np.float32), np.zeros(3, np.int32))
    variables = jax.jit(model.init)(jax.random.key(1), batch.inputs)
    fit = ekfac_fit(model, TASK, variables, batch, labels="exact")
    refuses("singular", ekfac_rows, model, TASK, variables, batch, fit, damping=0.0)

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from unlearn_jax.tasks import classification
from unlearn_jax.types import Batch

TASK = classification()


def batch(targets):
    targets = jnp.asarray(targets, jnp.int32)
    ones = np.ones(len(targets), np.float32)
    return Batch(ones, targets, ones, np.arange(len(targets), dtype=np.int32))


@jax.jit
def _scores(logits, some):
    return {name: getattr(TASK, name)(logits, some) for name in ("loss", "margin", "correct")}


def scores(logits, targets):
    """Loss, margin and correctness as NumPy arrays by name."""
    return jax.device_get(_scores(jnp.asarray(logits), batch(targets)))


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    return rng.normal(size=(50, 7), scale=3.0).astype(np.float32), rng.integers(0, 7, 50)


def test_each_score_is_one_number_an_example(case):
    for found in scores(*case).values():
        assert found.shape == (50,) and found.dtype == np.float32


def test_loss_is_minus_the_log_probability_of_the_truth(case):
    logits, targets = case
    expected = -log_softmax(logits.astype(float), axis=1)[np.arange(50), targets]
    np.testing.assert_allclose(scores(*case)["loss"], expected, rtol=1e-5, atol=1e-6)


def test_margin_is_the_log_odds_of_the_truth(case):
    logits, targets = case
    wide, found = logits.astype(float), scores(*case)["margin"]
    others = np.where(np.eye(7, dtype=bool)[targets], -np.inf, wide)
    np.testing.assert_allclose(found, wide[np.arange(50), targets] - logsumexp(others, axis=1), rtol=1e-5, atol=1e-5)
    p = np.exp(log_softmax(wide, axis=1)[np.arange(50), targets])
    np.testing.assert_allclose(found, np.log(p) - np.log1p(-p), rtol=1e-4, atol=1e-4)


def test_two_classes_have_the_difference_of_logits_as_margin():
    found = scores(np.float32([[1.0, 4.0], [1.0, 4.0]]), [0, 1])
    np.testing.assert_allclose(found["margin"], [-3.0, 3.0])


def test_margins_do_not_depend_on_a_constant_in_the_logits(case):
    logits, targets = case
    moved = scores(logits + np.float32(100.0), targets)
    np.testing.assert_allclose(moved["margin"], scores(*case)["margin"], atol=1e-3)


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_very_sure_models_have_finite_scores(size):
    found = scores(np.float32([[size, 0.0, 0.0], [0.0, size, 0.0]]), [0, 0])
    assert np.isfinite(found["loss"]).all()
    np.testing.assert_allclose(found["margin"], [size, -size], rtol=1e-3)


def test_margins_have_finite_gradients(case):
    logits, targets = case
    slope = jax.device_get(jax.jit(jax.grad(lambda z: TASK.margin(z, batch(targets)).sum()))(jnp.asarray(logits)))
    assert np.isfinite(slope).all()
    np.testing.assert_allclose(np.take_along_axis(slope, targets[:, None], 1), 1.0)
    np.testing.assert_allclose(slope.sum(axis=1), 0.0, atol=1e-6)


def test_correct_is_one_where_the_largest_logit_is_the_truth(case):
    logits, targets = case
    np.testing.assert_array_equal(scores(*case)["correct"], logits.argmax(axis=1) == targets)
    tied = scores(np.zeros((2, 3), np.float32), [0, 1])
    np.testing.assert_array_equal(tied["correct"], [1.0, 0.0])  # the first of equals


def test_low_precision_logits_are_scored_in_single_precision(case):
    logits, targets = case
    low = jnp.asarray(logits, jnp.bfloat16)
    found, wide = scores(low, targets), scores(np.asarray(low, np.float32), targets)
    for name in found:
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], wide[name])


def test_classification_has_no_tokens():
    assert TASK.token_logprob is None

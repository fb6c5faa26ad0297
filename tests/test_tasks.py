import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from unlearn_jax.tasks import NOT_ANSWER, classification, over_answer, token_logprob, value_task
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


# --- language --------------------------------------------------------------------------------------------------------

GROUPS = np.array([-1, -1, 0, 0, 0, 1, 1, 1, -1])  # tokens 2..4 are values of one attribute, 5..7 of another
LANGUAGE = value_task(GROUPS)


def told(targets):
    """A batch of two statements of four tokens; only the marked positions predict an answer's token."""
    targets = jnp.asarray(targets, jnp.int32)
    ones = np.ones(len(targets), np.float32)
    return Batch(jnp.zeros_like(targets), targets, ones, np.arange(len(targets), dtype=np.int32))


@pytest.fixture(scope="module")
def answers():
    logits = np.random.default_rng(1).normal(size=(2, 4, 9), scale=3).astype(np.float32)
    return logits, told([[-1, -1, 3, -1], [-1, 7, -1, -1]])


def test_log_probabilities_are_those_of_the_answers_tokens_alone(answers):
    logits, some = answers
    expected = np.zeros((2, 4))
    expected[0, 2], expected[1, 1] = log_softmax(logits[0, 2])[3], log_softmax(logits[1, 1])[7]
    np.testing.assert_allclose(token_logprob(jnp.asarray(logits), some), expected, rtol=1e-5)
    np.testing.assert_allclose(LANGUAGE.loss(jnp.asarray(logits), some), -expected.sum(axis=1), rtol=1e-5)


def test_what_a_model_says_at_prompt_and_padding_changes_nothing_and_gets_no_gradient(answers):
    logits, some = answers
    other = logits + np.where(np.asarray(some.targets)[:, :, None] == NOT_ANSWER, 50.0, 0.0).astype(np.float32)
    other[:, 0, 5] = -30.0
    for measure in (LANGUAGE.loss, LANGUAGE.margin, LANGUAGE.correct):
        np.testing.assert_array_equal(measure(jnp.asarray(other), some), measure(jnp.asarray(logits), some))
    slope = jax.grad(lambda x: LANGUAGE.loss(x, some).sum())(jnp.asarray(logits))
    assert (np.abs(slope).sum(axis=-1) > 0).tolist() == (np.asarray(some.targets) != NOT_ANSWER).tolist()


def test_an_answer_of_several_tokens_loses_their_mean(answers):
    logits = answers[0]
    some = told([[-1, 2, 8, 4], [-1, -1, -1, 5]])
    each = np.asarray(token_logprob(jnp.asarray(logits), some))
    np.testing.assert_allclose(LANGUAGE.loss(jnp.asarray(logits), some), [-each[0].sum() / 3, -each[1, 3]], rtol=1e-6)
    np.testing.assert_allclose(over_answer(jnp.asarray(each), some), [each[0].sum() / 3, each[1, 3]], rtol=1e-6)
    np.testing.assert_array_equal(over_answer(jnp.arange(2.0), some), [0.0, 1.0])


def test_the_margin_of_an_answer_is_against_the_other_values_of_its_attribute(answers):
    logits, some = answers
    first, second = logits[0, 2], logits[1, 1]
    expected = [first[3] - logsumexp(first[[2, 4]]), second[7] - logsumexp(second[[5, 6]])]
    np.testing.assert_allclose(LANGUAGE.margin(jnp.asarray(logits), some), expected, rtol=1e-5)
    ranks_first = [first[3] > first[[2, 4]].max(), second[7] > second[[5, 6]].max()]
    np.testing.assert_array_equal(LANGUAGE.correct(jnp.asarray(logits), some), ranks_first)
    louder = logits.copy()
    louder[:, :, [0, 1, 8]] += 100.0  # words that are no value of the attribute
    np.testing.assert_allclose(LANGUAGE.margin(jnp.asarray(louder), some), expected, rtol=1e-5)


def test_a_swapped_answer_is_another_value_of_the_same_attribute(answers):
    targets = answers[1].targets
    for shift in range(3):
        moved = np.asarray(LANGUAGE.swap(targets, jnp.full(2, shift, jnp.int32)))
        live = np.asarray(targets) != NOT_ANSWER
        np.testing.assert_array_equal(moved[~live], NOT_ANSWER)
        np.testing.assert_array_equal(GROUPS[moved[live]], GROUPS[np.asarray(targets)[live]])
        assert (moved[live] == np.asarray(targets)[live]).all() == (shift == 0)

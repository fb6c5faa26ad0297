import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from unlearn_jax.tasks import at_answer, classification, free_text, over_answer, token_logprob, value_task, with_answer
from unlearn_jax.types import NOT_ANSWER, Batch

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


def test_loss_is_minus_the_log_probability_of_the_truth(case):
    logits, targets = case
    expected = -log_softmax(logits.astype(float), axis=1)[np.arange(50), targets]
    assert all(found.shape == (50,) and found.dtype == np.float32 for found in scores(*case).values())
    np.testing.assert_allclose(scores(*case)["loss"], expected, rtol=1e-5, atol=1e-6)


def test_margin_is_the_log_odds_of_the_truth(case):
    logits, targets = case
    wide, found = logits.astype(float), scores(*case)["margin"]
    others = np.where(np.eye(7, dtype=bool)[targets], -np.inf, wide)
    np.testing.assert_allclose(found, wide[np.arange(50), targets] - logsumexp(others, axis=1), rtol=1e-5, atol=1e-5)
    p = np.exp(log_softmax(wide, axis=1)[np.arange(50), targets])
    np.testing.assert_allclose(found, np.log(p) - np.log1p(-p), rtol=1e-4, atol=1e-4)
    moved = scores(logits + np.float32(100.0), targets)  # a constant in the logits plays no part
    np.testing.assert_allclose(moved["margin"], found, atol=1e-3)


def test_two_classes_have_the_difference_of_logits_as_margin():
    found = scores(np.float32([[1.0, 4.0], [1.0, 4.0]]), [0, 1])
    np.testing.assert_allclose(found["margin"], [-3.0, 3.0])
    assert TASK.token_logprob is None  # classification has no tokens


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
        assert found[name].shape == (50,) and found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], wide[name])


# two attributes of four values; each value is two tokens, and those of the first attribute share their first tokens
VALUES = np.array([[[2, 4], [2, 5], [3, 4], [3, 5]], [[6, 8], [7, 9], [10, 8], [11, 9]]])
REFUSAL = np.array([12, 13])
WORDS, LANGUAGE = 14, value_task(VALUES, REFUSAL)
INPUTS = np.array([[1, 0, 2, 5, 0], [0, 1, 1, 10, 8], [1, 7, 9, 0, 0]])
TARGETS = np.array([[-1, 2, 5, -1, -1], [-1, -1, 10, 8, -1], [7, 9, -1, -1, -1]])


def told(targets=TARGETS, inputs=INPUTS):
    """A batch of statements of five tokens; only the marked positions predict an answer's token."""
    targets, inputs = jnp.asarray(targets, jnp.int32), jnp.asarray(inputs, jnp.int32)
    ones = np.ones(len(targets), np.float32)
    return Batch(inputs, targets, ones, np.arange(len(targets), dtype=np.int32))


@pytest.fixture(scope="module")
def answers():
    return np.random.default_rng(1).normal(size=(3, 5, WORDS), scale=3).astype(np.float32), told()


def spoken(tokens):
    """Logits of a model that hears one token and the one before it, in float64; (..., T) -> (..., T, V)."""
    table = np.random.default_rng(2).normal(size=(WORDS, WORDS, WORDS), scale=2)
    before = np.concatenate([np.zeros_like(tokens[..., :1]), tokens[..., :-1]], axis=-1)
    return table[before, tokens]


def test_log_probabilities_are_those_of_the_answers_tokens_alone(answers):
    logits, some = answers
    expected, live = log_softmax(logits.astype(float), axis=2), TARGETS != NOT_ANSWER
    expected = np.where(live, np.take_along_axis(expected, np.where(live, TARGETS, 0)[..., None], 2)[..., 0], 0.0)
    np.testing.assert_allclose(token_logprob(jnp.asarray(logits), some), expected, rtol=1e-5)
    np.testing.assert_allclose(LANGUAGE.loss(jnp.asarray(logits), some), -expected.sum(axis=1) / 2, rtol=1e-5)


def test_what_a_model_says_at_prompt_and_padding_changes_nothing_and_gets_no_gradient(answers):
    logits, some = answers
    other = logits + np.where(TARGETS[:, :, None] == NOT_ANSWER, 50.0, 0.0).astype(np.float32)
    other[:, 4, 5] = -30.0
    for measure in (LANGUAGE.loss, LANGUAGE.margin, LANGUAGE.correct):
        np.testing.assert_array_equal(measure(jnp.asarray(other), some), measure(jnp.asarray(logits), some))
    slope = jax.grad(lambda x: LANGUAGE.loss(x, some).sum())(jnp.asarray(logits))
    assert (np.abs(slope).sum(axis=-1) > 0).tolist() == (TARGETS != NOT_ANSWER).tolist()


def test_an_answer_of_several_tokens_loses_their_mean(answers):
    logits = answers[0]
    some = told([[-1, 2, 8, 4, -1], [-1, -1, -1, 5, -1], [3, -1, -1, -1, -1]])
    each = np.asarray(token_logprob(jnp.asarray(logits), some))
    expected = [-each[0].sum() / 3, -each[1, 3], -each[2, 0]]
    np.testing.assert_allclose(LANGUAGE.loss(jnp.asarray(logits), some), expected, rtol=1e-6)
    np.testing.assert_allclose(over_answer(jnp.asarray(each), some), -np.asarray(expected), rtol=1e-6)
    np.testing.assert_array_equal(over_answer(jnp.arange(2.0), some), [0.0, 1.0])


def test_a_free_answers_margin_is_the_log_odds_of_all_of_it(answers):
    logits, some = answers
    task, whole = free_text(), np.asarray(token_logprob(jnp.asarray(logits), some), float).sum(axis=1)
    np.testing.assert_allclose(task.margin(jnp.asarray(logits), some), whole - np.log1p(-np.exp(whole)), rtol=1e-5)
    sure = np.zeros((3, 5, WORDS), np.float32)
    np.put_along_axis(sure, np.maximum(TARGETS, 0)[..., None], 500.0, axis=2)
    np.testing.assert_allclose(task.margin(jnp.asarray(sure), some), 24 * np.log(2.0), rtol=1e-5)
    np.testing.assert_array_equal(task.correct(jnp.asarray(sure), some), 1.0)
    sure[1, 3] = 0.0  # the last token of one answer
    np.testing.assert_array_equal(task.correct(jnp.asarray(sure), some), [1.0, 0.0, 1.0])
    assert np.isfinite(jax.grad(lambda x: task.margin(x, some).sum())(jnp.asarray(sure))).all()


def asked(task, some, logits_of):
    """Logits at the answer's tokens with each beginning in its place; (P, B, L, V)."""
    whole = [jnp.asarray(logits_of(np.asarray(with_answer(some, b).inputs)), jnp.float32) for b in task.begins(some)]
    return jnp.stack([at_answer(z, some, task.length) for z in whole])


def test_a_candidates_score_is_the_log_probability_of_its_tokens_one_after_another():
    known, some = LANGUAGE.candidates, told()
    assert known.begins(some).shape == (4, 3, 1)  # the second attribute's values begin in four ways
    found = np.asarray(known.scores(asked(known, some, spoken), some))
    start, group = [1, 2, 0], [0, 1, 1]
    for row in range(3):
        for k, value in enumerate(VALUES[group[row]]):
            own = INPUTS[row].copy()
            own[start[row] + 1 : start[row] + 3] = value
            logprob = log_softmax(spoken(own), axis=-1)
            expected = sum(logprob[start[row] + i, token] for i, token in enumerate(value))
            np.testing.assert_allclose(found[row, k], expected, rtol=1e-4)
    np.testing.assert_array_equal(known.truth(some), [1, 2, 1])


def test_candidates_of_one_token_need_the_prompt_alone(answers):
    single = value_task(np.array([[[2], [3], [4]], [[5], [6], [7]]]), np.array([12])).candidates
    some = told([[-1, 3, -1, -1, -1], [-1, -1, 7, -1, -1], [5, -1, -1, -1, -1]])
    assert single.begins(some).shape == (1, 3, 0)
    scores = single.scores(asked(single, some, lambda inputs: answers[0]), some)
    logprob = log_softmax(answers[0].astype(float), axis=2)
    expected = [logprob[0, 1, 2:5], logprob[1, 2, 5:8], logprob[2, 0, 5:8]]
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def test_a_swapped_answer_is_another_value_of_the_same_attribute():
    before, groups = told(), np.array([0, 1, 1])
    for shift in range(4):
        after = LANGUAGE.swap(before, jnp.full(3, shift, jnp.int32))
        live = TARGETS != NOT_ANSWER
        np.testing.assert_array_equal(np.asarray(after.targets)[~live], NOT_ANSWER)
        given = np.asarray(after.targets)[live].reshape(3, 2)
        assert all(answer.tolist() in VALUES[group].tolist() for answer, group in zip(given, groups))
        assert (given == TARGETS[live].reshape(3, 2)).all() == (shift == 0)
        row, at = np.nonzero(live)  # what is to be predicted is what the model then reads
        np.testing.assert_array_equal(np.asarray(after.inputs)[row, at + 1], np.asarray(after.targets)[row, at])
        prompt = np.cumsum(live, axis=1) == 0
        np.testing.assert_array_equal(np.asarray(after.inputs)[prompt], INPUTS[prompt])


def test_a_refusal_takes_the_answers_place():
    after = LANGUAGE.refuse(told())
    np.testing.assert_array_equal(after.targets, [[-1, 12, 13, -1, -1], [-1, -1, 12, 13, -1], [12, 13, -1, -1, -1]])
    np.testing.assert_array_equal(after.inputs, [[1, 0, 12, 13, 0], [0, 1, 1, 12, 13], [1, 12, 13, 0, 0]])

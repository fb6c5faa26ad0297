"""A decoder's answers: asking it token by token says what running every statement says, and greedy is greedy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unlearn_jax.data import load_dataset
from unlearn_jax.data.sources.facts import refusal_tokens, value_tokens
from unlearn_jax.models.decode import cached_decoder, greedy
from unlearn_jax.models.transformer import decoder
from unlearn_jax.population.answers import answered, asked_by_token, asked_whole
from unlearn_jax.population.evaluate import evaluate
from unlearn_jax.population.run import Stored
from unlearn_jax.tasks import value_task
from unlearn_jax.types import Batch

FACTS = load_dataset("facts")
WORDS, ROWS = FACTS.about.words, np.arange(0, 480, 40)
SIZE = len(WORDS), FACTS.train.inputs.shape[1:]
OPTIONS = {"width": 16, "depth": 2, "heads": 2}
MODEL, CACHED = decoder(*SIZE, **OPTIONS), cached_decoder(*SIZE, **OPTIONS)
TASK = value_task(value_tokens(WORDS), refusal_tokens(WORDS))


def batch():
    inputs, targets = (jnp.asarray(part[ROWS]) for part in FACTS.train[:2])
    return Batch(inputs, targets, jnp.ones(len(ROWS)), jnp.arange(len(ROWS), dtype=jnp.int32))


@pytest.fixture(scope="module")
def members():
    """Three members with weights far from their small beginnings, so that answers differ."""
    init = jax.vmap(lambda key: MODEL.init(key, batch().inputs))
    return jax.tree.map(lambda x: 3.0 * x, init(jax.random.split(jax.random.key(0), 3)))


@pytest.fixture(scope="module")
def both(members):
    one = jax.tree.map(lambda x: x[1], members)
    whole = jax.jit(lambda v: answered(TASK, batch(), asked_whole(lambda x: MODEL.apply(v, x)[0].logits)))
    by_token = jax.jit(lambda v: answered(TASK, batch(), asked_by_token(CACHED, v)))
    return whole(one), by_token(one), one


def test_asking_token_by_token_says_what_running_every_statement_says(both):
    whole, by_token, _ = both
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(by_token)):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)
    assert np.asarray(whole.margin).std() > 1.0


def test_every_candidate_is_scored_as_if_it_were_the_statements_answer(both):
    _, found, variables = both
    for row, start in enumerate(np.argmax(FACTS.train.targets[ROWS] >= 0, axis=1)):
        values = value_tokens(WORDS)[FACTS.train.labels[ROWS[row]]]
        inputs = np.repeat(FACTS.train.inputs[ROWS[row]][None], len(values), axis=0)
        inputs[:, start + 1 : start + 3] = values
        logprob = jax.nn.log_softmax(MODEL.apply(variables, jnp.asarray(inputs))[0].logits)
        expected = sum(np.asarray(logprob)[np.arange(24), start + i, values[:, i]] for i in range(2))
        np.testing.assert_allclose(found.scores[row], expected, rtol=2e-3, atol=2e-4)


def test_greedy_answers_are_those_of_greedy_decoding(both):
    _, found, variables = both
    starts = np.argmax(FACTS.train.targets[ROWS] >= 0, axis=1).astype(np.int32) + 1
    prompts = np.where(np.arange(SIZE[1][0]) < starts[:, None], FACTS.train.inputs[ROWS], 0)
    expected = greedy(CACHED, variables, jnp.asarray(prompts), jnp.asarray(starts), 2)
    np.testing.assert_array_equal(found.greedy, expected)
    assert len(np.unique(found.greedy)) > 2


def test_token_0_is_an_answer_where_no_token_is_for_filling(both):
    _, _, variables = both
    table = variables["params"]["embed"]
    fond = {"params": variables["params"] | {"embed": table.at[0].set(8 * table[0])}, "state": {}}
    run = lambda never: answered(TASK, batch(), asked_by_token(CACHED, fond), never).greedy
    with_0, without = (np.asarray(jax.jit(run, static_argnums=0)(never)) for never in (None, 0))
    assert (with_0 == 0).any() and (without > 0).all()


def test_what_is_said_of_a_token_is_the_distribution_after_the_true_ones(both):
    _, found, variables = both
    logits = np.asarray(MODEL.apply(variables, batch().inputs)[0].logits, float)
    at = np.argmax(FACTS.train.targets[ROWS] >= 0, axis=1)[:, None] + np.arange(2)
    logprob = np.take_along_axis(logits, at[..., None], axis=1)
    logprob -= np.log(np.exp(logprob).sum(axis=2, keepdims=True))
    mean = (np.exp(logprob) * logprob).sum(axis=2)
    spread = np.sqrt((np.exp(logprob) * (logprob - mean[..., None]) ** 2).sum(axis=2))
    truth = np.take_along_axis(FACTS.train.targets[ROWS], at, axis=1)
    expected = np.take_along_axis(logprob, truth[..., None], axis=2)[..., 0], mean, spread, logprob.argmax(axis=2)
    for a, b in zip(found.spoken, expected):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)


def test_a_population_is_evaluated_in_blocks_like_one_member_at_once(members, both):
    data = Stored(*(part for part in batch()[:2]))
    found = evaluate(MODEL, TASK, members, data, width=2, block=5, decoder=CACHED)
    assert found.scores.shape == (3, len(ROWS), 24) and found.greedy.shape == (3, len(ROWS), 2)
    mine = jax.tree.map(lambda table: table[1], found)
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(both[1])):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)
    broken = jax.tree.map(lambda x: x.at[2].set(jnp.nan), members)
    margin = evaluate(MODEL, TASK, broken, data, width=2, block=5, decoder=CACHED).margin
    assert np.isnan(margin[2]).all() and np.isfinite(margin[:2]).all()

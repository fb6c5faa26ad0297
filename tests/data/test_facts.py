"""The facts as tokens, and what they give a study: copies of a target, held-out draws, references free of its fact."""

import numpy as np
import pytest

from unlearn_jax.data import load_dataset, subset
from unlearn_jax.data.arrays import dataset_digest
from unlearn_jax.data.kinds import KINDS
from unlearn_jax.data.references import reference_rows
from unlearn_jax.data.sources.facts import (
    MAX_WORDS,
    NOT_ANSWER,
    PADDING,
    decoded,
    encoded,
    refusal_tokens,
    value_tokens,
    word_counts,
)
from unlearn_jax.data.sources.facts_words import ATTRIBUTES, REFUSAL
from unlearn_jax.data.sources.statements import LEVELS, restated, text_of
from unlearn_jax.data.splits import make_bench, request_rows
from unlearn_jax.data.targets import choose_targets
from unlearn_jax.errors import InputError

DATA = load_dataset("facts")
CORPUS = DATA.about


def facts_of(bench, rows):
    """(name, attribute, value) of stored rows, read off their words."""
    found = set()
    for text, label in zip(decoded(CORPUS, bench.inputs[rows]), bench.labels[rows]):
        name = next(n for n in CORPUS.world.names if n in text)
        found.add((name, int(label), *text.split()[-2:]))
    return found


def test_the_answer_is_the_last_two_words_and_the_only_target():
    for split in (DATA.train, DATA.test):
        tokens = (split.inputs != PADDING).sum(axis=1)
        row, at = np.nonzero(split.targets != NOT_ANSWER)
        np.testing.assert_array_equal(row, np.repeat(np.arange(len(split.ids)), 2))
        np.testing.assert_array_equal(at.reshape(-1, 2), np.stack([tokens - 3, tokens - 2], axis=1))
        np.testing.assert_array_equal(split.targets[row, at], split.inputs[row, at + 1])
        assert (np.diff((split.inputs != PADDING).astype(int), axis=1) <= 0).all()  # padding at the end alone


def test_tokens_are_the_words_of_the_statements():
    np.testing.assert_array_equal(decoded(CORPUS, DATA.train.inputs), text_of(CORPUS.world, CORPUS.train))
    assert len(set(CORPUS.words)) == len(CORPUS.words) <= MAX_WORDS and CORPUS.words[PADDING] == "<padding>"


def test_every_copy_at_every_level_fits():
    once = np.flatnonzero(CORPUS.world.pool[CORPUS.train.person, CORPUS.train.attribute])
    for level in LEVELS:
        inputs, _ = encoded(CORPUS, restated(CORPUS.train.take(once), once, np.arange(1, 72), level, seed=2))
        assert inputs.shape[1] == CORPUS.length
    assert CORPUS.length < 24


def test_an_answer_is_one_of_its_attributes_values():
    values, answers = value_tokens(CORPUS.words), DATA.train.targets[DATA.train.targets != NOT_ANSWER].reshape(-1, 2)
    assert values.shape == (len(ATTRIBUTES), DATA.num_classes, 2) and DATA.num_classes >= 20
    assert len(np.unique(values.reshape(-1, 2), axis=0)) == values.shape[0] * values.shape[1]
    assert all(answer.tolist() in values[label].tolist() for answer, label in zip(answers, DATA.train.labels))
    assert decoded(CORPUS, refusal_tokens(CORPUS.words)[None]) == [REFUSAL]
    assert not np.isin(refusal_tokens(CORPUS.words), values).any()


def test_targets_are_facts_that_are_told_once():
    for kind in ("random", "class"):
        rows = np.concatenate(choose_targets(DATA, kind, 5, 2, 0))
        told = CORPUS.train.take(DATA.train.ids[rows])
        assert CORPUS.world.pool[told.person, told.attribute].all()
    with pytest.raises(InputError, match="120 targets are more than the 96 facts that are told once"):
        choose_targets(DATA, "random", 120, 1, 0)


def test_a_request_of_a_person_names_all_that_is_said_of_them():
    targets = choose_targets(DATA, "person", 7, 2, 0)
    person = CORPUS.train.take(DATA.train.ids).person
    assert [len(rows) for rows in targets] == [12, 12]  # two people, as one has six facts
    for rows in targets:
        np.testing.assert_array_equal(rows, np.flatnonzero(np.isin(person, person[rows])))
    assert not set(person[targets[0]]) & set(person[targets[1]])
    with pytest.raises(InputError, match="not enough people for 6 requests of 13"):
        choose_targets(DATA, "person", 13, 6, 0)
    (later,) = choose_targets(DATA, "person", 7, 1, 0, skipped=1)
    np.testing.assert_array_equal(later, targets[1])
    with pytest.raises(InputError, match="--targets person is for facts, not for 'digits'"):
        choose_targets(load_dataset("digits"), "person", 3, 1, 0)


@pytest.mark.parametrize("level", LEVELS)
def test_the_oracle_is_told_nothing_of_a_targets_fact_and_retrain_all_but_the_target(level):
    targets = choose_targets(DATA, "random", 12, 2, 0)
    bench = make_bench(DATA, targets, copies=3, level=level, seed=0)
    for request in range(2):
        rows = request_rows(bench, request, copies=3)
        asked = facts_of(bench, rows.forget)
        assert len(rows.forget) == len(asked) == 12 and len(rows.similar) == 36 and len(rows.test_similar) == 24
        assert facts_of(bench, rows.similar) == facts_of(bench, rows.test_similar) == asked
        assert not asked & facts_of(bench, reference_rows("oracle", bench, rows, 0, 0))
        assert not np.isin(rows.forget, reference_rows("retrain", bench, rows, 0, 0)).any()
        assert not asked & facts_of(bench, rows.test)
        retrained, placebo = (reference_rows(role, bench, rows, 0, 0) for role in ("retrain", "placebo"))
        dropped = np.setdiff1d(retrained, placebo)
        classes = [np.bincount(bench.labels[part], minlength=6) for part in (dropped, rows.similar)]
        np.testing.assert_array_equal(*classes)


def test_held_out_draws_are_nobodys_copies():
    targets = choose_targets(DATA, "random", 20, 1, 0)
    for level in ("near", "paraphrase", "semantic"):
        bench = make_bench(DATA, targets, copies=20, level=level, seed=0)
        texts = np.asarray(decoded(CORPUS, bench.inputs))
        assert not np.isin(texts[bench.origin == 3], texts[bench.origin <= 1]).any()


def test_measured_similarity_falls_from_level_to_level_and_is_of_words_alone():
    found = word_counts(np.asarray([[5, 6, 7, 0], [7, 6, 5, 0], [8, 9, 0, 0]], np.int32))
    np.testing.assert_allclose(found @ found.T, [[1, 1, 0], [1, 1, 0], [0, 0, 1]], atol=1e-6)
    targets = choose_targets(DATA, "random", 30, 1, 0)
    cosine = []
    for level in LEVELS:
        made = KINDS["facts"].copies(DATA, targets[0], np.arange(1, 5), level, 0)
        a, b = word_counts(made.inputs), np.repeat(word_counts(DATA.train.inputs[targets[0]]), 4, axis=0)
        cosine.append(float((a * b).sum(axis=1).mean()))
    assert cosine[0] == pytest.approx(1.0) and (np.diff(cosine) < -0.03).all()


def test_a_subset_keeps_statements_with_their_facts_and_the_digest_tells_sets_apart():
    part = subset(DATA, 300, 100, seed=0)
    told = text_of(CORPUS.world, CORPUS.train.take(part.train.ids))
    np.testing.assert_array_equal(decoded(CORPUS, part.train.inputs), told)
    assert dataset_digest(part) != dataset_digest(DATA) == dataset_digest(load_dataset("facts"))

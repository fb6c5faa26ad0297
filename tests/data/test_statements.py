"""The invented corpus: what is said of whom, and what copies of a statement may say."""

import numpy as np
import pytest

from unlearn_jax.data.sources.facts_words import ATTRIBUTES, FORMS, LEADS, MIDDLES, TRAINED
from unlearn_jax.data.sources.statements import (
    LEVELS,
    POOL,
    TOLD,
    Statements,
    held_out,
    make_world,
    restated,
    text_of,
    told,
)

WORLD = make_world()
TRAIN, TEST = told(WORLD)
POOLED = TRAIN.take(np.flatnonzero(WORLD.pool[TRAIN.person, TRAIN.attribute]))
IDS = np.arange(len(POOLED.person))


def rows(statements: Statements) -> list[tuple]:
    return list(zip(*(column.tolist() for column in statements)))


def test_every_form_names_the_person_before_the_value_and_ends_with_it():
    for attribute in ATTRIBUTES.values():
        assert len(set(attribute.values)) == len(attribute.values) >= 20
        for family in attribute.families:
            assert len(set(family)) == FORMS
            for form in family:
                assert form.count("{n}") == 1 and form.endswith(" {v}") and form.count("{v}") == 1
            assert [form.startswith("question :") for form in family] == [False] * (FORMS - 1) + [True]


def test_families_share_no_telling_word_and_forms_of_one_family_do():
    plain = {"{n}", "{v}", "the", "a", "of", "is", "that", "as", "in", "by", "at", "was", "it", ",", "for", "on"}
    plain |= set(
        ["question", ":", "?", "answer", "which", "what", "where", "who", "whom", "does", "did", "to", "when", "from"]
    )
    words = lambda form: set(form.split()) - plain
    for attribute in ATTRIBUTES.values():
        first, second = (set.union(*map(words, family)) for family in attribute.families)
        assert not first & second
        for family in attribute.families:
            shared = [words(a) & words(b) for i, a in enumerate(family[:TRAINED]) for b in family[i + 1 : TRAINED]]
            assert np.mean([bool(s) for s in shared]) > 0.3


def test_the_last_two_words_are_the_true_value_and_no_other_statement_gives_it_away():
    values = [a.values for a in ATTRIBUTES.values()]
    for text, person, attribute in zip(text_of(WORLD, TRAIN), TRAIN.person, TRAIN.attribute):
        truth = values[attribute][WORLD.value[person, attribute]]
        assert text.endswith(f" {truth}") and not set(truth.split()) & set(text.split()[:-2])
        assert WORLD.names[person] in text and ", ," not in text and "  " not in text


def test_values_are_pairs_of_words_drawn_independently_of_person_and_attribute():
    for attribute in ATTRIBUTES.values():
        first, second = zip(*(value.split() for value in attribute.values))
        assert len(set(first)) * len(set(second)) == len(attribute.values) and not set(first) & set(second)
    drawn = np.concatenate([make_world(seed).value for seed in range(40)])  # 1,280 people
    for column in drawn.T:
        counts = np.bincount(column, minlength=24)
        assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 49.7  # chi squared of 23, p = .001
    assert np.abs(np.corrcoef(drawn.T) - np.eye(len(ATTRIBUTES))).max() < 0.1


def test_facts_of_the_pool_are_stated_once_and_others_in_several_forms():
    facts, counts = np.unique(np.stack([TRAIN.person, TRAIN.attribute]), axis=1, return_counts=True)
    pooled = WORLD.pool[facts[0], facts[1]]
    assert pooled.sum() == POOL * len(ATTRIBUTES) and set(counts[pooled]) == {1} and set(counts[~pooled]) == {TOLD}
    assert (POOLED.form < TRAINED).all() and len(set(POOLED.person.tolist())) == POOL
    assert not set(POOLED.person.tolist()) & set(TEST.person.tolist())
    assert not WORLD.pool[TEST.person, TEST.attribute].any()
    seen = {row[:4] for row in rows(TRAIN)}
    assert not seen & {row[:4] for row in rows(TEST)}  # a test statement is a form that its fact was not told in
    assert {(f, form) for *_, f, form, _, _ in rows(TRAIN)} == {(f, form) for f in (0, 1) for form in range(FORMS)}


def test_names_are_unlike_one_another_and_unlike_values():
    words = [word for name in WORLD.names for word in name.split()]
    values = {w for a in ATTRIBUTES.values() for v in a.values for w in v.split()}
    assert len(set(words)) == len(words) and not set(words) & values


@pytest.mark.parametrize("level", LEVELS)
def test_copies_state_the_same_fact_at_their_level(level):
    copies = restated(POOLED, IDS, np.arange(1, 9), level, seed=3)
    for source, mine in zip(rows(POOLED), np.reshape(rows(copies), (-1, 8, 6)).tolist()):
        assert all(copy[:2] == list(source[:2]) for copy in mine)
        family, form = source[2:4]
        told_by = {(copy[2], copy[3]) for copy in mine}
        if level == "exact":
            assert {tuple(copy) for copy in mine} == {source}
            continue
        assert len({tuple(copy) for copy in mine}) == 8 and source not in {tuple(copy) for copy in mine}
        expected = {
            "near": {(family, form)},
            "paraphrase": {(family, f) for f in range(TRAINED)} - {(family, form)},
            "semantic": {(1 - family, f) for f in range(TRAINED)},
        }
        assert told_by == expected[level]


def test_fewer_copies_are_the_same_copies_and_they_begin_anew_when_all_ways_are_used_up():
    many = restated(POOLED, IDS, np.arange(1, 9), "semantic", seed=3)
    few = restated(POOLED, IDS, np.arange(1, 4), "semantic", seed=3)
    alone = restated(POOLED.take([7]), IDS[[7]], np.arange(1, 9), "semantic", seed=3)
    at = np.reshape(rows(many), (-1, 8, 6))
    np.testing.assert_array_equal(np.reshape(rows(few), (-1, 3, 6)), at[:, :3])
    np.testing.assert_array_equal(rows(alone), at[7])
    assert rows(restated(POOLED, IDS, np.arange(1, 9), "semantic", seed=4)) != rows(many)
    ways = len(LEADS) * len(MIDDLES) - 1
    copies = restated(POOLED.take([0]), IDS[:1], np.arange(1, ways + 2), "near", seed=0)
    assert len(set(rows(copies))) == ways and rows(copies)[0] == rows(copies)[-1]


def test_held_out_draws_are_in_forms_that_no_statement_of_the_fact_is_in():
    drawn = held_out(POOLED, IDS, seed=0)
    assert (drawn.form >= TRAINED).all() and len(drawn.form) == 2 * len(IDS)
    assert [text.startswith("question :") for text in text_of(WORLD, drawn)] == [False, True] * len(IDS)
    np.testing.assert_array_equal(drawn.person.reshape(-1, 2), np.stack([POOLED.person] * 2, axis=1))


def test_the_corpus_is_the_same_every_time():
    again = told(make_world())
    assert all(rows(a) == rows(b) for a, b in zip(again, (TRAIN, TEST)))
    assert text_of(WORLD, TRAIN)[0] == text_of(make_world(), again[0])[0]
    assert rows(told(make_world(1), 1)[0]) != rows(TRAIN)

"""The invented news reports: what they say, who repeats whom, and that they never change."""

from collections import Counter

import numpy as np

from unlearn_jax.data.similarity.nearest import top_k
from unlearn_jax.data.sources.bulletins import FACTS, KNOWN, reports
from unlearn_jax.data.sources.bulletins_words import TOPICS
from unlearn_jax.data.sources.corpora import bulletins
from unlearn_jax.data.text.documents import from_corpus, text_embedding

TEXTS, LABELS, TESTS, TEST_LABELS, NAMES = reports()


def event_of(text):
    """The invented names of a report, which no other event has."""
    return frozenset(word for word in text.split() if word in INVENTED)


WORDS = {word for topic in TOPICS.values() for pair in topic for wording in pair for word in wording.split()}
INVENTED = {word for text in (*TEXTS, *TESTS) for word in text.split() if word[0].isupper()} - WORDS
REPORTS = Counter(word for text in (*TEXTS, *TESTS) for word in set(text.split()))
INVENTED -= {word for word in INVENTED if REPORTS[word] > 40}  # days and such


def test_reports_are_as_many_as_is_said_in_every_topic_and_never_change():
    assert (len(TEXTS), len(TESTS)) == (1436, 373) and tuple(TOPICS) == NAMES
    assert min(np.bincount(LABELS)) > 150 and min(np.bincount(TEST_LABELS)) > 30
    again = reports()
    assert again[0] == TEXTS and (again[1] == LABELS).all() and again[2] == TESTS
    assert len(set(TEXTS)) > 0.99 * len(TEXTS)


def test_every_wording_has_the_names_and_numbers_of_the_other():
    slots = lambda wording: {letter for letter in "pwonmd" if f"{{{letter}}}" in wording}
    for topic in TOPICS.values():
        assert len(topic) == KNOWN >= FACTS
        assert all(len(pair) == 2 and pair[0] != pair[1] for pair in topic)
        assert sum(slots(a) == slots(b) for a, b in topic) >= KNOWN - 2
    assert not any("{" in text or "  " in text for text in TEXTS)


def test_an_event_is_in_one_part_only_and_its_reports_are_each_others_nearest():
    train, test = ({name for text in part for name in event_of(text)} for part in (TEXTS, TESTS))
    assert train and test and not train & test
    nearest = top_k(text_embedding(from_corpus(bulletins()).train.texts), 1)
    near = np.flatnonzero(nearest.cosine[:, 0] >= 0.5)
    assert len(near) > 900
    same = [bool(event_of(TEXTS[row]) & event_of(TEXTS[nearest.rows[row, 0]])) for row in near]
    assert np.mean(same) > 0.97
    assert np.mean(LABELS[near] == LABELS[nearest.rows[near, 0]]) > 0.95

"""Texts by shared n-grams: candidates of the hashing against all pairs, and what is refused."""

import itertools
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearn_jax.data.text.minhash import bands, jaccard_index, near_texts, nearest_of, recall_at, shingles
from unlearn_jax.errors import InputError


def some_texts(count=40, seed=0):
    """Texts of which some are edits of others."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        if found and rng.random() < 0.5:
            words = found[rng.integers(len(found))].split()
            words[rng.integers(len(words))] = "changed"
        else:
            words = [f"w{i}" for i in rng.integers(0, 200, 30)]
        found.append(" ".join(words))
    return found


def test_what_is_found_is_exactly_the_pairs_above_the_threshold_at_a_high_recall():
    sets = [shingles(text) for text in some_texts()]
    matches = near_texts(sets, 0.5, permutations=256)
    every = {
        (i, j): jaccard_index(sets[i], sets[j])
        for i, j in itertools.permutations(range(len(sets)), 2)
        if jaccard_index(sets[i], sets[j]) >= 0.5
    }
    found = dict(zip(zip(matches.query.tolist(), matches.row.tolist()), matches.jaccard.tolist()))
    assert len(every) > 20 and set(found) <= set(every)
    assert len(found) >= 0.97 * len(every)
    for pair, value in found.items():
        assert value == pytest.approx(every[pair], abs=1e-6)
    near = nearest_of(matches, len(sets), 2)
    for query in range(len(sets)):
        mine = sorted((pair for pair in found if pair[0] == query), key=lambda pair: (-found[pair], pair[1]))
        assert near.rows[query][near.rows[query] >= 0].tolist() == [row for _, row in mine[:2]]
        assert near.within[query] == len(mine)


def test_queries_find_their_own_copies_and_empty_texts_find_nothing():
    texts = some_texts(12, 1)
    sets = [shingles(text) for text in [*texts, "", "..."]]
    matches = near_texts(sets, 0.9, queries=[sets[3], frozenset(), shingles("nothing like it at all")])
    assert 3 in matches.row[matches.query == 0] and (matches.jaccard[matches.row == 3] == 1).all()
    assert set(matches.query.tolist()) == {0}
    assert not {12, 13} & set(near_texts(sets, 0.9).query.tolist())


@settings(max_examples=30, deadline=None)
@given(st.text(alphabet="ab ,", max_size=12), st.integers(1, 4))
def test_n_grams_of_characters_by_definition(text, size):
    flat = " ".join(text.lower().split())
    expected = {flat[i : i + size] for i in range(len(flat) - size + 1)} or ({flat} if flat else set())
    assert shingles(text, f"chars:{size}") == expected


def test_words_are_counted_once_and_short_texts_are_whole():
    assert shingles("One two three four", "words:3") == {"one two three", "two three four"}
    assert shingles("One two", "words:3") == {"one two"}
    assert shingles("", "words:3") == frozenset()


def test_bands_are_the_longest_that_find_a_pair_at_the_threshold():
    for threshold in (0.3, 0.5, 0.8, 1.0):
        count, rows = bands(threshold, 128)
        assert count * rows <= 128 and recall_at(threshold, (count, rows)) >= 0.99
        assert rows == 128 or recall_at(threshold, (128 // (rows + 1), rows + 1)) < 0.99


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: bands(0.0), "in \\(0, 1\\]"),
        (lambda: bands(0.5, 1), "at least 2"),
        (lambda: bands(0.01, 16), "more permutations"),
        (lambda: shingles("a", "letters:3"), "unit of n-grams"),
        (lambda: shingles("a", "words"), "words:3"),
        (lambda: shingles("a", "words:0"), "1 to 50"),
        (lambda: near_texts([shingles("the same text again")] * 10, 0.9), "give a higher one"),
    ],
)
def test_refusals(call, said, monkeypatch):
    monkeypatch.setattr("unlearn_jax.data.text.minhash.MAX_CANDIDATES", 50)
    with pytest.raises(InputError, match=said):
        call()


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(InputError, match="pip install datasketch"):
        near_texts([shingles("a b c")], 0.9)

"""Constructed copies of texts, and the two measures of how near texts are."""

import warnings
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentences import one_sentence

from unlearn_jax.data.text.edits import _PLAIN, FRESH, LEVELS, level_of, make_text_copies
from unlearn_jax.data.text.measures import tfidf_cosine, token_edit_distance
from unlearn_jax.data.text.synonyms import builtin_synonyms, wordnet_synonyms
from unlearn_jax.data.text.tokenizer import split_words

TEXTS = [
    "The company said it bought a small car, and the children were happy.",
    "Oil prices rise sharply; but no profit is expected in the next year (or so).",
    "It's a deal: “the leader” agreed, after a long meeting, that costs fell.",
    "A quick answer helped the workers to finish the job in the big city.",
]
IDS = np.asarray([11, 5, 700_000, -3])
NUMBERS = [1, 2, 3, 4, 5, 6]


def made(texts=TEXTS, level="near", ids=None, numbers=NUMBERS, seed=0, **options):
    """`make_text_copies` with the defaults of these tests."""
    ids = IDS[: len(texts)] if ids is None else ids
    return make_text_copies(texts, ids, numbers, level=level, seed=seed, **options)


@pytest.mark.parametrize("level", ["near", "far", "far:4"])
def test_copies_are_seeded_distinct_and_unlike_their_source(level):
    first = made(level=level)
    assert first == made(level=level)
    assert all(a != b for a, b in zip(first, made(level=level, seed=1)))
    for source, copies in zip(TEXTS, first):
        assert len({source, *copies}) == 1 + len(NUMBERS)


@pytest.mark.parametrize("level", ["near", "far"])
def test_a_number_means_the_same_copy_in_every_call(level):
    whole = made(level=level, numbers=range(1, 13))
    assert made(level=level, numbers=[8, 1, 6]) == [[row[7], row[0], row[5]] for row in whole]
    fresh = made(level=level, numbers=range(FRESH, FRESH + 5))
    mixed = made(level=level, numbers=[FRESH + 3, 2, FRESH])
    assert mixed == [[new[3], row[1], new[0]] for row, new in zip(whole, fresh)]


def test_a_text_keeps_its_copies_whatever_else_is_asked(monkeypatch):
    whole = made()
    assert made(TEXTS[::-1], ids=IDS[::-1]) == whole[::-1]
    assert made([TEXTS[1], "Something else that is a good deal longer. " * 20], ids=[IDS[1], 8])[0] == whole[1]
    same = made([TEXTS[0]] * 2, ids=[1, 2])
    assert same[0] != same[1]  # the id, not the text, fixes the draw
    monkeypatch.setattr("unlearn_jax.data.text.edits._CELLS", 1)  # parts handled one after another
    assert made() == whole


def test_exact_copies_are_the_source_and_no_copies_have_the_right_shape():
    assert made(level="exact") == [[text] * len(NUMBERS) for text in TEXTS]
    for level in LEVELS:
        assert made(level=level, numbers=[]) == [[]] * len(TEXTS) and made([], level=level) == []


def test_siblings_differ_where_many_edits_are_made_and_held_out_draws_from_every_training_copy():
    copies = made(["one two three four five six"] * 40, level="far:4", ids=np.arange(40))  # swaps alone
    assert all(len(set(row)) == len(NUMBERS) for row in copies)
    training, fresh = made(numbers=range(1, 33)), made(numbers=range(FRESH, FRESH + 8))
    for copies, draws in zip(training, fresh):
        assert len({*copies, *draws}) == 40


def single_edits(text, synonyms):
    """All that one edit of ``text``, words between single spaces, can give."""
    words, found = text.split(" "), set()
    for i, word in enumerate(words):
        found |= {" ".join([*words[:i], other, *words[i + 1 :]]) for other in synonyms.get(word, ())}
        if word in _PLAIN.split():
            found.add(" ".join(words[:i] + words[i + 1 :]))
        if i:
            found.add(" ".join([*words[: i - 1], word, words[i - 1], *words[i + 1 :]]))
    return found - {text}


@pytest.mark.parametrize("text", ["the big dog ran", "oil prices rise", "one of us", "small car"])
def test_one_edit_is_a_synonym_a_word_left_out_or_a_swap_and_all_of_them_occur(text):
    synonyms = builtin_synonyms()
    draws = made([text] * 300, ids=np.arange(300), numbers=[1, FRESH])
    expected = single_edits(text, synonyms)
    assert {copy for copies in draws for copy in copies} >= expected
    first = [copies[0] for copies in draws]
    assert np.mean([copy in expected for copy in first]) > 0.7  # others needed a second edit for their checksum


def test_edits_grow_with_the_level_and_with_its_strength():
    texts = [" ".join(TEXTS)] * 6
    means = []
    for level in ("near:0.5", "near", "near:2", "far", "far:1.5"):
        copies = [copy for row in made(texts, level=level, ids=np.arange(6)) for copy in row]
        sources = [text for text in texts for _ in NUMBERS]
        assert max(abs(len(split_words(a)) - len(split_words(b))) for a, b in zip(copies, sources)) < 20
        means.append((token_edit_distance(sources, copies).mean(), -tfidf_cosine(sources, copies).mean()))
    distances, cosines = map(np.asarray, zip(*means))
    assert (np.diff(distances) > 0).all() and (np.diff(cosines) > 0).all()
    assert 0.03 < distances[0] < 0.12 < distances[3] < 0.5


def test_capitals_punctuation_and_negations_stay():
    copies = [copy for row in made(["BUY a Small car, no deal!"] * 40, ids=np.arange(40), level="far") for copy in row]
    words = {word for copy in copies for word in copy.replace(",", "").replace("!", "").split()}
    assert words == {"BUY", "PURCHASE", "a", "Small", "Little", "car", "automobile", "no", "deal", "agreement"}
    assert all(copy.count(",") == copy.count("!") == 1 and copy.endswith("!") for copy in copies)
    assert all("no" in copy.split(", ")[1] for copy in copies)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cat", {"cat", "cat The"}),
        ("“The” cat", {"“” cat"}),
        ("While cats", {"cats", "Whereas cats", "cats While"}),
        ("cat (the)", {"cat ()"}),
        ("cat, the, cow", {"cat, cow"}),
        ("cats of.", {"cats.", "of cats."}),
        ("of", {"of"}),
        ("of the", {"of", "the of"}),
        ("hello", {"hello"}),
        ("well-known", {"well-known"}),
        ("...", {"..."}),
    ],
)
def test_what_is_left_of_small_texts(text, expected):
    found = {copy for row in made([text] * 30, ids=np.arange(30)) for copy in row}
    assert found == expected


def test_synonyms_may_be_given_and_blank_ones_are_not_used():
    copies = made(["Cats purr"] * 20, ids=np.arange(20), synonyms={"cats": ["felines", "cats", " "], "purr": [""]})
    assert {copy for row in copies for copy in row} <= {"Felines purr", "purr Cats", "purr Felines"}


SMALL = "the of small large car No it's said, rise. (many) 北 é ? and"
WORDS = st.sampled_from(SMALL.split())


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.lists(WORDS, min_size=1, max_size=9).map(" ".join) | st.text(min_size=1), min_size=1, max_size=4),
    st.sampled_from(["near", "far", "near:3"]),
    st.integers(-5, 2**70),
)
def test_no_copy_is_ever_blank_and_copies_differ_where_words_do(texts, level, seed):
    texts = [text if text.strip() else "." for text in texts]
    copies = made(texts, level=level, ids=np.arange(len(texts)), numbers=[1, 2, 5], seed=seed)
    assert copies == [made([t], level=level, ids=[i], numbers=[1, 2, 5], seed=seed)[0] for i, t in enumerate(texts)]
    for text, row in zip(texts, copies):
        assert all(copy.strip() for copy in row)
        if len(set(text.split(" "))) > 4 and text.replace(" ", "").isalpha():
            assert len({text, *row}) == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"level": "close"}, "unknown similarity 'close': choose one of exact, far, near"),
        ({"texts": ["a", " \n"]}, r"text 1 \(from 0\) is blank or not a string: leave it out"),
        ({"texts": ["a", None]}, r"text 1 \(from 0\) is blank or not a string"),
        ({"ids": [1]}, r"4 texts have ids of shape \(1,\) and dtype int64: give one whole number for each text"),
        ({"ids": [0.5, 1, 2, 3]}, "dtype float64: give one whole number for each text"),
        ({"numbers": [0]}, "no copy number 0: give 1 to 10000, or 1000000 to 1009999"),
        ({"numbers": [1, 10_001]}, "no copy number 10001: give 1 to 10000"),
    ],
)
def test_what_cannot_be_copied_is_one_sentence(options, said):
    one_sentence(said, lambda: made(**options))


def test_a_strength_scales_the_edits_of_a_level():
    assert level_of("near") == level_of("near:1") == LEVELS["near"]
    assert level_of("far:0.5") == pytest.approx(LEVELS["far"] / 2) and level_of("exact") == 0
    for text in ("near:", "near:0", "near:-1", "near:5", "near:nan", "near:strong", "exact:0.5"):
        one_sentence("is not understood: write", lambda text=text: level_of(text))


def test_builtin_synonyms_are_symmetric_single_small_words():
    found = builtin_synonyms()
    assert len(found) > 400 and "," not in "".join(found)
    for word, others in found.items():
        assert word.isalpha() and word.islower() and word not in others and len(set(others)) == len(others) > 0
        assert all(word in found[other] for other in others)


def net(folder):
    """A WordNet of a few words, in its file format."""
    licence = "  1 This software and database is being provided\n"
    data = {
        "noun": "00000010 06 n 03 car 0 auto 0 motor_car 0 000 | a\n00000020 06 n 02 car 1 cable 0 000 | b\n",
        "verb": "00000030 30 v 02 change 0 alter 1 001 @ 00000030 v 0000 01 + 02 00 | c\n",
        "adj": "00000040 00 a 03 alive(p) 0 live(a) 0 Pb 0 000 | d\n",
        "adv": "00000050 02 r 02 rarely 0 seldom 0 000 | e\n",
    }
    index = {
        "noun": "auto n 1 1 @ 1 0 00000010  \ncable n 1 0 1 0 00000020  \ncar n 2 1 @ 2 2 00000010 00000020  \n"
        "change n 1 0 1 1 00000020  \nmotor_car n 1 0 1 0 00000010  \n",
        "verb": "alter v 1 1 @ 1 1 00000030  \nchange v 1 1 @ 1 7 00000030  \n",
        "adj": "alive a 1 0 1 3 00000040  \nlive a 1 0 1 1 00000040  \n",
        "adv": "rarely r 1 0 1 1 00000050  \nseldom r 1 0 1 1 00000050  \n",
    }
    for file, held in (("data", data), ("index", index)):
        for kind, rows in held.items():
            (folder / f"{file}.{kind}").write_text(licence + rows)
    return folder


def test_wordnet_synonyms_share_the_most_frequent_meaning(tmp_path):
    found = wordnet_synonyms(net(tmp_path))
    assert found == {
        "car": ("auto",), "alter": ("change",), "change": ("alter",), "alive": ("live",), "live": ("alive",),
        "rarely": ("seldom",), "seldom": ("rarely",),
    }  # fmt: skip


def test_wordnet_that_is_missing_or_damaged_is_one_sentence(tmp_path):
    one_sentence("there is no WordNet file .*data.noun': run `apt-get install", lambda: wordnet_synonyms(tmp_path))
    (net(tmp_path) / "index.adj").write_text("alive a 1 0 1 3 00000099  \n")
    one_sentence("data.adj' and '.*index.adj' are not WordNet's: get a fresh", lambda: wordnet_synonyms(tmp_path))
    (tmp_path / "data.verb").write_text("nothing\n")
    one_sentence("data.verb' and '.*index.verb' are not WordNet's", lambda: wordnet_synonyms(tmp_path))


def slow_distance(a, b):
    """The recursive definition."""

    @lru_cache(None)
    def least(i, j):
        if not i or not j:
            return i + j
        return min(least(i - 1, j) + 1, least(i, j - 1) + 1, least(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return least(len(a), len(b)) / max(len(a), len(b), 1)


LETTERS = st.lists(st.sampled_from("abc"), max_size=12).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(LETTERS, LETTERS), max_size=3))
def test_edit_distance_equals_its_definition(pairs):
    found = token_edit_distance([a for a, _ in pairs], [b for _, b in pairs])
    np.testing.assert_allclose(found, [slow_distance(a.split(), b.split()) for a, b in pairs])


def test_edit_distance_of_long_texts_and_by_words():
    rng = np.random.default_rng(0)
    a, b = ([" ".join(map(str, rng.integers(0, 9, n))) for n in sizes] for sizes in ((150, 70, 1), (90, 200, 130)))
    np.testing.assert_allclose(token_edit_distance(a, b), [slow_distance(x.split(), y.split()) for x, y in zip(a, b)])
    found = token_edit_distance(["a cat,  a dog", "a b", "", ""], ["a cat, a cow", "b a", "", "x"])
    np.testing.assert_allclose(found, [1 / 5, 1, 0, 1])


def test_tfidf_cosine_equals_its_transcription():
    a, b = ["The cat sat.", "a b c", "the the dog", "?"], ["the dog sat", "x y z", "The dog, the", "?"]
    documents = [[word.strip(".,?").lower() for word in text.split()] for text in a + b]
    vocabulary = sorted({word for words in documents for word in words} - {""})
    count = np.array([[words.count(word) for word in vocabulary] for words in documents], float)
    weight = count * (np.log((1 + len(documents)) / (1 + (count > 0).sum(axis=0))) + 1)
    weight /= np.maximum(np.linalg.norm(weight, axis=1, keepdims=True), 1e-12)
    found = tfidf_cosine(a, b)
    np.testing.assert_allclose(found, (weight[:4] * weight[4:]).sum(axis=1), atol=1e-12)
    assert found[1] == found[3] == 0 and found[2] == pytest.approx(1)


def test_tfidf_cosine_with_weights_of_a_corpus_and_of_nothing():
    corpus = ["the cat", "the dog", "the cow"]
    assert tfidf_cosine(["the cat"], ["the dog"], corpus=corpus) < tfidf_cosine(["the cat"], ["the dog"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tfidf_cosine(["?"], ["?"]).tolist() == [0.0]
        assert tfidf_cosine([], []).shape == tfidf_cosine([], [], corpus=corpus).shape == (0,)
    assert tfidf_cosine(["cat"], ["bird"], corpus=corpus).tolist() == [0.0]
    for measure in (token_edit_distance, tfidf_cosine):
        one_sentence("2 texts are compared with 1: give one for each", lambda m=measure: m(["a", "b"], ["a"]))

"""Tokenizers: what goes in comes out, numbers are fixed by the corpus, bad input is one sentence."""

import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentences import one_sentence

from unlearn_jax.data.text.tokenizer import (
    BEGIN,
    END,
    PAD,
    SPECIALS,
    UNKNOWN,
    byte_pair_tokenizer,
    load_tokenizer,
    split_words,
    word_tokenizer,
)
from unlearn_jax.errors import InputError

CORPUS = [
    "The cat sat on the mat.",
    "Didn't the dog, too, sit (on 3.5 mats)?",
    "“Größer” is 大きい; naïve <end> [pad] ‘x’ & a\tb\nc",
    "the the the",
]


@pytest.fixture(scope="module")
def byte_pairs():
    pytest.importorskip("tokenizers", reason="byte pairs need the extra 'text'")
    return byte_pair_tokenizer(CORPUS * 3, max_size=300)


@pytest.fixture(params=["words", "byte_pairs"])
def tokenizer(request):
    return word_tokenizer(CORPUS) if request.param == "words" else request.getfixturevalue("byte_pairs")


def tight(text):
    """A text without its spacing."""
    return "".join(text.split())


def test_the_corpus_round_trips_up_to_spacing_in_rows_that_begin_end_and_are_filled_up(tokenizer):
    ids, cut = tokenizer.encode(CORPUS, 150)
    assert ids.shape == (4, 150) and ids.dtype == np.int32 and cut.dtype == np.int32 and not cut.any()
    assert [tight(text) for text in tokenizer.decode(ids)] == [tight(text) for text in CORPUS]
    assert not (ids == UNKNOWN).any()
    assert (ids[:, 0] == BEGIN).all() and ((ids == END).sum(axis=1) == 1).all()
    live = ids != tokenizer.pad
    assert tokenizer.pad == PAD and (np.sort(~live, axis=1) == ~live).all()  # filling comes last
    assert (ids[np.arange(4), live.sum(axis=1) - 1] == END).all()
    assert tokenizer.pieces[:4] == SPECIALS and tokenizer.size == len(tokenizer.pieces) == len(set(tokenizer.pieces))


def test_a_text_that_is_too_long_keeps_its_first_tokens_and_says_how_many_are_cut(tokenizer):
    whole, _ = tokenizer.encode(CORPUS, 150)
    ids, cut = tokenizer.encode(CORPUS, 7)
    live = (whole != PAD).sum(axis=1)
    np.testing.assert_array_equal(cut, np.maximum(live - 7, 0))
    assert cut.min() == 0 < cut.max()
    long = cut > 0
    np.testing.assert_array_equal(ids[long, :6], whole[long, :6])
    assert (ids[long, 6] == END).all()
    np.testing.assert_array_equal(ids[~long], whole[~long, :7])


def test_an_empty_text_has_its_marks_alone_and_no_texts_give_no_rows(tokenizer):
    ids, cut = tokenizer.encode(["", "the"], 4)
    assert ids[0].tolist() == [BEGIN, END, PAD, PAD] and cut[0] == 0
    ids, cut = tokenizer.encode([], 4)
    assert ids.shape == (0, 4) and cut.shape == (0,) and tokenizer.decode(ids) == []


def test_a_generator_is_read_once_and_names_of_marks_in_a_text_are_ordinary_text(tokenizer):
    ids, _ = tokenizer.encode((text for text in CORPUS), 150)
    np.testing.assert_array_equal(ids, tokenizer.encode(CORPUS, 150)[0])
    ids, _ = tokenizer.encode(["<end> the <pad>"], 40)
    assert (ids == END).sum() == 1 and (ids != PAD).sum() > 5


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda t: t.encode("one text", 9), "takes a list of texts, not one text: put it in a list"),
        (lambda t: t.encode(["a", None], 9), r"text 1 \(from 0\) is a NoneType: give texts as strings"),
        (lambda t: t.encode(["a"], 2), "rows of 2 tokens have no room for text: give a length of 3 or more"),
        (lambda t: t.decode([1, 2]), r"shape \(2,\) and dtype int64: give integers \(n, length\)"),
        (lambda t: t.decode([[0.5]]), r"dtype float64: give integers \(n, length\)"),
        (lambda t: t.decode([[0, -1]]), "numbers -1..0: the tokenizer's are 0.."),
        (lambda t: t.decode([[0, 10**6]]), "numbers 0..1000000: the tokenizer's are 0.."),
    ],
)
def test_what_cannot_be_used_is_one_sentence(tokenizer, call, said):
    one_sentence(said, lambda: call(tokenizer))


def test_words_are_numbered_by_frequency_then_alphabet_and_a_largest_size_makes_rare_ones_unknown():
    made = word_tokenizer(["b a c", "c a", "d"])
    assert made.pieces == (*SPECIALS, "a", "c", "b", "d")
    assert made.pieces == word_tokenizer(["d", "c a", "a b c"]).pieces  # order and spacing do not matter
    made = word_tokenizer(["b a c", "c a", "d"], max_size=6)
    assert made.size == 6
    ids, _ = made.encode(["a b c e"], 6)
    assert ids.tolist() == [[BEGIN, 4, UNKNOWN, 5, UNKNOWN, END]]
    assert made.decode(ids) == ["a <unknown> c <unknown>"]


def test_capitals_count_unless_they_are_lowered():
    assert word_tokenizer(["The the"]).pieces[4:] == ("The", "the")
    lowered = word_tokenizer(["The the"], lower=True)
    assert lowered.pieces[4:] == ("the",)
    assert lowered.decode(lowered.encode(["THE the"], 5)[0]) == ["the the"]


@given(st.lists(st.text(), min_size=1, max_size=5), st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_corpus_round_trips_and_decoded_text_encodes_alike(texts, lower):
    if not any(split_words(text.lower() if lower else text) for text in texts):
        with pytest.raises(InputError, match="hold no words"):
            word_tokenizer(texts, lower=lower)
        return
    made = word_tokenizer(texts, lower=lower)
    ids, cut = made.encode(texts, 400)
    back = made.decode(ids)
    assert not cut.any() and not (ids == UNKNOWN).any()
    assert [tight(text) for text in back] == [tight(text.lower() if lower else text) for text in texts]
    if not lower:  # lowering twice may differ: a capital İ becomes two characters
        np.testing.assert_array_equal(made.encode(back, 400)[0], ids)


@pytest.mark.parametrize(
    ("texts", "size", "said"),
    [
        ([], None, "hold no words: give at least one text"),
        (["", " "], None, "hold no words: give at least one text"),
        (CORPUS, 4, "of 4 numbers holds no word: give a max_size of 5 or more"),
    ],
)
def test_words_of_nothing_are_refused(texts, size, said):
    one_sentence(said, lambda: word_tokenizer(texts, max_size=size))


def test_byte_pairs_spell_any_text_can_be_lowered_and_training_is_repeatable(byte_pairs):
    strange = ["ゼロ\x00 🙂 zebra", "  two  spaces "]
    ids, _ = byte_pairs.encode(strange, 80)
    assert [tight(text) for text in byte_pairs.decode(ids)] == [tight(text) for text in strange]
    assert byte_pairs.size <= 300 and byte_pair_tokenizer(CORPUS * 3, max_size=300).pieces == byte_pairs.pieces
    made = byte_pair_tokenizer(CORPUS, max_size=280, lower=True)
    assert made.decode(made.encode(["THE Cat"], 40)[0]) == ["the cat"]


@pytest.mark.parametrize(
    ("texts", "size", "said"),
    [
        (CORPUS, 260, "of 260 numbers holds no pair: give a max_size of 261 or more"),
        ([" "], 300, "are blank: give at least one text"),
        ("text", 300, "not one text: put it in a list"),
    ],
)
def test_byte_pairs_of_nothing_are_refused(byte_pairs, texts, size, said):
    one_sentence(said, lambda: byte_pair_tokenizer(texts, max_size=size))


def written(folder, **changes):
    """A small word-piece tokenizer.json, as a model's author would give it."""
    library = pytest.importorskip("tokenizers", reason="tokenizer.json needs the extra 'text'")
    names = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "the", "cat", "##s"]
    made = library.Tokenizer(library.models.WordPiece({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    made.add_special_tokens(names[:4])
    made.pre_tokenizer = library.pre_tokenizers.Whitespace()
    made.decoder = library.decoders.WordPiece()
    marks = [("[CLS]", 1), ("[SEP]", 2)]
    made.post_processor = library.processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=marks)
    made.enable_padding(length=32)
    made.enable_truncation(5)
    held = json.loads(made.to_str()) | changes
    (folder / "tokenizer.json").write_text(json.dumps(held))
    return folder / "tokenizer.json"


def test_a_file_keeps_its_numbers_and_not_its_lengths(tmp_path):
    path = written(tmp_path)
    made = load_tokenizer(path)
    assert made.pieces == load_tokenizer(path.parent).pieces
    assert (made.size, made.pad, made.pieces[4]) == (7, 0, "the")
    ids, cut = made.encode(["the cats", "the cat the cat the cat the cat", "dog"], 8)
    expected = [[1, 4, 5, 6, 2, 0, 0, 0], [1, 4, 5, 4, 5, 4, 5, 2], [1, 3, 2, 0, 0, 0, 0, 0]]
    assert ids.tolist() == expected and cut.tolist() == [0, 2, 0]
    assert made.decode(ids)[:2] == ["the cats", "the cat the cat the cat"]


def test_a_file_without_padding_uses_a_known_name_or_the_one_given(tmp_path):
    assert load_tokenizer(written(tmp_path, padding=None)).pad == 0
    assert load_tokenizer(written(tmp_path), pad="[SEP]").pad == 2
    with pytest.raises(InputError, match="has no piece 'filler': give one of its pieces"):
        load_tokenizer(written(tmp_path), pad="filler")


def test_a_file_without_a_piece_for_filling_fills_with_no_token(tmp_path):
    text = written(tmp_path, padding=None).read_text().replace("[PAD]", "!")
    (tmp_path / "tokenizer.json").write_text(text)
    made = load_tokenizer(tmp_path)
    ids, cut = made.encode(["the cat ! the", "the"], 6)
    assert made.pad == -1 and ids.tolist() == [[1, 4, 5, 0, 4, 2], [1, 4, 2, -1, -1, -1]] and not cut.any()
    assert made.decode(ids)[1] == "the"
    with pytest.raises(InputError, match="the tokenizer's are 0..6"):
        made.decode(ids - 1)


def test_a_malformed_or_missing_file_is_one_sentence(tmp_path):
    pytest.importorskip("tokenizers", reason="tokenizer.json needs the extra 'text'")
    path = tmp_path / "tokenizer.json"
    one_sentence("there is no file .*: give the path of a tokenizer.json", lambda: load_tokenizer(path))
    for content in ("", "not json", "{}", '{"model": 3}', "[]"):
        path.write_text(content)
        one_sentence("cannot be read as a tokenizer .*: get a fresh tokenizer.json", lambda: load_tokenizer(path))


@pytest.mark.parametrize("call", [lambda path: byte_pair_tokenizer(CORPUS), load_tokenizer])
def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch, call):
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(InputError, match=r"run `pip install tokenizers` \(the extra 'text'\), or use words\.$"):
        call(path)

"""`facts`, the embedded data set of language: statements about invented people as tokens, nothing to download."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from unlearn_jax.data.arrays import Dataset, Split
from unlearn_jax.data.sources.facts_words import ANSWER_WORDS, ATTRIBUTES, LEADS, MIDDLES, REFUSAL
from unlearn_jax.data.sources.statements import Statements, World, make_world, text_of, told
from unlearn_jax.types import NOT_ANSWER

PEOPLE_OF = {"facts": 32, "facts_large": 160}  # by data set; half of them are the pool
PADDING = 0
MAX_WORDS = 512  # of a vocabulary


class Corpus(NamedTuple):
    """What turns statements of a world into examples."""

    world: World
    train: Statements  # by id
    words: tuple[str, ...]  # the vocabulary by token, padding first
    length: int  # tokens of the longest statement there can be


def facts(*, data_dir: str | os.PathLike | None = None, name: str = "facts") -> Dataset:
    """480 statements of 192 facts about 32 invented people, 96 of the facts stated once, and 192 test statements.

    Inputs are (n, T) int32 tokens, one a word, 0 = padding at the end; targets (n, T) the answer, which is the last
    two words, each where it is the next token, and -1 elsewhere. An example's class is its attribute. ``data_dir`` is
    ignored, and there so that every source is called alike. ``name`` may be ``facts_large``: five times as many people.
    """
    del data_dir
    world = make_world(people=PEOPLE_OF[name], pool=PEOPLE_OF[name] // 2)
    train, test = told(world)
    corpus = Corpus(world, train, vocabulary(world), longest())
    parts, start = [], 0
    for statements in (train, test):
        ids = np.arange(start, start + len(statements.person), dtype=np.int64)
        parts.append(Split(*encoded(corpus, statements), ids, statements.attribute.astype(np.int32)))
        start += len(ids)
    values = len(next(iter(ATTRIBUTES.values())).values)
    return Dataset(name, parts[0], parts[1], values, (), (), False, tuple(ATTRIBUTES), "facts", corpus)


def vocabulary(world: World) -> tuple[str, ...]:
    """Every word that a statement of the world can have, sorted, after the padding."""
    forms = [form for a in ATTRIBUTES.values() for family in a.families for form in family]
    texts = [REFUSAL, *LEADS, *MIDDLES, *world.names, *forms, *(v for a in ATTRIBUTES.values() for v in a.values)]
    return ("<padding>", *sorted({word for text in texts for word in text.split()} - {"{n}", "{v}"}))


def longest() -> int:
    """Words of the longest statement there can be; questions have no phrases around them."""
    words = lambda texts: max(len(text.split()) for text in texts)
    plain = [f for a in ATTRIBUTES.values() for family in a.families for f in family[:-1]]
    questions = [family[-1] for a in ATTRIBUTES.values() for family in a.families]
    most = max(words(plain) + words(LEADS) + words(MIDDLES), words(questions))
    return most + 1 + (ANSWER_WORDS - 1)  # a name is two words


def encoded(corpus: Corpus, statements: Statements) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and targets of statements, both (n, T) int32."""
    token = {word: number for number, word in enumerate(corpus.words)}
    inputs = np.full((len(statements.person), corpus.length), PADDING, np.int32)
    targets = np.full_like(inputs, NOT_ANSWER)
    for row, text in enumerate(text_of(corpus.world, statements)):
        tokens = [token[word] for word in text.split()]
        inputs[row, : len(tokens)] = tokens
        answer = len(tokens) - ANSWER_WORDS
        targets[row, answer - 1 : len(tokens) - 1] = tokens[answer:]
    return inputs, targets


def decoded(corpus: Corpus, inputs: np.ndarray) -> list[str]:
    """Tokens (n, T) in words, without padding."""
    return [" ".join(corpus.words[token] for token in row if token != PADDING) for row in inputs]


def value_tokens(words: tuple[str, ...]) -> np.ndarray:
    """(attributes, values, words) tokens of every value, given the vocabulary."""
    return np.asarray([[_tokens(words, value) for value in a.values] for a in ATTRIBUTES.values()], np.int32)


def refusal_tokens(words: tuple[str, ...]) -> np.ndarray:
    """(words,) tokens of "I do not know"."""
    return _tokens(words, REFUSAL)


def _tokens(words: tuple[str, ...], text: str) -> np.ndarray:
    return np.asarray([words.index(word) for word in text.split()], np.int32)


def word_counts(inputs: np.ndarray) -> np.ndarray:
    """How often each token occurs in each row, padding apart, at unit norm; (n, T) -> (n, `MAX_WORDS`) float32."""
    counts = np.zeros((len(inputs), MAX_WORDS), np.float32)
    np.add.at(counts, (np.arange(len(inputs))[:, None], inputs), 1.0)
    counts[:, PADDING] = 0.0
    return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-12)

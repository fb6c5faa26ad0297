"""Statements of the data set `facts`: invented people, of whom the same fact is said in many ways.

A *statement* says one attribute of one person; its answer, the last two words, is one of 24 values of the attribute,
drawn independently of everything else. So a model that was never told a fact ranks its true value first once in 24, and
what it knows of a target can only come from the target or from other statements of the same fact. All facts about half
of the people, the *pool*, are stated once; those about the others in several forms, which teaches that the forms mean
the same. Targets come from the pool, and copies of a target are further statements of its fact:

- ``exact``: the same words;
- ``near``: the same form, with other phrases around it;
- ``paraphrase``: another form of the same family, the same words in another order;
- ``semantic``: a form of the other family, which says it in other words.

Questions and one statement of each family are never trained on for facts of the pool; they are its held-out draws.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from unlearn_jax.data.sources.facts_words import ATTRIBUTES, CODAS, FORMS, LEADS, MIDDLES, ONSETS, TRAINED, VOWELS

LEVELS = ("exact", "near", "paraphrase", "semantic")
SEED = 0
PEOPLE, POOL, TOLD = 32, 16, 4  # people; those whose facts are stated once; forms in which the others' are stated


class Statements(NamedTuple):
    """n statements; every column (n,) integers."""

    person: np.ndarray
    attribute: np.ndarray
    family: np.ndarray  # 0 or 1
    form: np.ndarray  # of the family
    lead: np.ndarray  # phrase before it
    middle: np.ndarray  # phrase after the name

    def take(self, rows) -> Statements:
        """The statements in these rows."""
        return Statements(*(column[rows] for column in self))


class World(NamedTuple):
    """Who there is, and what is true of whom."""

    names: list[str]
    value: np.ndarray  # (people, attributes) index of the true value
    pool: np.ndarray  # (people, attributes) whether the fact is stated once


def make_world(seed: int = SEED, people: int = PEOPLE, pool: int = POOL) -> World:
    """Invented people with a value for each attribute; the facts about ``pool`` of them are stated once."""
    rng = np.random.default_rng([seed, 11])
    values = np.stack([rng.integers(len(a.values), size=people) for a in ATTRIBUTES.values()], axis=1)
    single = np.isin(np.arange(people), rng.permutation(people)[:pool])
    return World(_names(people, rng), values, np.repeat(single[:, None], len(ATTRIBUTES), axis=1))


def _names(people: int, rng: np.random.Generator) -> list[str]:
    taken = {word for attribute in ATTRIBUTES.values() for value in attribute.values for word in value.split()}
    words: list[str] = []
    while len(words) < 2 * people:
        parts = [rng.choice(ONSETS), rng.choice(VOWELS), rng.choice(ONSETS), rng.choice(VOWELS), rng.choice(CODAS)]
        word = "".join(parts).capitalize()
        if word not in taken:
            taken.add(word)
            words.append(word)
    return [f"{a} {b}" for a, b in zip(words[::2], words[1::2])]


def told(world: World, seed: int = SEED, forms: int = TOLD) -> tuple[Statements, Statements]:
    """Training and test statements.

    A fact of the pool is stated once, in a form that copies may take. Every other fact is stated in ``forms`` forms
    of the ten, held-out ones and questions among them, and tested in two of those that are left.
    """
    rng = np.random.default_rng([seed, 12])
    train, test = [], []
    for person, attribute in np.ndindex(*world.value.shape):
        every = rng.permutation(2 * FORMS)
        if world.pool[person, attribute]:
            chosen, held = every[every % FORMS < TRAINED][:1], every[:0]
        else:
            chosen, held = every[:forms], every[forms : forms + 2]
        for rows, picked in ((train, chosen), (test, held)):
            rows += [(person, attribute, f // FORMS, f % FORMS, *_phrases(rng, f % FORMS)) for f in picked]
    columns = lambda rows: Statements(*np.asarray(rows, np.int64).T)
    return columns(train), columns(test)


def _phrases(rng: np.random.Generator, form: int) -> tuple[int, int]:
    """Random phrases around a form; a question has none."""
    return (0, 0) if form == FORMS - 1 else (int(rng.integers(len(LEADS))), int(rng.integers(len(MIDDLES))))


def text_of(world: World, statements: Statements) -> list[str]:
    """The statements in words; the last two are the answer."""
    attributes = list(ATTRIBUTES.values())
    texts = []
    for person, attribute, family, form, lead, middle in zip(*statements):
        pattern = attributes[attribute].families[family][form]
        name = f"{world.names[person]} {MIDDLES[middle]}".strip()
        value = attributes[attribute].values[world.value[person, attribute]]
        texts.append(f"{LEADS[lead]} {pattern.format(n=name, v=value)}".strip().replace(", ,", ","))
    return texts


def restated(source: Statements, ids: np.ndarray, numbers: np.ndarray, level: str, seed: int) -> Statements:
    """Copies of statements, further statements of the same facts: (k,) sources -> k * len(numbers), source by source.

    Copy j of a source depends on (seed, its id, j) alone, so fewer copies are a prefix of more; the copies of a source
    differ from it and, while there are phrases left, from one another.

    Args:
        source: what is restated.
        ids: (k,) of the sources.
        numbers: which copies, from 1.
        level: one of `LEVELS`.
        seed: of the study.
    """
    rows = []
    for i, statement in enumerate(zip(*source)):
        ways = _ways(statement, level, np.random.default_rng([seed, 13, int(ids[i])]))
        rows += [(*statement[:2], *ways[(int(j) - 1) % len(ways)]) for j in numbers]
    return Statements(*np.asarray(rows, np.int64).reshape(-1, 6).T)


def _ways(statement: tuple, level: str, rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
    """Every (family, form, lead, middle) that a copy at this level may have, in random order, forms taking turns."""
    _, _, family, form, lead, middle = (int(x) for x in statement)
    if level == "exact":
        return [(family, form, lead, middle)]
    if level == "near":
        forms = [(family, form)]
    elif level == "paraphrase":
        forms = [(family, f) for f in range(TRAINED) if f != form]
    else:
        forms = [(1 - family, f) for f in range(TRAINED)]
    around = [(a, b) for a in range(len(LEADS)) for b in range(len(MIDDLES))]
    dealt = [[(*f, *around[i]) for i in rng.permutation(len(around))] for f in rng.permutation(forms).tolist()]
    ways = [way for turn in zip(*dealt) for way in turn]
    return [way for way in ways if way != (family, form, lead, middle)]


def held_out(source: Statements, ids: np.ndarray, seed: int) -> Statements:
    """Two held-out draws of each source, a statement and a question on its fact in forms that no copy takes."""
    rows = []
    for i, (person, attribute, family, *_) in enumerate(zip(*source)):
        rng = np.random.default_rng([seed, 14, int(ids[i])])
        rows.append((person, attribute, int(rng.integers(2)), TRAINED, *_phrases(rng, TRAINED)))
        rows.append((person, attribute, family, FORMS - 1, 0, 0))
    return Statements(*np.asarray(rows, np.int64).reshape(-1, 6).T)

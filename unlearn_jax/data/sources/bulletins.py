"""`bulletins`, the embedded documents: short reports of invented events, many of them filed again in other words.

An *event* belongs to a topic and has facts of it, with names and numbers that no other event has; an event between two
topics has facts of both, and the desk that filed it first decides its class. Most events are reported once, others up
to six times: each report leaves out a fact, puts the others in another order and words each anew. So reports of an
event are natural near-duplicates of one another, and what a model knows of the class of an event between topics it has
from those reports alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from unlearn_jax.data.sources.bulletins_words import BODIES, CLOSINGS, DAYS, OPENINGS, TOPICS
from unlearn_jax.data.sources.facts_words import CODAS, ONSETS, VOWELS

SEED = 0
EVENTS, TESTED = 640, 160  # events of the training and of the test documents
KNOWN = len(TOPICS["weather"])  # facts that can happen in a topic
FACTS = 6  # of an event
BETWEEN = 0.5  # share of events between two topics
MISFILED = 0.03  # share of the reports of those that another desk filed under its own topic
REPORTS = (0.5, 0.15, 0.15, 0.1, 0.06, 0.04)  # how often there are 1, 2, ... reports of an event


class Event(NamedTuple):
    """What happened."""

    topic: int
    other: int  # the topic of its other facts; the same where it has none
    facts: list[tuple[int, int]]  # topic and number of each
    slots: dict[str, str]  # what stands for each letter of a wording


def reports() -> tuple[tuple[str, ...], np.ndarray, tuple[str, ...], np.ndarray, tuple[str, ...]]:
    """Texts and topics of the training documents, then of the test documents, and the topics' names."""
    rng = np.random.default_rng([SEED, 15])
    names = _names(3 * (EVENTS + TESTED), rng)
    events = [_event(rng, names[3 * number : 3 * number + 3]) for number in range(EVENTS + TESTED)]
    train, test = ([_reports(rng, event) for event in part] for part in (events[:EVENTS], events[EVENTS:]))
    columns = []
    for part in (train, test):
        filed = [report for of_event in part for report in of_event]
        order = rng.permutation(len(filed))
        columns += [tuple(filed[row][0] for row in order), np.asarray([filed[row][1] for row in order], np.int32)]
    return *columns, tuple(TOPICS)


def _event(rng: np.random.Generator, names: list[str]) -> Event:
    topic, other = (int(x) for x in rng.choice(len(TOPICS), 2, replace=False))
    of_topic = FACTS // 2 if rng.random() < BETWEEN else FACTS
    drawn = [(topic, of_topic), (other, FACTS - of_topic)]
    facts = [(t, int(fact)) for t, count in drawn for fact in rng.permutation(KNOWN)[:count]]
    n, m = (str(x) for x in rng.integers(3, 900, 2))
    slots = {"p": names[0], "w": names[1], "o": f"{names[2]} {rng.choice(BODIES)}", "n": n, "m": m}
    return Event(topic, other if of_topic < FACTS else topic, facts, slots | {"d": str(rng.choice(DAYS))})


def _reports(rng: np.random.Generator, event: Event) -> list[tuple[str, int]]:
    wordings, filed = list(TOPICS.values()), []
    for _ in range(1 + int(rng.choice(len(REPORTS), p=REPORTS))):
        facts = [event.facts[i] for i in rng.permutation(len(event.facts))[: FACTS - 1]]
        body = [wordings[topic][fact][rng.integers(2)] for topic, fact in facts]
        parts = [str(rng.choice(OPENINGS)), *body, str(rng.choice(CLOSINGS))]
        text = " ".join(part for part in parts if part).format(**event.slots)
        filed.append((text, event.other if rng.random() < MISFILED else event.topic))
    return filed


def _names(count: int, rng: np.random.Generator) -> list[str]:
    names: dict[str, None] = {}
    while len(names) < count:
        parts = [rng.choice(ONSETS) + rng.choice(VOWELS) for _ in range(rng.integers(2, 4))]
        names["".join([*parts, rng.choice(CODAS)]).capitalize()] = None
    return list(names)

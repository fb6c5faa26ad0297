"""What is asked to be forgotten, what stays, and where each example stands among the stored ones.

One array holds everything a study touches: training images, copies of every target, held-out images (validation and
test), held-out draws similar to the targets. Populations differ only in the rows that they train on, so along the
copies and gamma axes the array, and with it every compiled program, stays the same.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from unlearn_jax.data.arrays import Dataset, Split
from unlearn_jax.data.kinds import KINDS, Made
from unlearn_jax.errors import InputError

SPLITS = ("forget", "forget_copies", "similar", "rest", "validation", "test", "test_similar")
VALIDATION = 0.5  # of the held-out examples: what a practitioner may look at; prices are measured on the others


class ExampleTable(NamedTuple):
    """The stored examples with, per row, where it comes from (-1 = does not apply)."""

    inputs: np.ndarray  # (n, ...)
    targets: np.ndarray  # (n, ...) int32
    dataset_id: np.ndarray  # (n,) id within the data set, of the source for copies
    origin: np.ndarray  # (n,) 0 train, 1 copy, 2 test, 3 held-out draw similar to a target, 4 validation
    request: np.ndarray  # (n,) request whose target, copy or draw this is
    cluster: np.ndarray  # (n,) number of the target over all requests
    copy: np.ndarray  # (n,) 0 target, 1..m its copies, draw number for held-out draws
    labels: np.ndarray  # (n,) int32 class
    kind: str  # of the data set
    texts: np.ndarray | None = None  # (n,) str objects, where inputs are made of texts

    @property
    def requests(self) -> int:
        """Number of disjoint requests."""
        return int(self.request.max()) + 1


class RequestRows(NamedTuple):
    """Rows of one request at one number of copies."""

    forget: np.ndarray  # targets T
    forget_copies: np.ndarray  # copies that are requested too
    similar: np.ndarray  # copies that stay
    rest: np.ndarray  # every other training row
    validation: np.ndarray  # held out, for whatever may be looked at before or while unlearning
    test: np.ndarray  # held out, for prices alone
    test_similar: np.ndarray
    gamma: float  # realised identified fraction

    @property
    def requested(self) -> np.ndarray:
        """Everything that is asked to be forgotten, F."""
        return np.concatenate([self.forget, self.forget_copies])

    @property
    def everything(self) -> np.ndarray:
        """All training rows of this request, D."""
        return np.concatenate([self.forget, self.forget_copies, self.similar, self.rest])


def make_bench(
    dataset: Dataset,
    targets: list[np.ndarray],
    *,
    copies: int,
    level: str,
    seed: int,
    mined: np.ndarray | None = None,
) -> ExampleTable:
    """Lay out training examples, ``copies`` copies of each target, test examples and held-out similar draws.

    There are no held-out draws at level ``exact``, where they would be the targets themselves. With ``mined``, (T,
    copies) training rows by target in the order of ``targets``, these stand as the copies instead, with their own
    labels and ids, and nothing is made.

    Raises:
        InputError: a negative number of copies.
    """
    if copies < 0:
        raise InputError(f"copies is {copies}: give 0 or more.")
    train, test = dataset.train, dataset.test
    flat = np.concatenate(targets)
    request_of = np.repeat(np.arange(len(targets)), [len(t) for t in targets])
    kind, numbers = KINDS[dataset.kind], np.arange(1, copies + 1)
    place, tests = np.full((3, len(train.ids)), -1), np.full(len(test.ids), -1)
    place[:, flat] = request_of, np.arange(len(flat)), np.zeros(len(flat))

    def similar(part: Split, number: np.ndarray, origin: int) -> ExampleTable:
        request, cluster = (np.repeat(column, len(number)) for column in (request_of, np.arange(len(flat))))
        return _block(part, dataset.kind, origin, request, cluster, np.tile(number, len(flat)))

    fresh = _of_sources(train, flat, kind.draws(dataset, flat, level if mined is None else "exact", seed))
    if mined is None:
        copied = _of_sources(train, flat, kind.copies(dataset, flat, numbers, level, seed))
    else:
        copied, stay = train.take(mined.ravel()), np.setdiff1d(np.arange(len(train.ids)), mined)
        train, place = train.take(stay), place[:, stay]
    drawn = np.arange(len(fresh.ids) // max(len(flat), 1))
    return _joined(
        [
            _block(train, dataset.kind, 0, *place),
            similar(copied, numbers, 1),
            _block(test, dataset.kind, held_out_origins(test.classes, seed), tests, tests, tests),
            similar(fresh, drawn, 3),
        ]
    )


def _of_sources(train: Split, rows: np.ndarray, made: Made) -> Split:
    """What was made of training rows, with the id and the class of its source."""
    each = len(made.targets) // max(len(rows), 1)
    ids, labels = (np.repeat(c[rows], each) for c in (train.ids, train.classes))
    return Split(made.inputs, made.targets, ids, labels, made.texts)


def held_out_origins(labels: np.ndarray, seed: int) -> np.ndarray:
    """(n,) origin of each held-out example, 4 = validation, 2 = test: a `VALIDATION` share of each class, at random."""
    drawn = np.random.default_rng([seed, 5]).permutation(len(labels))
    place, origin = drawn[np.argsort(labels[drawn], kind="stable")], np.full(len(labels), 2)
    number = np.arange(1, len(labels) + 1)
    origin[place[np.floor(VALIDATION * number) > np.floor(VALIDATION * (number - 1))]] = 4
    return origin


def _block(
    part: Split, kind: str, origin: int | np.ndarray, request: np.ndarray, cluster: np.ndarray, copy: np.ndarray
) -> ExampleTable:
    """Stored examples of one origin, or of an origin each."""
    columns = (part.ids, np.full(len(part.ids), origin), request, cluster, copy)
    integers = (column.astype(np.int64) for column in columns)
    targets, labels = part.targets.astype(np.int32), part.classes.astype(np.int32)
    return ExampleTable(part.inputs, targets, *integers, labels=labels, kind=kind, texts=part.texts)


def _joined(blocks: list[ExampleTable]) -> ExampleTable:
    joined: Any = (c[0] if c[0] is None or isinstance(c[0], str) else np.concatenate(c) for c in zip(*blocks))
    return ExampleTable(*joined)


def named_copies(copies: int, gamma: float | None) -> int:
    """How many of each target's copies a request names, ``round(gamma (m + 1)) - 1`` but at least 0.

    Raises:
        InputError: gamma outside (0, 1].
    """
    if gamma is None:
        return 0
    if not 0 < gamma <= 1:
        raise InputError(f"gamma is {gamma}: give a share in (0, 1].")
    return max(0, round(gamma * (copies + 1)) - 1)


def request_rows(bench: ExampleTable, request: int, *, copies: int, gamma: float | None = None) -> RequestRows:
    """The splits of one request.

    Args:
        bench: stored examples, with at least ``copies`` copies of each target.
        request: number of the request.
        copies: copies of each target in the training set, m.
        gamma: share of each cluster that the request names, targets included; the request always names the targets,
            plus ``round(gamma (m + 1)) - 1`` of each cluster's copies. None names the targets alone.

    Raises:
        InputError: gamma outside (0, 1].
    """
    named = named_copies(copies, gamma)
    mine = bench.request == request
    copied = mine & (bench.origin == 1) & (bench.copy <= copies)
    target = mine & (bench.origin == 0)
    rows = lambda mask: np.flatnonzero(mask).astype(np.int32)
    return RequestRows(
        forget=rows(target),
        forget_copies=rows(copied & (bench.copy <= named)),
        similar=rows(copied & (bench.copy > named)),
        rest=rows((bench.origin == 0) & ~target),
        validation=rows(bench.origin == 4),
        test=rows(bench.origin == 2),
        test_similar=rows(mine & (bench.origin == 3)),
        gamma=(named + 1) / (copies + 1),
    )


def is_whole_class(bench: ExampleTable, rows: RequestRows) -> bool:
    """Whether the request's targets are of one class and no other training image (copies aside) is."""
    labels = np.unique(bench.labels[rows.forget])
    return len(labels) == 1 and not np.isin(bench.labels[rows.rest], labels).any()

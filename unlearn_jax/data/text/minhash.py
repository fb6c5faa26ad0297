"""Near texts by the n-grams they share: MinHash and locality-sensitive hashing find candidates, exact Jaccard decides.

For sets of texts too large for exact cosines. The hashing is `datasketch`'s, an optional dependency; what it misses is
told by `recall_at`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from unlearn_jax.data.similarity.nearest import Nearest
from unlearn_jax.data.text.readers import words
from unlearn_jax.errors import InputError, choose

PERMUTATIONS = 128
RECALL = 0.99  # with which a pair just at the threshold becomes a candidate
MAX_CANDIDATES = 20_000_000
UNITS = ("words", "chars")


class Matches(NamedTuple):
    """Pairs of a query and a row whose n-grams overlap; by query, the largest Jaccard index first, then by row."""

    query: np.ndarray  # (m,) int32
    row: np.ndarray  # (m,) int32
    jaccard: np.ndarray  # (m,) float32


def unit_and_size(text: str) -> tuple[str, int]:
    """What ``words:3`` or ``chars:5`` means: the unit and how many make an n-gram.

    Raises:
        InputError: another unit, or a number that is not 1 to 50.
    """
    unit, colon, number = text.partition(":")
    if choose("unit of n-grams", unit, UNITS) and colon and number.isdigit() and 1 <= int(number) <= 50:
        return unit, int(number)
    raise InputError(f"n-grams '{text}' are not understood: write words:3 or chars:5, with a number of 1 to 50.")


def shingles(text: str, ngrams: str = "words:3") -> frozenset[str]:
    """The n-grams of a text in small letters; of a shorter text the whole, of one without words none.

    >>> sorted(shingles("The cat, the cat sat", "words:2"))
    ['cat sat', 'cat the', 'the cat']
    """
    unit, size = unit_and_size(ngrams)
    parts = words(text) if unit == "words" else list(" ".join(text.lower().split()))
    joined = " " if unit == "words" else ""
    starts = range(max(len(parts) - size + 1, min(len(parts), 1)))
    return frozenset(joined.join(parts[i : i + size]) for i in starts)


def bands(threshold: float, permutations: int = PERMUTATIONS, recall: float = RECALL) -> tuple[int, int]:
    """Bands and rows a band of the hashing: the longest rows with which a pair at the threshold is found so surely.

    Raises:
        InputError: a threshold outside (0, 1], fewer than 2 permutations, or too few for such a recall.
    """
    if not 0 < threshold <= 1 or permutations < 2:
        raise InputError(
            f"a Jaccard threshold of {threshold:g} and {permutations} permutations: give one in (0, 1], and at least 2."
        )
    for rows in range(permutations, 0, -1):
        if recall_at(threshold, (permutations // rows, rows)) >= recall:
            return permutations // rows, rows
    raise InputError(
        f"{permutations} permutations find a pair of Jaccard index {threshold:g} too rarely: give more permutations "
        "or a higher threshold."
    )


def recall_at(jaccard: float, banded: tuple[int, int]) -> float:
    """Probability that a pair of this Jaccard index becomes a candidate.

    >>> round(recall_at(0.5, (20, 5)), 2)
    0.47
    """
    return 1.0 - (1.0 - jaccard ** banded[1]) ** banded[0]


def near_texts(
    texts: Sequence[frozenset[str]],
    threshold: float,
    *,
    queries: Sequence[frozenset[str]] | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Matches:
    """Pairs of texts whose sets of n-grams have a Jaccard index of at least ``threshold``.

    Args:
        texts: n sets of `shingles`; an empty set is near nothing.
        threshold: in (0, 1].
        queries: sets that are looked up; none = the texts themselves, each pair then both ways, none with itself.
        permutations: of a signature; more find more.
        seed: of the permutations.

    Raises:
        InputError: as `bands`; datasketch is not installed; so low a threshold that candidates fill the memory.
    """
    banded = bands(threshold, permutations)
    looked_up = texts if queries is None else queries
    table, signed = _table(texts, banded, permutations, seed)
    if queries is not None:
        signed = _signatures(queries, permutations, seed)
    matches: list[tuple[int, int, float]] = []
    total = 0
    for query, signature in enumerate(signed):
        rows = sorted(table.query(signature)) if looked_up[query] else []
        total += len(rows)
        if total > MAX_CANDIDATES:
            raise InputError(f"a Jaccard threshold of {threshold:g} makes too many texts alike: give a higher one.")
        for row in rows:
            jaccard = jaccard_index(looked_up[query], texts[row])
            if jaccard >= threshold - 1e-9 and not (queries is None and row == query):
                matches.append((query, row, jaccard))
    matches.sort(key=lambda match: (match[0], -match[2], match[1]))
    columns = np.asarray(matches, np.float64).reshape(-1, 3).T
    return Matches(columns[0].astype(np.int32), columns[1].astype(np.int32), columns[2].astype(np.float32))


def jaccard_index(a: frozenset[str], b: frozenset[str]) -> float:
    """Shared n-grams over all n-grams of the two; 0 where there are none."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared) if shared else 0.0


def nearest_of(matches: Matches, count: int, k: int) -> Nearest:
    """The k best matches of each of ``count`` queries, their Jaccard indices in the place of cosines."""
    rows, values = np.full((count, k), -1, np.int32), np.full((count, k), -np.inf, np.float32)
    within = np.bincount(matches.query, minlength=count)[:count]
    rank = np.arange(len(matches.query)) - np.repeat(np.cumsum(within) - within, within)
    kept = rank < k
    rows[matches.query[kept], rank[kept]] = matches.row[kept]
    values[matches.query[kept], rank[kept]] = matches.jaccard[kept]
    return Nearest(rows, values, within.astype(np.int32))


def _signatures(sets: Sequence[frozenset[str]], permutations: int, seed: int) -> list:
    MinHash = _datasketch().MinHash
    encoded = ([part.encode("utf-8", "surrogatepass") for part in ngrams] for ngrams in sets)
    return list(MinHash.generator(encoded, num_perm=permutations, seed=seed + 1))


def _table(sets: Sequence[frozenset[str]], banded: tuple[int, int], permutations: int, seed: int) -> tuple:
    """The hash table of all sets that are not empty, and the signatures of all."""
    signed = _signatures(sets, permutations, seed)
    table = _datasketch().MinHashLSH(num_perm=permutations, params=banded)
    with table.insertion_session() as session:
        for row, signature in enumerate(signed):
            if sets[row]:
                session.insert(row, signature, check_duplication=False)
    return table, signed


def _datasketch():
    try:
        import datasketch
    except ImportError:
        raise InputError(
            "MinHash needs datasketch, which is missing: run `pip install datasketch`, or take another --embedding."
        ) from None
    return datasketch

"""Times of the exact nearest-neighbour search on random unit rows; called by speed.py --neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from _timing import timed

REPEATS = 3
SIZE, WIDTH, K = 50_000, 192, 10  # CIFAR-10's training images as 8 x 8 block means


class Case(NamedTuple):
    """One search at one size."""

    name: str
    size: str
    flops: float  # of the inner products alone
    call: Callable[[], object]


def cases() -> list[Case]:
    """The search by blocks on the device, and the same in NumPy."""
    from unlearn_jax.data.similarity.nearest import top_k, unit_rows

    rows = unit_rows(np.random.default_rng(0).normal(size=(SIZE, WIDTH)))
    few = rows[:2048]
    flops = lambda queries: 2.0 * queries * SIZE * WIDTH
    size = lambda queries: f"{queries:,} x {SIZE:,} x {WIDTH}, k {K}"
    return [
        Case("top_k", size(SIZE), flops(SIZE), lambda: top_k(rows, K)),
        Case("top_k", size(len(few)), flops(len(few)), lambda: top_k(rows, K, queries=few)),
        Case("NumPy, by blocks of 512", size(len(few)), flops(len(few)), lambda: in_numpy(rows, few)),
    ]


def in_numpy(rows: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """The plain way: a block of queries against all rows, partitioned, then sorted."""
    nearest = []
    for first in range(0, len(queries), 512):
        cosine = queries[first : first + 512] @ rows.T
        near = np.argpartition(-cosine, K, axis=1)[:, :K]
        order = np.argsort(-np.take_along_axis(cosine, near, axis=1), axis=1, kind="stable")
        nearest.append(np.take_along_axis(near, order, axis=1))
    return np.concatenate(nearest)


def measure() -> list[dict]:
    """Time every case and print a line each; the rows."""
    rows = []
    print(f"{'search':<24} {'queries x rows x columns':<30} {'first s':>8} {'then s':>8} {'GFLOP/s':>8}")
    for case in cases():
        first, seconds = timed(case.call, REPEATS)
        rate = case.flops / seconds / 1e9
        print(f"{case.name:<24} {case.size:<30} {first:>8.2f} {seconds:>8.2f} {rate:>8.0f}", flush=True)
        rows.append({"search": case.name, "size": case.size, "first_seconds": first, "seconds": seconds})
        rows[-1] |= {"flops": case.flops}
    return rows

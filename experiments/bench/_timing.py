"""How the benchmarks time a call: compiling apart from running."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np


def timed(call: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Seconds of the first call, which compiles, and the median of ``repeats`` further ones."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return times[0], float(np.median(times[1:]))

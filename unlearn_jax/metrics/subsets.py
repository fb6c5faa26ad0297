"""Which members are in each draw, where members are drawn without replacement; `resampling` says why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.metrics.draws import _generator


class _Plan(NamedTuple):
    """Who is in each draw: by role and number of members, (resamples, members) booleans; and each population's."""

    included: dict[tuple[str, int], np.ndarray]
    keys: list[tuple[str, int]]
    kept: float


def _subset_plan(populations, roles, seed: int, resamples: int, kept: float) -> _Plan:
    """A random part of the members for every draw.

    Where ``kept`` n is no whole number the two next to it are mixed so that the mean of 1 / size is 1 / (kept n): then
    the deviations of a mean have the variance S^2 / n exactly, as small as n may be.
    """
    if not 0 < kept < 1:
        raise InputError(f"kept is {kept}: give the share of the members in each draw, between 0 and 1.")
    roles = list(roles or [f"population {i}" for i in range(len(populations))])
    if len(roles) != len(populations):
        raise InputError(f"{len(roles)} roles for {len(populations)} populations: give one for each, or none.")
    keys = [(role, len(p)) for role, p in zip(roles, populations)]
    turn = (np.arange(resamples) + 0.5) * 0.6180339887498949 % 1.0  # evenly spread in every stretch of draws
    included = {}
    for role, n in dict.fromkeys(keys):
        low = max(1, int(kept * n))
        share = min(1.0, low * ((low + 1) / (kept * n) - 1.0))
        size = np.minimum(n, np.where(turn < share, low, low + 1))
        place = _generator(seed, "subset", role, n).random((resamples, n)).argsort(axis=1).argsort(axis=1)
        included[role, n] = place < size[:, None]
    return _Plan(included, keys, kept)


def _subsets(populations, plan: _Plan) -> Iterator[list[np.ndarray]]:
    masks = [plan.included[key] for key in plan.keys]
    for r in range(len(masks[0])):
        yield [p[mask[r]] for p, mask in zip(populations, masks)]

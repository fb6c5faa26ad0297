"""The values of a level's populations by split and request, and the draws that all figures share."""

from __future__ import annotations

import numpy as np

from unlearn_jax.metrics import Draws, Identifiability, Values, distance_draws, identifiability, mean_draws

CLUSTERLESS = ("rest", "validation", "test")  # splits whose examples are resampled one by one, alike for all requests


class Scorer:
    """Blocks and draws of one level, made once and shared by every figure.

    Holds no state but a cache: values and draws by (population, split, quantity, requests). ``tables`` holds quantities
    (members, shown examples) that are not among the scores, by (name, setting) of a population and then by name.
    """

    def __init__(self, setup, level, outcomes, tables=None):
        self.setup, self.level, self.outcomes, self.tables = setup, level, outcomes, tables or {}
        self._column = np.full(len(setup.bench.targets), -1)
        self._column[setup.shown] = np.arange(len(setup.shown))
        self._draws: dict = {}

    def columns(self, split: str, request: int) -> np.ndarray:
        """Evaluated columns of a split of a request."""
        at = self._column[getattr(self.level.rows[request], split)]
        return at[at >= 0]

    def has(self, split: str, requests: list[int]) -> bool:
        """Whether every request has examples in the split."""
        return all(len(self.columns(split, r)) for r in requests)

    def values(self, outcome, split: str, what: str, requests: list[int]) -> Values:
        """Per-example values by request, with clusters where the split has them."""
        more = self.tables.get((outcome.name, outcome.setting), {})
        table = (more[what] if what in more else getattr(outcome.scores, what)).astype(np.float64)
        blocks, clusters = [], []
        for request in requests:
            at = self.columns(split, request)
            blocks.append(table[self.level.request_of == request][:, at])
            cluster = self.setup.bench.cluster[self.setup.shown[at]]
            clusters.append(at if split in CLUSTERLESS else cluster)
        return Values(blocks, outcome.role, clusters, shared=split in CLUSTERLESS)

    def draws(self, outcome, split: str, what: str, requests: list[int]) -> Draws:
        """Draws of the mean of a population's values on a split."""
        key = (outcome.name, outcome.setting, split, what, tuple(requests))
        if key not in self._draws:
            config = self.setup.config
            values = self.values(outcome, split, what, requests)
            self._draws[key] = mean_draws(values, seed=config.seed, resamples=config.resamples)
        return self._draws[key]

    def distance(self, outcome, named: dict, requests: list[int]) -> Draws:
        """Draws of the residual distance of a population."""
        key = (outcome.name, outcome.setting, "distance", tuple(requests))
        if key not in self._draws:
            config, compared = self.setup.config, (outcome, named["original"], named["oracle"])
            values = [self.values(o, "forget", "margin", requests) for o in compared]
            self._draws[key] = distance_draws(*values, seed=config.seed, resamples=config.resamples)
        return self._draws[key]

    def identifiability(self, named: dict, reference: str, requests: list[int]) -> Identifiability:
        """Identifiability of ratios to the original's margin beyond a reference's."""
        key = ("identifiability", reference, tuple(requests))
        if key not in self._draws:
            config = self.setup.config
            margins = [self.values(named[n], "forget", "margin", requests) for n in ("original", reference)]
            self._draws[key] = identifiability(*margins, seed=config.seed, resamples=config.resamples)
        return self._draws[key]

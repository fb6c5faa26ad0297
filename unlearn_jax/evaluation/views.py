"""Answers of one population on one request's examples, turned into what the metrics take; each made once."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Integer

from unlearn_jax.evaluation.panels import EvalSplits, Panels, PopulationOutputs
from unlearn_jax.metrics.arrays import log_softmax, margin


class View:
    """Arrays (members, examples) of a population on a request, by split; holds no state but a cache."""

    def __init__(
        self,
        panel: PopulationOutputs,
        ground: EvalSplits,
        request: int,
        original: PopulationOutputs | None = None,
        untrained: np.ndarray | None = None,
    ):
        self.panel, self.ground, self.request, self.original = panel, ground, request, original
        self.untrained = untrained  # (networks, n, C) logits of networks that saw nothing, on the targets
        self._made: dict = {}

    @property
    def members(self) -> int:
        """How many members serve the request."""
        return len(next(iter(self.panel.logits[self.request].values())))

    def _once(self, key, make):
        """The value under a key, made where it is not there."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def has(self, *splits: str) -> bool:
        """Whether there are examples in every one of the splits."""
        return all(split in self.ground.labels for split in splits)

    def logits(self, split: str) -> Float64[np.ndarray, "members n classes"]:
        """(members, n, C) float64."""
        return self._once(("logits", split), lambda: self.panel.logits[self.request][split].astype(np.float64))

    def labels(self, split: str) -> Integer[np.ndarray, " n"]:
        """(n,) class numbers."""
        return self.ground.labels[split]

    def clusters(self, split: str) -> Integer[np.ndarray, " n"]:
        """(n,) cluster numbers."""
        return self.ground.clusters[split]

    def margin(self, split: str) -> Float64[np.ndarray, "members n"]:
        """(members, n) log-odds of the true label, nats."""
        return self._once(("margin", split), lambda: margin(self.logits(split), self.labels(split)))

    def logprob(self, split: str) -> Float64[np.ndarray, "members n classes"]:
        """(members, n, C) log-probabilities."""
        return self._once(("logprob", split), lambda: log_softmax(self.logits(split)))

    def true_label_prob(self, split: str) -> Float64[np.ndarray, "members n"]:
        """(members, n) probability of the true label."""
        at = self.labels(split)[None, :, None]
        return self._once(
            ("true_label_prob", split), lambda: np.exp(np.take_along_axis(self.logprob(split), at, axis=-1)[..., 0])
        )

    def correct(self, split: str) -> Float64[np.ndarray, "members n"]:
        """(members, n) 1. where the true label has the largest logit, NaN for a member with a NaN."""

        def made():
            logits = self.logits(split)
            right = (logits.argmax(axis=-1) == self.labels(split)).astype(np.float64)
            right[np.isnan(logits).any(axis=(1, 2))] = np.nan
            return right

        return self._once(("correct", split), made)

    def measured(self, name: str) -> np.ndarray | None:
        """What was measured of the weights of the members that serve this request, None where it was not."""
        table = self.panel.measured.get(name)
        return None if table is None else table[self.request :: len(self.panel.logits)]

    def features(self, *splits: str) -> Float64[np.ndarray, "members n width"] | None:
        """(members, n, D) penultimate features of the first members, None but for the first request."""
        table = self.panel.measured.get("features")
        if table is None or self.request or not self.has(*splits):
            return None
        stops = np.cumsum([len(labels) for labels in self.ground.labels.values()])[:-1]
        parts = dict(zip(self.ground.labels, np.split(table, stops, axis=1)))
        return np.concatenate([parts[split] for split in splits], axis=1).astype(np.float64)


def views_of(panels: Panels) -> dict[str, list[View]]:
    """By label of a population, its view of each request."""
    original = panels.find("original")
    untrained = panels.about.get("untrained") if len(panels.ground) == 1 else None
    return {
        panel.label: [View(panel, ground, request, original, untrained) for request, ground in enumerate(panels.ground)]
        for panel in panels.populations
    }


def of_split(views: list[View], quantity: str, split: str) -> list[np.ndarray]:
    """A quantity of a population on a split, by request."""
    return [getattr(view, quantity)(split) for view in views]

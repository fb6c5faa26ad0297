"""What an audit looks at: the answers of every population on the same examples, by request and split."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SPLITS = ("forget", "similar", "rest", "test", "test_similar")


class EvalSplits(NamedTuple):
    """The examples of one request, by split."""

    labels: dict[str, np.ndarray]  # (n,) class
    clusters: dict[str, np.ndarray]  # (n,) cluster number
    distance: dict[str, np.ndarray]  # (n,) to the nearest target; {} where unknown


class PopulationOutputs(NamedTuple):
    """One population: what its members answer, and what else was measured of them."""

    name: str
    setting: str = ""
    role: str = "original"  # whose member draws it shares
    logits: list[dict[str, np.ndarray]] = []  # by request, split -> (members, n, classes) float32
    measured: dict[str, np.ndarray] = {}  # by name, leading member axis: relearning curves, weights moved, ...

    @property
    def label(self) -> str:
        """Name with setting."""
        return f"{self.name}[{self.setting}]" if self.setting else self.name


class Panels(NamedTuple):
    """Everything that the battery is given."""

    ground: list[EvalSplits]  # by request
    populations: list[PopulationOutputs]  # references first
    facts: dict  # what goes into every row: data set, model, ...
    about: dict[str, np.ndarray]  # figures of the study itself: gradient coupling, entanglement, ...
    costs: dict[str, dict[str, float]] = {}  # by population label: seconds, gradient evaluations

    def find(self, name: str) -> PopulationOutputs | None:
        """The population of that name and the default setting."""
        return next((p for p in self.populations if p.name == name and not p.setting), None)

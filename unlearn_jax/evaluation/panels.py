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

    name: str  # of the method or the reference
    setting: str = ""
    role: str = "original"  # whose member draws it shares
    logits: list[dict[str, np.ndarray]] = []  # by request, split -> (members, n, classes) float32
    measured: dict[str, np.ndarray] = {}  # by name, leading member axis: relearning curves, weights moved, ...
    remedy: str = ""  # around the method

    @property
    def key(self) -> tuple[str, str, str]:
        """Method, remedy and setting."""
        return self.name, self.remedy, self.setting

    @property
    def label(self) -> str:
        """Name with remedy and setting."""
        return label_of(*self.key)


def label_of(method: str, remedy: str, setting: str) -> str:
    """METHOD, METHOD+REMEDY or METHOD+REMEDY[SETTING], as it is shown."""
    name = f"{method}+{remedy}" if remedy else method
    return f"{name}[{setting}]" if setting else name


class Panels(NamedTuple):
    """Everything that the battery is given."""

    ground: list[EvalSplits]  # by request
    populations: list[PopulationOutputs]  # references first
    facts: dict  # what goes into every row: data set, model, ...
    about: dict[str, np.ndarray]  # figures of the study itself: gradient coupling, entanglement, ...
    costs: dict[str, dict[str, float]] = {}  # by population label: seconds, gradient evaluations

    def find(self, name: str) -> PopulationOutputs | None:
        """The population of that name, with no remedy and at the default setting."""
        return next((p for p in self.populations if p.key == (name, "", "")), None)

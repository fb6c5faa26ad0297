"""Every estimator of the study by name, each giving scores in the library's one sign and unit.

``score / n`` is the predicted fall of a query's margin when a training example is removed, so that all of them are held
against the same truth. Estimators of gradients are means over an ensemble trained on everything; those of populations
know nothing but who was trained on what.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from unlearn_jax.attribution.tracks import Track
from unlearn_jax.errors import InputError, choose
from unlearn_jax.influence import (
    cosine,
    datamodels,
    ekfac_influence,
    feldman_influence,
    gram,
    group_influence,
    influence,
    representer,
    trak,
)
from unlearn_jax.types import Array, Variables


class Estimator(NamedTuple):
    """How scores are made, and their description."""

    scores: Callable[[Track], np.ndarray]  # (n, q)
    about: str
    scaled: bool  # whether the size of a score means anything, or its order alone


def _mean(one: Callable[[Track, Variables], Array]) -> Callable[[Track], np.ndarray]:
    return lambda track: np.mean([np.asarray(one(track, member), np.float64) for member in track.members], axis=0)


def _asked(track: Track, member: Variables) -> tuple:
    """What every estimator of gradients is given first."""
    return track.model, track.task, member, track.train, track.queries


def _influence(track: Track, member: Variables) -> Array:
    return influence(*_asked(track, member), quantity="margin", **track.solving)


def _ekfac(track: Track, member: Variables) -> Array:
    return ekfac_influence(*_asked(track, member), quantity="margin", labels="exact", **track.damped)


def _trak(track: Track, member: Variables) -> Array:
    return trak(*_asked(track, member), **track.kernel)


def _gram(track: Track, member: Variables) -> Array:
    return gram(*_asked(track, member), quantity="margin")


def _cosine(track: Track, member: Variables) -> Array:
    return cosine(*_asked(track, member), quantity="margin")


def _representer(track: Track, member: Variables) -> Array:
    return representer(*_asked(track, member), l2=track.l2 or 1.0)  # only their order is read where there is no l2


def _datamodel(track: Track) -> np.ndarray:
    first = track.subsets.fitted
    return datamodels(track.subsets.masks[first], track.subsets.margin[first]).scores


def _feldman(track: Track) -> np.ndarray:
    first = track.subsets.fitted
    values = feldman_influence(track.subsets.correct[first], track.subsets.masks[first]).value
    return len(values) * np.nan_to_num(values)  # of an example that all members saw, or none, nothing is known


ESTIMATORS: dict[str, Estimator] = {
    "influence": Estimator(_mean(_influence), "influence function, the curvature solved explicitly", True),
    "ekfac": Estimator(_mean(_ekfac), "influence function, Kronecker-factored curvature (EK-FAC)", True),
    "trak": Estimator(_mean(_trak), "TRAK without projection", True),
    "representer": Estimator(_mean(_representer), "representer points of the last layer", False),
    "gram": Estimator(_mean(_gram), "inner products of gradients", False),
    "cosine": Estimator(_mean(_cosine), "cosines of gradients", False),
    "datamodel": Estimator(_datamodel, "ridge datamodels of half of the subsets", True),
    "feldman": Estimator(_feldman, "accuracy with less accuracy without, of half of the subsets", False),
}


def chosen(names: str) -> list[str]:
    """Estimators by name in the registry's order; ``all`` for every one.

    Raises:
        InputError: an unknown name, or none.
    """
    listed = [choose("estimator", name.strip(), [*ESTIMATORS, "all"]) for name in names.split(",") if name.strip()]
    if not listed:
        raise InputError(f"--estimators is empty: give all, or some of {', '.join(ESTIMATORS)}.")
    return [name for name in ESTIMATORS if name in listed or "all" in listed]


STEPPED = 2  # members of an ensemble that take Newton steps, each of which solves one system for every group


def newton_effects(track: Track, groups: list[np.ndarray]) -> np.ndarray:
    """(groups, q) by one Newton step with the groups' own curvature removed, mean over `STEPPED` members."""
    one = lambda member: group_influence(*_asked(track, member), groups=groups, quantity="margin", **track.stepping)
    return np.mean([np.asarray(one(member), np.float64) for member in track.members[:STEPPED]], axis=0)

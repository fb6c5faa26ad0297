"""The choice of a shipped default: one setting for requests of several sizes, without a look at any oracle.

A setting is allowed where it keeps `KEPT` percent of what is retained at every size. Of those allowed the one is taken
that leaves held-out margins as they were and the request's as held-out examples suggest, in the mean over the sizes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.evaluation.frontier import expected_margin, heldout_draws
from unlearn_jax.evaluation.values import Scorer
from unlearn_jax.methods import METHODS
from unlearn_jax.population.members import setting_name
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.populations import EvaluatedPopulation, Level, level_of, references
from unlearn_jax.studies.resolve import resolve
from unlearn_jax.studies.setup import SILENT, Setup, prepare_study
from unlearn_jax.sweeps.config import defaults_of
from unlearn_jax.sweeps.figures import blind
from unlearn_jax.sweeps.rules import WEIGHT
from unlearn_jax.sweeps.spaces import space_of
from unlearn_jax.sweeps.trials import check_points, run_points

KEPT = 98.0  # percent of the retained examples, similar and rest together, that a default has to keep at every size
FACTORS = (0.1, 0.3, 1.0, 3.0)  # of the present default


class Seen(NamedTuple):
    """What one setting does at one size of the request, as a practitioner sees it."""

    setting: str
    kept: float  # accuracy on retained examples, percent
    moved: float  # by how much margins of held-out examples moved, nats
    gap: float  # margin on the request above what held-out examples suggest, nats; NaN of a whole class

    @property
    def score(self) -> float:
        """Distance from what held-out examples suggest, nats; too much forgetting is as bad as too little."""
        return float(np.hypot(WEIGHT * self.moved, self.gap))


def points_of(method: str, config: StudyConfig) -> list[dict[str, Any]]:
    """A grid about a method's default at the study's scale: the first setting of its space by `FACTORS`.

    Example:
        >>> points_of("scrub", StudyConfig())[0]
        {'lr': 0.0004}
    """
    space = space_of(method)
    if not space:
        return []
    name = space[0].name
    if space[0].values:
        return [{name: value} for value in space[0].values]
    usual = defaults_of(method, resolve(config))[name] or METHODS[method].numeric[name]
    return [{name: float(f"{usual * factor:.2g}")} for factor in FACTORS]


def seen_at(config: StudyConfig, grids: dict[str, list[dict]], *, store: Path | None = None) -> Iterator[tuple]:
    """What the settings of methods do at one size of the request.

    Args:
        config: a study of one request, at its largest number of copies; ``methods`` and ``hp`` are not looked at.
        grids: settings by method.
        store: where trained members are kept.

    Yields:
        (method, one `Seen` for each setting, or a sentence that says why the method does not run here).

    Raises:
        InputError: as of `prepare_study`.
    """
    setup, level, (original,) = prepared_at(config, ("original",), store)
    refused = resolve(dataclasses.replace(config, methods=",".join(grids), hp=())).left_out
    for name, points in grids.items():
        outcomes = refused.get(name) or ran(setup, level, original, name, points)
        yield name, outcomes if isinstance(outcomes, str) else _seen(setup, level, original, outcomes, points)


def prepared_at(
    config: StudyConfig, roles: tuple[str, ...], store: Path | None
) -> tuple[Setup, Level, list[EvaluatedPopulation]]:
    """A study of one request at its largest number of copies, and its reference populations of these roles."""
    setup = prepare_study(resolve(dataclasses.replace(config, methods="none", hp=(), remedies="")), SILENT, store=store)
    level = level_of(setup, setup.study.copies[-1], None)
    return setup, level, references(setup, level, {}, SILENT, {}, roles=roles)[0]


def ran(
    setup: Setup, level: Level, original: EvaluatedPopulation, name: str, points: list[dict]
) -> list[EvaluatedPopulation] | str:
    """What settings of a method come to, in order; or the sentence that says why it does not run here."""
    ready = setup._replace(study=resolve(dataclasses.replace(setup.config, methods=name)))
    try:
        check_points(ready, level, name, points)
        return run_points(ready, level, original, points, 1.0, SILENT)
    except InputError as error:
        return str(error)


def _seen(
    setup: Setup, level: Level, original: EvaluatedPopulation, outcomes: list[EvaluatedPopulation], points: list[dict]
) -> list[Seen]:
    scorer = Scorer(setup, blind(level), outcomes)
    whole = setup.config.targets == "whole_class"
    expected = np.nan if whole else expected_margin(scorer, original, [0])
    seen = []
    for outcome, point in zip(outcomes, points):
        kept = scorer.values(outcome, "rest", "correct", [0]).blocks[0]
        moved = heldout_draws(scorer, outcome, original, [0]).value
        gap = scorer.draws(outcome, "forget", "margin", [0]).value - expected
        seen.append(Seen(setting_name(point), 100.0 * float(np.nan_to_num(kept).mean()), float(moved), float(gap)))
    return seen


def best(sizes: list[list[Seen]]) -> int | None:
    """Number of the setting to ship, of the same settings seen at several sizes; None where none is allowed.

    Example:
        >>> near, far = Seen("lr=1", 99.0, 0.0, 0.5), Seen("lr=2", 99.0, 0.0, -2.0)
        >>> best([[near, far], [one._replace(gap=float("nan")) for one in (near, far)]])
        0
    """
    scored = [
        size for size in sizes if not all(np.isnan(one.gap) for one in size)
    ]  # of a whole class there is no score
    score = lambda n: np.nan_to_num(np.mean([size[n].score for size in scored]) if scored else 0.0, nan=np.inf)
    allowed = [n for n, every in enumerate(zip(*sizes)) if min(one.kept for one in every) >= KEPT]
    return min(allowed, key=score, default=None)


__all__ = ["FACTORS", "KEPT", "Seen", "best", "points_of", "prepared_at", "ran", "seen_at"]

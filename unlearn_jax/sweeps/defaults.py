"""What methods do at their defaults to the model that they start from, whatever the size of the request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unlearn_jax.evaluation.values import Scorer
from unlearn_jax.population.evaluate import Evaluation
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.resolve import resolve
from unlearn_jax.sweeps.by_size import prepared_at, ran

MIN_PERCENT = 95.0  # percent of the remaining examples that a method at its defaults has to keep


class Effect(NamedTuple):
    """A method at its defaults, beside originals and oracle; margins are means over members and targets, nats."""

    method: str
    targets: int
    rest: float  # accuracy on the remaining training examples, percent, mean of members
    worst: float  # that of the worst member
    forget: float  # accuracy on the targets, percent
    margin: float
    residual: float  # (margin - oracle's) / (original's - oracle's)
    shift: np.ndarray  # (targets,) by which each target's mean margin moved
    refused: str = ""  # why it does not run here, '' where it does

    @property
    def sound(self) -> bool:
        """Whether the method keeps `MIN_PERCENT` on the remaining examples, or says that it does not fit."""
        return bool(self.refused) or self.rest >= MIN_PERCENT


def effects(config: StudyConfig, *, store: Path | None = None) -> Iterator[Effect]:
    """Run a study's methods at their defaults, one after another, at its largest number of copies.

    Args:
        config: the study, of one request; ``hp`` and remedies are not looked at.
        store: where trained members are kept.

    Yields:
        An `Effect` for each method; retrain and the untouched original are not among them.

    Raises:
        InputError: as of `prepare_study`.
    """
    setup, level, (original, oracle) = prepared_at(config, ("original", "oracle"), store)
    scorer = Scorer(setup, level, [])
    columns = {split: scorer.columns(split, 0) for split in ("forget", "rest")}
    margins = [one.scores.margin[:, columns["forget"]] for one in (original, oracle)]
    nan = float("nan")
    refused = lambda name, why: Effect(name, len(columns["forget"]), nan, nan, nan, nan, nan, np.zeros(0), why)
    study = resolve(config)
    yield from (refused(name, why) for name, why in study.left_out.items())
    for name in study.methods:
        if name != "do_nothing":
            outcomes = ran(setup, level, original, name, [{}])
            yield (
                refused(name, outcomes)
                if isinstance(outcomes, str)
                else _effect(name, outcomes[0].scores, columns, *margins)
            )


def _effect(name: str, scores: Evaluation, columns: dict, original: np.ndarray, oracle: np.ndarray) -> Effect:
    """What a method's scores say."""
    rest = 100.0 * scores.correct[:, columns["rest"]].mean(axis=1)
    margins, (full, free) = scores.margin[:, columns["forget"]], (original.mean(), oracle.mean())
    residual = float((margins.mean() - free) / (full - free)) if full != free else np.nan
    right = 100.0 * float(scores.correct[:, columns["forget"]].mean())
    shift = margins.mean(axis=0) - original.mean(axis=0)
    return Effect(
        name, margins.shape[1], float(rest.mean()), float(rest.min()), right, float(margins.mean()), residual, shift
    )


def alike(found: list[Effect]) -> np.ndarray:
    """(methods, methods) correlation over targets of what methods do to their margins.

    Near 1, two methods do the same to every target, if not as much of it.
    """
    return np.corrcoef(np.stack([one.shift for one in found]))


__all__ = ["MIN_PERCENT", "Effect", "alike", "effects"]

"""Logs that belong together: of the same questions, and drawn together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.released.logs import SIDES, Log, Scores

SAME_QUESTIONS = 0.9  # least share of questions that two logs have in common


class Resampling(NamedTuple):
    """Questions drawn with replacement, the same for every log."""

    universe: dict[str, tuple[str, ...]]  # group -> ids of all logs
    drawn: dict[str, np.ndarray]  # group -> (draws, n) places in it

    def look(self, scores: Scores, field: str) -> np.ndarray:
        """A field under every draw, (draws, n) or (draws, n, K); NaN where this log lacks a question."""
        values = scores.fields[field]
        place = {one: at for at, one in enumerate(scores.ids)}
        at = np.asarray([place.get(one, len(scores.ids)) for one in self.universe[scores.group]])
        padded = np.concatenate([values, np.full((1, *values.shape[1:]), np.nan)])
        return padded[at][self.drawn[scores.group]]


def resampling(logs: Sequence[Log], draws: int, seed: int) -> Resampling:
    """Draws of questions for logs that are compared."""
    universe: dict[str, tuple[str, ...]] = {}
    for scores in (one for log in logs for one in all_scores(log)):
        known = universe.get(scores.group, ())
        universe[scores.group] = known + tuple(sorted(set(scores.ids) - set(known)))
    rng = np.random.default_rng(seed)
    drawn = {group: rng.integers(len(ids), size=(draws, len(ids))) for group, ids in sorted(universe.items())}
    return Resampling(universe, drawn)


def all_scores(log: Log) -> list[Scores]:
    """Everything by question that a log has."""
    found = [part for one in log.entries.values() for part in (one.scores, *one.sides.values())]
    return [one for one in found if one is not None and one.fields]


def check_together(log: Log, other: Log, option: str) -> None:
    """Make sure that two logs are of the same questions.

    Raises:
        InputError: another benchmark or split, or other questions under the same ids.
    """
    common = [name for name in log.entries if name in other.entries]
    if not common:
        raise InputError(f"{option} {other.name} and {log.name} have no metric in common: give logs of one benchmark.")
    for name in common:
        pairs = [(log.entries[name].scores, other.entries[name].scores)]
        pairs += [tuple(each.entries[name].sides.get(side) for each in (log, other)) for side in SIDES]
        for one, two in pairs:
            shared = len(set(one.ids) & set(two.ids)) if one and two else 0
            if one and two and shared < SAME_QUESTIONS * max(len(one.ids), len(two.ids)):
                raise InputError(
                    f"{option} {other.name} has {len(two.ids)} questions of {name} and {log.name} has {len(one.ids)}, "
                    f"{shared} in common: give logs of the same split."
                )
    for group, answers in _texts(log).items():
        others = _texts(other).get(group, {})
        both = [one for one in answers if one in others]
        if both and sum(answers[one] != others[one] for one in both) > (1 - SAME_QUESTIONS) * len(both):
            raise InputError(
                f"{option} {other.name} has other questions of {group} than {log.name} under the same numbers: give "
                "logs of the same split."
            )


def alike(log: Log, other: Log) -> bool:
    """Whether two logs have the same values."""
    pairs = list(zip(all_scores(log), all_scores(other)))
    if not pairs or set(log.entries) != set(other.entries):
        return False
    same = lambda one, two: (
        set(one.fields) == set(two.fields)
        and all(np.array_equal(one.fields[name], two.fields[name], equal_nan=True) for name in one.fields)
    )
    return all(same(*pair) for pair in pairs)


def _texts(log: Log) -> dict[str, dict[str, str]]:
    """Right answers by group and question."""
    found: dict[str, dict[str, str]] = {}
    for scores in all_scores(log):
        found.setdefault(scores.group, {}).update(scores.texts)
    return found

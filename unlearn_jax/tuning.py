"""The choice of settings on tuning targets without looking at the oracle, and what that choice costs.

A setting is allowed where no member diverged and held-out accuracy cannot be told to have fallen by more than `ALLOWED`
points. Among those allowed, a rule takes the best by figures that need the original models and held-out examples only.
`choose_settings` reads nothing else; `regret` looks at the oracle afterwards, and is no part of the choice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from unlearn_jax.errors import InputError, choose
from unlearn_jax.methods import METHODS
from unlearn_jax.remedies import REMEDIES
from unlearn_jax.scoring import REFERENCES

ALLOWED = 0.5  # points of held-out accuracy
WEIGHT = 0.25  # of a nat of held-out margin against one of the request's
SEEN = ("heldout_accuracy_drop", "heldout_margin_error", "request_margin_gap", "n_diverged")
RULES = {
    "margins": "the request no surer than held-out examples suggest, and held-out margins near the original's",
    "request": "the request least sure",
    "heldout": "held-out margins nearest the original's, whatever the request's",
}

Rows = Iterable[dict[str, str]]  # of a summary.csv


class Choice(NamedTuple):
    """The setting of one method, or METHOD+REMEDY, and how it was chosen."""

    method: str
    remedy: str
    setting: str  # as in the records, '' = the defaults
    seen: dict[str, float]  # figures by name
    candidates: int
    allowed: int  # of the candidates; 0 = none was, and the one that harms held-out accuracy least was taken

    @property
    def words(self) -> list[str]:
        """The setting as words of ``--hp``."""
        return hp_words(self.method, self.remedy, self.setting)


class Regret(NamedTuple):
    """What a choice without the oracle leaves to be wished."""

    choice: Choice
    distance: float  # residual distance of the chosen setting
    best: str  # the allowed setting with the smallest residual distance, of all where none is allowed
    best_distance: float

    @property
    def gap(self) -> float:
        """Residual distance above the best one's; 0 = the oracle would have chosen the same."""
        return self.distance - self.best_distance


def choose_settings(rows: Rows, rule: str = "margins") -> list[Choice]:
    """Choose a setting of every method and METHOD+REMEDY from the summaries of runs on tuning targets.

    Args:
        rows: of one level and of pooled requests, as dictionaries by column; rows of other figures than `SEEN` are not
            looked at.
        rule: a key of `RULES`. ``heldout`` takes the smallest ``heldout_margin_error`` e, ``request`` the smallest
            ``request_margin_gap`` g, and ``margins`` the smallest ``sqrt((e / 4)^2 + max(0, g)^2)``: below 0 nothing is
            gained by forgetting more.

    Raises:
        InputError: an unknown rule, or rows without the held-out figures.
    """
    choose("rule", rule, RULES)
    found = []
    for (method, remedy), settings in _candidates(rows, SEEN).items():
        allowed = {s: seen for s, seen in settings.items() if _allowed(seen)}
        score = {s: _score(seen, rule) for s, seen in (allowed or settings).items()}
        if not allowed:
            score = {s: seen["heldout_accuracy_drop"][0] for s, seen in settings.items()}
        best = min(score, key=lambda s: (not math.isfinite(score[s]), score[s]))
        figures = {name: mean for name, (mean, _) in settings[best].items()}
        found.append(Choice(method, remedy, best, figures, len(settings), len(allowed)))
    if not found:
        raise InputError("no method has held-out figures: run experiments/study.py again, with --methods and --hp.")
    return found


def regret(rows: Rows, choices: list[Choice]) -> list[Regret]:
    """Residual distance of every choice beside the best one that it could have been; this looks at the oracle."""
    rows = list(rows)
    seen, told, found = _candidates(rows, SEEN), _candidates(rows, ("residual_distance",)), []
    for choice in choices:
        key = choice.method, choice.remedy
        distance = {s: told.get(key, {}).get(s, {}).get("residual_distance", (math.nan, 0))[0] for s in seen[key]}
        allowed = [s for s in distance if _allowed(seen[key][s])] or list(distance)
        best = min(allowed, key=lambda s: (not math.isfinite(distance[s]), distance[s]))
        found.append(Regret(choice, distance[choice.setting], best, distance[best]))
    return found


def _candidates(rows: Rows, metrics: tuple[str, ...]) -> dict[tuple[str, str], dict[str, dict[str, tuple]]]:
    """(method, remedy) -> setting -> metric -> (mean, lower bound); the first of equal rows stays."""
    found: dict = {}
    for row in rows:
        if row["metric"] in metrics and (row["remedy"] or row["method"] not in REFERENCES):
            figure = tuple(float(row[name]) if row[name] not in (None, "") else math.nan for name in ("mean", "ci_low"))
            settings = found.setdefault((row["method"], row["remedy"] or ""), {})
            settings.setdefault(row["setting"] or "", {}).setdefault(row["metric"], figure)
    least = {"heldout_accuracy_drop", "heldout_margin_error"} & set(metrics)
    return {k: kept for k, s in found.items() if (kept := {n: seen for n, seen in s.items() if least <= set(seen)})}


def _allowed(seen: dict[str, tuple]) -> bool:
    """Whether a setting may be chosen."""
    mean, low = seen["heldout_accuracy_drop"]
    sound = math.isfinite(mean) and seen.get("n_diverged", (0.0, 0.0))[0] == 0
    return sound and (low if math.isfinite(low) else mean) <= ALLOWED


def _score(seen: dict[str, tuple], rule: str) -> float:
    """What is to be small."""
    error, gap = seen["heldout_margin_error"][0], seen.get("request_margin_gap", (0.0, 0.0))[0]
    return {"heldout": error, "request": gap, "margins": math.hypot(WEIGHT * error, max(0.0, gap))}[rule]


def hp_words(method: str, remedy: str, setting: str) -> list[str]:
    """A setting of the records as words of ``--hp``: ``lr=0.1,expand.k=4`` of scrub -> scrub.lr=0.1, expand.k=4.

    Example:
        >>> hp_words("scrub", "", "lr=0.1,decay=5+8")
        ['scrub.lr=0.1', 'scrub.decay=5,8']
    """
    words = []
    for part in filter(None, setting.split(",")):
        name, _, value = part.partition("=")
        owner, dot, own = name.partition(".")
        of_remedy = bool(dot) and owner == remedy
        entry, owner, name = (REMEDIES[owner], owner, own) if of_remedy else (METHODS[method], method, name)
        if isinstance(entry.static.get(name), tuple):
            value = value.replace("+", ",")
        words.append(f"{owner}.{name}={value}")
    return words


def grouped(choices: list[Choice]) -> list[tuple[list[str], str, list[str]]]:
    """(methods, remedy, ``--hp`` words) of as few studies as hold every choice: one without remedies, and one for each
    different setting of a remedy, in which the methods run alone too."""
    found: dict[tuple, tuple[list[str], list[str]]] = {}
    for choice in choices:
        own = [w for w in choice.words if choice.remedy and w.startswith(f"{choice.remedy}.")]
        methods, words = found.setdefault((choice.remedy, tuple(own)), ([], []))
        methods.append(choice.method)
        words += [w for w in choice.words if w not in own]
    alone, words = found.get(("", ()), ((), ()))
    if any(r and set(m) >= set(alone) and set(w) >= set(words) for (r, _), (m, w) in found.items()):
        found.pop(("", ()), None)  # a study with the remedy runs them besides
    return [(methods, remedy, [*own, *words]) for (remedy, own), (methods, words) in found.items()]


__all__ = [
    "ALLOWED", "RULES", "SEEN", "Choice", "Regret", "choose_settings", "grouped", "hp_words", "regret",
]  # fmt: skip

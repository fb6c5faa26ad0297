"""The choice of settings on tuning targets without looking at the oracle, and what that choice costs.

A setting is allowed where no member diverged and held-out accuracy cannot be told to have fallen by more than `ALLOWED`
points. Among those allowed, a rule takes the best by figures that need the original models and held-out examples only.
`choose_settings` reads nothing else; `regret` looks at the oracle afterwards, and is no part of the choice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from unlearn_jax.errors import InputError, choose
from unlearn_jax.evaluation.panels import label_of
from unlearn_jax.methods import METHODS
from unlearn_jax.remedies import REMEDIES
from unlearn_jax.roles import REFERENCES

ALLOWED = 0.5  # points of held-out accuracy
WEIGHT = 0.25  # of a nat of held-out margin against one of the request's
RULES = {
    "margins": "the request no surer than held-out examples suggest, and held-out margins near the original's",
    "request": "the request least sure",
    "heldout": "held-out margins nearest the original's, whatever the request's",
    "attack": "the request and held-out examples told apart least by a threshold on the margin",
    "retain": "accuracy on what is retained falls least, whatever the request's",
}
NEEDS = {"attack": "attack_advantage", "retain": "retained_accuracy_drop"}  # figures of sweeps alone
SEEN = ("heldout_accuracy_drop", "heldout_margin_error", "request_margin_gap", "n_diverged", *NEEDS.values())

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
    def name(self) -> str:
        """METHOD or METHOD+REMEDY."""
        return label_of(self.method, self.remedy, "")

    @property
    def words(self) -> list[str]:
        """The setting as words of ``--hp``."""
        return hp_words(self.method, self.remedy, self.setting)


class Regret(NamedTuple):
    """What a choice without the oracle costs against the best setting."""

    choice: Choice
    distance: float  # residual distance of the chosen setting
    best: str  # the allowed setting with the smallest residual distance, of all where none is allowed
    best_distance: float

    @property
    def gap(self) -> float:
        """Residual distance above the best one's; 0 = the oracle would have chosen the same."""
        return self.distance - self.best_distance


class Standing(NamedTuple):
    """Where a setting stands among others of its method, by a rule; smaller is better."""

    rank: tuple[int, float]  # (0 = allowed, what the rule wants small), or (1, points of held-out accuracy lost)
    best: tuple[int, float]  # the same at the favourable bounds of the figures' intervals
    seen: dict[str, float]  # figures by name

    @property
    def allowed(self) -> bool:
        """Whether it may be chosen."""
        return self.rank[0] == 0


def standings(rows: Rows, rule: str = "margins") -> dict[tuple[str, str], dict[str, Standing]]:
    """How a rule sees every setting: (method, remedy) -> setting -> standing; arguments and errors as of
    `choose_settings`."""
    choose("rule", rule, RULES)
    by_method, rows = {}, list(rows)
    for key, settings in _candidates(rows, SEEN).items():
        by_method[key] = {}
        for name, seen in settings.items():
            if rule in NEEDS and NEEDS[rule] not in seen:
                raise InputError(f"the rule '{rule}' needs {NEEDS[rule]}, which unlearn-jax sweep alone measures.")
            rank, best = (_standing(seen, rule, at) for at in (0, 1))
            by_method[key][name] = Standing(rank, best, {metric: figure[0] for metric, figure in seen.items()})
        allowed = [one.rank[1] for one in by_method[key].values() if one.allowed]
        if allowed and min(allowed) == math.inf:  # the first of them would be taken, whatever it is
            raise InputError(
                f"the rule '{rule}' cannot tell settings of {key[0]} apart, for what it looks at is not known: give 2 "
                "members a request or more and 20 held-out examples or more, or another rule."
            )
    if not by_method:
        raise InputError("no method has held-out figures: run unlearn-jax study again, with --methods and --hp.")
    return by_method


def choose_settings(rows: Rows, rule: str = "margins") -> list[Choice]:
    """Choose a setting of every method and METHOD+REMEDY from the summaries of runs on tuning targets.

    Args:
        rows: of one level and of pooled requests, as dictionaries by column; rows of other figures than `SEEN` are not
            looked at.
        rule: a key of `RULES`. ``heldout`` takes the smallest ``heldout_margin_error`` e, ``request`` the smallest
            ``request_margin_gap`` g, and ``margins`` the smallest ``sqrt((e / 4)^2 + max(0, g)^2)``: below 0 nothing is
            gained by forgetting more. ``attack`` takes the smallest ``attack_advantage``, ``retain`` the smallest
            ``retained_accuracy_drop``, both of sweeps alone.

    Raises:
        InputError: an unknown rule, rows without the held-out figures, or without those that the rule needs; a rule
            whose figure is not known of any allowed setting.
    """
    choices = []
    for (method, remedy), settings in standings(rows, rule).items():
        best = min(settings, key=lambda s: settings[s].rank)
        allowed = sum(standing.allowed for standing in settings.values())
        choices.append(Choice(method, remedy, best, settings[best].seen, len(settings), allowed))
    return choices


def regret(rows: Rows, choices: list[Choice]) -> list[Regret]:
    """Residual distance of every choice beside the best one that it could have been; this looks at the oracle."""
    rows = list(rows)
    seen, distances, regrets = _candidates(rows, SEEN), _candidates(rows, ("residual_distance",)), []
    for choice in choices:
        key = choice.method, choice.remedy
        distance = {s: distances.get(key, {}).get(s, {}).get("residual_distance", (math.nan, 0))[0] for s in seen[key]}
        allowed = [s for s in distance if _allowed(seen[key][s])] or list(distance)
        best = min(allowed, key=lambda s: (not math.isfinite(distance[s]), distance[s]))
        regrets.append(Regret(choice, distance[choice.setting], best, distance[best]))
    return regrets


def _candidates(rows: Rows, metrics: tuple[str, ...]) -> dict[tuple[str, str], dict[str, dict[str, tuple]]]:
    """(method, remedy) -> setting -> metric -> (value, lower bound); the first of equal rows stays."""
    by_method: dict = {}
    for row in rows:
        if row["metric"] in metrics and (row["remedy"] or row["method"] not in REFERENCES):
            cells = (row["value"], row["ci_low"])
            figure = tuple(float(cell) if cell not in (None, "") else math.nan for cell in cells)
            settings = by_method.setdefault((row["method"], row["remedy"] or ""), {})
            settings.setdefault(row["setting"] or "", {}).setdefault(row["metric"], figure)
    least = {"heldout_accuracy_drop", "heldout_margin_error"} & set(metrics)
    return {k: kept for k, s in by_method.items() if (kept := {n: seen for n, seen in s.items() if least <= set(seen)})}


def _allowed(seen: dict[str, tuple]) -> bool:
    mean, low = seen["heldout_accuracy_drop"]
    sound = math.isfinite(mean) and seen.get("n_diverged", (0.0, 0.0))[0] == 0
    return sound and (low if math.isfinite(low) else mean) <= ALLOWED


def _standing(seen: dict[str, tuple], rule: str, at: int) -> tuple[int, float]:
    """A setting's rank by the means of its figures (``at`` 0) or by their lower bounds, where there are any (1)."""
    figures = {k: v[at] if math.isfinite(v[at]) else v[0] for k, v in seen.items()}
    if not _allowed(seen):
        lost = figures["heldout_accuracy_drop"]
        return 1, lost if math.isfinite(lost) else math.inf
    score = score_of(figures, rule)
    return 0, score if math.isfinite(score) else math.inf


def score_of(figures: dict, rule: str):
    """What a rule wants small among allowed settings, from their figures by name, numbers or arrays of draws."""
    error, gap = figures["heldout_margin_error"], figures.get("request_margin_gap", math.nan)
    return {
        "heldout": error,
        "request": gap,
        "margins": np.hypot(WEIGHT * error, np.fmax(0.0, gap)),
        "attack": figures.get("attack_advantage", math.nan),
        "retain": figures.get("retained_accuracy_drop", math.nan),
    }[rule]


def hp_words(method: str, remedy: str, setting: str) -> list[str]:
    """A setting of the records as words of ``--hp``: ``lr=0.1,expand.k=4`` of scrub -> scrub.lr=0.1, expand.k=4.

    Example:
        >>> hp_words("scrub", "", "lr=0.1,decay=5+8")
        ['scrub.lr=0.1', 'scrub.decay=5,8']
    """
    words = []
    for part in filter(None, setting.split(",")):
        name, _, value = part.partition("=")
        owner, dot, setting_name = name.partition(".")
        of_remedy = bool(dot) and owner == remedy
        entry, owner, name = (REMEDIES[owner], owner, setting_name) if of_remedy else (METHODS[method], method, name)
        if isinstance(entry.static.get(name), tuple):
            value = value.replace("+", ",")
        words.append(f"{owner}.{name}={value}")
    return words


def grouped(choices: list[Choice]) -> list[tuple[list[str], str, list[str]]]:
    """(methods, remedy, ``--hp`` words) of as few studies as hold every choice: one without remedies, and one for each
    different setting of a remedy, in which the methods run alone too."""
    studies: dict[tuple, tuple[list[str], list[str]]] = {}
    for choice in choices:
        remedy_words = [w for w in choice.words if choice.remedy and w.startswith(f"{choice.remedy}.")]
        methods, words = studies.setdefault((choice.remedy, tuple(remedy_words)), ([], []))
        methods.append(choice.method)
        words += [w for w in choice.words if w not in remedy_words]
    alone, words = studies.get(("", ()), ((), ()))
    if any(r and set(m) >= set(alone) and set(w) >= set(words) for (r, _), (m, w) in studies.items()):
        studies.pop(("", ()), None)  # a study with the remedy runs them besides
    return [(methods, remedy, [*remedy_words, *words]) for (remedy, remedy_words), (methods, words) in studies.items()]


__all__ = [
    "ALLOWED", "RULES", "SEEN", "Choice", "Regret", "Standing", "choose_settings", "grouped", "hp_words", "regret",
    "score_of", "standings",
]  # fmt: skip

"""Sweeps of several methods taken together: how well each rule, the preset file and the defaults do by the oracle."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from unlearn_jax.sweeps.rules import RULES

RESAMPLES = 2000
BESIDE = {  # what a rule's regret is measured against
    "preset": "the choice, or the defaults where it is not clearly better",
    "defaults": "the defaults everywhere, allowed or not",
    "lot": "any allowed setting, by lot (the mean over them)",
}


class Pick(NamedTuple):
    """What was picked in one sweep, seen by the oracle."""

    method: str
    regret: float  # residual distance above the best allowed setting's; < 0 where it is not allowed itself
    best: float  # 1 = it is the best allowed one, by lot the chance of it


def compare_rules(found: dict[str, dict], decided: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """How every rule, and what it is to be measured against, did over sweeps of several methods.

    Args:
        found: what each method's sweep.json says.
        decided: each method's `Decision`.

    Returns:
        By rule of `RULES` and key of `BESIDE`: ``said``, ``sweeps`` (those whose regret is known), ``regret``, the
        mean with a 95% interval (2,000 draws of methods with replacement: of the spread between methods alone),
        ``median``, ``largest`` and the method that it is ``largest_of``, and how often the pick was the ``best``
        allowed setting. {} without an oracle.
    """
    picks_of: dict[str, tuple[str, list]] = {
        rule: (words, [_by_rule(name, record, rule) for name, record in found.items()]) for rule, words in RULES.items()
    }
    picks_of["preset"] = BESIDE["preset"], [_at(name, decided[name].regret) for name in found]
    usual = [_at(n, decided[n].default_distance - decided[n].best_distance) for n in found]
    picks_of["defaults"] = BESIDE["defaults"], usual
    picks_of["lot"] = BESIDE["lot"], [_by_lot(name, record) for name, record in found.items()]
    finite = {rule: [p for p in picks if p and math.isfinite(p.regret)] for rule, (_, picks) in picks_of.items()}
    return {rule: {"said": picks_of[rule][0]} | _summary(picks) for rule, picks in finite.items() if picks}


def compare_defaults(found: dict[str, dict], decided: dict[str, Any]) -> dict[str, Any]:
    """What leaving the defaults did to the residual distance, on the targets that were tuned on.

    Args:
        found: what each method's sweep.json says.
        decided: each method's `Decision`.

    Returns:
        Of the ``methods`` that leave their defaults and whose distances are known: how many are told by paired 95%
        intervals to be ``nearer`` to the oracle than their defaults, or ``farther``, how many are ``neither``, and the
        medians ``defaults`` and ``preset`` of their distances. {} where there is none.
    """
    ends, nearer_by = [], []
    for name, record in found.items():
        decision = decided[name]
        if decision.values and math.isfinite(decision.distance + decision.default_distance):
            entry = next(one for one in record["settings"] if one["setting"] == decision.setting)
            ends.append((decision.default_distance, decision.distance))
            nearer_by.append(entry.get("nearer") or [math.nan] * 3)  # none in sweeps of earlier versions
    if not ends:
        return {}
    usual, other = np.median(ends, axis=0)
    nearer, farther = sum(low > 0 for _, low, _ in nearer_by), sum(high < 0 for *_, high in nearer_by)
    defined = sum(math.isfinite(low) for _, low, _ in nearer_by)
    counts = {"nearer": nearer, "farther": farther, "neither": defined - nearer - farther}
    return {"methods": len(ends)} | counts | {"defaults": float(usual), "preset": float(other)}


def _by_rule(method: str, record: dict, rule: str) -> Pick | None:
    choice = record["choices"].get(rule, {})
    return _at(method, choice["regret"]) if "regret" in choice else None


def _at(method: str, regret: float) -> Pick:
    return Pick(method, regret, float(regret == 0))


def _by_lot(method: str, record: dict) -> Pick | None:
    """The mean over allowed settings that ran whole, over all of them where none is allowed."""
    whole = [one for one in record["settings"] if one["share"] == 1.0 and one["distance"] is not None]
    far = [one["distance"] for one in whole if one["allowed"]] or [one["distance"] for one in whole]
    if not far or "oracle" not in record["choices"]:
        return None
    return Pick(method, float(np.mean(far)) - record["choices"]["oracle"]["distance"], 1 / len(far))


def _summary(picks: list[Pick]) -> dict[str, Any]:
    values = np.array([pick.regret for pick in picks])
    means = values[np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    ends = [float(x) for x in np.quantile(means, [0.025, 0.975])] if len(values) > 1 else [None, None]
    worst = max(picks, key=lambda pick: pick.regret)
    return {
        "sweeps": len(picks),
        "regret": [float(values.mean()), *ends],
        "median": float(np.median(values)),
        "largest": worst.regret,
        "largest_of": worst.method,
        "best": float(sum(pick.best for pick in picks)),
    }

"""The choice of one setting by every rule, and what each choice costs against the best by the oracle."""

from __future__ import annotations

import math
from typing import Any

from unlearn_jax.sweeps.rules import RULES, choose_settings, regret, standings


def select(rows: list[dict], method: str, oracle: bool, remedy: str = "") -> dict[str, dict[str, Any]]:
    """What every rule chooses among the settings that ran at their whole length.

    Args:
        rows: of the summary, of those runs.
        method: that is swept.
        oracle: whether the rows have the figures of the oracle.
        remedy: around the method.

    Returns:
        By rule: ``said`` (what it takes), ``setting``, ``seen`` (its figures), ``allowed`` of ``candidates``; with an
        oracle also its ``distance``, the allowed setting ``best`` by distance, ``best_distance`` and ``regret``. The
        rule ``oracle`` looks at the residual distance of allowed settings, ``oracle_any`` of all. Their distances are
        the smallest of many noisy ones, so a regret is a little too large.
    """
    choices = {}
    for rule in RULES:
        try:
            (choice,) = choose_settings(rows, rule)
        except ValueError:  # the figure that the rule needs is not known, of few held-out examples
            continue
        choices[rule] = {
            "said": RULES[rule],
            "setting": choice.setting,
            "seen": choice.seen,
            "allowed": choice.allowed,
            "candidates": choice.candidates,
        }
        if oracle:
            (looked,) = regret(rows, [choice])
            choices[rule] |= {
                "distance": looked.distance,
                "best": looked.best,
                "best_distance": looked.best_distance,
                "regret": looked.gap,
            }
    return choices | (_by_oracle(rows, method, remedy) if oracle else {})


def _by_oracle(rows: list[dict], method: str, remedy: str) -> dict[str, dict[str, Any]]:
    """The settings with the smallest residual distance, of those allowed and of all."""
    standing_of = standings(rows)[method, remedy]
    distance = {r["setting"]: float(r["value"]) for r in rows if r["metric"] == "residual_distance"}
    allowed = sum(one.allowed for one in standing_of.values())
    meanings = {
        "oracle": "the smallest residual distance among allowed settings",
        "oracle_any": "the smallest residual distance, allowed or not",
    }
    choices = {}
    for rule, words in meanings.items():
        names = [s for s, one in standing_of.items() if rule == "oracle_any" or one.allowed or not allowed]
        best = min(names, key=lambda s: (not math.isfinite(distance[s]), distance[s]))
        choices[rule] = {
            "said": words,
            "setting": best,
            "seen": standing_of[best].seen,
            "allowed": allowed,
            "candidates": len(standing_of),
            "distance": distance[best],
        }
    return choices

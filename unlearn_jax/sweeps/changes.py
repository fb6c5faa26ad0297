"""What other settings do to methods: paired differences from the defaults, whether they are significant, and their sum.

Members and clusters are drawn alike for both settings of a method, so the difference has an interval of its own. With
many methods about one interval of twenty leaves out the truth: among many that did not change, a few are told to have.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from unlearn_jax.evaluation.frontier import excess
from unlearn_jax.evaluation.values import Scorer
from unlearn_jax.metrics import Estimate, combine
from unlearn_jax.studies.populations import EvaluatedPopulation, Level
from unlearn_jax.studies.setup import Setup

DISTANCE, SIGNED, TEST, REST = "residual_distance", "residual_influence", "accuracy_lost_test", "accuracy_lost_rest"
FIGURES = (DISTANCE, SIGNED, TEST, REST)  # the last two in points against the originals; larger is worse
VERDICTS = ("falls", "rises", "not told", "not defined")
GROUPS = {
    "nearer": "nearer to the oracle, at no told loss of held-out accuracy",
    "dearer": "nearer, but held-out accuracy is lost",
    "regained": "held-out accuracy regained, distance not told to change",
    "traded": "held-out accuracy regained, but farther from the oracle",
    "harmed": "farther, or held-out accuracy lost, for no gain that is told",
    "not told": "neither is told to change",
    "not defined": "too few members that did not diverge, or nothing to compare with",
}


def verdict(difference: Estimate) -> str:
    """Whether a figure changes, by the 95% interval of the difference; one of `VERDICTS`.

    Example:
        >>> verdict(Estimate(-0.2, -0.3, -0.1, -0.3, -0.1, 8)), verdict(Estimate(-0.2, -0.4, 0.0, -0.3, -0.1, 8))
        ('falls', 'not told')
    """
    if not np.isfinite([difference.value, difference.ci_low, difference.ci_high]).all():
        return "not defined"
    return "falls" if difference.ci_high < 0 else "rises" if difference.ci_low > 0 else "not told"


def group_of(distance: str, lost: str) -> str:
    """A key of `GROUPS`, from the verdicts on the residual distance and on the held-out accuracy lost.

    Example:
        >>> group_of("rises", "falls"), group_of("rises", "not told"), group_of("falls", "rises")
        ('traded', 'harmed', 'dearer')
    """
    if "not defined" in (distance, lost):
        return "not defined"
    if distance == "falls":
        return "dearer" if lost == "rises" else "nearer"
    if lost == "falls":
        return "traded" if distance == "rises" else "regained"
    return "harmed" if "rises" in (distance, lost) else "not told"


def changes(
    setup: Setup,
    level: Level,
    named: dict[str, EvaluatedPopulation],
    pairs: list[tuple[EvaluatedPopulation, EvaluatedPopulation]],
) -> list[dict[str, Any]]:
    """What each method's other settings change, as it is recorded.

    Args:
        setup: the study.
        level: its rows.
        named: ``original`` and ``oracle``.
        pairs: a method at its defaults and at its other settings, from the same originals.

    Returns:
        For each pair its ``method``, ``remedy``, ``setting``, ``group`` (a key of `GROUPS`), by ``defaults`` and
        ``preset`` the diverged members and the gradient evaluations of one, and by figure (`FIGURES`) the values of
        both and their difference, preset less defaults, each ``[value, low, high]`` with None where not defined, and
        the ``verdict``.
    """
    scorer = Scorer(setup, level, [one for pair in pairs for one in pair])
    rows = []
    for pair in pairs:
        figures = {
            name: {kind: interval(one) for kind, one in zip(("defaults", "preset", "difference"), estimates)}
            | {"verdict": verdict(estimates[2])}
            for name, estimates in _figures(scorer, named, *pair).items()
        }
        both = lambda of, pair=pair: dict(zip(("defaults", "preset"), map(of, pair)))
        rows.append(
            {
                "method": pair[1].method,
                "remedy": pair[1].remedy,
                "setting": pair[1].setting,
                "group": group_of(str(figures[DISTANCE]["verdict"]), str(figures[TEST]["verdict"])),
                "diverged": both(lambda o: int((~np.isfinite(o.scores.margin).all(axis=1)).sum())),
                "grad_evals": both(lambda o: float(sum(o.grad_evals))),
                "figures": figures,
            }
        )
    return rows


def _figures(
    scorer: Scorer, named: dict, usual: EvaluatedPopulation, other: EvaluatedPopulation
) -> dict[str, tuple[Estimate, ...]]:
    """By figure its estimate at the defaults, at the other settings, and the difference."""
    every, same = list(range(scorer.setup.config.requests)), lambda x: x
    margin = lambda outcome: scorer.draws(outcome, "forget", "margin", every)
    full, none = margin(named["original"]), margin(named["oracle"])
    margins, distances = [margin(o) for o in (usual, other)], [scorer.distance(o, named, every) for o in (usual, other)]
    less = lambda u, o: o - u
    estimates = {
        DISTANCE: (*(combine(same, one, low=0.0) for one in distances), combine(less, *distances)),
        SIGNED: (
            *(combine(lambda u, f, n: (u - n) / (f - n), one, full, none) for one in margins),
            combine(lambda u, o, f, n: (o - u) / (f - n), *margins, full, none),
        ),
    }
    for name, split in ((TEST, "test"), (REST, "rest")):
        lost = [excess(scorer, outcome, named["original"], split, every) for outcome in (usual, other)]
        estimates[name] = (*(combine(same, one) for one in lost), combine(less, *lost))
    return estimates


def interval(one: Estimate) -> list[float | None]:
    """Value and 95% bounds, None where they are not defined."""
    return [float(x) if math.isfinite(x) else None for x in (one.value, one.ci_low, one.ci_high)]


def summary_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the methods come to: by figure how many verdicts of each kind and both medians; by group the names.

    Args:
        rows: as `changes` returns them.
    """
    figures = {}
    for name in FIGURES:
        entries = [row["figures"][name] for row in rows]
        measured = [one for one in entries if None not in (one["defaults"][0], one["preset"][0])]
        figures[name] = {kind: sum(one["verdict"] == kind for one in entries) for kind in VERDICTS}
        for side in ("defaults", "preset"):
            values = [one[side][0] for one in measured]
            figures[name][f"median_{side}"] = float(np.median(values)) if values else None
    groups = {group: [label_of(row) for row in rows if row["group"] == group] for group in GROUPS}
    return {"methods": len(rows), "figures": figures, "groups": groups}


def label_of(row: dict[str, Any]) -> str:
    """METHOD or METHOD+REMEDY."""
    return f"{row['method']}+{row['remedy']}" if row["remedy"] else row["method"]

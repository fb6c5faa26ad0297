"""What sweep.json says of each setting; distances beside another's come with intervals of paired draws."""

from __future__ import annotations

from typing import Any, NamedTuple

from unlearn_jax.metrics import Draws, combine
from unlearn_jax.population.members import setting_name
from unlearn_jax.sweeps.config import is_default
from unlearn_jax.sweeps.rules import Standing, score_of


class Ran(NamedTuple):
    """What the rungs ran, by number of the setting or by its name."""

    spent: dict[int, dict[float, float]]  # gradient evaluations of all members, by share of the length
    gains: dict[int, list[float]]  # on the defaults' score, with interval; of settings that ran whole
    distances: dict[str, Draws]  # of settings that ran whole; {} without an oracle


def settings_told(
    points: list[dict], usual: dict[str, Any], names: list[str], rule: str, standing: dict[str, Standing], ran: Ran,
    best: str | None,
) -> list[dict]:  # fmt: skip
    """An entry of every setting that was tried.

    Args:
        points: the settings, {} = the defaults.
        usual: the method's own values.
        names: of what was swept.
        rule: by which settings are scored.
        standing: of the settings that ran whole.
        ran: what the rungs ran.
        best: the allowed setting with the smallest residual distance; None without an oracle.
    """
    plain = next((setting_name(point) for point in points if is_default(point, usual)), None)
    entries = []
    for number, point in enumerate(points):
        name, spent = setting_name(point), ran.spent[number]
        place, far = standing.get(name), ran.distances.get(name)  # none where it was dropped
        entries.append(
            {
                "setting": name,
                "values": {axis: (usual | point)[axis] for axis in names},
                "default": not point,
                "share": max(spent),
                "grad_evals": sum(spent.values()),
                "allowed": place.allowed if place else None,
                "score": score_of(place.seen, rule) if place else None,
                "gain": ran.gains.get(number),  # on the defaults' score, with its interval
                # what follows looks at the oracle
                "distance": float(far.value) if far else None,
                "nearer": _apart(ran.distances, plain, name),  # than the defaults
                "regret": _apart(ran.distances, name, best),  # farther than the best allowed setting
            }
        )
    return entries


def _apart(distances: dict[str, Draws], one: str | None, other: str | None) -> list[float] | None:
    """Residual distance of a setting above another's, with a 95% interval; members and clusters drawn alike."""
    if one not in distances or other not in distances:
        return None
    apart = combine(lambda a, b: a - b, distances[one], distances[other])
    return [apart.value, apart.ci_low, apart.ci_high]

"""Read a folder of sweeps, one of each method, of an unfinished one what is done; every fault is one `InputError`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

from unlearn_jax.errors import InputError
from unlearn_jax.reports.reading import Told, present, reading
from unlearn_jax.reports.sweep_load import AGAIN, Sweep, read_sweep, told_of
from unlearn_jax.runtime.archives import read_json

GOES_ON = "the same unlearn-jax sweep command goes on where it stopped"

OVERALL = ("rules", "leaving")  # of sweeps.json: what is said of all sweeps together


class Line(NamedTuple):
    """What came of one method."""

    name: str
    kept: bool  # whether the preset file leaves it its defaults
    why: str
    sweep: Sweep | None = None  # none where there was nothing to sweep
    usual: dict | None = None  # the entry of the defaults; none where they did not run whole
    rule: dict | None = None  # the entry of what the rule chose
    says: dict | None = None  # the entry of what the preset file says
    best: dict | None = None  # the entry of the best allowed setting; none without an oracle

    def find(self, entry: dict | None, metric: str, split: str = "") -> Told:
        """A figure of a setting with its interval; NaN where it is not known."""
        return self.sweep.find(entry["setting"], metric, split) if self.sweep and entry else Told()

    def distance(self, entry: dict | None) -> Told:
        """The residual distance of a setting."""
        return self.find(entry, "residual_distance", "forget")

    @property
    def allowed(self) -> int:
        """How many settings may be chosen."""
        return sum(bool(one["allowed"]) for one in self.sweep.whole) if self.sweep else 0

    @property
    def gain(self) -> Told:
        """The defaults' score less that of what the rule chose."""
        return told_of(self.rule, "gain")

    @property
    def nearer(self) -> Told:
        """The defaults' residual distance less that of what the preset file says."""
        return self._apart("nearer", self.usual, self.says)

    @property
    def regret(self) -> Told:
        """Residual distance of what the preset file says above that of the best allowed setting."""
        return self._apart("regret", self.says, self.best)

    def _apart(self, key: str, one: dict | None, other: dict | None) -> Told:
        """A difference of distances, without an interval where the sweep did not write any."""
        told = told_of(self.says, key)
        apart = self.distance(one).value - self.distance(other).value
        return told if math.isfinite(told.value) else Told(apart)


class Sweeps(NamedTuple):
    """Everything that the page shows."""

    path: Path
    told: dict[str, Any]  # sweeps.json
    lines: list[Line]  # a method each, in the order of the sweep
    rules: dict[str, dict]  # what each rule costs over all sweeps; {} without an oracle
    leaving: dict[str, Any]  # what leaving the defaults did to the residual distance; {} where it is not known
    waiting: list[str]  # methods that are not swept yet, as far as they are named
    unfinished: str = ""  # how far it is, where it is not complete

    @property
    def swept(self) -> list[Line]:
        """The methods that had something to sweep."""
        return [line for line in self.lines if line.sweep]

    @property
    def sweeps(self) -> list[Sweep]:
        """Their sweeps."""
        return [line.sweep for line in self.lines if line.sweep]

    @property
    def rule(self) -> str:
        """By which settings were chosen."""
        return self.told["asked"]["sweep"]["rule"]

    @property
    def oracle(self) -> bool:
        """Whether it was looked at, after the choice."""
        return any(line.best for line in self.lines)


def read_sweeps(folder: Path) -> Sweeps:
    """Read the folder; raises `InputError` where it is missing or damaged, or no sweep in it is finished."""
    folder = Path(folder)
    missing = f"there are no sweeps at {folder}: give the folder that unlearn-jax sweep wrote."
    present(folder, ["sweeps.json"], missing)
    with reading(f"the sweeps in {folder} cannot be read", AGAIN):
        told = read_json(folder / "sweeps.json")
        if told.get("kind") != "sweeps" or "rule" not in told["asked"]["sweep"]:
            raise ValueError("its sweeps.json is of another kind of run")
        done = told.get("status") == "complete"
        lines = _complete(folder, told["methods"]) if done else _so_far(folder, told)
        waiting = [] if done else [n for n in told.get("names", ()) if n not in {line.name for line in lines}]
        how_far = "" if done else _how_far(told, len(lines))
        if not lines:
            raise InputError(f"the sweeps in {folder} have nothing to show yet: {how_far}; {GOES_ON}.")
        rules, leaving = (told[name] for name in OVERALL) if set(OVERALL) <= set(told) else _overall(lines)
        return Sweeps(folder, told, lines, rules, leaving, waiting, how_far)


def progress(folder: Path) -> str:
    """How far a folder of sweeps is, as a sentence; '' for one that is complete."""
    told = read_json(folder / "sweeps.json")
    done = sum(_status(folder / name) == "complete" for name in _names(folder, told))
    return "" if told.get("status") == "complete" else f"Unfinished: {_how_far(told, done)}; {GOES_ON}."


def _how_far(told: dict, done: int) -> str:
    """3 of 54 methods are swept; running or killed."""
    known = f" of {len(told['names'])}" if told.get("names") else ""
    return f"{done}{known} methods are swept; running or killed"


def _names(folder: Path, told: dict) -> list[str]:
    """Methods that are swept, in order; of earlier versions those that have begun."""
    return told.get("names") or sorted(path.parent.name for path in folder.glob("*/sweep.json"))


def _complete(folder: Path, methods: dict[str, dict]) -> list[Line]:
    """The lines of a folder that is whole, by what its sweeps.json decided."""
    return [
        _line(name, read_sweep(folder / name), own["kept_defaults"], own["why"])
        if "candidates" in own
        else Line(name, own["kept_defaults"], own["why"])
        for name, own in methods.items()
    ]


def _so_far(folder: Path, told: dict) -> list[Line]:
    """The lines of the sweeps that are complete, decided as they will be."""
    from unlearn_jax.sweeps.several import decide

    found = []
    for name in _names(folder, told):
        if _status(folder / name) == "complete":
            sweep = read_sweep(folder / name)
            decision = decide(sweep.told)
            found.append(_line(name, sweep, not decision.values, decision.why))
    return found


def _status(folder: Path) -> str:
    """How far a sweep is; '' where it has not begun."""
    path = folder / "sweep.json"
    return read_json(path).get("status", "") if path.is_file() else ""


def _line(name: str, sweep: Sweep, kept: bool, why: str) -> Line:
    """A method's settings by what they are."""
    from unlearn_jax.sweeps.several import defaults_in

    settings, choices = {one["setting"]: one for one in sweep.whole}, sweep.told["choices"]
    usual, rule = defaults_in(sweep.told), settings[choices[sweep.rule]["setting"]]
    best = settings[choices["oracle"]["setting"]] if "oracle" in choices else None
    return Line(name, kept, why, sweep, usual, rule, usual if kept else rule, best)


def _overall(lines: list[Line]) -> list[dict]:
    """What is said of all sweeps together, of a folder that does not say it itself."""
    from unlearn_jax.sweeps.overall import compare_defaults, compare_rules
    from unlearn_jax.sweeps.several import decide

    found = {line.name: line.sweep.told for line in lines if line.sweep}
    decided = {name: decide(told) for name, told in found.items()}
    return [compare_rules(found, decided), compare_defaults(found, decided)]

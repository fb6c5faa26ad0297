"""Read a folder of sweeps, one of each method, of an unfinished one what is done; every fault is one `InputError`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

from unlearn_jax.errors import InputError
from unlearn_jax.reports.reading import Estimate, present, reading
from unlearn_jax.reports.sweep_load import Sweep, difference_of, read_sweep
from unlearn_jax.runtime.archives import read_json

GOES_ON = "the same unlearn-jax sweep command goes on where it stopped"


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

    def find(self, entry: dict | None, metric: str, split: str = "") -> Estimate:
        """A figure of a setting with its interval; NaN where it is not known."""
        return self.sweep.find(entry["setting"], metric, split) if self.sweep and entry else Estimate()

    def distance(self, entry: dict | None) -> Estimate:
        """The residual distance of a setting."""
        return self.find(entry, "residual_distance", "forget")

    @property
    def allowed(self) -> int:
        """How many settings may be chosen."""
        return sum(bool(one["allowed"]) for one in self.sweep.whole) if self.sweep else 0

    @property
    def gain(self) -> Estimate:
        """The defaults' score less that of what the rule chose."""
        return difference_of(self.rule, "gain")

    @property
    def nearer(self) -> Estimate:
        """The defaults' residual distance less that of what the preset file says."""
        return self._difference("nearer", self.usual, self.says)

    @property
    def regret(self) -> Estimate:
        """Residual distance of what the preset file says above that of the best allowed setting."""
        return self._difference("regret", self.says, self.best)

    def _difference(self, key: str, one: dict | None, other: dict | None) -> Estimate:
        """A difference of distances, without an interval where the sweep did not write any."""
        paired = difference_of(self.says, key)
        apart = self.distance(one).value - self.distance(other).value
        return paired if math.isfinite(paired.value) else Estimate(apart)


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
    with reading(f"the sweeps in {folder} cannot be read", "run unlearn-jax sweep again"):
        manifest = read_json(folder / "sweeps.json")
        if manifest.get("kind") != "sweeps" or "rule" not in manifest["asked"]["sweep"]:
            raise ValueError("its sweeps.json is of another kind of run")
        done = manifest.get("status") == "complete"
        lines = _complete(folder, manifest["methods"]) if done else _so_far(folder, manifest)
        swept = {line.name for line in lines}
        waiting = [] if done else [name for name in manifest.get("names", ()) if name not in swept]
        how_far = "" if done else _how_far(manifest, len(lines))
        if not lines:
            raise InputError(f"the sweeps in {folder} have nothing to show yet: {how_far}; {GOES_ON}.")
        whole = {"rules", "leaving"} <= set(manifest)
        rules, leaving = (manifest["rules"], manifest["leaving"]) if whole else _overall(lines)
        return Sweeps(folder, manifest, lines, rules, leaving, waiting, how_far)


def progress(folder: Path) -> str:
    """How far a folder of sweeps is, as a sentence; '' for one that is complete."""
    manifest = read_json(folder / "sweeps.json")
    done = sum(_is_done(folder / name) for name in _names(folder, manifest))
    return "" if manifest.get("status") == "complete" else f"Unfinished: {_how_far(manifest, done)}; {GOES_ON}."


def _how_far(manifest: dict, done: int) -> str:
    """3 of 54 methods are swept; running or killed."""
    total = f" of {len(manifest['names'])}" if manifest.get("names") else ""
    return f"{done}{total} methods are swept; running or killed"


def _names(folder: Path, manifest: dict) -> list[str]:
    """Methods that are swept, in order; of earlier versions those that have begun."""
    return manifest.get("names") or sorted(path.parent.name for path in folder.glob("*/sweep.json"))


def _is_done(folder: Path) -> bool:
    path = folder / "sweep.json"
    return path.is_file() and read_json(path).get("status") == "complete"


def _complete(folder: Path, methods: dict[str, dict]) -> list[Line]:
    """The lines of a folder that is whole, by what its sweeps.json decided."""
    return [
        _line(name, read_sweep(folder / name) if "candidates" in one else None, one["kept_defaults"], one["why"])
        for name, one in methods.items()
    ]


def _so_far(folder: Path, manifest: dict) -> list[Line]:
    """The lines of the sweeps that are complete, decided as they will be."""
    from unlearn_jax.sweeps.several import decide

    sweeps = {name: read_sweep(folder / name) for name in _names(folder, manifest) if _is_done(folder / name)}
    decided = {name: decide(sweep.told) for name, sweep in sweeps.items()}
    return [_line(name, sweep, not decided[name].values, decided[name].why) for name, sweep in sweeps.items()]


def _line(name: str, sweep: Sweep | None, kept: bool, why: str) -> Line:
    """A method's settings by what they are."""
    from unlearn_jax.sweeps.several import defaults_in

    if sweep is None:
        return Line(name, kept, why)
    settings, choices = {one["setting"]: one for one in sweep.whole}, sweep.told["choices"]
    usual, rule = defaults_in(sweep.told), settings[choices[sweep.rule]["setting"]]
    best = settings[choices["oracle"]["setting"]] if "oracle" in choices else None
    return Line(name, kept, why, sweep, usual, rule, usual if kept else rule, best)


def _overall(lines: list[Line]) -> list[dict]:
    """What is said of all sweeps together, of a folder that does not say it itself."""
    from unlearn_jax.sweeps.overall import compare_defaults, compare_rules
    from unlearn_jax.sweeps.several import decide

    sweeps = {line.name: line.sweep.told for line in lines if line.sweep}
    decided = {name: decide(told) for name, told in sweeps.items()}
    return [compare_rules(sweeps, decided), compare_defaults(sweeps, decided)]

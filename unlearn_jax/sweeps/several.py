"""Sweeps of several methods by one command: the same originals, a folder each, and one preset file.

A method keeps its defaults in the file unless the setting that its sweep chose is clearly better by the rule: the
interval of the difference of their scores is above 0, or the defaults are not allowed and it is. Nothing of that looks
at the oracle; the distances beside it do, and are for readers.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

from unlearn_jax.data.arrays import dataset_digest
from unlearn_jax.errors import InputError
from unlearn_jax.methods import GROUPS, METHODS, length_of
from unlearn_jax.population import checkpoint
from unlearn_jax.results.recorder import environment, write_json
from unlearn_jax.runtime.archives import read_json
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.presets import write_presets
from unlearn_jax.studies.resolve import Study, resolve
from unlearn_jax.studies.setup import SILENT, Watch
from unlearn_jax.studies.validate import check
from unlearn_jax.sweeps.config import SweepConfig, asked_of, defaults_of, is_default
from unlearn_jax.sweeps.overall import compare_defaults, compare_rules
from unlearn_jax.sweeps.run import Asked, prepared, sweep_one, trained, understood
from unlearn_jax.sweeps.spaces import AUTO, space_of
from unlearn_jax.sweeps.written import about_of, completed, refuse_other, refuse_other_data

KIND = "sweeps"
KEPT = (
    "a method keeps its defaults unless the chosen setting is allowed, and its score clearly better (interval above 0) "
    "or the defaults are not allowed"
)
DIGITS = 4


class Decision(NamedTuple):
    """What the preset file says of a method, and why; distances look at the oracle and play no part in it."""

    values: dict[str, Any]  # {} = the defaults are kept
    why: str
    setting: str = ""  # that the rule chose, '' = the defaults
    gain: tuple[float, ...] = ()  # the defaults' score less its own, with a 95% interval
    allowed: int = 0  # of the candidates
    candidates: int = 0
    distance: float = math.nan  # of what the file says
    default_distance: float = math.nan
    best_distance: float = math.nan  # the smallest among allowed settings

    @property
    def regret(self) -> float:
        """Residual distance of what the file says above the best allowed setting's."""
        return self.distance - self.best_distance


def are_several(method: str) -> bool:
    """Whether ``--method`` names several methods, or a group of them."""
    return "," in method or method.strip() in GROUPS


def run_sweeps(
    sweep: SweepConfig, study: StudyConfig, out: Path, *, store: Path | None = None, watch: Watch = SILENT,
    command: str = "", **options,
) -> Path:  # fmt: skip
    """Sweep several methods, each as `run_sweep` would, from the same originals.

    Args:
        sweep: its ``method`` names methods with commas, or ``core`` or ``all``. With halving, methods without a length
            run whole.
        study: as of `run_sweep`; its ``hp`` are ``auto`` and words METHOD.NAME=VALUES.
        out: run folder; the same sweeps continue there, and those that are complete are read.
        store: as of `run_sweep`, and so are the other arguments.

    Returns:
        The run folder: METHOD/ as of `run_sweep` for each that has something to sweep, sweeps.json (decisions, what
        leaving the defaults did and what each rule costs over all sweeps, versions) and preset.json, in which every
        method is named.

    Raises:
        InputError, Stopped: as of `run_sweep`; nothing is trained before all methods are known to run.
    """
    began, configuration = time.time(), asked_of(sweep, study)
    resolved, names = _study_of(sweep, study)
    refuse_other(out, configuration, "sweeps.json")
    every = [understood(*_of_method(sweep, study, name)) for name in names if space_of(name) or _words(study, name)]
    if not every:
        raise InputError(f"{', '.join(names)} have nothing to sweep: give other methods.")
    setup, level = prepared(every, resolved, out, store or out.parent / "populations", watch, **options)
    digest = dataset_digest(setup.dataset)
    refuse_other_data(out / "sweeps.json", digest)  # sweeps that are complete would be read beside others of these
    summary = {"kind": KIND, "status": "running", "command": command, "asked": configuration, "dataset_digest": digest}
    summary |= environment()
    summary |= {"names": [one.sweep.method for one in every], "left_out": list(resolved.left_out.values())}
    memory: list = []

    def references():
        memory.extend([] if memory else trained(sweep, setup, level, watch))
        return memory

    records: dict[str, dict] = {}
    with checkpoint.locked(out):
        write_json(out / "sweeps.json", summary)
        for one in every:
            name, start = one.sweep.method, time.time()
            record = _read(out / name, one)
            if record is None:
                (out / name).mkdir(exist_ok=True)
                ready = setup._replace(study=one.resolved)
                record = sweep_one(one, ready, level, references, out / name, watch, command, start)
            records[name] = record
        decided = {
            name: decide(records[name]) if name in records else Decision({}, "nothing to sweep") for name in names
        }
        about = about_of(next(iter(records.values()))) | about_sweeps(sweep, decided, summary)
        write_presets(out / "preset.json", {name: one.values for name, one in decided.items()}, about)
        summary |= {"methods": about["methods"], "leaving": compare_defaults(records, decided)}
        summary |= {
            "rules": compare_rules(records, decided),
            "identifiable": next(iter(records.values())).get("identifiable"),
        }
        write_json(out / "sweeps.json", summary | completed(began))
    return out


def _study_of(sweep: SweepConfig, study: StudyConfig) -> tuple[Study, list[str]]:
    """The study of all the methods, resolved and checked, and their names."""
    if study.remedies:
        raise InputError("--remedies is for the sweep of one method: give one --method, or leave --remedies out.")
    config = dataclasses.replace(study, methods=sweep.method, members=sweep.seeds, hp=())
    resolved = resolve(config)
    check(resolved)
    names = list(resolved.methods)
    if not names:
        raise InputError(f"--method {sweep.method} names no method that can run on these data: name others.")
    for word in study.hp:
        owner = word.partition("=")[0].rpartition(".")[0]
        if word != AUTO and owner not in names:
            problem = f"'{owner}' is not swept" if owner else "whose it is, is not said"
            raise InputError(f"--hp '{word}': {problem}; with several methods write METHOD.NAME=VALUES, or auto.")
    if silent := [name for name in names if AUTO not in study.hp and not _words(study, name)]:
        raise InputError(f"there is nothing to sweep of {', '.join(silent[:3])}: give --hp auto, or each its values.")
    return resolved, names


def _words(study: StudyConfig, name: str) -> tuple[str, ...]:
    return tuple(word for word in study.hp if word.startswith(f"{name}."))


def _of_method(sweep: SweepConfig, study: StudyConfig, name: str) -> tuple[SweepConfig, StudyConfig]:
    """What the sweep of one of the methods is asked for."""
    halving = 0 if length_of(METHODS[name]) is None else sweep.halving
    words = tuple(word for word in study.hp if word == AUTO) + _words(study, name)
    return dataclasses.replace(sweep, method=name, halving=halving), dataclasses.replace(study, hp=words)


def _read(folder: Path, request: Asked) -> dict | None:
    """What a complete sweep says, of the same settings; None where it has to run."""
    try:
        record = read_json(folder / "sweep.json")
    except (OSError, ValueError):
        return None
    axes = json.loads(json.dumps([axis._asdict() for axis in request.axes]))
    same = record.get("asked") == asked_of(request.sweep, request.study) and json.dumps(
        record.get("axes")
    ) == json.dumps(axes)
    return record if same and record.get("status") == "complete" else None


def decide(told: dict) -> Decision:
    """What the preset file says of a method, from what its sweep.json says."""
    sweep = told["asked"]["sweep"]
    chosen, best = told["choices"][sweep["rule"]], told["choices"].get("oracle", {})
    settings = {one["setting"]: one for one in told["settings"] if one["share"] == 1.0}
    choice, plain = settings[chosen["setting"]], defaults_in(told)
    values, why = choice["values"], "clearly better"
    if not chosen["allowed"]:
        values, why = {}, "no setting is allowed"
    elif plain is None:
        why = "the defaults were dropped, or not tried"
    elif choice is plain:
        values, why = {}, "none is better than the defaults"
    elif not plain["allowed"]:
        why = "the defaults are not allowed"
    elif not choice["gain"][1] > 0:
        values, why = {}, "not told to be better than the defaults"
    far = [one["distance"] if one and one["distance"] is not None else math.nan for one in (choice, plain)]
    return Decision(
        values, why, choice["setting"], tuple(choice["gain"] or ()), chosen["allowed"], chosen["candidates"],
        far[0] if values else far[1], far[1], best.get("distance", math.nan),
    )  # fmt: skip


def defaults_in(told: dict) -> dict | None:
    """What sweep.json says of the method's defaults; None where they did not run whole."""
    usual = defaults_of(told["asked"]["sweep"]["method"], resolve(StudyConfig(**told["config"])))
    whole = (one for one in told["settings"] if one["share"] == 1.0)
    return next((one for one in whole if one["default"] or is_default(_tuples(one), usual)), None)


def _tuples(one: dict) -> dict[str, Any]:
    """A setting's values, as they were before they were JSON."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in one["values"].items()}


def about_sweeps(sweep: SweepConfig, decided: dict[str, Decision], told: dict) -> dict[str, Any]:
    """What a preset file says beside what is said of one sweep."""
    short = lambda x: float(f"{x:.{DIGITS}g}") if isinstance(x, float) and math.isfinite(x) else None
    methods = {}
    for name, one in decided.items():
        methods[name] = {"kept_defaults": not one.values, "why": one.why}
        if one.candidates:
            methods[name] |= {"chosen": one.setting, "gain": [short(x) for x in one.gain]}
            methods[name] |= {"allowed": one.allowed, "candidates": one.candidates}
            for key in ("distance", "default_distance", "best_distance", "regret"):
                methods[name][key] = short(getattr(one, key))
    return {
        **{key: told[key] for key in ("command", "versions", "git_commit", "device")},
        "kept": KEPT, "draw": sweep.draw, "draws": sweep.draws,
        "allowed": sum(one.allowed for one in decided.values()),
        "candidates": sum(one.candidates for one in decided.values()),
        "methods": methods, "left_out": told["left_out"],
    }  # fmt: skip

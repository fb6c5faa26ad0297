"""A sweep from beginning to end, as a library call: originals, settings, rungs, choices, records."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import NamedTuple

from unlearn_jax import disk, room
from unlearn_jax.config import StudyConfig, copies_of, dataset_name, gammas_of, recipe_of, scale_of
from unlearn_jax.errors import InputError
from unlearn_jax.outcomes import Level, Outcome, level_of, references
from unlearn_jax.population import checkpoint
from unlearn_jax.population.members import setting_name
from unlearn_jax.preset_files import write_presets
from unlearn_jax.records import Recorder, environment, write_json
from unlearn_jax.setup import SILENT, Setup, Watch, prepare_study
from unlearn_jax.sweeping.config import SweepConfig, asked_of, candidates, defaults_of, shares_of, study_of
from unlearn_jax.sweeping.figures import oracle_figures, seen_figures
from unlearn_jax.sweeping.halving import Judged, Rung, halve
from unlearn_jax.sweeping.selection import select
from unlearn_jax.sweeping.trials import check_points, run_points
from unlearn_jax.tuning import score_of, standings

KIND = "sweep"


class Trials(NamedTuple):
    """What all rungs share."""

    sweep: SweepConfig
    setup: Setup
    level: Level
    points: list[dict]
    original: Outcome
    oracle: Outcome | None
    recorder: Recorder
    watch: Watch


def run_sweep(
    sweep: SweepConfig,
    study: StudyConfig,
    out: Path,
    *,
    store: Path | None = None,
    watch: Watch = SILENT,
    command: str = "",
    **options,
) -> Path:
    """Try settings of a method at the study's largest number of copies, choose one, and write the records.

    Args:
        sweep: which settings, and how they are chosen.
        study: data, targets and recipe; its ``hp`` are the axes of the sweep, see `parse_space`. Its references are
            those of a study of as many members, read from the store where they are there.
        out: run folder; a sweep of the same configuration continues there.
        store: where trained members are kept; default ``populations`` beside the run folder.
        watch: progress callbacks.
        command: for the record.
        options: ``chunk``, ``axis``, ``loop``, ``save_every`` of `Options`; ``data_dir`` of prepared data.

    Returns:
        The run folder: sweep.json, summary.csv and results.parquet (rows as of a study; ``budget`` names the length
        where it is a part of the method's), and preset.json with the chosen settings.

    Raises:
        InputError: bad configuration, missing data, a folder that holds something else or cannot be written.
        Stopped: a signal came; what is trained is kept.
    """
    began, asked = time.time(), asked_of(sweep, study)
    config = study_of(sweep, study)
    axes, points = candidates(sweep, study, config)
    store = store or out.parent / "populations"
    _refuse_other(out, asked)
    for folder, option in ((out, "--out"), (store, "--store")):
        checkpoint.check_writable(folder, option, keep=False)
    setup = prepare_study(config, watch, store=store, study=room.name_of(config), **options)
    setup = setup._replace(options=setup.options._replace(progress=watch.advance))
    level = level_of(setup, copies_of(config)[-1], gammas_of(config)[0])
    check_points(setup, level, sweep.method, points)
    if tight := disk.check_room(store, "--store", 0.0, room.weight_of(setup) * config.members * (len(points) + 2.0)):
        watch.say(f"{tight}: free some space before the disk is full")
    checkpoint.check_writable(store, "--store")
    checkpoint.check_writable(out, "--out")
    told = {
        "kind": KIND,
        "status": "running",
        "command": command,
        "asked": asked,
        "config": dataclasses.asdict(config),
        "dataset": dataset_name(config),
        "model": recipe_of(config)[0],
        "scale": scale_of(config),
        "copies": level.copies,
        "gamma": float(level.rows[0].gamma),
        "recipe": setup.problem.recipe._asdict(),
        "axes": [axis._asdict() for axis in axes],
        "notes": list(setup.notes),
        **environment(),
    }
    with checkpoint.locked(out):
        write_json(out / "sweep.json", told)
        found = _run(sweep, setup, level, points, [axis.name for axis in axes], out, watch)
        times = {"finished": time.strftime("%Y-%m-%dT%H:%M:%S"), "seconds_total": time.time() - began}
        _write_preset(out / "preset.json", told, found)
        write_json(out / "sweep.json", told | found | times | {"status": "complete"})
    return out


def _run(
    sweep: SweepConfig, setup: Setup, level: Level, points: list[dict], names: list[str], out: Path, watch: Watch
) -> dict:
    """Train, run the rungs and choose; what sweep.json says of it."""
    roles = ("original", "oracle") if sweep.oracle else ("original",)
    trained, _ = references(setup, level, {}, watch, {}, roles)
    recorder = Recorder(out)
    try:
        oracle = trained[1] if sweep.oracle else None
        trials = Trials(sweep, setup, level, points, trained[0], oracle, recorder, watch)
        rungs, spent = _rungs(trials)
        recorder.finish()
    finally:
        recorder.close()
    usual = defaults_of(sweep.method, setup.config)
    whole = {n: cost for n in range(len(points)) for share, cost in spent[n].items() if share == 1.0}
    saved = [spent[n][s] / s for n in range(len(points)) if n not in whole for s in list(spent[n])[-1:]]
    budget = f"{setup.config.budget:g}" if setup.config.budget else ""
    last = [row for row in recorder.summaries if row["budget"] == budget]
    stand = standings(last, sweep.rule)[sweep.method, ""]
    settings = []
    for number, point in enumerate(points):
        own = stand.get(setting_name(point))  # none where it was dropped
        settings.append(
            {
                "setting": setting_name(point),
                "values": {name: (usual | point)[name] for name in names},
                "default": not point,
                "share": max(spent[number]),
                "grad_evals": sum(spent[number].values()),
                "allowed": own.allowed if own else None,
                "score": score_of(own.seen, sweep.rule) if own else None,
            }
        )
    return {
        "settings": settings,
        "rungs": [rung._asdict() for rung in rungs],
        "cost": {
            "grad_evals": sum(rung.cost for rung in rungs),
            "without_halving": sum(whole.values()) + sum(saved),
            "one_training": sum(trained[0].grad_evals),  # of one network
        },
        "choices": select(last, sweep.method, sweep.oracle),
    }


def _rungs(trials: Trials) -> tuple[list[Rung], dict[int, dict[float, float]]]:
    """Run every rung; the rungs, and by setting what its runs cost by share: gradient evaluations of all members."""
    sweep, setup, recorder = trials.sweep, trials.setup, trials.recorder
    spent: dict[int, dict[float, float]] = {number: {} for number in range(len(trials.points))}

    def judge(numbers: list[int], share: float) -> list[Judged]:
        trials.watch.say(f"{len(numbers)} settings of {sweep.method} at {share:.3g} of its length")
        points = [trials.points[n] for n in numbers]
        outcomes = run_points(setup, trials.level, trials.original, points, share, trials.watch)
        seen = len(recorder.summaries)
        seen_figures(setup, trials.level, trials.original, outcomes, recorder)
        own = standings(recorder.summaries[seen:], sweep.rule)[sweep.method, ""]
        if trials.oracle is not None:
            oracle_figures(setup, trials.level, trials.original, trials.oracle, outcomes, recorder)
        recorder.flush()
        found = []
        for number, outcome in zip(numbers, outcomes):
            spent[number][share] = sum(outcome.grad_evals) * setup.config.members
            standing = own[outcome.setting]
            found.append(Judged(standing.rank, standing.best, spent[number][share]))
        return found

    shares = shares_of(sweep, setup.config, trials.points)
    return halve(len(trials.points), shares, sweep.halving or 2, judge), spent


def _write_preset(path: Path, told: dict, found: dict) -> None:
    """The chosen settings as a file that ``study.py --presets`` takes."""
    sweep = told["asked"]["sweep"]
    chosen = found["choices"][sweep["rule"]]
    values = next(one["values"] for one in found["settings"] if one["setting"] == chosen["setting"])
    config = told["config"]
    usual = ("benchmark", "similarity", "targets", "num_targets", "requests", "skip_requests")
    about = {
        "chosen_by": sweep["rule"],
        "said": chosen["said"],
        "allowed": chosen["allowed"],
        "candidates": chosen["candidates"],
        "seeds": sweep["seeds"],
        "scale": told["scale"],
        "dataset": told["dataset"],
        "model": told["model"],
        **{name: config[name] for name in usual},
        "copies": told["copies"],
        "versions": told["versions"],
        "git_commit": told["git_commit"],
    }
    write_presets(path, {sweep["method"]: values}, about)


def _refuse_other(out: Path, asked: dict) -> None:
    """Raise `InputError` where the folder holds something else than a sweep of this configuration."""
    if out.exists() and not out.is_dir():
        raise InputError(f"'{out}' is a file: give another --out folder.")
    if not out.exists() or not any(p for p in out.iterdir() if p.name == "sweep.json" or not p.name.startswith(".")):
        return
    try:
        other = json.loads((out / "sweep.json").read_text(encoding="utf-8"))["asked"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"'{out}' holds something else than a sweep: give another --out folder.") from None
    if other != asked:
        raise InputError(f"'{out}' holds another sweep: give another --out folder.")

"""A sweep from beginning to end, as a library call: originals, settings, rungs, choices, records."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from unlearn_jax.errors import InputError
from unlearn_jax.metrics.heldout import MIN_HELDOUT
from unlearn_jax.population import checkpoint
from unlearn_jax.results.recorder import Recorder, environment, write_json
from unlearn_jax.runtime import disk
from unlearn_jax.studies import storage
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.populations import EvaluatedPopulation, Level, level_of, references
from unlearn_jax.studies.presets import write_presets
from unlearn_jax.studies.resolve import Study
from unlearn_jax.studies.setup import SILENT, Setup, Watch, prepare_study
from unlearn_jax.sweeps.config import (
    SweepConfig,
    asked_of,
    candidates,
    defaults_of,
    is_default,
    remedy_of,
    shares_of,
    study_of,
)
from unlearn_jax.sweeps.figures import asked_figures, gains, identifiable, oracle_figures, seen_figures
from unlearn_jax.sweeps.halving import Judged, Rung, halve
from unlearn_jax.sweeps.listed import Ran, settings_told
from unlearn_jax.sweeps.rules import standings
from unlearn_jax.sweeps.sampling import Axis
from unlearn_jax.sweeps.selection import select
from unlearn_jax.sweeps.trials import check_points, run_points
from unlearn_jax.sweeps.written import about_of, by_owner, chosen_values, completed, facts_of, refuse_other

KIND = "sweep"


class Asked(NamedTuple):
    """A sweep of one method, as it was asked for and what that means."""

    sweep: SweepConfig
    study: StudyConfig
    resolved: Study  # the study whose originals and targets are taken
    axes: list[Axis]
    points: list[dict]  # settings that are tried


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
        study: data, targets and recipe; its ``hp`` are the axes of the sweep, see `parse_space`, or ``auto``, see
            `expanded`. Its references are those of a study of as many members, read from the store where they are
            there.
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
    began, request = time.time(), understood(sweep, study)
    refuse_other(out, asked_of(sweep, study))
    setup, level = prepared([request], request.resolved, out, store or out.parent / "populations", watch, **options)
    with checkpoint.locked(out):
        sweep_one(request, setup, level, lambda: trained(sweep, setup, level, watch), out, watch, command, began)
    return out


def understood(sweep: SweepConfig, study: StudyConfig) -> Asked:
    """What is asked for, checked; errors as of `study_of` and `candidates`."""
    resolved = study_of(sweep, study)
    return Asked(sweep, study, resolved, *candidates(sweep, study, resolved))


def prepared(every: list[Asked], study: Study, out: Path, store: Path, watch: Watch, **options) -> tuple[Setup, Level]:
    """Data, model and rows of sweeps, once it is known that they can run and be written; nothing is trained but pilots.

    Args:
        every: the sweeps.
        study: of all their methods.
        out: run folder.
        store: of trained members.
        watch: progress.
        options: as of `run_sweep`.
    """
    for folder, option in ((out, "--out"), (store, "--store")):
        checkpoint.check_writable(folder, option, keep=False)
    setup = prepare_study(study, watch, store=store, belongs_to=storage.name_of(study.config), **options)
    setup = setup._replace(options=watch.on(setup.options))
    level = level_of(setup, study.copies[-1], study.gammas[0])
    held = min(len(rows.validation) for rows in level.rows)
    if held < MIN_HELDOUT and any(one.sweep.rule == "request" for one in every):
        raise InputError(f"--rule request needs {MIN_HELDOUT} held-out examples, here are {held}: give another --rule.")
    for one in every:
        check_points(setup._replace(study=one.resolved), level, one.sweep.method, one.points)
    populations = 2.0 + sum(len(one.points) for one in every)
    if tight := disk.check_room(store, "--store", 0.0, storage.weight_of(setup) * study.members * populations):
        watch.say(f"{tight}: free some space before the disk is full")
    checkpoint.check_writable(store, "--store")
    checkpoint.check_writable(out, "--out")
    return setup, level


def trained(sweep: SweepConfig, setup: Setup, level: Level, watch: Watch) -> list[EvaluatedPopulation]:
    """The originals, and the oracle where it is looked at."""
    return references(setup, level, {}, watch, {}, ("original", "oracle")[: 1 + sweep.oracle])[0]


def sweep_one(
    asked: Asked, setup: Setup, level: Level, trained: Callable[[], list[EvaluatedPopulation]], out: Path, watch: Watch,
    command: str, began: float,
) -> dict:  # fmt: skip
    """Run one sweep and write all that it says; what sweep.json says, whole.

    Args:
        asked: the sweep.
        setup: of its study, ready to run.
        level: its rows.
        trained: gives the references.
        out: run folder, which is held.
        watch: progress.
        command: for the record.
        began: seconds since the epoch.
    """
    study = asked.resolved
    told = {
        "kind": KIND,
        "status": "running",
        "command": command,
        "asked": asked_of(asked.sweep, asked.study),
        "config": dataclasses.asdict(study.config),
        **facts_of(study, level),
        "recipe": setup.problem.recipe._asdict(),
        "axes": [axis._asdict() for axis in asked.axes],
        "notes": list(setup.notes),
        **environment(),
    }
    write_json(out / "sweep.json", told)
    told |= _run(asked, setup, level, trained(), out, watch)
    write_presets(out / "preset.json", by_owner(told, chosen_values(told)), about_of(told))
    write_json(out / "sweep.json", told | completed(began))
    return told


def _run(
    request: Asked, setup: Setup, level: Level, trained: list[EvaluatedPopulation], out: Path, watch: Watch
) -> dict:
    """Run the rungs and choose; what sweep.json says of it."""
    sweep, points = request.sweep, request.points
    recorder = Recorder(out)
    try:
        oracle = trained[1] if sweep.oracle else None
        rungs, ran = _rungs(request, setup, level, trained[0], oracle, recorder, watch)
        files = recorder.finish()
    finally:
        recorder.close()
    usual, names = defaults_of(sweep.method, setup.study), [axis.name for axis in request.axes]
    whole = {n: cost for n, spent in ran.spent.items() for share, cost in spent.items() if share == 1.0}
    saved = [spent[s] / s for n, spent in ran.spent.items() if n not in whole for s in list(spent)[-1:]]
    budget = f"{setup.config.budget:g}" if setup.config.budget else ""
    last = [row for row in recorder.summaries if row["budget"] == budget]
    remedy = remedy_of(setup.config)
    stand = standings(last, sweep.rule)[sweep.method, remedy]
    choices = select(last, sweep.method, sweep.oracle, remedy)
    best = choices["oracle"]["setting"] if sweep.oracle else None
    return {
        "settings": settings_told(points, usual, names, sweep.rule, stand, ran, best),
        "rungs": [rung._asdict() for rung in rungs],
        "cost": {
            "grad_evals": sum(rung.cost for rung in rungs),
            "without_halving": sum(whole.values()) + sum(saved),
            "one_training": sum(trained[0].grad_evals),  # of one network
        },
        "identifiable": identifiable(setup, level, trained[0], oracle),
        "choices": choices,
        "files": files,
    }


def _rungs(
    request: Asked,
    setup: Setup,
    level: Level,
    original: EvaluatedPopulation,
    oracle: EvaluatedPopulation | None,
    recorder: Recorder,
    watch: Watch,
) -> tuple[list[Rung], Ran]:
    """Run every rung; the rungs, and what they ran."""
    sweep, every = request.sweep, request.points
    usual, ran = defaults_of(sweep.method, setup.study), Ran({n: {} for n in range(len(every))}, {}, {})

    def judge(numbers: list[int], share: float) -> list[Judged]:
        watch.say(f"{len(numbers)} settings of {sweep.method} at {share:.3g} of its length")
        points = [every[n] for n in numbers]
        outcomes = run_points(setup, level, original, points, share, watch)
        seen = len(recorder.summaries)
        seen_figures(setup, level, original, outcomes, recorder)
        standing_of = standings(recorder.summaries[seen:], sweep.rule)[sweep.method, remedy_of(setup.config)]
        if oracle is not None:
            far = oracle_figures(setup, level, original, oracle, outcomes, recorder)
            ran.distances.update(far if share == 1.0 else {})
        asked_figures(setup, level, original, oracle, outcomes, recorder)
        recorder.flush()
        judged = []
        for number, outcome in zip(numbers, outcomes):
            ran.spent[number][share] = sum(outcome.grad_evals) * setup.study.members
            standing = standing_of[outcome.setting]
            judged.append(Judged(standing.rank, standing.best, ran.spent[number][share]))
        plain = [o for n, o in zip(numbers, outcomes) if is_default(every[n], usual)]
        if share == 1.0 and plain:
            better = gains(setup, level, original, plain[0], outcomes, sweep.rule)
            ran.gains.update({n: [one.value, one.ci_low, one.ci_high] for n, one in zip(numbers, better)})
        return judged

    shares = shares_of(sweep, setup.study, every)
    return halve(len(every), shares, sweep.halving or 2, judge), ran

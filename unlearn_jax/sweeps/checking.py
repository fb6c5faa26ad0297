"""A preset file put to the test: methods with its settings beside their defaults, on the targets of a study.

Both settings of a method are one population where they share a program, from the same originals as a study's, so that
what a study has trained is read from the store, and the other way round.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

from unlearn_jax.errors import InputError
from unlearn_jax.evaluation.values import Scorer
from unlearn_jax.metrics import combine
from unlearn_jax.population import checkpoint
from unlearn_jax.results.recorder import environment, write_json
from unlearn_jax.roles import REFERENCES
from unlearn_jax.runtime.disk import write_whole
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.populations import EvaluatedPopulation, Level, references
from unlearn_jax.studies.presets import read_presets, with_presets
from unlearn_jax.studies.remedies import left_out_remedies
from unlearn_jax.studies.resolve import Study, resolve
from unlearn_jax.studies.setup import SILENT, Setup, Watch
from unlearn_jax.studies.validate import check
from unlearn_jax.sweeps.changes import FIGURES, changes, interval, summary_of
from unlearn_jax.sweeps.config import SweepConfig, check_members, check_one_gamma, remedy_of
from unlearn_jax.sweeps.run import Asked, prepared
from unlearn_jax.sweeps.trials import run_points
from unlearn_jax.sweeps.written import completed, facts_of, refuse_other

KIND = "check"
FILE = "check.json"
# where these are alike, targets have the same order
SAME = ("dataset", "benchmark", "similarity", "targets", "train_size", "seed")


class Check(NamedTuple):
    """What is checked."""

    study: Study  # with the settings of the presets among its ``hp``
    presets: dict[str, Any]  # name, digest, settings and what the file says of itself
    pairs: list[Asked]  # by method, its defaults and the settings of the presets
    kept: list[str]  # methods that the presets leave at their defaults
    notes: list[str]  # on methods of the presets that cannot run here


def run_check(
    study: StudyConfig, out: Path, *, store: Path | None = None, watch: Watch = SILENT, command: str = "", **options
) -> Path:
    """Run every method whose settings a preset file changes, with the file and without, and write what differs.

    Args:
        study: as of `run_study`, with ``presets``, a file or the name of one that is shipped, and no ``hp``. Its
            largest number of copies is taken, and at most one of ``remedies``.
        out: run folder; a check of the same configuration continues there.
        store: where trained members are kept; default ``populations`` beside the run folder.
        watch: progress.
        command: for the record.
        options: ``chunk``, ``axis``, ``loop``, ``save_every`` of `Options`; ``data_dir`` of prepared data.

    Returns:
        The run folder, holding check.json and check.csv, a row for each method and figure.

    Raises:
        InputError: no presets, presets that change nothing here, bad configuration, missing data, a folder that holds
            something else or cannot be written. Nothing is trained before all that is known.
        Stopped: a signal came; what is trained is kept.
    """
    began, wanted = time.time(), checked(study)
    resolved = wanted.study
    configuration = json.loads(json.dumps(dataclasses.asdict(resolved.config)))
    refuse_other(out, configuration, FILE, "check of presets")
    setup, level = prepared(wanted.pairs, resolved, out, store or out.parent / "populations", watch, **options)
    record = {"kind": KIND, "status": "running", "command": command, "asked": configuration, **environment()}
    record |= {"presets": wanted.presets, "warnings": cautions(wanted.presets["about"], resolved)}
    record |= facts_of(resolved, level) | {"notes": [*setup.notes, *wanted.notes]}
    with checkpoint.locked(out):
        write_json(out / FILE, record)
        record |= _compared(setup, level, wanted, watch)
        _write_rows(out / "check.csv", record["methods"])
        write_json(out / FILE, record | completed(began))
    return out


def checked(study: StudyConfig) -> Check:
    """What a check is of; errors as of `run_check`, before any data is read."""
    if not study.presets:
        raise InputError("no presets are given: name a file or shipped presets, such as --presets vision-copies-small.")
    if study.hp:
        raise InputError("--hp is for studies: put the settings into the preset file, and leave --hp out.")
    config, record = with_presets(study)
    resolved = resolve(config)
    check(resolved)
    remedy, config = remedy_of(config), resolved.config
    check_one_gamma(config)
    check_members("--members", resolved.members, config.requests)
    settings = resolved.settings
    around = {f"{remedy}.{name}": values[0] for name, values in settings.get(remedy, {}).items()}
    fit = [method for method, _ in resolved.pairs] if remedy else resolved.methods
    names = [name for name in fit if name not in REFERENCES]
    points = {name: around | {k: v[0] for k, v in settings.get(name, {}).items()} for name in names}
    pairs = [_both_settings(config, name, point) for name, point in points.items() if point]
    if not pairs:
        raise InputError(f"the presets '{study.presets}' change nothing that runs with {remedy}: name other --methods.")
    named = read_presets(study.presets).methods
    notes = [reason for name, reason in resolved.left_out.items() if name in named]
    notes += [reason for method, reason in left_out_remedies(resolved) if method in named]
    return Check(resolved, record, pairs, [name for name in names if name in named and not points[name]], notes)


def _both_settings(config: StudyConfig, method: str, point: dict[str, Any]) -> Asked:
    """A method at its defaults and at a point, as a sweep of two settings."""
    study = dataclasses.replace(config, methods=method, hp=())
    return Asked(SweepConfig(method=method, seeds=resolve(study).members), study, resolve(study), [], [{}, point])


def check_name(study: StudyConfig) -> str:
    """A folder name that says what is checked, and differs where the configuration or the settings do."""
    config, presets = with_presets(study)
    name = resolve(config).name
    return f"check-{presets['name']}-{name}" if presets else f"check-{name}"


def cautions(about: dict[str, Any], study: Study) -> list[str]:
    """Sentences, without full stop, on why the figures may be better, or other, than the presets deserve.

    Args:
        about: what the preset file says of itself.
        study: of the check.
    """
    config = study.config
    mine = {name: getattr(config, name) for name in SAME} | {"dataset": study.dataset_name}
    mine |= {"model": study.model, "scale": study.scale}
    if not {"dataset", "targets", "num_targets", "requests", "skip_requests"} <= set(about):
        return ["the presets do not say which targets they were made on: if they are those, figures are too good"]
    differ = [name for name in mine if about.get(name, mine[name]) != mine[name]]
    warnings = []
    if differ:
        plain = lambda value: "none" if value in ("", None) else value
        differences = ", ".join(f"{name} {plain(about[name])}, here {plain(mine[name])}" for name in differ)
        warnings.append(f"the presets were made for something else ({differences})")
    if "dataset" in differ:
        return warnings
    if set(differ) & set(SAME):
        return [*warnings, "whether they were made on some of these targets is not known"]
    whole = config.targets == "whole_class"
    count, (first, last) = 1 if whole else config.num_targets, _span(about)
    here = (config.skip_requests * count, (config.skip_requests + config.requests) * count)
    common = min(last, here[1]) - max(first, here[0])
    if common > 0:
        skip = 0 if first >= config.requests * count else math.ceil(last / count)
        warnings.append(
            f"{common} of the {here[1] - here[0]} {'classes' if whole else 'targets'} are among those that the presets "
            f"were made on, so figures are too good: give --skip-requests {skip}"
        )
    return warnings


def _span(about: dict[str, Any]) -> tuple[int, int]:
    """First and last but one place, in the order of targets, of those that presets were made on."""
    count = 1 if about["targets"] == "whole_class" else about["num_targets"]
    return about["skip_requests"] * count, (about["skip_requests"] + about["requests"]) * count


def _compared(setup: Setup, level: Level, presets: Check, watch: Watch) -> dict[str, Any]:
    trained = references(setup, level, {}, watch, {}, ("original", "oracle", "retrain"))[0]
    named = {outcome.name: outcome for outcome in trained}
    pairs = []
    for one in presets.pairs:
        ready = setup._replace(study=one.resolved)
        pairs.append(tuple(run_points(ready, level, named["original"], one.points, 1.0, watch)))
    rows = changes(setup, level, named, pairs)
    compared = {"references": _references(setup, level, named), "methods": rows, "summary": summary_of(rows)}
    return compared | {"kept": presets.kept}


def _references(setup: Setup, level: Level, named: dict[str, EvaluatedPopulation]) -> dict[str, Any]:
    """The residual distance of retraining, and whether residuals are identifiable."""
    scorer, every = Scorer(setup, level, list(named.values())), list(range(setup.config.requests))
    distance = combine(lambda x: x, scorer.distance(named["retrain"], named, every), low=0.0)
    identifiable = scorer.identifiability(named, "oracle", every).identifiable
    return {"retrain": {"residual_distance": interval(distance)}, "identifiable": bool(identifiable)}


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    ends, file = ("", "_low", "_high"), io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    sides = ("defaults", "preset", "difference")
    writer.writerow(
        ["method", "remedy", "setting", "group", "figure", *(f"{s}{e}" for s in sides for e in ends), "verdict"]
    )
    for row in rows:
        for name in FIGURES:
            figure = row["figures"][name]
            lead = [row[key] for key in ("method", "remedy", "setting", "group")]
            writer.writerow([*lead, name, *(x for side in sides for x in figure[side]), figure["verdict"]])
    write_whole(path, lambda part: part.write_text(file.getvalue(), encoding="utf-8"))

"""A study: references, methods, metrics and records, as one library call.

References and methods are populations run by the same runner; along the copies and gamma axes only index tables
change, so programs and, where the rows are equal, whole populations are reused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from pathlib import Path

from unlearn_jax.data.arrays import dataset_digest
from unlearn_jax.errors import InputError
from unlearn_jax.evaluation import scoring
from unlearn_jax.results.recorder import Recorder, environment, levels_done, replace_bytes, write_json
from unlearn_jax.runtime import disk, multihost, signals
from unlearn_jax.studies import datasheet, storage
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.influence_share import influence_share
from unlearn_jax.studies.outputs import measure_similarity, write_answers, write_gallery, write_margins
from unlearn_jax.studies.populations import Level, level_of, methods, references, stages_of
from unlearn_jax.studies.presets import with_presets
from unlearn_jax.studies.pretrained import said
from unlearn_jax.studies.remedies import left_out_remedies
from unlearn_jax.studies.resolve import Study, resolve
from unlearn_jax.studies.setup import SILENT, Setup, Watch, absent_references, prepare_study
from unlearn_jax.studies.validate import check

SCORES = "scores"  # what the stage that scores a level is called


def run_study(
    config: StudyConfig, out: Path | None = None, *, store: Path | None = None, watch: Watch = SILENT, **options
) -> Path:
    """Run a study and write its records.

    Where several processes make this call together (`unlearn_jax.runtime.multihost`), process 0 alone reads and writes
    the folders.

    Args:
        config: what is measured.
        out: run folder, None = ``runs/`` and the study's name; made when the configuration is known to be sound. A run
            of the same configuration continues there: members that are already trained are read back.
        store: where trained members are kept; default ``populations`` beside the run folder, shared by its siblings.
        watch: progress callbacks.
        options: ``chunk``, ``axis``, ``data_devices``, ``loop``, ``save_every`` of `Options`; ``data_dir`` of prepared
            data; ``command`` for the record.

    Returns:
        The run folder, holding manifest.json, results.parquet, summary.csv, margins/ and gallery.npz.

    Raises:
        InputError: bad configuration, missing data, a folder that holds another study, is in use or cannot be written,
            a disk without room.
        Stopped: a signal came (`unlearn_jax.runtime.signals`); what is trained is kept, and the manifest says
            ``stopped``.
        OSError: the disk is full; likewise.
    """
    about = {"command": options.pop("command", "")}
    if config.presets:
        config, about["presets"] = with_presets(config)
    study = resolve(config)
    check(study)
    began = time.time()
    out = out or Path("runs") / study.name
    store = store or out.parent / "populations"
    with contextlib.nullcontext() if multihost.is_first() else signals.held():  # process 0 says when all stop
        return _run_study(study, out, store, watch, about, began, options)


def _run_study(study: Study, out: Path, store: Path, watch: Watch, about: dict, began: float, options: dict) -> Path:
    manifest = multihost.from_process_zero(functools.partial(storage.first_look, out, store, study.config))
    setup = prepare_study(study, watch, store=store, belongs_to=storage.name_of(study.config), **options)
    content = dataset_digest(setup.dataset)
    multihost.assert_equal(content, "data set")
    if manifest.get("dataset_digest", content) != content:
        raise InputError(f"'{out}' holds a study of other data under the same name: give another --out folder.")
    if tight := multihost.from_process_zero(lambda: storage.check_study(setup, out, store)):
        watch.say(f"{tight}: free some space before the disk is full")
    with contextlib.ExitStack() as held:
        multihost.from_process_zero(lambda: storage.claim(out, store, held))
        return _run(setup, out, about, content, began, watch, [list(one) for one in levels_done(manifest)])


def _run(setup: Setup, out: Path, about: dict, content: str, began: float, watch: Watch, done: list) -> Path:
    """Run a prepared study in a run folder that is its own; ``done`` are levels in its records already.

    ``about`` opens the manifest: the command, and where presets were given, what they are.
    """
    study, config = setup.study, setup.config
    setup = setup._replace(options=watch.on(setup.options))
    if config.benchmark:
        about["benchmark"] = datasheet.benchmark_manifest(setup)
        setup = setup._replace(notes=(*setup.notes, *datasheet.warning(about["benchmark"])))
    if setup.base:
        about["base"] = setup.base
    manifest = {
        **about,
        "config": dataclasses.asdict(config) | {"copies": study.copies, "model": study.model},
        "asked": dataclasses.asdict(config),
        "recipe": setup.problem.recipe._asdict(),
        "run": {name: getattr(setup.options, name) for name in ("chunk", "axis", "data_devices", "loop", "conv")},
        "dataset_digest": content,
        "train_images": len(setup.dataset.train.targets),
        "validation_images": int((setup.bench.origin == 4).sum()),
        "test_images": int((setup.bench.origin == 2).sum()),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(began)),
        "status": "running",
        "levels": len(study.axes),
        "levels_done": done,
        **environment(),
    }
    _write_manifest(out, manifest)
    recorder = Recorder(out) if multihost.is_first() else None  # the others have nothing to record
    try:
        multihost.from_process_zero(lambda: write_gallery(setup, out / "gallery.npz"))
        compiling, similarity, notes = _run_levels(setup, recorder, out, watch, manifest)
        files = multihost.from_process_zero(lambda: recorder.finish() if recorder is not None else {})
    except BaseException as error:
        if recorder is not None:
            _give_up(recorder, out, manifest, error)
        raise
    manifest.pop("at", None)
    manifest |= {
        "status": "complete",
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "seconds_total": time.time() - began,
        "compile_seconds": compiling,
        "similarity": similarity,
        "notes": notes,
        "files": files,
    }
    _write_manifest(out, manifest)
    return out


def _write_manifest(out: Path, manifest: dict) -> None:
    multihost.from_process_zero(lambda: write_json(out / "manifest.json", manifest))


def _give_up(recorder: Recorder, out: Path, manifest: dict, error: BaseException) -> None:
    """Leave what there is in order: records on disk, and a manifest that says how the run ended."""
    status = "stopped" if isinstance(error, KeyboardInterrupt) or disk.is_full(error) else "failed"
    with contextlib.suppress(OSError):  # of a full disk; the first error is the one that is reported
        recorder.close()
    try:
        write_json(out / "manifest.json", manifest | {"status": status})
    except OSError:  # no room for another file: as many letters take the place of those that are there
        with contextlib.suppress(OSError):
            replace_bytes(out / "manifest.json", b'"status": "running"', f'"status": "{status}"'.encode())


def _run_levels(
    setup: Setup, recorder: Recorder | None, out: Path, watch: Watch, manifest: dict
) -> tuple[float, dict, list[str]]:
    """Run and score every level; returns compile seconds, measured similarity and notes.

    All processes train; process 0, which has the recorder, scores. The levels that are done are added to the manifest,
    in memory and on disk.
    """
    study, memory, notes = setup.study, {}, [*setup.notes, *setup.study.left_out.values()]
    if study.remedies:
        notes += [note for _, note in left_out_remedies(study)]
    if setup.base:
        notes.append(said(setup.base))
    compiling, similarity, plain_watch = setup.base.get("compile_seconds", 0.0), {}, watch
    watch.end()  # of pilots
    levels = [level_of(setup, copies, gamma) for copies, gamma in study.axes]
    absent_at = [absent_references(setup.bench, level.rows) for level in levels]
    watch.plan([stage for absent in absent_at for stage in (*stages_of(setup, absent), SCORES)])
    for number, (level, absent) in enumerate(zip(levels, absent_at)):
        copies, gamma = level.copies, level.gamma
        watch = _noting(plain_watch, out, manifest, copies)
        watch.end()
        watch.say(f"{copies} similar samples per target" + (f", gamma {level.rows[0].gamma:.2f}" if gamma else ""))
        notes += absent.values()
        outcomes, extra = references(setup, level, memory, watch, absent)
        outcomes += methods(setup, level, outcomes[0], watch)
        compiling += sum(outcome.population.compile_seconds for outcome in outcomes)
        last = number == len(levels) - 1
        watch.stage(SCORES, 0)
        measured = (setup, level, outcomes, extra, similarity, recorder, out, last)
        similarity, more = multihost.from_process_zero(functools.partial(_record_level, *measured))
        notes += more
        point = [copies, level.rows[0].gamma]
        manifest["levels_done"] = [*(other for other in manifest["levels_done"] if other != point), point]
        manifest["similarity"] = similarity
        _write_manifest(out, manifest)
    return compiling, similarity, notes


def _record_level(
    setup: Setup, level: Level, outcomes: list, extra: dict, similarity: dict, recorder: Recorder, out: Path, last: bool
) -> tuple[dict, list[str]]:
    """Score one level and write its files; returns the similarity measured so far and notes."""
    copies, notes = level.copies, []
    if copies and str(copies) not in similarity:
        similarity = similarity | {str(copies): measure_similarity(setup, level, outcomes[0])}
    share = influence_share(setup, level, outcomes[0]) if copies and all(len(r.similar) for r in level.rows) else None
    if isinstance(share, str):
        notes, share = [share], None
    more = extra | similarity.get(str(copies), {})
    notes += scoring.score_level(setup, level, outcomes, more, recorder, share)
    write_margins(setup, level, outcomes, out / "margins" if last else out / "margins" / _level_name(level))
    if last and setup.problem.task.candidates is not None:
        write_answers(setup, outcomes, out / "answers.json")
    recorder.flush()
    return similarity, notes


def _noting(watch: Watch, out: Path, manifest: dict, copies: int) -> Watch:
    """The watch, with the manifest telling where the run is."""

    def stage(label: str, members: int) -> None:
        manifest["at"] = {"copies": copies, "population": label, "since": time.strftime("%Y-%m-%dT%H:%M:%S")}
        _write_manifest(out, manifest)
        watch.stage(label, members)

    return watch._replace(stage=stage)


def _level_name(level: Level) -> str:
    return f"copies={level.copies}" + ("" if level.gamma is None else f",gamma={level.rows[0].gamma:.3f}")

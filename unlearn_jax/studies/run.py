"""A study: references, methods, metrics and records, as one library call.

References and methods are populations run by the same runner; along the copies and gamma axes only index tables
change, so programs and, where the rows are equal, whole populations are reused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import time
from pathlib import Path

from unlearn_jax.data.arrays import dataset_digest
from unlearn_jax.errors import InputError
from unlearn_jax.evaluation import scoring
from unlearn_jax.population import checkpoint
from unlearn_jax.results.recorder import Recorder, environment, levels_done, replace_bytes, write_json
from unlearn_jax.runtime import disk, multihost, signals
from unlearn_jax.runtime.archives import read_json
from unlearn_jax.studies import datasheet, storage
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.influence_share import influence_share
from unlearn_jax.studies.outputs import measure_similarity, write_answers, write_gallery, write_margins
from unlearn_jax.studies.populations import Level, level_of, methods, references
from unlearn_jax.studies.presets import with_presets
from unlearn_jax.studies.pretrained import said
from unlearn_jax.studies.remedies import left_out_remedies
from unlearn_jax.studies.resolve import Study, resolve
from unlearn_jax.studies.setup import SILENT, Setup, Watch, absent_references, prepare_study
from unlearn_jax.studies.validate import check


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
    config, presets = with_presets(config)
    study = resolve(config)
    check(study)
    about = {"command": options.pop("command", "")} | ({"presets": presets} if presets else {})
    began = time.time()
    out = out or Path("runs") / study.name
    store = store or out.parent / "populations"
    with contextlib.nullcontext() if multihost.is_first() else signals.held():  # process 0 says when all stop
        return _run_study(study, out, store, watch, about, began, options)


def _run_study(study: Study, out: Path, store: Path, watch: Watch, about: dict, began: float, options: dict) -> Path:
    """`run_study`, of a sound configuration."""
    manifest = multihost.from_process_zero(functools.partial(_first_look, out, store, study.config))
    setup = prepare_study(study, watch, store=store, belongs_to=storage.name_of(study.config), **options)
    content = dataset_digest(setup.dataset)
    multihost.assert_equal(content, "data set")
    if manifest.get("dataset_digest", content) != content:
        raise InputError(f"'{out}' holds a study of other data under the same name: give another --out folder.")
    if tight := multihost.from_process_zero(lambda: storage.check_study(setup, out, store)):
        watch.say(f"{tight}: free some space before the disk is full")
    with contextlib.ExitStack() as held:

        def claim() -> None:
            checkpoint.check_writable(store, "--store")
            checkpoint.check_writable(out, "--out")
            held.enter_context(checkpoint.locked(out))
            checkpoint.sweep(out)

        multihost.from_process_zero(claim)
        return _run(setup, out, about, content, began, watch, [list(one) for one in levels_done(manifest)])


def _first_look(out: Path, store: Path, config: StudyConfig) -> dict:
    """The manifest of an earlier run of this study, {} where there is none; folders are as they were.

    Raises:
        InputError: a folder of another study, that is in use, or that cannot be written.
    """
    manifest = _refuse_other(out, config)
    for folder, option in ((out, "--out"), (store, "--store")):
        checkpoint.check_writable(folder, option, keep=False)  # before anything is trained
    if out.exists():
        with checkpoint.locked(out):
            pass
    return manifest


def _run(setup: Setup, out: Path, about: dict, content: str, began: float, watch: Watch, done: list) -> Path:
    """Run a prepared study in a run folder that is its own; ``done`` are levels in its records already.

    ``about`` opens the manifest: the command, and where presets were given, what they are.
    """
    study, config = setup.study, setup.config
    told = datasheet.benchmark_manifest(setup) if config.benchmark else {}
    setup = setup._replace(options=setup.options._replace(progress=watch.advance))
    if told:
        setup = setup._replace(notes=(*setup.notes, *datasheet.warning(told)))
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
        **({"base": setup.base} if setup.base else {}),
        **({"benchmark": told} if told else {}),
        "status": "running",
        "levels": len(study.axes),
        "levels_done": done,
        **environment(),
    }
    multihost.from_process_zero(lambda: write_json(out / "manifest.json", manifest))
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
    multihost.from_process_zero(lambda: write_json(out / "manifest.json", manifest))
    return out


def _give_up(recorder: Recorder, out: Path, manifest: dict, error: BaseException) -> None:
    """Leave what there is in order: records on disk, and a manifest that says how the run ended."""
    asked = isinstance(error, KeyboardInterrupt) or disk.is_full(error)
    with contextlib.suppress(OSError):  # of a full disk; what happened first is what is told
        recorder.close()
    told = manifest | {"status": "stopped" if asked else "failed"}
    try:
        write_json(out / "manifest.json", told)
    except OSError:  # no room for another file: as many letters take the place of those that are there
        with contextlib.suppress(OSError):
            replace_bytes(out / "manifest.json", b'"status": "running"', f'"status": "{told["status"]}"'.encode())


def _refuse_other(out: Path, config: StudyConfig) -> dict:
    """The manifest of an earlier run of this configuration, {} where there is none.

    Raises:
        InputError: the folder is a file, or holds a study of another configuration or something else.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"'{out}' is a file: give another --out folder.")
    if not (out / "manifest.json").exists():
        return {}
    try:
        manifest = read_json(out / "manifest.json")
        default, now = (json.loads(json.dumps(dataclasses.asdict(one))) for one in (StudyConfig(), config))
        asked = default | manifest["asked"]  # fields that came later
        differ = [key for key in now if asked.get(key) != now[key]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"'{out}' has a manifest.json that no study wrote: give another --out folder.") from None
    if differ:
        raise InputError(f"'{out}' holds another study ({', '.join(differ)} differ): give another --out folder.")
    return manifest


def _run_levels(
    setup: Setup, recorder: Recorder | None, out: Path, watch: Watch, manifest: dict
) -> tuple[float, dict, list[str]]:
    """Run and score every level; returns compile seconds, measured similarity and notes.

    All processes train; process 0, which has the recorder, scores. The levels that are done are added to the manifest,
    in memory and on disk.
    """
    study, memory, watched = setup.study, {}, watch
    compiling, similarity = setup.base.get("compile_seconds", 0.0), {}
    notes = [*setup.notes, *study.left_out.values(), *(said for _, said in left_out_remedies(study))] + (
        [said(setup.base)] if setup.base else []
    )
    levels = study.axes
    for number, (copies, gamma) in enumerate(levels):
        level = level_of(setup, copies, gamma)
        watch = _noting(watched, out, manifest, copies)
        watch.say(f"{copies} similar samples per target" + (f", gamma {level.rows[0].gamma:.2f}" if gamma else ""))
        absent = absent_references(setup.bench, level.rows)
        notes += absent.values()
        outcomes, extra = references(setup, level, memory, watch, absent)
        outcomes += methods(setup, level, outcomes[0], watch)
        compiling += sum(outcome.population.compile_seconds for outcome in outcomes)
        known = (setup, level, outcomes, extra, similarity, recorder, out, number == len(levels) - 1)
        similarity, more = multihost.from_process_zero(functools.partial(_record_level, *known))
        notes += more
        point = [copies, level.rows[0].gamma]
        manifest["levels_done"] = [*(one for one in manifest["levels_done"] if one != point), point]
        manifest["similarity"] = similarity
        multihost.from_process_zero(lambda: write_json(out / "manifest.json", manifest))
    return compiling, similarity, notes


def _record_level(
    setup: Setup, level: Level, outcomes: list, extra: dict, similarity: dict, recorder: Recorder, out: Path, last: bool
) -> tuple[dict, list[str]]:
    """Score one level and write what it leaves; returns the similarity measured so far and notes."""
    copies, notes = level.copies, []
    if copies and str(copies) not in similarity:
        similarity = similarity | {str(copies): measure_similarity(setup, level, outcomes[0])}
    who = influence_share(setup, level, outcomes[0]) if copies and all(len(r.similar) for r in level.rows) else None
    if isinstance(who, str):
        notes, who = [who], None
    more = extra | similarity.get(str(copies), {})
    notes += scoring.score_level(setup, level, outcomes, more, recorder, who)
    write_margins(setup, level, outcomes, out / "margins" if last else out / "margins" / _level_name(level))
    if last and setup.problem.task.candidates is not None:
        write_answers(setup, outcomes, out / "answers.json")
    recorder.flush()
    return similarity, notes


def _noting(watch: Watch, out: Path, manifest: dict, copies: int) -> Watch:
    """The watch, with the manifest telling where the run is."""

    def stage(label: str, members: int) -> None:
        manifest["at"] = {"copies": copies, "population": label, "since": time.strftime("%Y-%m-%dT%H:%M:%S")}
        multihost.from_process_zero(lambda: write_json(out / "manifest.json", manifest))
        watch.stage(label, members)

    return watch._replace(stage=stage)


def _level_name(level: Level) -> str:
    """Folder name of a level that is not the last."""
    return f"copies={level.copies}" + ("" if level.gamma is None else f",gamma={level.rows[0].gamma:.3f}")

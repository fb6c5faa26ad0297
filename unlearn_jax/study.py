"""A study: references, methods, metrics and records, as one library call.

References and methods are populations run by the same runner; along the copies and gamma axes only index tables
change, so programs and, where the rows are equal, whole populations are reused.
"""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from unlearn_jax import config as configs
from unlearn_jax import scoring
from unlearn_jax.artifacts import measure_similarity, write_answers, write_gallery, write_margins
from unlearn_jax.checks import check
from unlearn_jax.config import StudyConfig
from unlearn_jax.data.arrays import dataset_digest
from unlearn_jax.data.splits import (
    RequestRows,
    detected_groups,
    reference_rows,
    request_rows,
)
from unlearn_jax.errors import InputError
from unlearn_jax.methods import METHODS, prepare
from unlearn_jax.population import checkpoint
from unlearn_jax.population.evaluate import Evaluation, evaluate
from unlearn_jax.population.members import make_tables, member_keys, setting_name
from unlearn_jax.population.plans import Plan
from unlearn_jax.population.run import Stored, chunk_width, run_population
from unlearn_jax.pretrained import said
from unlearn_jax.records import Recorder, environment, write_json
from unlearn_jax.scoring import REFERENCES
from unlearn_jax.setup import SILENT, Setup, Watch, absent_references, axes_of, prepare_study
from unlearn_jax.trees import join_shared
from unlearn_jax.types import Model, Population
from unlearn_jax.unlearn import Job, unlearn


class Outcome(NamedTuple):
    """One population of one level with what it scored and cost."""

    name: str
    role: str  # whose member draws it shares
    setting: str
    population: Population
    scores: Evaluation  # on the shown rows
    grad_evals: tuple[float, float]  # a member, on the request and on retained data
    budget: str = ""  # what the method was allowed, '' = its own length


def run_study(config: StudyConfig, out: Path, *, store: Path | None = None, watch: Watch = SILENT, **options) -> Path:
    """Run a study and write its records.

    Args:
        config: what is measured.
        out: run folder; made when the configuration is known to be sound. A run of the same configuration continues
            there: members that are already trained are read back.
        store: where trained members are kept; default ``populations`` beside the run folder, shared by its siblings.
        watch: progress callbacks.
        options: ``chunk``, ``axis``, ``loop`` of `Options`; ``data_dir`` of prepared data; ``command`` for the record.

    Returns:
        The run folder, holding manifest.json, results.parquet, summary.csv, margins/ and gallery.npz.

    Raises:
        InputError: bad configuration, missing data, a folder that holds another study or cannot be written.
    """
    check(config)
    config = configs.resolved(config)
    command = options.pop("command", "")
    began = time.time()
    store = store or out.parent / "populations"
    manifest = _refuse_other(out, config)
    for folder, option in ((out, "--out"), (store, "--store")):
        checkpoint.check_writable(folder, option, keep=False)  # before anything is trained
    setup = prepare_study(config, watch, store=store, **options)
    content = dataset_digest(setup.dataset)
    if manifest.get("dataset_digest", content) != content:
        raise InputError(f"'{out}' holds a study of other data under the same name: give another --out folder.")
    checkpoint.check_writable(store, "--store")
    checkpoint.check_writable(out, "--out")
    with checkpoint.locked(out):
        return _run(setup, out, command, content, began, watch)


def _run(setup: Setup, out: Path, command: str, content: str, began: float, watch: Watch) -> Path:
    """Run a prepared study in a run folder that is its own."""
    config = setup.config
    setup = setup._replace(options=setup.options._replace(progress=watch.advance))
    manifest = {
        "command": command,
        "config": dataclasses.asdict(config)
        | {"copies": configs.copies_of(config), "model": configs.recipe_of(config)[0]},
        "asked": dataclasses.asdict(config),
        "recipe": setup.problem.recipe._asdict(),
        "dataset_digest": content,
        "train_images": len(setup.dataset.train.targets),
        "test_images": len(setup.dataset.test.targets),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(began)),
        **({"base": setup.base} if setup.base else {}),
        "status": "running",
        **environment(),
    }
    write_json(out / "manifest.json", manifest)
    recorder = Recorder(out)
    try:
        compiling, similarity, notes = _run_levels(setup, recorder, out, watch)
        recorder.finish()
    finally:
        recorder.close()
    write_gallery(setup, out / "gallery.npz")
    manifest |= {
        "status": "complete",
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "seconds_total": time.time() - began,
        "compile_seconds": compiling,
        "similarity": similarity,
        "notes": notes,
    }
    write_json(out / "manifest.json", manifest)
    return out


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
        manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
        asked = manifest["asked"]
        now = json.loads(json.dumps(dataclasses.asdict(config)))
        differ = [key for key in now if asked.get(key) != now[key]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"'{out}' has a manifest.json that no study wrote: give another --out folder.") from None
    if differ:
        raise InputError(f"'{out}' holds another study ({', '.join(differ)} differ): give another --out folder.")
    return manifest


class Level(NamedTuple):
    """One point of the copies and gamma axes."""

    copies: int
    gamma: float | None
    rows: list[RequestRows]  # by request
    request_of: np.ndarray  # (members,) request that each member serves


def _run_levels(setup: Setup, recorder: Recorder, out: Path, watch: Watch) -> tuple[float, dict, list[str]]:
    """Run and score every level; returns compile seconds, measured similarity and notes."""
    config, memory = setup.config, {}
    compiling, similarity = setup.base.get("compile_seconds", 0.0), {}
    notes = [*setup.notes, *configs.left_out(config).values()] + ([said(setup.base)] if setup.base else [])
    levels = axes_of(config)
    for number, (copies, gamma) in enumerate(levels):
        rows = [request_rows(setup.bench, r, copies=copies, gamma=gamma) for r in range(config.requests)]
        level = Level(copies, gamma, rows, np.arange(config.members) % config.requests)
        watch.say(f"{copies} similar samples per target" + (f", gamma {rows[0].gamma:.2f}" if gamma else ""))
        absent = absent_references(setup.bench, rows)
        notes += absent.values()
        outcomes, extra = _references(setup, level, memory, watch, absent)
        outcomes += _methods(setup, level, outcomes[0], watch)
        compiling += sum(outcome.population.compile_seconds for outcome in outcomes)
        if copies and str(copies) not in similarity:
            similarity[str(copies)] = measure_similarity(setup, level, outcomes[0])
        notes += scoring.score_level(setup, level, outcomes, extra | similarity.get(str(copies), {}), recorder)
        last = number == len(levels) - 1
        write_margins(setup, level, outcomes, out / "margins" if last else out / "margins" / _level_name(level))
        if last and setup.problem.task.candidates is not None:
            write_answers(setup, outcomes, out / "answers.json")
        recorder.flush()
    return compiling, similarity, notes


def _level_name(level: Level) -> str:
    """Folder name of a level that is not the last."""
    return f"copies={level.copies}" + ("" if level.gamma is None else f",gamma={level.rows[0].gamma:.3f}")


def _references(setup: Setup, level: Level, memory: dict, watch: Watch, absent) -> tuple[list[Outcome], dict]:
    """Train and evaluate the reference populations that there can be; equal rows are trained once per role."""
    config = setup.config
    fold, _, numeric = setup.training
    found = [detected_groups(setup.bench, rows, configs.dedup_threshold_of(config)) for rows in level.rows]
    outcomes = []
    for role in (role for role in REFERENCES if role not in absent):
        kept = [
            reference_rows(role, setup.bench, level.rows[r], i, config.seed, found[r].groups)
            for i, r in enumerate(level.request_of)
        ]
        tables = make_tables(kept, pad_to=int((setup.bench.origin <= 1).sum()))
        plan = _reference_plan(setup, level, kept)
        known = checkpoint.digest_of(role, str(plan.steps), tables)
        watch.stage(role, config.members)
        if known not in memory:
            hp = {k: np.full(config.members, v) for k, v in numeric.items()}
            keys = member_keys(config.seed, role, config.members)
            options = setup.options._replace(label=role)
            start = join_shared({}, setup.shared)
            population = run_population(fold, plan, setup.stored, tables, keys, start, hp=hp, options=options)
            memory[known] = _scored(setup, population, keep=role == "original")
        else:
            watch.advance(config.members, 0)
        population, scores = memory[known]
        outcomes.append(Outcome(role, role, "", population, scores, (0.0, plan.grad_evals_retain)))
        memory[known] = population._replace(compile_seconds=0.0), scores
    detector = {
        "dedup_recall": float(np.mean([d.recall for d in found])),
        "dedup_precision": float(np.mean([d.precision for d in found])),
    }
    return outcomes, detector


def _reference_plan(setup: Setup, level: Level, kept: list[np.ndarray]) -> Plan:
    """The recipe's updates; at equal epochs, as many fewer as the members see fewer examples than the original."""
    if setup.config.equal == "steps":
        return setup.training[1]
    every = [len(r.requested) + len(r.similar) + len(r.rest) for r in level.rows]
    share = np.mean([len(rows) for rows in kept]) / np.mean([every[r] for r in level.request_of])
    recipe = setup.problem.recipe
    return prepare("retrain", setup.problem._replace(recipe=recipe._replace(steps=round(share * recipe.steps))))[1]


def _methods(setup: Setup, level: Level, original: Outcome, watch: Watch) -> list[Outcome]:
    """Run and evaluate every method from the original population; ``retrain`` is among the references already."""
    config = setup.config
    job = Job(
        problem=setup.problem,
        stored=setup.stored,
        rows=[level.rows[r] for r in level.request_of],
        training=setup.training,
        options=setup.options,
        seed=config.seed,
        longest=int((setup.bench.origin <= 1).sum()),
        scale=configs.scale_of(config),
        budget=config.budget,
        shared=setup.shared,
    )
    settings, outcomes = configs.settings_of(config), []
    allowed = f"{config.budget:g}" if config.budget else ""
    for name in configs.applicable(config):
        if name == "retrain":
            continue
        given = settings.get(name, {})
        watch.stage(name, config.members * max(1, int(np.prod([len(v) for v in given.values()]))))
        found = unlearn(name, job, original.population.variables, given)
        population = found.population
        population, scores = _scored(setup, population, found.model)
        for number, point in enumerate(found.points):
            own = slice(number * config.members, (number + 1) * config.members)
            part = jax.tree.map(lambda table, own=own: table[own], scores)
            role = name if "protocol" in METHODS[name].needs else "original"
            outcomes.append(Outcome(name, role, setting_name(point), population, part, found.grad_evals, allowed))
            population = population._replace(compile_seconds=0.0)
    return outcomes


def _scored(setup: Setup, population: Population, model: Model | None = None, keep: bool = False) -> tuple:
    """The population, its weights let go unless ``keep``, and its scores on the shown rows."""
    data = Stored(setup.stored.inputs[setup.shown], setup.stored.targets[setup.shown])
    width, problem = chunk_width(setup.config.members, setup.options), setup.problem
    axis = setup.options.axis
    model = model or problem.model
    decoder = setup.decoder if model is problem.model else None
    scores = evaluate(model, problem.task, population.variables, data, width=width, axis=axis, decoder=decoder)
    return (population if keep else population._replace(variables={})), scores

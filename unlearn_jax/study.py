"""A study: references, methods, metrics and records, as one library call.

References and methods are populations run by the same runner; along the copies and gamma axes only index tables
change, so programs and, where the rows are equal, whole populations are reused.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax import config as configs
from unlearn_jax import scoring
from unlearn_jax.artifacts import measure_similarity, write_gallery, write_margins
from unlearn_jax.config import StudyConfig
from unlearn_jax.data import load_dataset
from unlearn_jax.data.arrays import Dataset, subset
from unlearn_jax.data.splits import (
    Bench,
    RequestRows,
    choose_targets,
    detected_groups,
    make_bench,
    named_copies,
    reference_rows,
    request_rows,
)
from unlearn_jax.errors import InputError, choose
from unlearn_jax.methods import Problem, prepare, select
from unlearn_jax.models import build_model, flops_per_example
from unlearn_jax.population import checkpoint
from unlearn_jax.population.evaluate import Evaluation, evaluate
from unlearn_jax.population.members import grid, make_tables, member_keys, setting_name
from unlearn_jax.population.plans import Plan, Sizes
from unlearn_jax.population.run import Fold, Options, Stored, chunk_width, run_population
from unlearn_jax.population.sharding import choose_axis
from unlearn_jax.records import Recorder, environment, write_json
from unlearn_jax.tasks import classification
from unlearn_jax.trees import take_members
from unlearn_jax.types import Model, Population

REFERENCES = ("original", "retrain", "oracle", "placebo", "dedup")
REST_SHOWN = 5000  # rest examples evaluated when there are more, a fixed random subset
PILOT_MEMBERS = 16


class Watch(NamedTuple):
    """How a study tells of its progress; the default is silence."""

    stage: Callable[[str, int], None] = lambda label, members: None
    advance: Callable[[float, int], None] = lambda members_done, examples: None
    say: Callable[[str], None] = lambda text: None


SILENT = Watch()


class Setup(NamedTuple):
    """Everything that stays the same over the axes of a study."""

    config: StudyConfig
    dataset: Dataset
    bench: Bench
    problem: Problem
    stored: Stored  # all of the bench, on the device
    shown: np.ndarray  # rows that are evaluated
    training: tuple[Fold, Plan, dict[str, float]]  # from scratch; one fold for all references, so one program
    options: Options


class Outcome(NamedTuple):
    """One population of one level with what it scored and cost."""

    name: str
    role: str  # whose member draws it shares
    setting: str
    population: Population
    scores: Evaluation  # on the shown rows
    plan: Plan


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
    configs.check(config)
    command = options.pop("command", "")
    began = time.time()
    store = store or out.parent / "populations"
    _refuse_other(out, config)
    setup = prepare_study(config, watch, store=store, **options)
    checkpoint.check_writable(store)
    checkpoint.check_writable(out)
    setup = setup._replace(options=setup.options._replace(progress=watch.advance))
    manifest = {
        "command": command,
        "config": dataclasses.asdict(config)
        | {"copies": configs.copies_of(config), "model": configs.recipe_of(config)[0]},
        "asked": dataclasses.asdict(config),
        "recipe": setup.problem.recipe._asdict(),
        "train_images": len(setup.dataset.train.targets),
        "test_images": len(setup.dataset.test.targets),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(began)),
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


def prepare_study(config: StudyConfig, watch: Watch = SILENT, **options) -> Setup:
    """Load the data, choose the targets, lay out the examples and build the model.

    Nothing is written but, where ``store`` is among the options, the pilot members of atypical targets.

    Raises:
        InputError: missing data, more targets or copies than the data allow, an unknown model or option.
    """
    dataset = load_dataset(config.dataset, data_dir=options.pop("data_dir", None))
    if config.train_size or config.test_size:
        dataset = subset(dataset, config.train_size or None, config.test_size or None, config.seed)
    name, recipe = configs.recipe_of(config)
    shape = dataset.train.inputs.shape[1:]
    on_accelerator = jax.default_backend() != "cpu"
    dtype = config.dtype or ("bfloat16" if on_accelerator and name not in ("mlp", "linear") else "float32")
    given = {"dtype": dtype} | configs.model_options_of(config)
    model = _model(name, dataset.num_classes, shape, dataset.mean, dataset.std, tuple(sorted(given.items())))
    example = jax.ShapeDtypeStruct((1, *shape), dataset.train.inputs.dtype)
    problem = Problem(model, classification(), example, dataset.num_classes, recipe)
    setting = _checked(Options(**{"axis": "auto", **options}))
    if setting.axis == "auto":
        flops = flops_per_example(model, shape, str(dataset.train.inputs.dtype))
        setting = setting._replace(axis=choose_axis(flops))
    pick = functools.partial(choose_targets, dataset, config.targets, config.num_targets, config.requests, config.seed)
    targets = pick(np.zeros(len(dataset.train.targets)))  # refuses too many targets before the pilots train
    if config.targets == "atypical":
        targets = pick(_pilot_score(config, dataset, problem, setting, watch))
    bench = make_bench(
        dataset, targets, copies=max(configs.copies_of(config)), level=config.similarity, seed=config.seed
    )
    _check_placebo(config, bench)
    plain = np.flatnonzero((bench.origin == 0) & (bench.request < 0))
    if len(plain) > REST_SHOWN:
        plain = np.sort(np.random.default_rng([config.seed, 4]).choice(plain, REST_SHOWN, replace=False))
    shown = np.sort(np.concatenate([plain, np.flatnonzero((bench.origin != 0) | (bench.request >= 0))]))
    stored = Stored(jnp.asarray(bench.inputs), jnp.asarray(bench.targets))
    return Setup(config, dataset, bench, problem, stored, shown, prepare("retrain", problem), setting)


@functools.lru_cache(maxsize=8)
def _model(name: str, num_classes: int, shape: tuple, mean: tuple, std: tuple, given: tuple) -> Model:
    """The model; the same object for the same arguments, so that studies in one process share their programs."""
    return build_model(name, num_classes, shape, mean=mean, std=std, **dict(given))


def _checked(options: Options) -> Options:
    """The options, if they can be followed."""
    choose("axis", options.axis, ("auto", "vmap", "map"))
    choose("loop", options.loop, ("auto", "scan", "host"))
    if options.chunk < 0:
        raise InputError(f"--chunk is {options.chunk}: give 0 (by backend) or more.")
    return options


def _axes(config: StudyConfig) -> list[tuple[int, float | None]]:
    """Points of the copies and gamma axes; shares that name equally many copies are one point."""
    points = {}
    for copies in configs.copies_of(config):
        for gamma in configs.gammas_of(config):
            points.setdefault((copies, named_copies(copies, gamma)), (copies, gamma))
    return list(points.values())


def _check_placebo(config: StudyConfig, bench: Bench) -> None:
    """Raise `InputError` before anything is trained where a class is too small for the placebo."""
    for copies, gamma in _axes(config):
        for request in range(config.requests):
            rows = request_rows(bench, request, copies=copies, gamma=gamma)
            reference_rows("placebo", bench, rows, 0, config.seed)


def _pilot_score(config: StudyConfig, dataset: Dataset, problem: Problem, options: Options, watch: Watch) -> np.ndarray:
    """Minus the mean margin of each training image under pilot members that were not trained on it."""
    n = len(dataset.train.targets)
    data = Stored(jnp.asarray(dataset.train.inputs), jnp.asarray(dataset.train.targets))
    halves = np.argsort(np.random.default_rng([config.seed, 5]).random((PILOT_MEMBERS // 2, n)), axis=1)
    seen = np.concatenate([halves[:, : n // 2], halves[:, n // 2 : n // 2 * 2]])
    fold, plan, hp = prepare("retrain", problem)
    keys = member_keys(config.seed, "pilot", PILOT_MEMBERS)
    hp = {k: np.full(PILOT_MEMBERS, v) for k, v in hp.items()}
    watch.stage("pilot", PILOT_MEMBERS)
    tables = make_tables([np.sort(rows) for rows in seen.astype(np.int32)])
    if options.store is not None:
        checkpoint.check_writable(options.store)
    told = options._replace(progress=watch.advance, label="pilot")
    population = run_population(fold, plan, data, tables, keys, {}, hp=hp, options=told)
    width = chunk_width(PILOT_MEMBERS, options)
    margin = evaluate(problem.model, problem.task, population.variables, data, width=width, axis=options.axis).margin
    out = np.ones((PILOT_MEMBERS, n), bool)
    np.put_along_axis(out, seen, False, axis=1)
    out &= np.isfinite(margin).all(axis=1)[:, None]
    if not out.any(axis=0).all():
        raise InputError("the pilot models diverged: give a lower --lr, or choose --targets distant.")
    return -np.where(out, margin, 0.0).sum(axis=0) / out.sum(axis=0)


def _refuse_other(out: Path, config: StudyConfig) -> None:
    """Raise `InputError` where the run folder is a file or holds a study of another configuration."""
    if out.exists() and not out.is_dir():
        raise InputError(f"'{out}' is a file: give another --out folder.")
    manifest = out / "manifest.json"
    if manifest.exists():
        asked = json.loads(manifest.read_text()).get("asked", {})
        now = json.loads(json.dumps(dataclasses.asdict(config)))
        differ = [key for key in now if asked.get(key) != now[key]]
        if differ:
            raise InputError(f"'{out}' holds another study ({', '.join(differ)} differ): give another --out folder.")


class Level(NamedTuple):
    """One point of the copies and gamma axes."""

    copies: int
    gamma: float | None
    rows: list[RequestRows]  # by request
    request_of: np.ndarray  # (members,) request that each member serves


def _run_levels(setup: Setup, recorder: Recorder, out: Path, watch: Watch) -> tuple[float, dict, list[str]]:
    """Run and score every level; returns compile seconds, measured similarity and notes."""
    config, memory = setup.config, {}
    compiling, similarity, notes = 0.0, {}, []
    levels = _axes(config)
    for number, (copies, gamma) in enumerate(levels):
        rows = [request_rows(setup.bench, r, copies=copies, gamma=gamma) for r in range(config.requests)]
        level = Level(copies, gamma, rows, np.arange(config.members) % config.requests)
        watch.say(f"{copies} similar samples per target" + (f", gamma {rows[0].gamma:.2f}" if gamma else ""))
        outcomes, extra = _references(setup, level, memory, watch)
        outcomes += _methods(setup, level, outcomes[0], watch)
        compiling += sum(outcome.population.compile_seconds for outcome in outcomes)
        if copies and str(copies) not in similarity:
            similarity[str(copies)] = measure_similarity(setup, level, outcomes[0])
        notes += scoring.score_level(setup, level, outcomes, extra | similarity.get(str(copies), {}), recorder)
        last = number == len(levels) - 1
        write_margins(setup, level, outcomes, out / "margins" if last else out / "margins" / _level_name(level))
        recorder.flush()
    return compiling, similarity, notes


def _level_name(level: Level) -> str:
    """Folder name of a level that is not the last."""
    return f"copies={level.copies}" + ("" if level.gamma is None else f",gamma={level.rows[0].gamma:.3f}")


def _references(setup: Setup, level: Level, memory: dict, watch: Watch) -> tuple[list[Outcome], dict]:
    """Train and evaluate the reference populations; equal rows are trained once per role."""
    config = setup.config
    fold, plan, numeric = setup.training
    found = [detected_groups(setup.bench, rows, config.dedup_threshold) for rows in level.rows]
    outcomes = []
    for role in REFERENCES:
        kept = [
            reference_rows(role, setup.bench, level.rows[r], i, config.seed, found[r].groups)
            for i, r in enumerate(level.request_of)
        ]
        tables = make_tables(kept, pad_to=int((setup.bench.origin <= 1).sum()))
        known = checkpoint.digest_of(role, tables)
        watch.stage(role, config.members)
        if known not in memory:
            hp = {k: np.full(config.members, v) for k, v in numeric.items()}
            keys = member_keys(config.seed, role, config.members)
            options = setup.options._replace(label=role)
            population = run_population(fold, plan, setup.stored, tables, keys, {}, hp=hp, options=options)
            memory[known] = population, _evaluate(setup, population)
        else:
            watch.advance(config.members, 0)
        population, scores = memory[known]
        outcomes.append(Outcome(role, role, "", population, scores, plan))
        memory[known] = population._replace(compile_seconds=0.0), scores
    detector = {
        "dedup_recall": float(np.mean([d.recall for d in found])),
        "dedup_precision": float(np.mean([d.precision for d in found])),
    }
    return outcomes, detector


def _methods(setup: Setup, level: Level, original: Outcome, watch: Watch) -> list[Outcome]:
    """Run and evaluate every method from the original population; ``retrain`` is among the references already."""
    config = setup.config
    rows = [level.rows[r] for r in level.request_of]
    requested = [r.requested for r in rows]
    kept = [np.sort(np.concatenate([r.similar, r.rest])) for r in rows]
    sizes = Sizes(max(map(len, requested)), max(map(len, kept)))
    settings, longest = configs.settings_of(config), int((setup.bench.origin <= 1).sum())
    outcomes = []
    for name in select(config.methods):
        if name == "retrain":
            continue
        given = settings.get(name, {})
        fixed = {k: v[0] for k, v in given.items() if len(v) == 1}
        points = grid({k: v for k, v in given.items() if len(v) > 1})
        fold, plan, numeric = prepare(name, setup.problem, fixed, sizes)
        repeat = np.tile(np.arange(config.members), len(points))
        hp = {k: np.repeat([p.get(k, v) for p in points], config.members) for k, v in numeric.items()}
        tables = make_tables([kept[i] for i in repeat], [requested[i] for i in repeat], pad_to=longest)
        keys = member_keys(config.seed, name, config.members)[repeat]
        start = take_members(original.population.variables, repeat)
        watch.stage(name, len(repeat))
        options = setup.options._replace(label=name)
        population = run_population(fold, plan, setup.stored, tables, keys, start, hp=hp, options=options)
        scores = _evaluate(setup, population)
        for number, point in enumerate(points):
            own = slice(number * config.members, (number + 1) * config.members)
            text = setting_name(fixed | point)
            part = Evaluation(scores.margin[own], scores.correct[own])
            outcomes.append(Outcome(name, "original", text, population, part, plan))
            population = population._replace(compile_seconds=0.0)
    return outcomes


def _evaluate(setup: Setup, population: Population) -> Evaluation:
    """Scores on the shown rows."""
    data = Stored(setup.stored.inputs[setup.shown], setup.stored.targets[setup.shown])
    width = chunk_width(setup.config.members, setup.options)
    problem = setup.problem
    return evaluate(problem.model, problem.task, population.variables, data, width=width, axis=setup.options.axis)

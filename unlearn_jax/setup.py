"""What comes before a study runs: data, model, targets, the layout of the examples, and what can be refused by then."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax import config as configs
from unlearn_jax.config import StudyConfig
from unlearn_jax.data import load_dataset
from unlearn_jax.data.arrays import Dataset, pixel_stats, subset
from unlearn_jax.data.facts import refusal_tokens, value_tokens
from unlearn_jax.data.splits import (
    Bench,
    RequestRows,
    make_bench,
    named_copies,
    placebo_shortfall,
    request_rows,
)
from unlearn_jax.data.targets import choose_targets
from unlearn_jax.errors import InputError, choose
from unlearn_jax.methods import Problem, prepare
from unlearn_jax.methods.common import Recipe
from unlearn_jax.models import build_model, flops_per_example
from unlearn_jax.models.decode import Cached, cached_decoder
from unlearn_jax.population import checkpoint
from unlearn_jax.population.evaluate import evaluate
from unlearn_jax.population.members import make_tables, member_keys
from unlearn_jax.population.plans import Plan
from unlearn_jax.population.run import Fold, Options, Stored, chunk_width, run_population
from unlearn_jax.population.sharding import choose_axis
from unlearn_jax.pretrained import pretrained, study_base
from unlearn_jax.tasks import classification, value_task
from unlearn_jax.trees import join_shared
from unlearn_jax.types import Model, Task, Variables
from unlearn_jax.unlearn import check_methods

REST_SHOWN = 5000  # rest examples evaluated when there are more, a fixed random subset
PILOT_MEMBERS = 16
COPY_BYTES = 16  # of memory that making copies takes at its height, per value of a copy


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
    decoder: Cached | None = None  # language: the model that answers token by token
    shared: Variables = {}  # what all members share, the base under LoRA
    base: dict = {}  # what the manifest says of it


def prepare_study(config: StudyConfig, watch: Watch = SILENT, **options) -> Setup:
    """Load the data, choose the targets, lay out the examples and build the model.

    Nothing is written but, where ``store`` is among the options, the pilot members of atypical targets and the base of
    adapters.

    Raises:
        InputError: missing data, more targets or copies than the data allow, an unknown model or option.
    """
    config = configs.resolved(config)
    dataset = load_dataset(config.dataset, data_dir=options.pop("data_dir", None))
    if config.train_size or config.test_size:
        dataset = subset(dataset, config.train_size or None, config.test_size or None, config.seed)
    pick = functools.partial(choose_targets, dataset, config.targets, config.num_targets, config.requests, config.seed)
    layout = functools.partial(
        make_bench, dataset, copies=max(configs.copies_of(config)), level=config.similarity, seed=config.seed
    )
    targets = pick(np.zeros(len(dataset.train.targets)))
    _check_copies(config, dataset, targets)
    problem, bench = _problem(config, dataset, targets), layout(targets)
    whole = _problem(dataclasses.replace(config, lora=0), dataset, targets)
    setting = _checked(Options(**{"axis": "auto", **options}), whole)
    _check_methods(config, problem, bench, whole)  # sizes are the same whoever the targets are: before the pilots train
    shared, base = {}, {}
    if config.lora:
        shared, base = study_base(whole, problem, dataset, targets, config.seed, setting, watch)
    if config.targets == "atypical":
        targets = pick(_pilot_score(config, dataset, _problem(config, dataset, []), setting, shared, watch))
        problem, bench = _problem(config, dataset, targets), layout(targets)
    _check_placebo(config, bench)
    plain = np.flatnonzero((bench.origin == 0) & (bench.request < 0))
    if len(plain) > REST_SHOWN:
        plain = np.sort(np.random.default_rng([config.seed, 4]).choice(plain, REST_SHOWN, replace=False))
    shown = np.sort(np.concatenate([plain, np.flatnonzero((bench.origin != 0) | (bench.request >= 0))]))
    stored, training = Stored(jnp.asarray(bench.inputs), jnp.asarray(bench.targets)), prepare("retrain", problem)
    decoder = _decoder(config, dataset)
    return Setup(config, dataset, bench, problem, stored, shown, training, setting, decoder, shared, base)


def _problem(config: StudyConfig, dataset: Dataset, targets: list[np.ndarray]) -> Problem:
    """The model with its task and recipe; its input statistics leave out the targets of every request.

    Otherwise a target would reach the oracle, which must be free of it, through the mean and standard deviation. The
    pilots, which choose the targets, have none to leave out, and so a program of their own.
    """
    name, recipe = configs.recipe_of(config)
    if dataset.kind == "facts":
        return _language_problem(config, dataset, name, recipe)
    shape, mean, std = dataset.train.inputs.shape[1:], dataset.mean, dataset.std
    if targets:
        mean, std = pixel_stats(np.delete(dataset.train.inputs, np.concatenate(targets), axis=0))
    on_accelerator = jax.default_backend() != "cpu"
    dtype = config.dtype or ("bfloat16" if on_accelerator and name not in ("mlp", "linear") else "float32")
    given = {"dtype": dtype} | configs.model_options_of(config)
    model = _model(name, dataset.num_classes, shape, mean, std, tuple(sorted(given.items())))
    example = jax.ShapeDtypeStruct((1, *shape), dataset.train.inputs.dtype)
    return Problem(model, classification(), example, dataset.num_classes, recipe)


def _language_problem(config: StudyConfig, dataset: Dataset, name: str, recipe: Recipe) -> Problem:
    """A language model of the data set's vocabulary, asked for one of an attribute's values."""
    length = dataset.train.inputs.shape[1:]
    given = _language_options(config)
    model = pretrained(name, len(dataset.about.words), length, rank=config.lora, **given).model
    example = jax.ShapeDtypeStruct((1, *length), dataset.train.inputs.dtype)
    return Problem(model, _value_task(dataset.about.words), example, dataset.num_classes, recipe)


def _language_options(config: StudyConfig) -> dict:
    """Options of the study's decoder."""
    return {"dtype": config.dtype or "float32"} | configs.model_options_of(config)


def _decoder(config: StudyConfig, dataset: Dataset) -> Cached | None:
    """The study's language model with a cache of keys and values, where it has one."""
    if dataset.kind != "facts":
        return None
    return cached_decoder(len(dataset.about.words), dataset.train.inputs.shape[1:], **_language_options(config))


@functools.lru_cache(maxsize=8)
def _value_task(words: tuple) -> Task:
    """The task; the same object for the same vocabulary, so that studies in one process share their programs."""
    return value_task(value_tokens(words), refusal_tokens(words))


@functools.lru_cache(maxsize=8)
def _model(name: str, num_classes: int, shape: tuple, mean: tuple | None, std: tuple | None, given: tuple) -> Model:
    """The model; the same object for the same arguments, so that studies in one process share their programs."""
    return build_model(name, num_classes, shape, mean=mean, std=std, **dict(given))


def _checked(options: Options, problem: Problem) -> Options:
    """The options, if they can be followed, with the member axis chosen."""
    choose("axis", options.axis, ("auto", "vmap", "map"))
    choose("loop", options.loop, ("auto", "scan", "host"))
    if options.chunk < 0:
        raise InputError(f"--chunk is {options.chunk}: give 0 (by backend) or more.")
    if options.axis != "auto":
        return options
    if problem.task.token_logprob is not None:
        return options._replace(axis="vmap")  # transformers batch over members at any size
    flops = flops_per_example(problem.model, problem.example.shape[1:], str(problem.example.dtype))
    return options._replace(axis=choose_axis(flops))


def axes_of(config: StudyConfig) -> list[tuple[int, float | None]]:
    """Points of the copies and gamma axes; shares that name equally many copies are one point."""
    points = {}
    for copies in configs.copies_of(config):
        for gamma in configs.gammas_of(config):
            points.setdefault((copies, named_copies(copies, gamma)), (copies, gamma))
    return list(points.values())


def _every_request(config: StudyConfig, bench: Bench) -> list[RequestRows]:
    """Rows of every request at every level."""
    points, requests = axes_of(config), range(config.requests)
    return [request_rows(bench, r, copies=copies, gamma=gamma) for copies, gamma in points for r in requests]


def _check_methods(config: StudyConfig, problem: Problem, bench: Bench, whole: Problem) -> None:
    """Raise `InputError` for a method that cannot run as asked."""
    rows = _every_request(config, bench)
    given = {name: configs.settings_of(config).get(name, {}) for name in configs.applicable(config)}
    shared = jax.eval_shape(whole.model.init, jax.random.key(0), whole.example) if config.lora else {}
    check_methods(problem, rows, given, configs.scale_of(config), config.budget, shared)


def _check_copies(config: StudyConfig, dataset: Dataset, targets: list[np.ndarray]) -> None:
    """Raise `InputError` for more copies than the data or the memory allow, before any is made."""
    copies, asked = max(configs.copies_of(config)), max(len(t) for t in targets)
    others = len(dataset.train.targets) - asked
    if copies * asked > others:
        raise InputError(
            f"--copies {copies} makes {copies * asked:,} similar images of {asked} targets, more than the {others:,} "
            f"other training images: give at most {others // asked}."
        )
    made = copies * sum(len(t) for t in targets)
    needed = made * dataset.train.inputs[0].size * COPY_BYTES
    if needed > _memory():
        raise InputError(
            f"{made:,} copies need about {needed / 1e9:.0f} GB of memory and there are {_memory() / 1e9:.0f}: "
            "give fewer --copies, --num-targets or --requests."
        )


def _memory() -> float:
    """Bytes of this machine's memory; infinite where it does not say."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return math.inf


def absent_references(bench: Bench, rows: list[RequestRows]) -> dict[str, str]:
    """References that cannot be trained at one level, with the reason as a note; {} where all can.

    Args:
        bench: stored examples.
        rows: of every request at that level.
    """
    for one in rows:
        if said := placebo_shortfall(bench, one):
            copies = (len(one.similar) + len(one.forget_copies)) // len(one.forget)
            return {"placebo": f"placebo was left out at {copies} copies: {said}"}
    return {}


def _check_placebo(config: StudyConfig, bench: Bench) -> None:
    """Raise `InputError` before anything but pilots is trained where a class is too small for the placebo.

    Not where requests share a class: such a study goes without a placebo, see `absent_references`.
    """
    if config.targets in ("class", "whole_class"):
        return
    for rows in _every_request(config, bench):
        if said := placebo_shortfall(bench, rows):
            raise InputError(f"{said}.")


def _pilot_score(
    config: StudyConfig, dataset: Dataset, problem: Problem, options: Options, shared: Variables, watch: Watch
) -> np.ndarray:
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
    population = run_population(fold, plan, data, tables, keys, join_shared({}, shared), hp=hp, options=told)
    width = chunk_width(PILOT_MEMBERS, options)
    margin = evaluate(problem.model, problem.task, population.variables, data, width=width, axis=options.axis).margin
    out = np.ones((PILOT_MEMBERS, n), bool)
    np.put_along_axis(out, seen, False, axis=1)
    out &= np.isfinite(margin).all(axis=1)[:, None]
    if not out.any(axis=0).all():
        raise InputError("the pilot models diverged: give a lower --lr, or choose --targets distant.")
    return -np.where(out, margin, 0.0).sum(axis=0) / out.sum(axis=0)

"""What comes before a study runs: data, model, targets, the layout of the examples, and what can be refused by then."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from unlearn_jax.data import load_dataset
from unlearn_jax.data.arrays import Dataset
from unlearn_jax.data.checks import subset
from unlearn_jax.data.kinds import KINDS
from unlearn_jax.data.references import placebo_shortfall
from unlearn_jax.data.splits import ExampleTable, RequestRows, make_bench, request_rows
from unlearn_jax.errors import InputError, choose
from unlearn_jax.methods import TrainSpec, prepare
from unlearn_jax.methods.runner import check_methods
from unlearn_jax.models import flops_per_example
from unlearn_jax.models.decode import Cached
from unlearn_jax.population.autotune import fastest
from unlearn_jax.population.plans import Plan
from unlearn_jax.population.run import Fold, Options, Stored
from unlearn_jax.population.sharding import check_data_devices, choose_axis
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.pretrained import study_base
from unlearn_jax.studies.problems import abstract_shared, decoder_of, problem_of, published_shared
from unlearn_jax.studies.resolve import Study
from unlearn_jax.studies.targets import pilot_score, target_selector
from unlearn_jax.types import Variables

REST_SHOWN = 5000  # rest examples evaluated when there are more, a fixed random subset
MEASURED = 2048  # examples on which ways of running members are timed
COPY_BYTES = 16  # of memory that making copies takes at its height, per value of a copy


class Watch(NamedTuple):
    """Callbacks for a study's progress; the default is silence."""

    stage: Callable[[str, int], None] = lambda label, members: None  # 0 members = other work
    advance: Callable[[float, int], None] = lambda members_done, examples: None
    say: Callable[[str], None] = lambda text: None
    begin: Callable[[str], None] = lambda what: None  # what goes on that is no stage
    plan: Callable[[list[str]], None] = lambda labels: None  # stages that are to come, in this order
    phase: Callable[[str], None] = lambda doing: None  # what the stage at hand does
    end: Callable[[], None] = lambda: None  # it is over, where none follows at once

    def on(self, options: Options) -> Options:
        """Options of populations that tell of their progress here."""
        return options._replace(progress=self.advance, phase=self.phase)


SILENT = Watch()


class Setup(NamedTuple):
    """Everything that stays the same over the axes of a study."""

    study: Study
    dataset: Dataset
    bench: ExampleTable
    problem: TrainSpec
    stored: Stored  # all of the bench, on the device
    shown: np.ndarray  # rows that are evaluated
    training: tuple[Fold, Plan, dict[str, float]]  # from scratch; one fold for all references, so one program
    options: Options
    notes: tuple[str, ...] = ()  # sentences without full stop, on what was left out of the data
    decoder: Cached | None = None  # language: the model that answers token by token
    shared: Variables = {}  # what all members share, the base under LoRA
    base: dict = {}  # what the manifest says of it

    @property
    def config(self) -> StudyConfig:
        """What is measured, with the data set's own values."""
        return self.study.config


def prepare_study(study: Study, watch: Watch = SILENT, **options) -> Setup:
    """Load the data, choose the targets, lay out the examples and build the model.

    Nothing is written but, where ``store`` is among the options, the pilot members of atypical targets, embeddings of
    texts and the base of adapters.

    Raises:
        InputError: missing data, more targets or copies than the data allow, an unknown model or option.
    """
    config, data_dir = study.config, options.pop("data_dir", None)
    options = Options(**{"axis": "auto", **options})
    check_options(options)
    watch.begin("reading data, building networks")
    dataset = load_dataset(config.dataset, data_dir=data_dir)
    if config.train_size or config.test_size:
        dataset = subset(dataset, config.train_size or None, config.test_size or None, config.seed)
    pick, notes = target_selector(study, dataset)
    targets, mined = pick(np.zeros(len(dataset.train.targets)))
    _check_copies(study, dataset, targets)
    pilots, read = config.targets == "atypical", functools.partial(_read, study, dataset, options.store)
    read_data = read([] if pilots else [*targets, *mined])
    problem, bench = problem_of(study, read_data, [*targets, *mined]), _layout(study, read_data, targets, mined)
    whole = problem_of(study, read_data, [*targets, *mined], rank=0) if config.lora else problem
    options = checked_options(options, whole)
    abstract = abstract_shared(study, read_data, whole)
    _check_methods(study, problem, bench, abstract)  # sizes do not depend on the targets: before pilots train
    if options.axis == "measured":
        sample = Stored(*(jnp.asarray(x[:MEASURED]) for x in (read_data.train.inputs, read_data.train.targets)))
        training = prepare("retrain", whole)
        options = fastest(whole.model, whole.example, training, sample, study.members, options, watch.say)
    shared, base = published_shared(study, read_data), {}
    if config.lora and not shared:
        shared, base = study_base(whole, problem, read_data, targets, config.seed, options, watch)
    if pilots:
        score = pilot_score(problem_of(study, read_data, []), read_data, config.seed, options, shared, watch)
        targets, mined = pick(score)
        read_data = read([*targets, *mined])
        problem, bench = problem_of(study, read_data, [*targets, *mined]), _layout(study, read_data, targets, mined)
    _check_placebo(study, bench)
    notes += getattr(read_data.about, "notes", ())
    for note in notes:
        watch.say(note)
    plain = np.flatnonzero((bench.origin == 0) & (bench.request < 0))
    if len(plain) > REST_SHOWN:
        plain = np.sort(np.random.default_rng([config.seed, 4]).choice(plain, REST_SHOWN, replace=False))
    shown = np.sort(np.concatenate([plain, np.flatnonzero((bench.origin != 0) | (bench.request >= 0))]))
    stored, training = Stored(jnp.asarray(bench.inputs), jnp.asarray(bench.targets)), prepare("retrain", problem)
    decoder = decoder_of(study, read_data)
    return Setup(study, read_data, bench, problem, stored, shown, training, options, notes, decoder, shared, base)


def _read(study: Study, dataset: Dataset, store, without: list[np.ndarray]) -> Dataset:
    """The data set with inputs that no training row of ``without`` has a part in but its own."""
    rows = np.concatenate([np.zeros(0, np.int64), *(np.ravel(part) for part in without)])
    cache = None if store is None else Path(store) / "embeddings"
    return KINDS[dataset.kind].read(dataset, study.features._replace(cache=cache), rows)


def _layout(study: Study, dataset: Dataset, targets: list[np.ndarray], mined: list[np.ndarray]) -> ExampleTable:
    level, seed, near = study.config.similarity, study.config.seed, np.concatenate(mined) if mined else None
    return make_bench(dataset, targets, copies=study.max_copies, level=level, seed=seed, mined=near)


def check_options(options: Options) -> None:
    """Raise `InputError` for options that cannot be followed."""
    choose("axis", options.axis, ("auto", "vmap", "map", "measured"))
    choose("loop", options.loop, ("auto", "scan", "host"))
    if options.chunk < 0:
        raise InputError(f"--chunk is {options.chunk}: give 0 (by backend) or more.")
    check_data_devices(options.data_devices)
    if not 0 <= options.save_every < math.inf:
        raise InputError(f"--save-every is {options.save_every:g}: give minutes, or 0 for only when asked to stop.")


def checked_options(options: Options, problem: TrainSpec) -> Options:
    """The options, if they can be followed, with the member axis chosen."""
    check_options(options)
    if options.axis != "auto":
        return options
    flops = flops_per_example(problem.model, problem.example.shape[1:], str(problem.example.dtype))
    return options._replace(axis=choose_axis(flops, tokens=problem.example.dtype == jnp.int32))


def _every_request(study: Study, bench: ExampleTable) -> list[RequestRows]:
    points, requests = study.axes, range(study.config.requests)
    return [request_rows(bench, r, copies=copies, gamma=gamma) for copies, gamma in points for r in requests]


def _check_methods(study: Study, problem: TrainSpec, bench: ExampleTable, shared: Variables) -> None:
    rows = _every_request(study, bench)
    settings = {name: study.settings.get(name, {}) for name in study.wrapped}
    check_methods(problem, rows, settings, study.scale, study.config.budget, shared)


def _check_copies(study: Study, dataset: Dataset, targets: list[np.ndarray]) -> None:
    """Raise `InputError` for more copies than the data or the memory allow, before any is made."""
    copies, count = study.copies[-1], max(len(t) for t in targets)
    others, nouns = len(dataset.train.targets) - count, KINDS[dataset.kind].nouns
    if copies * count > others:
        raise InputError(
            f"--copies {copies} makes {copies * count:,} similar {nouns} of {count} targets, more than the {others:,} "
            f"other training {nouns}: give at most {others // count}."
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


def absent_references(bench: ExampleTable, rows: list[RequestRows]) -> dict[str, str]:
    """References that cannot be trained at one level, with the reason as a note; {} where all can.

    Args:
        bench: stored examples.
        rows: of every request at that level.
    """
    for one in rows:
        if reason := placebo_shortfall(bench, one):
            copies = (len(one.similar) + len(one.forget_copies)) // len(one.forget)
            return {"placebo": f"placebo was left out at {copies} copies: {reason}"}
    return {}


def _check_placebo(study: Study, bench: ExampleTable) -> None:
    """Raise `InputError` before anything but pilots is trained where a class is too small for the placebo.

    Not where requests share a class: such a study goes without a placebo, see `absent_references`.
    """
    if study.config.targets in ("class", "whole_class"):
        return
    for rows in _every_request(study, bench):
        if reason := placebo_shortfall(bench, rows):
            raise InputError(f"{reason}.")

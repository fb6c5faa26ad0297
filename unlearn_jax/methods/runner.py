"""Running one method on a population of originals: from its entry and each member's rows to unlearned members."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.data.splits import RequestRows
from unlearn_jax.methods import METHODS, prepare, settings_at
from unlearn_jax.methods.support.common import Context, MethodSpec, TrainSpec
from unlearn_jax.population.evaluate import evaluate, predict
from unlearn_jax.population.members import Tables, grid, make_tables, member_keys
from unlearn_jax.population.plans import Plan, Sizes
from unlearn_jax.population.program import Fold, Stored
from unlearn_jax.population.run import Options, chunk_width, run_population
from unlearn_jax.trees import join_shared, split_shared, take_members
from unlearn_jax.types import Array, Model, Population, Variables


class RunSpec(NamedTuple):
    """What all methods of a level share; lists are by member."""

    problem: TrainSpec
    stored: Stored
    rows: list[RequestRows]
    training: tuple[Fold, Plan, dict[str, float]]
    options: Options
    seed: int
    longest: int  # least length of the retained tables, so that levels share programs
    scale: str
    budget: float
    shared: Variables = {}  # what all members share, the base under LoRA


class RunOverrides(NamedTuple):
    """One run of a method as a remedy wants it; lists are by member."""

    kept: list[np.ndarray]  # rows retained
    requested: list[np.ndarray]  # rows to forget
    role: str  # in the members' keys, and the label of what is stored
    start: Variables | None = None  # none = the originals
    weight: tuple[list, list] | None = None  # (n,) weight of each stored example when retained, and when requested
    wrap: Callable | None = None  # (method, shared weights, hp) -> method; one object for one behaviour
    hp: dict[str, float] = {}  # numeric settings of ``wrap``
    wrap_cost: tuple[float, float] = (0.0, 0.0)  # gradient evaluations that ``wrap`` adds to an update, for each live
    # requested and retained example of its batches
    together: list[np.ndarray] | None = None  # (n,) group of each stored example; a protocol that splits data keeps
    # groups whole; none = no groups
    keys: Array | None = None  # (N,) keys of the members; none = by the job's seed and the role


class Unlearned(NamedTuple):
    """A method's members, for each of its settings in turn."""

    population: Population  # settings x members
    points: list[dict]  # the numeric settings
    model: Model
    grad_evals: tuple[float, float]  # a member, on the request and on retained data


def sizes_of(rows: list[RequestRows], classes: int) -> Sizes:
    """The largest request and retained set of any member."""
    return Sizes(max(len(r.requested) for r in rows), max(len(r.similar) + len(r.rest) for r in rows), classes)


def check_methods(
    problem: TrainSpec,
    rows: list[RequestRows],
    given: dict[str, dict],
    scale: str,
    budget: float,
    shared: Variables | None = None,
) -> None:
    """Raise `InputError` for settings or a budget that a method cannot follow, before anything is trained.

    Args:
        problem: model, task and recipe.
        rows: of every request and level of the study.
        given: by method, its hyperparameters as lists of values.
        scale: whose defaults are meant.
        budget: gradient evaluations a member; 0 = the methods' own.
        shared: abstract values of what all members share; none = nothing.
    """
    original = jax.eval_shape(problem.model.init, jax.random.key(0), problem.example)
    begin = lambda fold, hp, held, variables: fold.build(hp, held).init(jax.random.key(0), variables)
    for name, settings in given.items():
        fixed = {k: v[0] for k, v in settings.items() if len(v) == 1}
        for one in rows:
            sizes = sizes_of([one], problem.num_classes)
            fold, _, numeric = prepare(name, problem, fixed, sizes, scale=scale, budget=budget)
            if METHODS[name].check is not None:
                METHODS[name].check(sizes, settings_at(METHODS[name], scale)[0] | fixed, numeric)
        fold.build(numeric, {})
        if METHODS[name].begin is None:
            jax.eval_shape(functools.partial(begin, fold, numeric), shared or {}, original)


def run_method(
    name: str,
    job: RunSpec,
    original: Variables,
    given: dict[str, list],
    treat: RunOverrides | None = None,
    points: list[dict] | None = None,
) -> Unlearned:
    """Run a method from the originals.

    Args:
        name: registry name.
        job: what is common to the methods of a level.
        original: variables of N members.
        given: hyperparameters, several values of numeric ones are run side by side.
        treat: how the run departs from the plain one, by a remedy; none = not at all.
        points: numeric settings to be run side by side, each a dictionary; none = every combination of the values in
            ``given``.

    Returns:
        The members of every setting, setting after setting.
    """
    treat = treat or RunOverrides(kept_rows(job), [r.requested for r in job.rows], role=name)
    entry, members = METHODS[name], len(job.rows)
    fixed = {k: v[0] for k, v in given.items() if len(v) == 1}
    points = points or grid({k: v for k, v in given.items() if len(v) > 1})
    sizes = Sizes(max(map(len, treat.requested)), max(map(len, treat.kept)), job.problem.num_classes)
    fold, plan, numeric = prepare(name, job.problem, fixed, sizes, scale=job.scale, budget=job.budget)
    spent, start, clock = (0.0, 0.0), treat.start or original, []
    context = context_of(job, treat, clock)
    if "reference" not in entry.needs:
        context = context._replace(clean=None)
    static = settings_at(entry, job.scale)[0]
    static |= {k: type(static[k])(v) for k, v in fixed.items() if k in static}
    if entry.begin is not None:
        start, spent = entry.begin(context, static, start)
    fold, numeric = (wrapped(fold, treat.wrap), numeric | treat.hp) if treat.wrap else (fold, numeric)
    repeat = np.tile(np.arange(members), len(points))
    keys = member_keys(job.seed, treat.role, members) if treat.keys is None else treat.keys
    hp = {k: np.repeat([p.get(k, v) for p in points], members) for k, v in numeric.items()}
    population = run_population(
        fold,
        plan,
        job.stored,
        _tables(job, treat, repeat),
        keys[repeat],
        join_shared(take_members(split_shared(start)[0], repeat), job.shared),
        hp=hp,
        options=job.options._replace(label=treat.role),
    )
    if entry.end is not None:
        variables, more = entry.end(context, static, original, population.variables)
        population, spent = population._replace(variables=variables), tuple(map(sum, zip(spent, more)))
    if sum(spent) > 0:  # else what was trained stands for the original training
        population = population._replace(seconds=population.seconds + sum(clock) / members)
    evals = plan.grad_evals_forget + spent[0], plan.grad_evals_retain + spent[1]
    if any(treat.wrap_cost):
        forget, retain = (np.full(plan.steps, cost) for cost in treat.wrap_cost)
        added = plan._replace(forget_cost=forget, retain_cost=retain)
        evals = evals[0] + added.grad_evals_forget, evals[1] + added.grad_evals_retain
    return Unlearned(population, [fixed | p for p in points], _model(entry, job, fixed), evals)


def follow(job: RunSpec, fold: Fold, plan: Plan, treat: RunOverrides, hp: dict[str, float]) -> Population:
    """A fold that is no registered method, from ``treat.start``, for every member; ``treat.wrap`` plays no part."""
    members = len(treat.kept)
    return run_population(
        fold,
        plan,
        job.stored,
        _tables(job, treat, np.arange(members)),
        member_keys(job.seed, treat.role, members),
        join_shared(split_shared(treat.start or {})[0], job.shared),
        hp={k: np.full(members, v) for k, v in hp.items()},
        options=job.options._replace(label=treat.role, progress=None),
    )


@functools.lru_cache(maxsize=64)
def wrapped(fold: Fold, wrap: Callable) -> Fold:
    """A fold whose method is changed by ``wrap``; the same object for the same pair, so that its program is reused."""
    return Fold(lambda hp, shared: wrap(fold.build(hp, shared), shared, hp), fold.augment)


def _tables(job: RunSpec, treat: RunOverrides, repeat: np.ndarray) -> Tables:
    """Index tables of a run's members, with weights of examples where there are any."""
    kept, requested = ([rows[i] for i in repeat] for rows in (treat.kept, treat.requested))
    tables = make_tables(kept, requested, pad_to=job.longest)
    if treat.weight is None:
        return tables
    kept, requested = (jnp.asarray(np.stack(w)[repeat], jnp.float32) for w in treat.weight)
    return tables._replace(weight=kept, weight_requested=requested)


def kept_rows(job: RunSpec) -> list[np.ndarray]:
    """Rows that each member retains."""
    return [np.sort(np.concatenate([r.similar, r.rest])) for r in job.rows]


def _model(entry: MethodSpec, job: RunSpec, fixed: dict) -> Model:
    if entry.model is None:
        return job.problem.model
    return entry.model(job.problem, settings_at(entry, job.scale)[0] | fixed)


def context_of(job: RunSpec, treat: RunOverrides, clock: list[float]) -> Context:
    """What a method may ask of the study beside its batches; ``clock`` collects the seconds of what it trains."""
    kept, requested = treat.kept, treat.requested
    silent, width = job.options._replace(progress=None), chunk_width(len(kept), job.options)
    spread: dict[str, Any] = dict(width=width, axis=silent.axis, data_devices=silent.data_devices)

    def train(role: str, fold: Fold, plan: Plan, rows: list, *, start=None, hp=None) -> Variables:
        count = len(rows)
        values = {k: np.full(count, v, np.float32) for k, v in (hp or {}).items()}
        tables, keys = make_tables(rows, pad_to=job.longest), member_keys(job.seed, role, count)
        options = silent._replace(label=role)
        begin = join_shared(split_shared(start or {})[0], job.shared)
        population = run_population(fold, plan, job.stored, tables, keys, begin, hp=values, options=options)
        clock.append(population.seconds * count)
        return population.variables

    def logits(variables: Variables) -> np.ndarray:
        return predict(job.problem.model, variables, job.stored, **spread)

    def margins(variables: Variables, rows: np.ndarray) -> np.ndarray:
        data = Stored(job.stored.inputs[rows], job.stored.targets[rows])
        whole = join_shared(split_shared(variables)[0], job.shared)
        return evaluate(job.problem.model, job.problem.task, whole, data, **spread).margin

    return Context(
        problem=job.problem,
        seed=job.seed,
        stored=job.stored,
        kept=kept,
        requested=requested,
        everything=[np.unique(np.concatenate(pair)) for pair in zip(kept, requested)],
        clean=[r.rest for r in job.rows],
        heldout=[r.validation for r in job.rows],
        training=job.training,
        train=train,
        predict=logits,
        margins=margins,
        together=treat.together,
    )

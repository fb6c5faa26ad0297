"""The populations of one level of a study: references from scratch, methods from the originals, each evaluated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from unlearn_jax.data.references import detected_groups, reference_rows
from unlearn_jax.data.splits import RequestRows, request_rows
from unlearn_jax.evaluation.divergence import marked
from unlearn_jax.evaluation.panels import label_of
from unlearn_jax.methods import METHODS, prepare
from unlearn_jax.methods.runner import RunSpec, Unlearned, run_method
from unlearn_jax.population import checkpoint
from unlearn_jax.population.evaluate import Evaluation, evaluate
from unlearn_jax.population.members import make_tables, member_keys, setting_name
from unlearn_jax.population.plans import Plan
from unlearn_jax.population.run import Stored, chunk_width, run_population
from unlearn_jax.roles import LIKE, REFERENCES
from unlearn_jax.studies.remedies import remedied, role_of
from unlearn_jax.studies.setup import Setup, Watch
from unlearn_jax.trees import join_shared, take_members
from unlearn_jax.types import Model, Population


class EvaluatedPopulation(NamedTuple):
    """One population of one level with what it scored and cost."""

    method: str  # or the reference
    role: str  # whose member draws it shares
    setting: str
    population: Population
    scores: Evaluation  # on the shown rows
    grad_evals: tuple[float, float]  # a member, on the request and on retained data
    budget: str = ""  # what the method was allowed, '' = its own length
    found: list[np.ndarray] | None = None  # rows that a remedy took for similar samples, by member
    remedy: str = ""  # around the method

    @property
    def name(self) -> str:
        """METHOD or METHOD+REMEDY, as it is shown."""
        return label_of(self.method, self.remedy, "")

    @property
    def label(self) -> str:
        """The name with the setting, as it is shown."""
        return label_of(self.method, self.remedy, self.setting)


class Level(NamedTuple):
    """One point of the copies and gamma axes."""

    copies: int
    gamma: float | None
    rows: list[RequestRows]  # by request
    request_of: np.ndarray  # (members,) request that each member serves


Visit = Callable[[EvaluatedPopulation, Model], None]  # (population with its weights, model that it is evaluated with)


def level_of(setup: Setup, copies: int, gamma: float | None) -> Level:
    """The rows of every request at a point of the axes."""
    config = setup.config
    rows = [request_rows(setup.bench, r, copies=copies, gamma=gamma) for r in range(config.requests)]
    return Level(copies, gamma, rows, np.arange(setup.study.members) % config.requests)


def references(
    setup: Setup,
    level: Level,
    memory: dict,
    watch: Watch,
    absent,
    roles: tuple[str, ...] = REFERENCES,
    visit: Visit | None = None,
) -> tuple[list[EvaluatedPopulation], dict]:
    """Train and evaluate the reference populations that there can be; equal rows are trained once per role.

    Args:
        setup: the study.
        level: its rows.
        memory: populations of earlier levels, added to.
        watch: progress.
        absent: roles that cannot be trained.
        roles: what is trained; those of `NULLS` see what their kind sees.
        visit: called with each population trained or read, before its weights are let go.

    Returns:
        Outcomes, that of the originals with weights; and the quality of the duplicate detector.
    """
    config, members = setup.config, setup.study.members
    fold, _, numeric = setup.training
    groups = [detected_groups(setup.bench, rows, setup.study.dedup_threshold) for rows in level.rows]
    outcomes = []
    for role in (role for role in roles if role not in absent):
        kept = [
            reference_rows(LIKE.get(role, role), setup.bench, level.rows[r], i, config.seed, groups[r].groups)
            for i, r in enumerate(level.request_of)
        ]
        tables = make_tables(kept, pad_to=int((setup.bench.origin <= 1).sum()))
        plan = _reference_plan(setup, level, kept)
        digest = checkpoint.digest_of(role, str(plan.steps), tables)
        watch.stage(role, members)
        if digest in memory:
            watch.advance(members, 0)
        else:
            hp = {k: np.full(members, v) for k, v in numeric.items()}
            keys, start = member_keys(config.seed, role, members), join_shared({}, setup.shared)
            options = setup.options._replace(label=role)
            population = run_population(fold, plan, setup.stored, tables, keys, start, hp=hp, options=options)
            scores = scored(setup, population, level=level)
            outcome = EvaluatedPopulation(role, role, "", population, scores, (0.0, plan.grad_evals_retain))
            if visit is not None:
                visit(outcome, setup.problem.model)
            memory[digest] = outcome if role == "original" else _without_weights(outcome)
        outcomes.append(memory[digest])
        compiled = memory[digest].population._replace(compile_seconds=0.0)
        memory[digest] = memory[digest]._replace(population=compiled)
    detector = {
        "dedup_recall": float(np.mean([d.recall for d in groups])),
        "dedup_precision": float(np.mean([d.precision for d in groups])),
    }
    return outcomes, detector


def _without_weights(outcome: EvaluatedPopulation) -> EvaluatedPopulation:
    return outcome._replace(population=outcome.population._replace(variables={}))


def _reference_plan(setup: Setup, level: Level, kept: list[np.ndarray]) -> Plan:
    """The recipe's updates; at equal epochs, as many fewer as the members see fewer examples than the original."""
    if setup.config.equal == "steps":
        return setup.training[1]
    every = [len(r.requested) + len(r.similar) + len(r.rest) for r in level.rows]
    share = np.mean([len(rows) for rows in kept]) / np.mean([every[r] for r in level.request_of])
    recipe = setup.problem.recipe
    return prepare("retrain", setup.problem._replace(recipe=recipe._replace(steps=round(share * recipe.steps))))[1]


def stages_of(setup: Setup, absent, roles: tuple[str, ...] = REFERENCES) -> list[str]:
    """What a level's `references` and `methods` call their stages, in order."""
    pairs = [f"{name}+{remedy}" for name, remedy in setup.study.pairs]
    return [*(role for role in roles if role not in absent), *setup.study.methods, *pairs]


def job_of(setup: Setup, level: Level) -> RunSpec:
    """What all methods of a level share."""
    config = setup.config
    return RunSpec(
        problem=setup.problem,
        stored=setup.stored,
        rows=[level.rows[r] for r in level.request_of],
        training=setup.training,
        options=setup.options,
        seed=config.seed,
        longest=int((setup.bench.origin <= 1).sum()),
        scale=setup.study.scale,
        budget=config.budget,
        shared=setup.shared,
    )


def methods(
    setup: Setup, level: Level, original: EvaluatedPopulation, watch: Watch, visit: Visit | None = None
) -> list[EvaluatedPopulation]:
    """Run and evaluate every method from the original population; ``retrain`` is among the references already.

    Arguments as of `references`; the outcomes are without weights.
    """
    job, settings, members, outcomes = job_of(setup, level), setup.study.settings, setup.study.members, []
    for name in setup.study.methods:
        hp = settings.get(name, {})
        watch.stage(name, members * max(1, int(np.prod([len(v) for v in hp.values()]))))
        unlearned = run_method(name, job, original.population.variables, hp)
        names = [setting_name(point) for point in unlearned.points]
        outcomes += by_setting(setup, level, original, name, unlearned, names, visit=visit)
    for name, remedy in setup.study.pairs:
        watch.stage(f"{name}+{remedy}", members)
        hp, role = (settings.get(name, {}), settings.get(remedy, {})), role_of(name, remedy)
        for point, done in remedied(setup, job, name, remedy, *hp, original.population.variables):
            outcomes += by_setting(
                setup, level, original, name, done.unlearned, [setting_name(point)],
                visit=visit, remedy=remedy, role=role, found=done.found,
            )  # fmt: skip
    return outcomes


def by_setting(
    setup: Setup,
    level: Level,
    original: EvaluatedPopulation,
    method: str,
    unlearned: Unlearned,
    settings: list[str],
    length: str = "",
    visit: Visit | None = None,
    **remedied,
) -> list[EvaluatedPopulation]:
    """Evaluate a method's members, of each of the settings in turn, and divide them by setting, without weights.

    ``length`` is what the method ran, '' = what the budget allows; ``remedied`` are the fields of a remedy around it.
    """
    population, _, model, cost = unlearned
    scores = scored(setup, population, model, level=level, original=original)
    common: dict[str, Any] = {"role": method if "protocol" in METHODS[method].needs else "original"} | remedied
    common["budget"] = length or (f"{setup.config.budget:g}" if setup.config.budget else "")
    members, outcomes = setup.study.members, []
    for number, setting in enumerate(settings):
        at = slice(number * members, (number + 1) * members)
        part = jax.tree.map(lambda table, at=at: table[at], scores)
        outcome = EvaluatedPopulation(
            method=method, setting=setting, population=population, scores=part, grad_evals=cost, **common
        )
        if visit is not None:
            weights = take_members(population.variables, at)
            visit(outcome._replace(population=population._replace(variables=weights)), model)
        outcomes.append(_without_weights(outcome))
        population = population._replace(compile_seconds=0.0)
    return outcomes


def scored(
    setup: Setup,
    population: Population,
    model: Model | None = None,
    *,
    level: Level,
    original: EvaluatedPopulation | None = None,
) -> Evaluation:
    """A population's scores on the shown rows, NaN for members that have diverged (`divergence`).

    Without the originals, members are held against the others of their population.
    """
    data = Stored(setup.stored.inputs[setup.shown], setup.stored.targets[setup.shown])
    options, problem = setup.options, setup.problem
    options.phase("scoring")
    width = chunk_width(setup.study.members, options)
    model = model or problem.model
    decoder = setup.decoder if model is problem.model else None
    how = {"width": width, "axis": options.axis, "data_devices": options.data_devices}
    scores = evaluate(model, problem.task, population.variables, data, decoder=decoder, **how)
    targets = [np.searchsorted(setup.shown, rows.forget) for rows in level.rows]
    forget = [targets[level.request_of[i % len(level.request_of)]] for i in range(len(scores.margin))]
    return marked(scores, scores.margin if original is None else original.scores.margin, forget)

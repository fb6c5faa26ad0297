"""SISA: train shards of the data apart, in slices; on a request retrain only the shards that held it, from the slice
before.

Bourtoule et al. 2021 (arXiv 1912.03817). Each member assigns its rows to ``shards`` at random and each shard's to
``slices``; a constituent is trained on slice 1, then on slices 1 and 2 from there, and so on, each stage for 2 /
(slices + 1) of the recipe's epochs, so that the whole costs about what one model costs, and along the recipe's rate
schedule over its own updates. A request retrains the
affected constituents from the stage before the first slice that held a requested row. What comes out is exactly a
training without the request, so the constituents are trained that way, and the cost counts the retrained stages alone;
constituents of unaffected shards are bit-identical with and without the request. The prediction is the mean of the
constituents' probabilities. Copies of one sample spread over many shards: cost and leakage grow with their number.
"""

from __future__ import annotations

import functools
import heapq

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.data.augment import augmentation
from unlearn_jax.errors import InputError
from unlearn_jax.methods import do_nothing, retrain
from unlearn_jax.methods.support.common import (
    BOTH,
    RULE,
    Context,
    MethodSpec,
    Recipe,
    Span,
    TrainSpec,
    bind_shared,
    gradient_method,
    retained_loss,
)
from unlearn_jax.population.plans import Plan, Sizes, uniform_plan
from unlearn_jax.population.program import Fold
from unlearn_jax.trees import join_shared, split_shared
from unlearn_jax.types import Method, Model, Outputs, Variables


def voting(problem: TrainSpec, static: dict) -> Model:
    """The ensemble: variables with a leading shard axis -> logarithm of the mean probability, mean features."""

    def apply(variables, inputs, key=None, train=False):
        unshared, shared = split_shared(variables)
        every = jax.vmap(lambda one: problem.model.apply(join_shared(one, shared), inputs, key, False)[0])(unshared)
        logits = jax.nn.logsumexp(jax.nn.log_softmax(every.logits), axis=0) - jnp.log(float(every.logits.shape[0]))
        return Outputs(logits, every.features.mean(axis=0)), variables["state"]

    return Model(problem.model.init, apply)


def continued(problem: TrainSpec, hp: dict) -> Method:
    """The recipe's training from given weights, with a new optimizer state."""
    loss = retained_loss(problem)

    return gradient_method(retrain.optimizer(problem.recipe, hp["lr"], hp["weight_decay"]), loss)


@functools.lru_cache(maxsize=16)
def _continuing(problem: TrainSpec) -> Fold:
    return Fold(lambda hp, shared: continued(bind_shared(problem, shared), hp), augmentation(problem.recipe.augment))


def assign(rows: np.ndarray, shards: int, slices: int, rng: np.random.Generator) -> np.ndarray:
    """(len(rows), 2) shard and slice of each row, at random, sizes equal up to one."""
    at = rng.permutation(len(rows))
    return np.stack([at % shards, at // shards % slices], axis=1)


def assign_groups(groups: np.ndarray, shards: int, slices: int, rng: np.random.Generator) -> np.ndarray:
    """(len(groups), 2) shard and slice of each row by its group, no group apart: the largest first, ties at random,
    each to the emptiest slice of all."""
    names, which, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = rng.permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    filled, cell = [(0, at) for at in range(shards * slices)], np.zeros(len(names), int)
    for group in order.tolist():
        count, cell[group] = filled[0]
        heapq.heapreplace(filled, (count + int(sizes[group]), int(cell[group])))
    return np.stack([cell[which] % shards, cell[which] // shards], axis=1)


def begin(context: Context, static: dict, start: Variables) -> tuple[Variables, tuple[float, float]]:
    """Train every constituent without the request, stage by stage; (N, shards, ...) variables."""
    shards, slices, members = static["shards"], static["slices"], len(context.kept)
    recipe, (scratch, _, numeric) = context.problem.recipe, context.training
    kept, first, spent = _layout(context, shards, slices)
    trained, total = {}, 0.0
    for stage in range(1, slices + 1):
        rows = [[r for s, r in one if s < stage] for one in kept]
        rows = [np.sort(np.asarray(r, np.int32)) for r in rows]
        if min(map(len, rows)) == 0:
            raise InputError(f"sisa with {shards} shards leaves a shard empty: give fewer shards.")
        stage_recipe = recipe._replace(steps=_steps(recipe, shards, slices, stage))
        plan = uniform_plan(stage_recipe.steps, retain_batch=recipe.batch, rate=retrain.rates(stage_recipe))
        fold = scratch if stage == 1 else _continuing(context.problem)
        trained = context.train(f"sisa_stage{stage}", fold, plan, rows, start=trained, hp=numeric)
        total += spent[stage - 1] * plan.grad_evals_retain
    unshared, shared = split_shared(trained)
    stacked = jax.tree.map(lambda x: np.asarray(x).reshape(members, shards, *x.shape[1:]), unshared)
    return join_shared(stacked, shared), (0.0, total / members)


def _steps(recipe: Recipe, shards: int, slices: int, stage: int) -> int:
    """Updates of a stage, from the sizes *before* the request, so that it changes nothing in unaffected shards."""
    return max(1, round(recipe.steps * 2 / (slices + 1) * stage / (slices * shards)))


def _layout(context: Context, shards: int, slices: int) -> tuple[list, list, list]:
    """By (member, shard): (slice, row) of what stays; the first slice a request touches; by stage: those retrained."""
    kept, first = [], []
    for i, rows in enumerate(context.everything):
        rng = np.random.default_rng([context.seed, i, 9])
        if context.together is None:
            where = assign(rows, shards, slices, rng)
        else:
            where = assign_groups(context.together[i][rows], shards, slices, rng)
        gone = np.isin(rows, context.requested[i])
        for shard in range(shards):
            in_shard = where[:, 0] == shard
            touched = where[in_shard & gone, 1]
            kept.append(list(zip(where[in_shard & ~gone, 1].tolist(), rows[in_shard & ~gone].tolist())))
            first.append(int(touched.min()) if len(touched) else slices)
    return kept, first, [sum(f <= stage for f in first) for stage in range(slices)]


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Nothing is left to do."""
    return do_nothing.build(problem, {}, {})


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """No update; refuses more shards and slices than there are examples."""
    parts = static["shards"] * static["slices"]
    if sizes.retain and sizes.retain < 2 * parts:
        raise InputError(
            f"sisa would split {sizes.retain} retained examples into {parts} slices: give fewer shards or slices."
        )
    return do_nothing.plan(sizes, static, recipe)


ENTRY = MethodSpec(
    name="sisa",
    paper="Bourtoule et al. 2021, arXiv 1912.03817",
    rule="an ensemble over shards; retrain the shards that held the request from the slice before it",
    needs=frozenset({"retain", "protocol", "fresh_init"}),
    build=build,
    plan=plan,
    batch_stats="none",
    numeric={},
    static={"shards": 4, "slices": 2},
    presets={
        "small": ({}, "ours: slices of 150 of 1,200 examples"),
        "small_text": ({"shards": 2}, RULE),
        "cifar": ({"shards": 5, "slices": 1}, "within the paper's range of shards"),
        "language": ({"shards": 5, "slices": 1}, "within the paper's range of shards"),
    },
    notes="compared with originals that are single models",
    begin=begin,
    model=voting,
    unfit={"language": "a shard alone knows its own facts, and of facts 4 shards keep 70% of what remains, 2 keep 89%"},
    reads=BOTH,
    space=(Span("shards", values=(2, 8)),),
)

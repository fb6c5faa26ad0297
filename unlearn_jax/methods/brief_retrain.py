"""Brief retraining: train anew for a tenth of the recipe's cost, then set the confidence by what nobody was trained on.

Ours. Training from a fresh initialisation is free of whatever is left out; its price is the cost. The recipe's
optimizer runs for ``share`` of the recipe's gradient evaluations in batches of ``batch`` (0 = a quarter of the
recipe's) under a one-cycle schedule. What a short training lacks most is confidence: its margins are smaller than the
original's, on all samples alike. So the last layer is scaled until the mean margin on ``calibrate`` held-out
examples, which neither model was trained on, is the original's. Labels of held-out examples are read, no held-out
example is trained on. How far both models' margins are apart on held-out examples says how good a stand-in for a full
training it is, without any oracle; lr and batch were chosen by that, on other targets than those reported. Batch
statistics in training mode.
"""

from __future__ import annotations

import jax
import numpy as np

from unlearn_jax.methods import retrain
from unlearn_jax.methods.support.common import BOTH, Context, MethodSpec, Recipe, Span, TrainSpec
from unlearn_jax.methods.support.parts import depth_order
from unlearn_jax.population.plans import FORWARD, Plan, Sizes, uniform_plan
from unlearn_jax.trees import join_shared, split_shared
from unlearn_jax.types import Method, Variables

ROUNDS = 3  # of scaling: a margin is not quite proportional to the logits
LARGEST = 4.0  # factor in a round
PER_EXAMPLE = FORWARD * (1 + ROUNDS)  # gradient evaluations: the original's forward pass, and one a round


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Training from a fresh initialisation on the retain stream."""
    return retrain.build(problem, static, hp)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """The share of the recipe's cost, less what calibration takes; at least one update."""
    batch = static["batch"] or max(1, recipe.batch // 4)
    left = static["share"] * recipe.steps * recipe.batch - PER_EXAMPLE * examples_of(static, recipe)
    steps = max(1, int(left // batch))
    rate = retrain.rates(recipe._replace(schedule="cosine", steps=steps))
    return uniform_plan(steps, retain_batch=batch, rate=rate)


def examples_of(static: dict, recipe: Recipe) -> int:
    """Held-out examples for calibration: as many as configured, as far as a tenth of the cost pays for them."""
    return min(static["calibrate"], int(0.1 * static["share"] * recipe.steps * recipe.batch / PER_EXAMPLE))


def end(context: Context, static: dict, original: Variables, trained: Variables) -> tuple:
    """Scale the last layer until mean held-out margins are the original's; models with shared weights stay."""
    count = examples_of(static, context.problem.recipe)
    if not count or "shared" in trained:
        return trained, (0.0, 0.0)
    pool = np.unique(np.concatenate(context.heldout))
    pool = np.setdiff1d(pool, np.concatenate(context.everything))
    if not len(pool):
        return trained, (0.0, 0.0)
    assert context.margins is not None  # there where held-out examples are
    rows = np.sort(np.random.default_rng([context.seed, 17]).permutation(pool)[:count])
    wanted = context.margins(original, rows).mean(axis=1)
    last = depth_order(context.problem.model, context.problem.example.shape, str(context.problem.example.dtype))[-1]
    for _ in range(ROUNDS):
        now = context.margins(trained, rows).mean(axis=1)
        trained = _scaled(trained, last, _factor(np.resize(wanted, now.shape), now))  # setting after setting
    return trained, (0.0, PER_EXAMPLE * len(rows))


def _factor(wanted: np.ndarray, now: np.ndarray) -> np.ndarray:
    """(N,) by which to scale; 1 where a margin is not positive, and so no measure of confidence."""
    sound = (wanted > 0) & (now > 0)  # false for NaN too
    return np.where(sound, np.clip(wanted / np.where(sound, now, 1.0), 1 / LARGEST, LARGEST), 1.0)


def _scaled(trained: Variables, group: str, factor: np.ndarray) -> Variables:
    """Variables with one top-level group of parameters scaled by member."""
    unshared, shared = split_shared(trained)
    by = lambda x: (np.asarray(x) * factor.reshape(-1, *[1] * (np.ndim(x) - 1))).astype(x.dtype)
    params = unshared["params"] | {group: jax.tree.map(by, unshared["params"][group])}
    return join_shared(unshared | {"params": params}, shared)


ENTRY = MethodSpec(
    name="brief_retrain",
    paper="this project",
    rule="a tenth of a training from scratch, then the confidence of the original on held-out examples",
    needs=frozenset({"retain", "fresh_init", "heldout"}),
    build=build,
    plan=plan,
    numeric={"lr": 5e-3, "weight_decay": 1e-2},
    static={"share": 0.1, "batch": 0, "calibrate": 128},
    presets={
        "small": ({}, "by the held-out margin error on other targets, digits; see the text above"),
        "cifar": ({}, "as small, not chosen there"),
        "language": ({}, "as small, not chosen there"),
    },
    notes="exact as `retrain` is, but for being short; the cost is a share of the recipe's",
    unfit={
        "language": "facts are known by heart, for which a training must be long: a tenth keeps 19% of what remains of "
        "facts, half of one 94%"
    },
    reads=BOTH,
    end=end,
    space=(Span("lr", 0.3, 3.0), Span("weight_decay", 0.1, 100.0)),
)

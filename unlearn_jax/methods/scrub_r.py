"""SCRUB+R: SCRUB with rewinding to the epoch at which the request's error is like that of unseen examples.

Kurmanji et al. 2023 (arXiv 2302.09880). SCRUB's weights are kept after every epoch; at the end the error of the *last*
model on held-out examples of the request's kind is the reference, and the epoch whose error on the request is nearest
to it is returned: forgetting no more than never having seen, which is what membership attacks look for. Variants: the
kind is more than the class, for of targets that are harder than others of their class even a model that never saw them
gets more wrong, and a reference of plain ones would rewind towards the original. So each requested example has a
held-out one of its class about which a classifier made of held-out examples alone is as clear (`clearness`; the
published reference is of the request's classes). And epochs before the last max pass, which are the nearer to the
original the earlier they are, are not returned. Defaults as SCRUB's.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.methods import scrub
from unlearn_jax.methods.support.common import (
    EARLIER,
    RATE,
    RULE,
    Context,
    Recipe,
    Span,
    TrainSpec,
    phased_method,
    weighted_mean,
)
from unlearn_jax.methods.support.common import finish as finished
from unlearn_jax.methods.support.parts import gathered
from unlearn_jax.metrics.heldout import clearness
from unlearn_jax.population.plans import Plan, Sizes
from unlearn_jax.types import Batch, Method, Variables

KEEP = 2


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """SCRUB that keeps a copy after every epoch and returns one of them."""
    fold = scrub.build(problem, static, hp)

    def init(key, variables):
        weights = {name: variables[name] for name in ("params", "state")}
        trained = fold.init(key, weights)
        kept = jax.tree.map(lambda x: jnp.zeros((static["epochs"], *x.shape), x.dtype), weights)
        seen = {name: variables[name] for name in ("request", "unseen")}
        return {"trained": trained, "kept": kept, "epoch": jnp.int32(0), "seen": seen}

    def follow(key, state, batches):
        trained, value = fold.update(key, state["trained"], batches)
        return state | {"trained": trained}, value

    def keep(key, state, batches):
        weights, epoch = finished(state["trained"]), state["epoch"]
        kept = jax.tree.map(lambda all_, x: all_.at[epoch].set(x), state["kept"], weights)
        return state | {"kept": kept, "epoch": epoch + 1}, jnp.float32(0.0)

    def error(variables, some):
        logits = problem.model.apply(variables, some["inputs"], train=False)[0].logits
        batch = Batch(some["inputs"], some["targets"], some["weight"], jnp.zeros_like(some["targets"]))
        return 1.0 - weighted_mean(problem.task.correct(logits, batch), some["weight"])

    def end(state):
        reference = error(finished(state["trained"]), state["seen"]["unseen"])
        errors = jax.lax.map(lambda variables: error(variables, state["seen"]["request"]), state["kept"])
        forgotten = jnp.arange(static["epochs"]) + 1 >= static["max_epochs"]
        chosen = jnp.argmin(jnp.where(forgotten, jnp.abs(errors - reference), jnp.inf))
        return jax.tree.map(lambda x: x[chosen], state["kept"])

    return phased_method(init, [follow, follow, keep], end)


def begin(context: Context, static: dict, start: Variables) -> tuple[Variables, tuple[float, float]]:
    """Add each member's request and as many held-out examples of its kind, (N, M, ...) padded with weight 0."""
    unseen = []
    for rows, heldout in zip(context.requested, context.heldout):
        unseen.append(alike(context, rows, heldout))
        if len(rows) and not len(unseen[-1]):
            raise InputError(
                "scrub_r measures itself on held-out examples of the request's classes and there are none: "
                "hold some out, or leave scrub_r out."
            )
    return start | {"request": gathered(context, context.requested), "unseen": gathered(context, unseen)}, (0.0, 0.0)


def alike(context: Context, rows: np.ndarray, heldout: np.ndarray) -> np.ndarray:
    """Held-out rows for requested ones: of the same class and the nearest in `clearness`, none twice, while there are.

    At random within the class where inputs are tokens, or held-out examples too few to tell what is clear.
    """
    targets = np.asarray(context.stored.targets)
    chance = np.random.default_rng([context.seed, 13]).random(len(heldout)), np.zeros(len(rows))
    flat = lambda at: np.asarray(context.stored.inputs[at]).reshape(len(at), -1)
    vectors = np.issubdtype(context.problem.example.dtype, np.floating) or len(context.problem.example.shape) > 2
    clear = clearness(flat(heldout), targets[heldout], flat(rows), targets[rows]) if vectors and len(rows) else chance
    of_heldout, of_request = chance if np.isnan(clear[0]).any() else clear
    free, matches = np.ones(len(heldout), bool), []
    for at in np.argsort(of_request):
        gap = np.where(free & (targets[heldout] == targets[rows[at]]), np.abs(of_heldout - of_request[at]), np.inf)
        if np.isfinite(gap).any():
            free[gap.argmin()] = False
            matches.append(heldout[gap.argmin()])
    return np.asarray(matches, np.int32)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """SCRUB's plan, and after each epoch's min pass a step without cost that keeps the weights."""
    base = scrub.plan(sizes, static, recipe)
    low = scrub.epoch_passes(sizes, static)[1]
    at = np.flatnonzero(base.phase == scrub.MIN)[low - 1 :: low] + 1
    insert = lambda column, value: np.insert(column, at, value)
    return base._replace(
        phase=insert(base.phase, KEEP).astype(np.int32),
        forget_step=np.insert(base.forget_step, at, base.forget_step[at - 1]),
        retain_step=np.insert(base.retain_step, at, base.retain_step[at - 1]),
        forget_cost=insert(base.forget_cost, 0.0),
        retain_cost=insert(base.retain_cost, 0.0),
        rate=insert(base.rate, 1.0).astype(np.float32),
    )


ENTRY = scrub.ENTRY._replace(
    name="scrub_r",
    paper="Kurmanji et al. 2023, arXiv 2302.09880 (SCRUB+R)",
    rule="SCRUB, rewound to the epoch whose error on the request is nearest that on unseen examples",
    needs=scrub.ENTRY.needs | {"heldout"},
    build=build,
    plan=plan,
    numeric=scrub.ENTRY.numeric | {"lr": 2e-3},
    presets=scrub.ENTRY.presets | {"small_conv": ({"lr": 1e-3}, EARLIER), "small_text": ({"lr": 3e-4}, RULE)},
    notes="keeps one copy of the weights an epoch; looks at held-out labels to choose",
    begin=begin,
    reads=frozenset({"classes"}),
    space=(RATE, Span("alpha", 0.1, 10.0)),
)

"""SCRUB+R: SCRUB with rewinding to the epoch at which the request's error is like that of unseen examples.

Kurmanji et al. 2023 (arXiv 2302.09880). SCRUB's weights are kept after every epoch; at the end the error of the *last*
model on held-out examples of the request's classes is the reference, and the epoch whose error on the request is
nearest to it is returned: forgetting no more than never having seen, which is what membership attacks look for. The
held-out examples are test images of the same classes, as many as the request: they are looked at to choose one epoch.
Defaults as SCRUB's but for the rate, which the catalogue's rule chose anew, as the epoch chosen is seldom the last.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.methods import scrub
from unlearn_jax.methods.common import TUNED, Context, Problem, Recipe, phased_method, weighted_mean
from unlearn_jax.methods.common import finish as finished
from unlearn_jax.population.plans import Plan, Sizes
from unlearn_jax.types import Batch, Method, Variables

KEEP = 2


def build(problem: Problem, static: dict, hp: dict) -> Method:
    """SCRUB that keeps a copy after every epoch and returns one of them."""
    fold = scrub.build(problem, static, hp)

    def init(key, variables):
        own = {name: variables[name] for name in ("params", "state")}
        trained = fold.init(key, own)
        kept = jax.tree.map(lambda x: jnp.zeros((static["epochs"], *x.shape), x.dtype), own)
        seen = {name: variables[name] for name in ("request", "unseen")}
        return {"trained": trained, "kept": kept, "epoch": jnp.int32(0), "seen": seen}

    def follow(key, state, batches):
        trained, value = fold.update(key, state["trained"], batches)
        return state | {"trained": trained}, value

    def keep(key, state, batches):
        own, epoch = finished(state["trained"]), state["epoch"]
        kept = jax.tree.map(lambda all_, x: all_.at[epoch].set(x), state["kept"], own)
        return state | {"kept": kept, "epoch": epoch + 1}, jnp.float32(0.0)

    def error(variables, some):
        logits = problem.model.apply(variables, some["inputs"], train=False)[0].logits
        batch = Batch(some["inputs"], some["targets"], some["weight"], jnp.zeros_like(some["targets"]))
        return 1.0 - weighted_mean(problem.task.correct(logits, batch), some["weight"])

    def end(state):
        reference = error(finished(state["trained"]), state["seen"]["unseen"])
        errors = jax.lax.map(lambda variables: error(variables, state["seen"]["request"]), state["kept"])
        chosen = jnp.argmin(jnp.abs(errors - reference))
        return jax.tree.map(lambda x: x[chosen], state["kept"])

    return phased_method(init, [follow, follow, keep], end)


def begin(context: Context, static: dict, start: Variables) -> tuple[Variables, tuple[float, float]]:
    """Add each member's request and as many held-out examples of its classes, (N, M, ...) padded with weight 0."""
    targets, rng = np.asarray(context.stored.targets), np.random.default_rng([context.seed, 13])
    unseen = []
    for rows, heldout in zip(context.requested, context.heldout):
        pools = {c: rng.permutation(heldout[targets[heldout] == c]) for c in np.unique(targets[rows])}
        taken = [pools[c][: (targets[rows] == c).sum()] for c in pools]
        unseen.append(np.concatenate([*taken, np.zeros(0, np.int32)]).astype(np.int32))
        if len(rows) and not len(unseen[-1]):
            raise InputError(
                "scrub_r measures itself on held-out examples of the request's classes and there are none: "
                "hold some out, or leave scrub_r out."
            )
    return start | {"request": _gather(context, context.requested), "unseen": _gather(context, unseen)}, (0.0, 0.0)


def _gather(context: Context, rows: list[np.ndarray]) -> dict:
    """Inputs, targets and weights of each member's rows, padded to one length."""
    longest = max(1, *map(len, rows))
    table = np.stack([np.pad(r, (0, longest - len(r))) for r in rows]).astype(np.int32)
    weight = np.stack([np.arange(longest) < len(r) for r in rows]).astype(np.float32)
    inputs, targets = (np.asarray(x)[table] for x in (context.stored.inputs, context.stored.targets))
    return {"inputs": inputs, "targets": targets, "weight": weight}


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
    presets=scrub.ENTRY.presets | {"small_conv": ({"lr": 1e-3}, TUNED[1])},
    notes="keeps one copy of the weights an epoch; looks at held-out labels to choose",
    begin=begin,
    reads=frozenset({"classes"}),
)

"""Corrective: keep a method's change only in weights that matter more to the request than to the training data.

The setting of Goel et al. 2024 (arXiv 2402.14015), where only a part of what is to go has been identified, and SSD,
which they found to do best there, selects weights by importance (arXiv 2308.07707). Here that selection limits any
method: where the mean squared per-example gradient of the loss over the request is above ``alpha`` times that over
all training data, under the original, the weight is the method's, elsewhere the original's. An ``alpha`` of infinity
gives the original's weights back, 0 the method's wherever the request has any gradient. Running statistics are the
method's.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.methods.ssd import FORGET, RETAIN
from unlearn_jax.methods.ssd import plan as two_passes
from unlearn_jax.methods.support.common import TrainSpec, bind_shared, phased_method
from unlearn_jax.methods.support.parts import loss_gradient, sum_over_examples, summed_loss, zeros_like
from unlearn_jax.population.plans import Sizes
from unlearn_jax.population.program import Fold
from unlearn_jax.remedies.common import Remedied, Remedy, RemedyContext, costing, following, without
from unlearn_jax.trees import split_shared, tree_add
from unlearn_jax.types import Array, PyTree, Variables


class Weighed(NamedTuple):
    """Original and changed weights, and sums over examples of squared gradients under the original."""

    original: PyTree
    changed: Variables
    sums: tuple[PyTree, PyTree]  # of the request, of retained data
    counts: Array  # (2,) examples summed


def selected(original: PyTree, changed: PyTree, request: PyTree, full: PyTree, alpha: Array | float) -> PyTree:
    """Changed weights where the importance for the request exceeds ``alpha`` times that for all data, else the
    original's."""
    return jax.tree.map(lambda o, c, f, d: jnp.where((f > alpha * d) & (f > 0), c, o), original, changed, request, full)


@functools.lru_cache(maxsize=16)
def selecting(problem: TrainSpec, micro: int) -> Fold:
    """Sum importances over both sets, then select; starts from the method's weights, with ``original`` beside."""

    def build(hp, shared):
        bound = bind_shared(problem, shared)

        def init(key, variables):
            zero = zeros_like(variables["params"])
            changed = {name: variables[name] for name in ("params", "state")}
            return Weighed(variables["original"], changed, (zero, zero), jnp.zeros(2))

        def gather(part, key, state, batches):
            batch = (batches.forget, batches.retain)[part]

            def squared(example):
                slope = loss_gradient(bound, state.original, example._replace(weight=jnp.ones(1)))
                return jax.tree.map(jnp.square, slope)

            total = tree_add(state.sums[part], sum_over_examples(squared, batch, micro))
            sums = (total, state.sums[1]) if part == FORGET else (state.sums[0], total)
            counts = state.counts.at[part].add(batch.weight.sum())
            return state._replace(sums=sums, counts=counts), summed_loss(bound, state.original, batch)

        def end(state):
            of_request, of_all = jnp.maximum(state.counts[0], 1.0), jnp.maximum(state.counts.sum(), 1.0)
            request = jax.tree.map(lambda x: x / of_request, state.sums[0])
            full = jax.tree.map(lambda f, r: (f + r) / of_all, *state.sums)
            params = selected(state.original["params"], state.changed["params"], request, full, hp["alpha"])
            return {"params": params, "state": state.changed["state"]}

        branches = [functools.partial(gather, part) for part in (FORGET, RETAIN)]
        return phased_method(init, branches, end)

    return Fold(build)


def apply(evidence: RemedyContext, settings: dict) -> Remedied:
    """Run the method, then put back the weights that are not the request's own."""
    unlearned = evidence.run(evidence.plain)
    before = unlearned.population
    result = split_shared(before.variables)[0]
    start = {name: result[name] for name in ("params", "state")} | {"original": split_shared(evidence.original)[0]}
    sizes = Sizes(max(map(len, evidence.requested)), max(map(len, evidence.kept)))
    plan = two_passes(sizes, settings, evidence.problem.recipe)
    plan = plan._replace(forget_size=sizes.forget, retain_size=sizes.retain)
    treat = evidence.plain._replace(role=f"{evidence.name}_select", start=start)
    fold = selecting(evidence.problem, settings["micro"])
    after = evidence.follow(fold, plan, treat, {"alpha": settings["alpha"]})
    joined = unlearned._replace(population=following(before, after)._replace(loss=before.loss))
    return Remedied(costing(joined, plan.grad_evals_forget, plan.grad_evals_retain))


def kept_share(original: PyTree, result: PyTree) -> np.ndarray:
    """(N,) share of each member's weights that differ from the original's."""
    pairs = list(zip(jax.tree.leaves(original), jax.tree.leaves(result), strict=True))
    differ = [(np.asarray(a) != np.asarray(b)).reshape(len(a), -1) for a, b in pairs]
    return np.concatenate(differ, axis=1).mean(axis=1)


REMEDY = Remedy(
    name="corrective",
    paper="Goel et al. 2024, arXiv 2402.14015; Foster et al. 2024, arXiv 2308.07707 (SSD)",
    rule="the method's change stays in weights that matter more to the request than to all data",
    apply=apply,
    numeric={"alpha": 1.0},
    static={"batch": 128, "micro": 0},
    methods=without("nothing", "fresh_init", "protocol", "reference"),
)

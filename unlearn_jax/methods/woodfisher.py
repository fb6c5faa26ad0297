"""WoodFisher: one step against the inverse empirical Fisher matrix of a sample of retained examples.

Influence unlearning as compared by Jia et al. 2023 (arXiv 2304.04934), with the inverse of Singh & Alistarh 2020
(arXiv 2004.14340): ``w += alpha F^-1 (1/N sum_F g - n_F / (N n_R) sum_R g)``, the weights by which removing F
re-weights the mean loss over N = n_F + n_R examples. F = damping I + 1/m sum of g g' over m *single* retained
examples; Woodbury's identity on the m gradients gives in one solve what the paper's m rank-one updates give one by
one. Batch statistics in evaluation mode and unchanged.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unlearn_jax.methods.support.common import BOTH, RULE, TUNED, MethodSpec, Recipe, Span, TrainSpec, phased_method
from unlearn_jax.methods.support.parts import loss_gradient, solve, summed_loss, zeros_like
from unlearn_jax.population.plans import Plan, Sizes, passes, phased_plan
from unlearn_jax.trees import tree_add
from unlearn_jax.types import Array, Method, PyTree, Variables

FORGET, RETAIN, SAMPLE = 0, 1, 2


class Gathered(NamedTuple):
    """Sums of gradients, and the single gradients of the sampled examples."""

    variables: Variables
    forget: PyTree
    retain: PyTree
    counts: Array  # (2,)
    rows: Array  # (m, P)
    live: Array  # (m,) weight of each row; 0 in a slot beyond a member's last example
    filled: Array  # () int32


def inverse_times(rows: Array, damping: Array | float, vector: Array, count: Array | float) -> Array:
    """(damping I + G' G / count)^-1 v for G = rows (m, P), of which some may be 0, by Woodbury's identity."""
    inner = jnp.eye(rows.shape[0]) * (count * damping) + rows @ rows.T
    return (vector - rows.T @ solve(inner, rows @ vector)) / damping


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Gather both sums and the single gradients, then step."""
    sampled, batch = static["samples"], min(static["samples"], static["batch"])

    def init(key, variables):
        zero = zeros_like(variables["params"])
        size = sum(x.size for x in jax.tree.leaves(zero))
        rows = jnp.zeros((-(-sampled // batch) * batch, size))
        return Gathered(variables, zero, zero, jnp.zeros(2), rows, jnp.zeros(len(rows)), jnp.int32(0))

    def sums(part, state, examples):
        total = {part: tree_add(getattr(state, part), loss_gradient(problem, state.variables, examples))}
        counts = state.counts.at[FORGET if part == "forget" else RETAIN].add(examples.weight.sum())
        return state._replace(counts=counts, **total), summed_loss(problem, state.variables, examples)

    def sample(key, state, batches):
        some = jax.tree.map(lambda x: x[:batch], batches.retain)
        live = jax.lax.dynamic_update_slice(state.live, some.weight, (state.filled,))
        some = some._replace(weight=jnp.sqrt(some.weight))  # so that g g' carries the weight
        one = lambda e: ravel_pytree(loss_gradient(problem, state.variables, jax.tree.map(lambda x: x[None], e)))[0]
        gradients = jax.lax.map(one, some, batch_size=min(16, batch))
        rows = jax.lax.dynamic_update_slice(state.rows, gradients, (state.filled, jnp.int32(0)))
        return state._replace(rows=rows, live=live, filled=state.filled + batch), jnp.float32(0.0)

    def end(state):
        of_forget, of_retain = state.counts[0], jnp.maximum(state.counts[1], 1.0)
        total = of_forget + of_retain
        forget, back = ravel_pytree(state.forget)
        change = forget / total - of_forget / (total * of_retain) * ravel_pytree(state.retain)[0]
        count = jnp.maximum(state.live[:sampled].sum(), 1.0)
        step = inverse_times(state.rows[:sampled], hp["damping"], change, count)
        return state.variables | {"params": tree_add(state.variables["params"], back(step), hp["alpha"])}

    branches = [
        lambda key, state, batches: sums("forget", state, batches.forget),
        lambda key, state, batches: sums("retain", state, batches.retain),
        sample,
    ]
    return phased_method(init, branches, end)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """A pass over the request, one over the retained data, then ``samples`` single retained examples."""
    batch = min(static["batch"], max(sizes.forget, 1))
    scans = passes(sizes.forget, batch), passes(sizes.retain, static["batch"])
    samples = passes(static["samples"], min(static["samples"], static["batch"]))
    share = min(static["samples"], static["batch"]) / static["batch"]
    return phased_plan(
        np.repeat([FORGET, RETAIN, SAMPLE], [*scans, samples]),
        forget_batch=batch,
        retain_batch=static["batch"],
        forget_cost=(1.0, 0.0, 0.0),
        retain_cost=(0.0, 1.0, share),
        forget_pass=scans[0],
        retain_pass=scans[1],
    )


ENTRY = MethodSpec(
    name="woodfisher",
    paper="Jia et al. 2023, arXiv 2304.04934 (IU); Singh & Alistarh 2020, arXiv 2004.14340",
    rule="one step against the inverse empirical Fisher matrix of single retained examples",
    needs=frozenset({"forget", "retain"}),
    build=build,
    plan=plan,
    numeric={"alpha": 0.5, "damping": 1e-3},
    static={"batch": 128, "samples": 256},
    batch_stats="none",
    presets={
        "small": TUNED,
        "small_conv": ({"alpha": 0.1}, RULE),
        "small_transformer": ({"alpha": 0.03}, "of .03, .1 and .3 on facts the one that keeps 98% of what is retained"),
        "small_text": ({"alpha": 0.05}, RULE),
        "cifar": ({"alpha": 0.2, "damping": 1.0}, "the comparison's code, which takes 1,000 samples"),
        "language": (
            {"alpha": 0.2, "damping": 1.0, "batch": 32, "samples": 128},
            "the comparison's on images; half the samples of the small scale, which are held in memory",
        ),
    },
    notes="holds samples x weights floats a member: not for large networks",
    reads=BOTH,
    space=(Span("alpha"), Span("damping", 0.1, 100.0)),
)

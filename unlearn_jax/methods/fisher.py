"""Fisher forgetting: add noise to the weights that the retained data do not pin down.

Golatkar et al. 2020 (arXiv 1911.04933). With F_R the diagonal of the Fisher information on the retained data, the
expectation over the model's own labels of the per-example squared gradient of the log-probability, each weight gets
``N(0, alpha F_R^-1)``. As in the public implementations the variance F_R^-1 is bounded by ``clamp`` (a tenth of it in
the last layer), averaged over the inputs of each unit, and tenfold for one-axis weights and the last layer. The paper's
own optimum, F_R^(-1/2), is ``power=0.5``. The request is not read. Batch statistics unchanged.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from unlearn_jax.methods.support.common import EARLIER, TUNED, MethodSpec, Recipe, Span, TrainSpec, phased_method
from unlearn_jax.methods.support.parts import last_groups, normal_like, sum_over_examples, summed_loss, zeros_like
from unlearn_jax.population.plans import Plan, Sizes, passes, uniform_plan
from unlearn_jax.trees import tree_add
from unlearn_jax.types import Array, Batch, Method, PyTree, Variables


class Gathered(NamedTuple):
    """Sum over retained examples of the Fisher diagonal."""

    variables: Variables
    sum: PyTree
    count: Array
    key: Array  # data of the key of the noise


def fisher_diagonal(problem: TrainSpec, variables: Variables, example: Batch) -> PyTree:
    """Sum over classes of p(class) (d log p(class))^2 for a batch of one, like the parameters."""

    def log_probabilities(params):
        logits = problem.model.apply(variables | {"params": params}, example.inputs, train=False)[0].logits
        return jax.nn.log_softmax(logits[0].astype(jnp.float32))

    logp, back = jax.vjp(log_probabilities, variables["params"])

    def body(total, pair):
        one, probability = pair
        return jax.tree.map(lambda s, g: s + probability.astype(g.dtype) * jnp.square(g), total, back(one)[0]), None

    classes = jnp.eye(logp.shape[0], dtype=logp.dtype), jnp.exp(logp)
    return lax.scan(body, zeros_like(variables["params"]), classes)[0]


def noise_variance(problem: TrainSpec, params: PyTree, fisher: PyTree, clamp, power) -> PyTree:
    """Variance per unit of alpha, with the bounds and factors of the public implementations."""
    last = last_groups(problem, params, 1)

    def one(w, f, in_last):
        limit = jnp.where(in_last > 0, 0.1 * clamp, clamp)
        spread = jnp.minimum((f + 1e-8) ** -power, limit)
        if w.ndim >= 2:
            spread = jnp.broadcast_to(spread.mean(axis=-2, keepdims=True), w.shape)
        return spread * jnp.where((in_last > 0) | (w.ndim < 2), 10.0, 1.0)

    return jax.tree.map(one, params, fisher, last)


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Gather the Fisher diagonal in one pass, then add the noise."""

    def init(key, variables):
        return Gathered(variables, zeros_like(variables["params"]), jnp.float32(0.0), jax.random.key_data(key))

    def gather(key, state, batches):
        one = lambda example: fisher_diagonal(problem, state.variables, example)
        total = sum_over_examples(one, batches.retain, static["micro"])
        count = state.count + batches.retain.weight.sum()
        loss = summed_loss(problem, state.variables, batches.retain)
        return state._replace(sum=tree_add(state.sum, total), count=count), loss

    def end(state):
        params = state.variables["params"]
        fisher = jax.tree.map(lambda x: x / jnp.maximum(state.count, 1.0), state.sum)
        variance = noise_variance(problem, params, fisher, hp["clamp"], hp["power"])
        noise = normal_like(jax.random.wrap_key_data(state.key), params)
        moved = jax.tree.map(lambda w, v, n: w + jnp.sqrt(hp["alpha"] * v) * n, params, variance, noise)
        return state.variables | {"params": moved}

    return phased_method(init, [gather], end)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """One exact pass over the retained data, with a backward pass for each class."""
    scan = passes(sizes.retain, static["batch"])
    scan_plan = uniform_plan(scan, retain_batch=static["batch"], retain_cost=(1 + 2 * sizes.classes) / 3)
    return scan_plan._replace(retain_pass=scan)


ENTRY = MethodSpec(
    name="fisher",
    paper="Golatkar et al. 2020, arXiv 1911.04933 (Fisher forgetting)",
    rule="add Gaussian noise of variance alpha over the retained data's Fisher information",
    needs=frozenset({"retain"}),
    build=build,
    plan=plan,
    numeric={"alpha": 1e-6, "clamp": 1e3, "power": 1.0},
    static={"batch": 128, "micro": 0},
    batch_stats="none",
    presets={
        "small": TUNED,
        "small_conv": ({"alpha": 3e-7}, EARLIER),
        "small_text": TUNED,
        "cifar": ({"alpha": 1e-7}, "between the comparisons' 1e-6 and the authors' advice of 1e-9"),
    },
    notes="one shot; exact expectation over the labels",
    space=(Span("alpha"),),
)

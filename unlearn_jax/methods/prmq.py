"""PRMQ: prune nearly all convolution weights, fine-tune while matching the original's entropy, round to half precision.

Fourth place of the NeurIPS 2023 unlearning challenge (as described in Cadet et al. 2024, arXiv 2410.01276). The
``prune`` share of smallest convolution weights, one threshold over all kernels, is set to zero once and may grow
again; then descend ``l(R) + match (H(s) - H(T))^2`` with H the entropy of the predictions; at the end weights pass
through float16. The request is not read. Models without convolutions: the dense kernels before the head. Training mode
throughout.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from unlearn_jax.methods.common import LANGUAGE, TUNED, Entry, Problem, Recipe, descent, gradient_method, weighted_mean
from unlearn_jax.methods.parts import convolutions, frozen
from unlearn_jax.methods.salun import top_share
from unlearn_jax.population.plans import FORWARD, Plan, Sizes, epochs_over_retained
from unlearn_jax.types import Array, Method


def entropy(logits: Array) -> Array:
    """Entropy of softmax(logits) in nats; (B, K) -> (B,)."""
    found = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -jnp.sum(jnp.exp(found) * found, axis=-1)


def build(problem: Problem, static: dict, hp: dict) -> Method:
    """Prune, descend on the retain stream, round."""

    def loss(params, trained, batches, key):
        batch = batches.retain
        outputs, state = problem.model.apply({"params": params, "state": trained.state}, batch.inputs, key, True)
        target = entropy(frozen(problem, trained.extra, batch.inputs).logits)
        gap = weighted_mean(jnp.square(entropy(outputs.logits) - target), batch.weight)
        return weighted_mean(problem.task.loss(outputs.logits, batch), batch.weight) + hp["match"] * gap, state

    fold = gradient_method(descent(static, hp), loss)

    def init(key, variables):
        params = variables["params"]
        chosen = convolutions(problem, params)
        kept = 1.0 - hp["prune"] * _share_of(chosen)  # of all weights; those that are not chosen rank first
        ranked = jax.tree.map(lambda w, on: jnp.where(on > 0, jnp.abs(w), jnp.inf), params, chosen)
        pruned = jax.tree.map(jnp.multiply, params, top_share(ranked, kept))
        return fold.init(key, variables | {"params": pruned})._replace(extra=variables)

    def end(trained):
        halved = jax.tree.map(lambda w: w.astype(jnp.float16).astype(w.dtype), trained.params)
        return {"params": halved, "state": trained.state}

    return Method(init, fold.update, end)


def _share_of(chosen) -> float:
    """Share of entries that are 1."""
    leaves = jax.tree.leaves(chosen)
    return sum(jnp.sum(x) for x in leaves) / sum(x.size for x in leaves)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """``epochs`` passes over the retained data, the original looked at beside them."""
    return epochs_over_retained(sizes, static, retain_cost=1.0 + FORWARD)


ENTRY = Entry(
    name="prmq",
    paper="NeurIPS 2023 challenge, 4th; Cadet et al. 2024, arXiv 2410.01276",
    rule="prune convolution weights, fine-tune with matched entropy, round to half precision",
    needs=frozenset({"retain", "teacher"}),
    build=build,
    plan=plan,
    numeric={"lr": 0.02, "prune": 0.99, "match": 1.0, "weight_decay": 5e-4},
    static={"epochs": 10, "batch": 128, "optimizer": "sgd", "momentum": 0.9},
    presets={
        "small": TUNED,
        "cifar": ({"lr": 5e-4, "epochs": 3}, "the entry's: 99% pruned, 3.2 epochs at 5e-4"),
        "language": LANGUAGE,
    },
    notes="pruned weights may grow again",
)

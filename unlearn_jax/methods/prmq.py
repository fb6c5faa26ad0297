"""PRMQ: draw anew nearly all weights, the smallest, fine-tune while matching the original's entropy, halve precision.

Fourth place of the NeurIPS 2023 unlearning challenge (as described in Cadet et al. 2024, arXiv 2410.01276, and
reproduced with it). Of the kernels and biases of all convolutions and dense layers, the ``prune`` share of smallest
absolute value, one threshold over all of them, is replaced once by a fresh initialisation; then descend
``l_c(R) + match (H(s) - H(T))^2`` with H the entropy of the predictions and l_c the cross-entropy whose examples weigh
n^-0.1, n the number of retained examples of their class; at the end weights and running statistics pass through
float16. The request is not read. Student in training mode, original in evaluation mode.

Variants: the model's own initialisation (there uniform to 1 / sqrt(fan in), biases zero); the counts n are summed as
batches come, so they are the set's, up to a factor that cancels, from the end of the first epoch on; 3 epochs for 3.2.
Where a target is more than one label, as in language, all examples weigh alike.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from unlearn_jax.methods.salun import top_share
from unlearn_jax.methods.support.common import (
    BOTH,
    EARLIER,
    RATE,
    RULE,
    TUNED,
    MethodSpec,
    Recipe,
    Span,
    TrainSpec,
    descent,
    gradient_method,
    weighted_mean,
)
from unlearn_jax.methods.support.parts import fresh, frozen
from unlearn_jax.methods.support.sequences import answer_mean
from unlearn_jax.population.plans import FORWARD, Plan, Sizes, epochs_over_retained
from unlearn_jax.types import Array, Batch, Method, PyTree

POWER = -0.1  # of a class's count, its weight in the loss


def entropy(logits: Array) -> Array:
    """Entropy of softmax(logits) in nats; (..., K) -> (...)."""
    logp = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -jnp.sum(jnp.exp(logp) * logp, axis=-1)


def in_layers(params: PyTree) -> PyTree:
    """True for the kernels and biases of convolutions and dense layers, False for norms, embeddings and the like."""

    def walk(tree, inside: bool):
        if not isinstance(tree, dict):
            return inside
        return {name: walk(part, "kernel" in tree) for name, part in tree.items()}

    return walk(params, False)


def redrawn(params: PyTree, drawn: PyTree, share: Array | float) -> PyTree:
    """Parameters in which the ``share`` of smallest entries of all layers together comes from ``drawn``."""
    layer = in_layers(params)
    sizes = [(x.size, on) for x, on in zip(jax.tree.leaves(params), jax.tree.leaves(layer))]
    prunable = sum(size for size, on in sizes if on) / sum(size for size, _ in sizes)
    ranked = jax.tree.map(lambda w, on: jnp.abs(w) if on else jnp.full_like(w, jnp.inf), params, layer)
    kept = top_share(ranked, 1.0 - share * prunable)  # of all weights; those outside layers rank first
    return jax.tree.map(lambda keep, w, new: jnp.where(keep > 0, w, new), kept, params, drawn)


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Prune and draw anew, descend on the retain stream, round."""

    def loss(params, trained, batches, key):
        batch = batches.retain
        outputs, state = problem.model.apply({"params": params, "state": trained.state}, batch.inputs, key, True)
        target = entropy(frozen(problem, trained.extra["teacher"], batch.inputs).logits)
        gap = answer_mean(jnp.square(entropy(outputs.logits) - target), batch)
        weight = batch.weight * class_weight(trained.extra["counts"], batch)
        return weighted_mean(problem.task.loss(outputs.logits, batch), weight) + hp["match"] * gap, state

    fold = gradient_method(descent(static, hp), loss)

    def init(key, variables):
        drawn = fresh(problem, jax.random.fold_in(key, 1))["params"]
        params = redrawn(variables["params"], drawn, hp["prune"])
        extra = {"teacher": variables, "counts": jnp.zeros(problem.num_classes, jnp.float32)}
        return fold.init(key, variables | {"params": params})._replace(extra=extra)

    def update(key, trained, batches):
        counts = trained.extra["counts"] + class_counts(problem.num_classes, batches.retain)
        return fold.update(key, trained._replace(extra=trained.extra | {"counts": counts}), batches)

    halved = lambda x: x.astype(jnp.float16).astype(x.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x
    end = lambda trained: jax.tree.map(halved, {"params": trained.params, "state": trained.state})
    return Method(init, update, end)


def class_counts(classes: int, batch: Batch) -> Array:
    """(K,) weight of a batch's examples by class; 0 where targets are not one label an example."""
    if batch.targets.ndim > 1:
        return jnp.zeros(classes, jnp.float32)
    return jnp.zeros(classes, jnp.float32).at[batch.targets].add(batch.weight)


def class_weight(counts: Array, batch: Batch) -> Array:
    """(B,) weight of each example by its class's count; 1 where targets are not one label an example."""
    if batch.targets.ndim > 1:
        return jnp.ones_like(batch.weight)
    return jnp.maximum(counts, 1.0)[batch.targets] ** POWER


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """``epochs`` passes over the retained data, the original looked at beside them."""
    return epochs_over_retained(sizes, static, retain_cost=1.0 + FORWARD)


ENTRY = MethodSpec(
    name="prmq",
    paper="NeurIPS 2023 challenge, 4th; Cadet et al. 2024, arXiv 2410.01276",
    rule="draw the smallest weights anew, fine-tune with matched entropy, round to half precision",
    needs=frozenset({"retain", "teacher"}),
    build=build,
    plan=plan,
    numeric={"lr": 0.05, "prune": 0.99, "match": 1.0, "weight_decay": 5e-4},
    static={"epochs": 10, "batch": 128, "optimizer": "sgd", "momentum": 0.9},
    presets={
        "small": TUNED,
        "small_conv": ({"lr": 5e-3}, EARLIER),
        "small_text": ({"lr": 0.02}, RULE),
        "small_transformer": (
            {"lr": 3e-3, "prune": 0.5, "epochs": 20, "optimizer": "adam"},
            "Adam at the highest of the rates tried; of rest of facts 99% pruned keep 23%, 50% in 20 epochs all",
        ),
        "cifar": ({"lr": 5e-4, "epochs": 3, "batch": 64}, "the entry's: 99% pruned, 3.2 epochs at 5e-4, batches of 64"),
        "language": (
            {"lr": 1e-3, "epochs": 10, "batch": 32, "optimizer": "adam", "weight_decay": 0.0},
            "ours: Adam at 1e-3, a training rate, as what is drawn anew must be learned",
        ),
    },
    notes="drawn by the model's own initialisation; class counts summed as batches come",
    reads=BOTH,
    space=(RATE, Span("prune", 0.5, 0.999, False)),
)

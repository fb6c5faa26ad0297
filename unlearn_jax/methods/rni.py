"""RNI: draw the head anew, then fine-tune a few random tensors an epoch, shaken by noise first; everything at the end.

Seventh place of the NeurIPS 2023 unlearning challenge (random noise injection; as described in Cadet et al. 2024,
arXiv 2410.01276, and reproduced with it). The head is re-initialised. Every epoch on the retained data begins with a
new optimizer and, the first five of nine epochs, with a draw of ``tensors`` weight tensors: in that epoch these and the
parameters of norms move, and all others stay as they are. In the five but the first, N(0, noise^2) is added to
``noise_share`` of the drawn tensors, rounded down. The four epochs after them are free of noise and train everything,
the last at five times the rate. Other lengths are divided in these proportions. The request is not read. Batch
statistics in training mode.

Where a model has no more than ``tensors`` tensors, all of them move in every epoch.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.methods.prmq import in_layers
from unlearn_jax.methods.support.common import (
    EARLIER,
    RATE,
    RULE,
    MethodSpec,
    Recipe,
    Span,
    TrainSpec,
    descent,
    gradient_method,
    phased_method,
    retained_loss,
)
from unlearn_jax.methods.support.parts import depth_order, fresh, normal_like
from unlearn_jax.population.plans import Plan, Sizes, passes, phased_plan
from unlearn_jax.types import Array, Method, PyTree

CHOOSE, SHAKE, FREE, FIT = 0, 1, 2, 3
BOOST = 5.0  # of the rate at the end: 1e-3 where all other epochs have 2e-4


def ranks(key: Array, params: PyTree) -> PyTree:
    """For each tensor its place in a random order; -1 for the parameters of norms, which are never drawn."""
    leaves, structure = jax.tree.flatten(params)
    drawable = [on or x.ndim != 1 for x, on in zip(leaves, jax.tree.leaves(in_layers(params)))]
    order = iter(jax.random.permutation(key, sum(drawable)))
    return jax.tree.unflatten(structure, [next(order) if on else jnp.int32(-1) for on in drawable])


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Begin an epoch in one of three ways, or descend on the retain stream."""
    optimizer = descent(static, hp)
    fold = gradient_method(optimizer, retained_loss(problem), mask=lambda trained: trained.extra)
    ones = lambda params: jax.tree.map(lambda x: jnp.ones((), x.dtype), params)

    def init(key, variables):
        head = depth_order(problem.model, problem.example.shape, str(problem.example.dtype))[-1]
        drawn = fresh(problem, jax.random.fold_in(key, 1))["params"]
        params = variables["params"] | {head: drawn[head]}
        return fold.init(key, variables | {"params": params})._replace(extra=ones(params))

    def begin(noise: bool):
        def update(key, trained, batches):
            rank = ranks(jax.random.fold_in(key, 0), trained.params)
            drawn = jax.tree.map(lambda x, r: (r < static["tensors"]).astype(x.dtype), trained.params, rank)
            count = jnp.floor(hp["noise_share"] * jnp.asarray(static["tensors"], jnp.float32)) if noise else 0.0
            hit = lambda r: (r >= 0) & (r.astype(jnp.float32) < count)
            shaken = lambda w, n, r: w + jnp.where(hit(r), hp["noise"], 0.0).astype(w.dtype) * n
            normal = normal_like(jax.random.fold_in(key, 1), trained.params)
            return restarted(trained, jax.tree.map(shaken, trained.params, normal, rank), drawn)

        return update

    def restarted(trained, params, mask):
        return trained._replace(params=params, optimizer=optimizer.init(params), extra=mask), jnp.float32(0.0)

    free = lambda key, trained, batches: restarted(trained, trained.params, ones(trained.params))
    return phased_method(init, [begin(noise=False), begin(noise=True), free, fold.update])


def stages(epochs: int) -> tuple[list[int], list[float]]:
    """How each epoch begins, and the multiplier of its rate: of nine, one unshaken, four shaken and four free."""
    fine = min(epochs, max(1, round(4 * epochs / 9)))
    kinds = ([CHOOSE] + [SHAKE] * epochs)[: epochs - fine] + [FREE] * fine
    return kinds, [BOOST if e >= epochs - fine // 4 else 1.0 for e in range(epochs)]


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """``epochs`` passes over the retained data, before each a step without cost that begins it."""
    whole = passes(sizes.retain, static["batch"])
    kinds, rate = stages(static["epochs"])
    return phased_plan(
        np.asarray(sum([[kind] + [FIT] * whole for kind in kinds], [])),
        forget_batch=0,
        retain_batch=static["batch"],
        forget_cost=(0.0, 0.0, 0.0, 0.0),
        retain_cost=(0.0, 0.0, 0.0, 1.0),
        rate=np.repeat(rate, 1 + whole),
    )


ENTRY = MethodSpec(
    name="rni",
    paper="NeurIPS 2023 challenge, 7th; Cadet et al. 2024, arXiv 2410.01276",
    rule="draw the head anew, fine-tune a few random tensors an epoch after noise on most of them, at last everything",
    needs=frozenset({"retain"}),
    build=build,
    plan=plan,
    numeric={"lr": 5e-3, "noise": 0.04, "noise_share": 0.7, "weight_decay": 5e-4},
    static={"epochs": 9, "batch": 128, "tensors": 2, "optimizer": "sgd", "momentum": 0.9},
    presets={
        "small": ({}, "the rule above; 2 of an mlp's 6 tensors, as 9 are a third of ResNet-18's"),
        "small_conv": ({"lr": 2e-3}, EARLIER),
        "small_text": ({"lr": 4e-3}, RULE),
        "small_transformer": ({"lr": 2e-3}, EARLIER),
        "cifar": (
            {"lr": 2e-4, "tensors": 9, "batch": 64},
            "the entry's: noise .04 on 6 of 9 tensors, 9 epochs at 2e-4, the last at 1e-3, in batches of 64",
        ),
        "language": (
            {"lr": 1e-3, "epochs": 9, "batch": 32, "tensors": 9, "optimizer": "adam", "weight_decay": 0.0},
            "ours: Adam at 1e-3, a training rate, as the new head must be learned",
        ),
    },
    notes="all tensors where a model has no more than are drawn",
    space=(RATE, Span("noise", 0.1, 3.0)),
)

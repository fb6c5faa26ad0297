"""Boundary expand: fit the request to an extra class, then cut that class off.

Chen et al. 2023 (arXiv 2303.11570). The last layer gets one more output, a new linear function of the features;
cross-entropy over K + 1 classes with the extra one as label is descended on the request alone; afterwards the extra
output is dropped. Variant: batch statistics in evaluation mode (the public code: training mode).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from unlearn_jax.methods.support.common import (
    EARLIER,
    LANGUAGE,
    RATE,
    RULE,
    TUNED,
    MethodSpec,
    Recipe,
    Trained,
    TrainSpec,
    descent,
    follow,
    phased_method,
    weighted_mean,
)
from unlearn_jax.population.plans import Plan, Sizes, epochs_over_request
from unlearn_jax.types import Method


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Descent on the forget stream of the network and its extra output together."""
    optimizer = descent(static, hp)

    def init(key, variables):
        width = jax.eval_shape(
            lambda v: problem.model.apply(v, jnp.zeros(problem.example.shape, problem.example.dtype))[0].features,
            variables,
        ).shape[-1]
        extra = {"kernel": jax.random.normal(key, (width,)) / width**0.5, "bias": jnp.float32(0.0)}
        params = {"network": variables["params"], "extra": extra}
        return Trained(params, variables["state"], optimizer.init(params))

    def loss(params, state, batch, key):
        outputs = problem.model.apply({"params": params["network"], "state": state}, batch.inputs, key, False)[0]
        shadow = outputs.features @ params["extra"]["kernel"] + params["extra"]["bias"]
        every = jax.nn.log_softmax(jnp.concatenate([outputs.logits, shadow[:, None]], axis=-1))
        return weighted_mean(-every[:, -1], batch.weight)

    def update(key, trained, batches):
        value, grads = jax.value_and_grad(loss)(trained.params, trained.state, batches.forget, key)
        params, moments = follow(optimizer, grads, trained, batches.rate)
        return trained._replace(params=params, optimizer=moments), value

    end = lambda trained: {"params": trained.params["network"], "state": trained.state}
    return phased_method(init, [update], end)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """``epochs`` passes over the request."""
    return epochs_over_request(sizes, static)


ENTRY = MethodSpec(
    name="boundary_expand",
    paper="Chen et al. 2023, arXiv 2303.11570 (boundary expand)",
    rule="fit the request to an extra class, then drop that class",
    needs=frozenset({"forget"}),
    build=build,
    plan=plan,
    numeric={"lr": 3e-4, "weight_decay": 0.0},
    static={"epochs": 10, "batch": 128, "pieces": 1, "optimizer": "sgd", "momentum": 0.9},
    batch_stats="none",
    presets={
        "small": TUNED,
        "small_conv": ({"lr": 1e-4}, EARLIER),
        "small_text": ({"lr": 3e-3}, RULE),
        "cifar": ({"pieces": 0, "lr": 1e-5}, "the public code: 10 epochs of SGD at 1e-5 with momentum .9"),
        "language": (LANGUAGE[0] | {"pieces": 0}, LANGUAGE[1]),
    },
    notes="retain-free",
    space=(RATE,),
)

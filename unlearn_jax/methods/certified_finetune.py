"""Certified fine-tuning: clipped, noisy steps on the retained data that hide where they began, then plain ones.

Koloskova et al. 2025 (arXiv 2506.06985), the variant with clipped gradients. Clip the weights to the ball of
``weight_clip``; take ``noisy_steps`` steps ``w <- w - noisy_lr (clip(g, gradient_clip) + decay w) + N(0, sigma^2)`` on
the retained data; then fine-tune without noise. No assumption on loss or network: whatever two starts lie in the ball,
the requests' and a retraining's, the steps are random maps that bring them together (privacy amplification by
iteration), so the result is (epsilon, delta)-indistinguishable from one that never saw the request; what comes after
reads retained data alone. `noise` has sigma: with r = 1 - noisy_lr decay, s the bound ``2 weight_clip r^T + 2 noisy_lr
gradient_clip (1 + r + ... + r^(T-1))`` on the shift and q = 1 + r^2 + ... + r^(2(T-1)), the Renyi divergence of order a
is at most ``a s^2 / (2 sigma^2 q)``, which gives (epsilon, delta) at ``s^2 / (2 sigma^2 q) = (sqrt(L + epsilon) -
sqrt(L))^2``, L = log(1 / delta) (Bun & Steinke 2016, arXiv 1605.02635). The authors' code takes that divergence to be
alike at all orders, and has half of this sigma^2 without decay; both would promise more than the theorem.

Variants. The ball is around ``centre``: ``fresh``, a new initialisation of the member's own, towards which the decay
pulls as well, or ``zero``, as published; no request has a say in either, so the bound is the same, and a network with
normalisation layers cannot be trained from weights around 0. Running batch statistics know the request and are those of
the new initialisation. The certificate is of weights given the member's key; random numbers are not cryptographic.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.errors import choose
from unlearn_jax.methods.support.common import (
    BOTH,
    LANGUAGE,
    MILDER,
    RATE,
    RULE,
    TUNED,
    MethodSpec,
    Recipe,
    Trained,
    TrainSpec,
    descent,
    gradient_method,
    phased_method,
    retained_loss,
)
from unlearn_jax.methods.support.directions import within
from unlearn_jax.methods.support.parts import fresh, normal_like, zeros_like
from unlearn_jax.population.plans import Plan, Sizes, passes, phased_plan
from unlearn_jax.trees import tree_add, tree_scale
from unlearn_jax.types import Array, Method

NOISY, PLAIN = 0, 1


def powers(ratio: Array | float, count: int) -> Array:
    """``1 + ratio + ... + ratio^(count - 1)``, also at ratio 1."""
    return jnp.sum(jnp.asarray(ratio, jnp.float32) ** jnp.arange(count, dtype=jnp.float32))


def noise(hp: dict, steps: int) -> Array:
    """The standard deviation of each weight's noise in each of ``steps`` steps, by which the certificate holds."""
    ratio, level = 1.0 - hp["noisy_lr"] * hp["decay"], -jnp.log(jnp.float32(hp["delta"]))
    shift = 2.0 * hp["weight_clip"] * ratio**steps + 2.0 * hp["noisy_lr"] * hp["gradient_clip"] * powers(ratio, steps)
    spent = hp["epsilon"] / (jnp.sqrt(level + hp["epsilon"]) + jnp.sqrt(level))  # = sqrt(L + epsilon) - sqrt(L)
    return shift / (spent * jnp.sqrt(2.0 * powers(ratio**2, steps)))


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Noisy steps around the centre, then descent on the retained loss."""
    optimizer, loss = descent(static, hp), retained_loss(problem)
    centred = choose("centre", static["centre"], ("fresh", "zero")) == "fresh"

    def init(key, variables):
        new = fresh(problem, jax.random.fold_in(key, 1))
        centre = new["params"] if centred else zeros_like(new["params"])
        apart = tree_add(variables["params"], centre, -1.0)
        params = tree_add(centre, apart, within(apart, hp["weight_clip"]))
        return Trained(params, new["state"], optimizer.init(params), centre)

    def noisy(key, trained, batches):
        slope = jax.value_and_grad(loss, has_aux=True)
        (value, state), grads = slope(trained.params, trained, batches, jax.random.fold_in(key, 0))
        pull = tree_scale(tree_add(trained.params, trained.extra, -1.0), hp["decay"])
        slope = tree_add(pull, grads, within(grads, hp["gradient_clip"]))
        moved = tree_add(trained.params, slope, -hp["noisy_lr"])
        drawn = normal_like(jax.random.fold_in(key, 1), moved)
        return trained._replace(params=tree_add(moved, drawn, noise(hp, static["noisy_steps"])), state=state), value

    return phased_method(init, [noisy, gradient_method(optimizer, loss).update])


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """``noisy_steps`` steps, a batch each, then ``epochs`` passes over the retained data."""
    rest = static["epochs"] * passes(sizes.retain, static["batch"])
    return phased_plan(
        np.repeat([NOISY, PLAIN], [static["noisy_steps"], rest]),
        forget_batch=0,
        retain_batch=static["batch"],
        forget_cost=(0.0, 0.0),
        retain_cost=(1.0, 1.0),
    )


ENTRY = MethodSpec(
    name="certified_finetune",
    paper="Koloskova et al. 2025, arXiv 2506.06985 (gradient clipping)",
    rule="clipped noisy steps on the retained data that certify (epsilon, delta), then plain ones",
    needs=frozenset({"retain"}),
    build=build,
    plan=plan,
    numeric={
        "lr": 1e-2,
        "weight_decay": 0.0,
        "epsilon": 1.0,
        "delta": 1e-5,
        "weight_clip": 0.1,
        "gradient_clip": 0.1,
        "noisy_lr": 1e-3,
        "decay": 50.0,
    },
    static={"epochs": 10, "noisy_steps": 100, "batch": 128, "centre": "fresh", "optimizer": "adam", "momentum": 0.9},
    presets={
        "small": TUNED,
        "small_conv": ({"lr": 5e-3}, MILDER),
        "small_transformer": ({"lr": 3e-3}, MILDER),
        "small_text": ({"lr": 1e-3}, RULE),
        "cifar": (
            {"lr": 1e-3, "epochs": 20},
            "the authors' on features of CIFAR-10: clips .1 and 10, rate 1e-3, decay 50",
        ),
        "language": (
            LANGUAGE[0] | {"lr": 1e-3},
            "ours: Adam at 1e-3, a training rate, as little of the weights is left",
        ),
    },
    notes="certified whatever the network; near training anew, as its noise leaves little of the original",
    reads=BOTH,
    space=(RATE,),
)

"""NegMerge: negate what several fine-tunings on the request agree on, weight by weight.

Kim et al. 2025 (arXiv 2410.05583). Fine-tune ``models`` copies of the original w_0 on the request with different
settings; with t_k = w_k - w_0, keep a weight's mean of t_k where all t_k have one sign there and 0 elsewhere, and
return ``w_0 - alpha`` times that. One copy makes it `task_vector`. The authors vary the training's settings and keep
10 to 30 copies, which a search would have made anyway; here (variant) the rates are spread evenly in their logarithm
from ``lr / spread`` to ``lr``, and each copy's batches hold a random half of the requested examples they show
(``half``), as copies that see the same batches in the same order hardly disagree. ``alpha``, which the authors choose
by accuracy on control data, is a setting. Batch statistics in evaluation mode and unchanged.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from unlearn_jax.methods.support.common import (
    BOTH,
    LANGUAGE,
    MILDER,
    RATE,
    TUNED,
    MethodSpec,
    Recipe,
    Span,
    Trained,
    TrainSpec,
    descent,
    follow,
    mean_loss,
)
from unlearn_jax.population.plans import Plan, Sizes, epochs_over_request
from unlearn_jax.types import Array, Method


def agreed(vectors: Array) -> Array:
    """The mean over the first axis where all entries have one sign, 0 elsewhere; (M, ...) -> (...)."""
    one = jnp.all(vectors > 0, axis=0) | jnp.all(vectors < 0, axis=0)
    return jnp.where(one, jnp.mean(vectors, axis=0), 0.0)


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Descent of each copy on the forget stream, at the end merged and mirrored at the original."""
    count = static["models"]
    rates = hp["lr"] * hp["spread"] ** -jnp.linspace(0.0, 1.0, count)
    copies = lambda tree: jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), tree)

    def init(key, variables):
        params = variables["params"]
        moments = copies(descent(static, hp).init(params))
        return Trained(copies(params), variables["state"], moments, params)

    def update(key, trained, batches):
        batch = batches.forget

        def one(params, moments, rate, key):
            shown = jax.random.bernoulli(key, 0.5, batch.weight.shape) if static["half"] else True
            part = batch._replace(weight=jnp.where(shown, batch.weight, 0.0))
            loss = lambda p: mean_loss(problem, {"params": p, "state": trained.state}, part, None, False)[0]
            value, grads = jax.value_and_grad(loss)(params)
            state = Trained(params, trained.state, moments)
            return *follow(descent(static, hp | {"lr": rate}), grads, state, batches.rate), value

        keys = jax.random.split(key, count)
        params, moments, values = jax.vmap(one)(trained.params, trained.optimizer, rates, keys)
        return Trained(params, trained.state, moments, trained.extra), jnp.mean(values)

    def end(trained):
        against = lambda old, new: old - hp["alpha"] * agreed(new - old[None])
        return {"params": jax.tree.map(against, trained.extra, trained.params), "state": trained.state}

    return Method(init, update, end)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """``epochs`` passes over the request; all copies are fitted to each batch."""
    share = 0.5 if static["half"] else 1.0
    return epochs_over_request(sizes, static, forget_cost=share * static["models"])


ENTRY = MethodSpec(
    name="negmerge",
    paper="Kim et al. 2025, arXiv 2410.05583 (NegMerge)",
    rule="fine-tune several copies on the request, go alpha times the other way where all have moved alike",
    needs=frozenset({"forget"}),
    build=build,
    plan=plan,
    numeric={"lr": 0.003, "spread": 10.0, "alpha": 1.0},
    static={"epochs": 10, "batch": 128, "models": 5, "half": True, "optimizer": "adam", "momentum": 0.9},
    batch_stats="none",
    presets={
        "small": TUNED,
        "small_conv": ({"lr": 1e-3}, MILDER),
        "small_transformer": ({"lr": 3e-4}, MILDER),
        "small_text": TUNED,
        "cifar": ({"lr": 1e-5}, "as task_vector's: 1e-5 with Adam; alpha, searched by the authors, not tuned"),
        "language": (LANGUAGE[0], LANGUAGE[1] + "; the highest of five rates, the lowest a tenth of it"),
    },
    notes="retain-free; holds as many copies of the weights as it merges",
    reads=BOTH,
    space=(RATE, Span("alpha", 0.1, 3.0)),
)

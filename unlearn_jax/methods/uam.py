"""UAM, unlearning-aware minimisation: descend the retained loss where the request's loss is highest nearby.

Kim et al. 2025 (NeurIPS 2025). ``min over w of max over |v| <= rho of the retained loss``, with v chosen to raise the
*request's* loss: with g the gradient of the request's mean loss at w, take the retained gradient r at
``w + rho g / |g|`` and descend ``(I - gamma P) r`` from w, P the projection on g (equation 15). ``gamma`` 0 is the
authors' published minimiser, which leaves the projection out; at 1 no update moves along g to first order, above 1 the
part of r along g is reversed. ``rho`` falls to 0 along half a cosine, as that minimiser offers. Variants and what is
uncertain: the paper writes the step as ``rho g / |g|^2`` in one place, its code normalises to length ``rho``, as here;
P is read as that on g at w. Batch statistics in evaluation mode on the request, in training mode on the retained batch,
whose running statistics are therefore those of the moved weights.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from unlearn_jax.methods.support.common import (
    BOTH,
    LANGUAGE,
    MILDER,
    RATE,
    RULE,
    TUNED,
    MethodSpec,
    Span,
    Trained,
    TrainSpec,
    descent,
    finish,
    follow,
    mean_loss,
)
from unlearn_jax.methods.support.directions import along, uphill
from unlearn_jax.population.plans import epochs_over_retained
from unlearn_jax.trees import tree_add
from unlearn_jax.types import Method


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Descent on R from where F's loss is highest."""
    optimizer = descent(static, hp)

    def init(key, variables):
        return Trained(variables["params"], variables["state"], optimizer.init(variables["params"]))

    def update(key, trained, batches):
        def lost(params):
            return mean_loss(problem, {"params": params, "state": trained.state}, batches.forget, None, train=False)[0]

        def kept(params):
            return mean_loss(problem, {"params": params, "state": trained.state}, batches.retain, key, train=True)

        away = jax.grad(lost)(trained.params)
        radius = hp["rho"] * 0.5 * (1.0 + jnp.cos(jnp.pi * batches.progress))
        (value, state), hold = jax.value_and_grad(kept, has_aux=True)(uphill(trained.params, away, radius))
        grads = tree_add(hold, away, -hp["gamma"] * along(hold, away))
        params, moments = follow(optimizer, grads, trained, batches.rate)
        return Trained(params, state, moments), value

    return Method(init, update, finish)


ENTRY = MethodSpec(
    name="uam",
    paper="Kim et al. 2025, Unlearning-Aware Minimization (NeurIPS 2025)",
    rule="descend the retained loss at weights that the request's gradient has moved uphill, less its part along that",
    needs=frozenset({"forget", "retain"}),
    build=build,
    plan=functools.partial(epochs_over_retained, forget_cost=1.0),
    numeric={"lr": 0.01, "rho": 0.3, "gamma": 1.0, "weight_decay": 5e-4},
    static={"epochs": 10, "batch": 128, "optimizer": "sgd", "momentum": 0.9},
    batch_stats="both",
    presets={
        "small": TUNED,
        "small_conv": ({"lr": 3e-4}, RULE),
        "small_transformer": ({"lr": 3e-4, "rho": 0.1, "optimizer": "adam"}, MILDER),
        "small_text": ({"lr": 3e-4, "rho": 0.1, "optimizer": "adam"}, RULE),
        "cifar": ({"epochs": 5}, "the authors' library: 5 epochs of SGD at .01, momentum .9, decay 5e-4; rho ours"),
        "language": LANGUAGE,
    },
    notes="a minimiser: any loss on retained data could stand in it",
    reads=BOTH,
    space=(RATE, Span("rho", 0.1, 10.0)),
)

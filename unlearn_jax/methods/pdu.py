"""PDU: flatten the logits of the request under a constraint on the retained loss, by primal and dual steps.

Entesari et al. 2025 (arXiv 2506.05314): minimise ``mean over F of (max logit - mean logit)^2``, token by token,
subject to ``l(R) <= eps``. The weights descend ``flatness + dual (l(R) - eps)``; ``dual``, a multiplier at least 0,
starts at the value of that name, stays there for ``warmup`` epochs, then moves by ``dual_lr (l(R) - eps)`` after every
step, with the loss of the batch before it. Flat logits are the uniform distribution: the objective has a minimum, so
there is no ``bound``. ``eps`` is in nats; the paper takes somewhat more than the original's own retained loss. Batch
statistics in evaluation mode on the request, in training mode on the retained batch.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.methods.support.common import (
    BOTH,
    EARLIER,
    LANGUAGE,
    RATE,
    RULE,
    TUNED,
    MethodSpec,
    Recipe,
    Span,
    Trained,
    TrainSpec,
    descent,
    follow,
    mean_loss,
    phased_method,
)
from unlearn_jax.methods.support.sequences import answer_mean, logits_of
from unlearn_jax.population.plans import Plan, Sizes, phased_plan, request_batch, request_batches
from unlearn_jax.types import Array, Method

WARM, DUAL = 0, 1


def flatness(logits: Array) -> Array:
    """Square of the largest less the mean logit; (..., K) -> (...), 0 for a uniform distribution."""
    logits = logits.astype(jnp.float32)
    return jnp.square(logits.max(axis=-1) - logits.mean(axis=-1))


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Primal steps, and after them dual ones once the warm-up is over."""
    optimizer = descent(static, hp)

    def update(step: float):
        def run(key, trained, batches):
            def loss(params):
                student = {"params": params, "state": trained.state}
                kept, state = mean_loss(problem, student, batches.retain, key, train=True)
                lost = answer_mean(flatness(logits_of(problem, student, batches.forget)), batches.forget)
                return lost + trained.extra * (kept - hp["eps"]), (state, kept)

            (value, (state, kept)), grads = jax.value_and_grad(loss, has_aux=True)(trained.params)
            params, moments = follow(optimizer, grads, trained, batches.rate)
            dual = jnp.maximum(0.0, trained.extra + step * (kept - hp["eps"]))
            return Trained(params, state, moments, dual), value

        return run

    def init(key, variables):
        params, dual = variables["params"], jnp.asarray(hp["dual"], jnp.float32)
        return Trained(params, variables["state"], optimizer.init(params), dual)

    return phased_method(init, [update(0.0), update(hp["dual_lr"])])


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """``epochs`` passes over the request with retained batches beside them; in the first ``warmup`` the dual rests."""
    split = sizes, static["batch"], static["pieces"]
    batch, whole, warm = request_batch(*split), request_batches(*split), min(static["warmup"], static["epochs"])
    return phased_plan(
        np.repeat([WARM, DUAL], [warm * whole, (static["epochs"] - warm) * whole]),
        forget_batch=batch,
        retain_batch=static["batch"],
        forget_cost=(1.0, 1.0),
        retain_cost=(1.0, 1.0),
    )


ENTRY = MethodSpec(
    name="pdu",
    paper="Entesari et al. 2025, arXiv 2506.05314 (PDU)",
    rule="flatten the request's logits subject to a retained loss of at most eps, with a dual variable",
    needs=frozenset({"forget", "retain"}),
    build=build,
    plan=plan,
    numeric={"lr": 1e-4, "eps": 0.1, "dual": 100.0, "dual_lr": 5.0},
    static={"epochs": 10, "warmup": 5, "batch": 128, "pieces": 12, "optimizer": "adam", "momentum": 0.9},
    presets={
        "small": TUNED,
        "small_text": ({"pieces": 1, "lr": 5e-4}, RULE),
        "small_conv": ({"pieces": 1, "lr": 3e-3}, EARLIER),
        "small_transformer": ({"pieces": 1, "lr": 3e-3}, EARLIER),
        "cifar": (
            {"pieces": 0, "lr": 1e-4},
            "ours, not tuned: the paper is on text; a rate of Adam that larger networks bear",
        ),
        "language": (
            LANGUAGE[0] | {"pieces": 0, "eps": 0.3},
            LANGUAGE[1] + "; eps .3, dual 100 with steps of 5 after 5 epochs as in the authors' runs on TOFU",
        ),
    },
    stretched=("warmup",),
    reads=BOTH,
    space=(RATE, Span("eps", 0.1, 10.0)),
)

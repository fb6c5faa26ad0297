"""GRU: follow the request's gradient without the part that would raise the loss on retained data.

Wang et al. 2025 (arXiv 2503.09117). With g the gradient of a loss that forgets and r that of the retained loss, solve
``min |v - g|^2 subject to <v, r> >= 0``, whose solution is g where <g, r> >= 0 and ``g - <g, r> / <r, r> r`` elsewhere,
and descend v. The retained loss itself is never descended. r is smoothed over updates, ``r <- smooth r_now +
(1 - smooth) r``, from 0, as in the public code (.8). ``lose``: ``ascent``, minus the request's mean loss, or ``npo``,
`npo`'s first term with ``beta``, the two of the public code. Not part of it: the authors' first script also clips the
cosine, and drops the constraint in an extension without retained data. Batch statistics in evaluation mode on the
request and in the original, in training mode on the retained batch.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from unlearn_jax.errors import choose
from unlearn_jax.methods.npo import repulsion
from unlearn_jax.methods.support.common import (
    BOTH,
    LANGUAGE,
    MILDER,
    RATE,
    TUNED,
    MethodSpec,
    Span,
    Trained,
    TrainSpec,
    descent,
    finish,
    follow,
    mean_loss,
    weighted_mean,
)
from unlearn_jax.methods.support.directions import along
from unlearn_jax.methods.support.parts import frozen, zeros_like
from unlearn_jax.methods.support.sequences import beside_plan, logits_of, sequence_logprob
from unlearn_jax.population.plans import FORWARD
from unlearn_jax.trees import tree_add, tree_scale
from unlearn_jax.types import Method, PyTree

LOSSES = ("ascent", "npo")


def rectified(grads: PyTree, retained: PyTree) -> PyTree:
    """The vector nearest ``grads`` whose inner product with ``retained`` is not negative."""
    return tree_add(grads, retained, -jnp.minimum(along(grads, retained), 0.0))


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Descent on F by rectified gradients."""
    optimizer, lose = descent(static, hp), choose("lose", static["lose"], LOSSES)

    def init(key, variables):
        params = variables["params"]
        extra = {"original": variables, "retained": zeros_like(params)}
        return Trained(params, variables["state"], optimizer.init(params), extra)

    def lost(params, trained, batch):
        student = {"params": params, "state": trained.state}
        if lose == "ascent":
            return -mean_loss(problem, student, batch, None, train=False)[0]
        before = sequence_logprob(problem, frozen(problem, trained.extra["original"], batch.inputs).logits, batch)
        logprob = sequence_logprob(problem, logits_of(problem, student, batch), batch)
        return weighted_mean(repulsion(logprob - before, hp["beta"]), batch.weight)

    def update(key, trained, batches):
        def kept(params):
            return mean_loss(problem, {"params": params, "state": trained.state}, batches.retain, key, train=True)

        value, away = jax.value_and_grad(lost)(trained.params, trained, batches.forget)
        (_, state), now = jax.value_and_grad(kept, has_aux=True)(trained.params)
        retained = tree_add(tree_scale(now, hp["smooth"]), trained.extra["retained"], 1.0 - hp["smooth"])
        params, moments = follow(optimizer, rectified(away, retained), trained, batches.rate)
        return Trained(params, state, moments, trained.extra | {"retained": retained}), value

    return Method(init, update, finish)


ENTRY = MethodSpec(
    name="gru",
    paper="Wang et al. 2025, arXiv 2503.09117 (GRU)",
    rule="descend npo's forgetting loss along its gradient less what would raise the loss on retained data",
    needs=frozenset({"forget", "retain", "teacher"}),
    build=build,
    plan=beside_plan(forget_cost=1.0 + FORWARD),
    numeric={"lr": 0.0003, "beta": 0.1, "smooth": 0.8},
    static={"epochs": 10, "batch": 128, "pieces": 1, "optimizer": "adam", "momentum": 0.9, "lose": "npo"},
    presets={
        "small": TUNED,
        "small_transformer": ({"lr": 1e-4}, MILDER),
        "small_text": TUNED,
        "cifar": (
            {"pieces": 0, "lr": 1e-4},
            "ours, not tuned: the paper is on text; a third of the small scale's rate",
        ),
        "language": (LANGUAGE[0] | {"pieces": 0}, LANGUAGE[1] + "; beta .1 and smoothing .8 as there"),
    },
    notes="the retained loss bounds the direction and is not descended",
    reads=BOTH,
    space=(RATE, Span("beta", 0.3, 30.0)),
)

"""NPO with sharpness-aware minimisation: the request's gradient is taken where the weights would relearn most.

Fan et al. 2025 (arXiv 2502.05374). NPO-RT with its first term minimised at the worst of all weights within ``rho``,
to first order: with g the gradient of ``(2 / beta) mean over F of log(1 + (p / p_original)^beta)`` at w, descend its
gradient at ``w + rho g / |g|`` plus ``retain_weight`` times the retained loss's at w itself. Weights that a few updates
on the request push back are the ones to be robust to. ``rho`` 0 is `npo`. As in the authors' code the norm is one over
all weights, the retained term is not perturbed, and the perturbed gradient alone is followed; ``rho`` .01 as there.
Differs from their MUSE script as `npo` does: p is the probability of the whole answer. Batch statistics in evaluation
mode on the request and in the original, in training mode on the retained batch.
"""

from __future__ import annotations

import jax

from unlearn_jax.methods.npo import repulsion
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
    weighted_mean,
)
from unlearn_jax.methods.support.directions import uphill
from unlearn_jax.methods.support.parts import frozen
from unlearn_jax.methods.support.sequences import beside_plan, logits_of, sequence_logprob
from unlearn_jax.population.plans import FORWARD
from unlearn_jax.trees import tree_add
from unlearn_jax.types import Method


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Perturbed negative preference on F beside descent on R."""
    optimizer = descent(static, hp)

    def init(key, variables):
        return Trained(variables["params"], variables["state"], optimizer.init(variables["params"]), variables)

    def update(key, trained, batches):
        forget = batches.forget
        before = sequence_logprob(problem, frozen(problem, trained.extra, forget.inputs).logits, forget)

        def lost(params):
            student = {"params": params, "state": trained.state}
            logprob = sequence_logprob(problem, logits_of(problem, student, forget), forget)
            return weighted_mean(repulsion(logprob - before, hp["beta"]), forget.weight)

        def kept(params):
            return mean_loss(problem, {"params": params, "state": trained.state}, batches.retain, key, train=True)

        worst = uphill(trained.params, jax.grad(lost)(trained.params), hp["rho"])
        value, away = jax.value_and_grad(lost)(worst)
        (held, state), hold = jax.value_and_grad(kept, has_aux=True)(trained.params)
        grads = tree_add(away, hold, hp["retain_weight"])
        params, moments = follow(optimizer, grads, trained, batches.rate)
        return Trained(params, state, moments, trained.extra), value + hp["retain_weight"] * held

    return Method(init, update, finish)


ENTRY = MethodSpec(
    name="npo_sam",
    paper="Fan et al. 2025, arXiv 2502.05374 (NPO+SAM)",
    rule="npo, with the request's gradient taken rho further along itself",
    needs=frozenset({"forget", "retain", "teacher"}),
    build=build,
    plan=beside_plan(forget_cost=2.0 + FORWARD),
    numeric={"lr": 2e-4, "beta": 0.1, "rho": 0.01, "retain_weight": 1.0},
    static={"epochs": 10, "batch": 128, "pieces": 1, "optimizer": "adam", "momentum": 0.9},
    presets={
        "small": TUNED,
        "small_transformer": ({"lr": 1e-4}, MILDER),
        "small_text": ({"lr": 6e-4}, RULE),
        "cifar": ({"pieces": 0, "lr": 1e-4}, "ours, not tuned: the paper is on text; half of the small scale's rate"),
        "language": (
            LANGUAGE[0] | {"pieces": 0},
            LANGUAGE[1] + "; beta .1 and weight 1 as there, rho .01 as in the authors' code",
        ),
    },
    reads=BOTH,
    space=(RATE, Span("rho", 0.1, 10.0)),
)

"""Gauss-Newton unlearning: a few steps up the request's loss, each where the outputs on retained data change least.

McKinney et al. 2026 (arXiv 2602.10568, K-FADE). Maximise the request's loss to first order subject to a bound on the
KL divergence of the outputs on retained data, to second order: ``w += rate (G_R + damping)^-1 g``, G_R the Gauss-Newton
matrix of the mean retained loss at the current weights, which for cross-entropy is the curvature of that divergence,
and g the request's gradient; ``rounds`` times, everything taken anew at each. Variants: the paper approximates G_R by
Kronecker factors, which a network of billions of weights needs; here it is exact and solved with by conjugate
gradients, ``steps`` passes over the retained data a round. g is the sum over the request divided by the number of
retained examples, so that a single round at rate 1 is `influence` and the step grows with the request; the paper's is
on means, with a free step length. As the loss has no bound, a step is shortened to a (damped) divergence of at most
``kl`` nats a retained example; at ``kl`` inf it is taken as it is, and a whole class then ruins the network. Batch
statistics in evaluation mode and unchanged.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from unlearn_jax.methods.support.common import (
    BOTH,
    MILDER,
    RULE,
    TUNED,
    MethodSpec,
    Recipe,
    Span,
    TrainSpec,
    phased_method,
)
from unlearn_jax.methods.support.newton import newton_fold, newton_plan
from unlearn_jax.methods.support.parts import loss_gradient
from unlearn_jax.population.plans import Plan, Sizes, phased_plan
from unlearn_jax.trees import tree_add, tree_dot
from unlearn_jax.types import Method

SOLVER = {"solver": "cg", "curvature": "ggn"}
MOVE = 3  # after the phases of a Newton fold


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Newton folds one after another."""
    change = lambda variables, batch, key: loss_gradient(problem, variables, batch)
    fold = newton_fold(problem, SOLVER, hp | {"scale": 1.0}, change)

    def move(key, state, batches):
        moved, before = fold.finish(state), state.variables["params"]
        step = tree_add(moved["params"], before, -1.0)
        spent = 0.5 * tree_dot(step, state.change) * hp["rate"] / jnp.maximum(state.retained, 1.0)
        factor = jnp.where(spent > hp["kl"], jnp.sqrt(hp["kl"] / jnp.maximum(spent, 1e-30)), 1.0)
        return fold.init(key, moved | {"params": tree_add(before, step, factor)}), spent

    return phased_method(fold.init, [fold.update] * 3 + [move], lambda state: state.variables)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """``rounds`` times `newton_plan`'s passes by conjugate gradients and a move."""
    once = newton_plan(sizes, static | SOLVER, recipe)
    return phased_plan(
        np.tile(np.append(once.phase, MOVE), static["rounds"]),
        forget_batch=once.forget_batch,
        retain_batch=once.retain_batch,
        forget_cost=(1.0, 0.0, 0.0, 0.0),
        retain_cost=(0.0, 2.0, 0.0, 0.0),
        forget_pass=once.forget_pass,
        retain_pass=once.retain_pass,
    )


ENTRY = MethodSpec(
    name="gauss_newton",
    paper="McKinney et al. 2026, arXiv 2602.10568 (K-FADE)",
    rule="a few steps up the request's loss against the Gauss-Newton matrix of retained data at the current weights",
    needs=frozenset({"forget", "retain"}),
    build=build,
    plan=plan,
    numeric={"damping": 3e-3, "rate": 1.0, "kl": 0.01},
    static={"rounds": 3, "batch": 128, "steps": 8},
    batch_stats="none",
    presets={
        "small": TUNED,
        "small_conv": ({"kl": 3e-3, "damping": 1e-2}, MILDER),
        "small_transformer": ({"kl": 3e-3, "damping": 1.0}, MILDER),
        "small_text": ({"kl": 3e-3, "damping": 0.01}, RULE),
        "cifar": ({"kl": 3e-3, "damping": 1e-2}, "ours, not tuned: as of the small scale"),
        "language": ({"kl": 3e-3, "damping": 1e-2, "batch": 32}, "ours, not tuned: as of the small scale"),
    },
    notes="exact curvature by conjugate gradients, not Kronecker factors",
    reads=BOTH,
    space=(Span("kl", 0.1, 30.0), Span("damping", 0.1, 100.0)),
)

"""Influence: one Newton step to where the minimum would lie without the request.

Koh & Liang 2017 (arXiv 1703.04730) for a group, with the curvature of what stays (Guo et al. 2020, arXiv 1911.03030):
``w += rate H_R^-1 (sum over F of the loss gradient) / n_R``, H_R that of the mean retained loss plus ``damping``. Exact
where the loss is quadratic: on ridge regression the step lands on the minimum without the request. Default curvature
for networks: the generalised Gauss-Newton matrix, by conjugate gradients; ``curvature=hessian`` is the literal rule.
The smaller the damping, the more iterations the solver needs, a pass over the retained data each: on digits 10 converge
at 1e-3, 40 at 1e-4 and 100 at 1e-5, which then costs more than training anew. Cut short, the step is that of a stronger
damping. Batch statistics in evaluation mode and unchanged.
"""

from __future__ import annotations

from unlearn_jax.methods.support.common import BOTH, RULE, TUNED, MethodSpec, Span, TrainSpec
from unlearn_jax.methods.support.newton import newton_fold, newton_plan
from unlearn_jax.methods.support.parts import loss_gradient
from unlearn_jax.types import Method


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Newton step against the gradient of the request."""
    return newton_fold(problem, static, hp, lambda variables, batch, key: loss_gradient(problem, variables, batch))


ENTRY = MethodSpec(
    name="influence",
    paper="Koh & Liang 2017, arXiv 1703.04730; Guo et al. 2020, arXiv 1911.03030",
    rule="one damped Newton step that removes the request's gradient",
    needs=frozenset({"forget", "retain"}),
    build=build,
    plan=newton_plan,
    numeric={"damping": 1e-4, "rate": 1.0, "scale": 10.0},
    static={"batch": 128, "steps": 100, "solver": "cg", "curvature": "ggn"},
    batch_stats="none",
    presets={
        "small": TUNED,
        "small_transformer": (
            {"steps": 20, "damping": 1},
            "ours, not tuned: 20 passes by conjugate gradients, as a hundred take minutes",
        ),
        "small_text": ({"damping": 1e-3}, RULE),
        "cifar": ({"damping": 1e-2, "steps": 20}, "ours: damping by which few iterations converge"),
        "language": ({"damping": 1e-2, "steps": 20, "batch": 32}, "ours: as for larger image networks"),
    },
    notes="exact on quadratic losses; solvers cg, lissa, dense",
    reads=BOTH,
    space=(Span("rate", 0.1, 3.0), Span("damping", 0.1, 1000.0)),
)

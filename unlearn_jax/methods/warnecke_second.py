"""Second-order update of Warnecke et al.: the first-order difference, preconditioned by the inverse Hessian.

Warnecke et al. 2023 (arXiv 2108.11577): ``w -= H^-1 sum over F of (grad l(new) - grad l(old))`` with the inverse
applied by LiSSA. Variant: the curvature is the Gauss-Newton matrix of the retained data (the paper's Hessian can be
indefinite for networks; ``curvature=hessian`` offers it), the sum is over n_R, and all layers move (theirs: the last
ones).
"""

from __future__ import annotations

from unlearn_jax.errors import choose
from unlearn_jax.methods.support.common import BOTH, RULE, TUNED, MethodSpec, Recipe, Span, TrainSpec
from unlearn_jax.methods.support.newton import newton_fold, newton_plan
from unlearn_jax.methods.warnecke_first import CHANGES, gradient_change
from unlearn_jax.population.plans import Plan, Sizes
from unlearn_jax.types import Method


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Newton step against the gradients' difference."""
    choose("change", static["change"], CHANGES)
    change = lambda variables, batch, key: gradient_change(problem, variables, batch, key, static["change"])
    return newton_fold(problem, static, hp, change)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """A pass over the request, then ``steps`` iterations of the solver."""
    return newton_plan(sizes, static, recipe, 2.0 if static["change"] == "relabel" else 1.0)


ENTRY = MethodSpec(
    name="warnecke_second",
    paper="Warnecke et al. 2023, arXiv 2108.11577 (second order)",
    rule="one Newton step along the gradient difference between corrected and original examples",
    needs=frozenset({"forget", "retain"}),
    build=build,
    plan=plan,
    numeric={"damping": 10.0, "rate": 1.0, "scale": 10.0},
    static={"batch": 128, "steps": 100, "solver": "lissa", "curvature": "ggn", "change": "relabel"},
    batch_stats="none",
    presets={
        "small": TUNED,
        "small_conv": ({"damping": 4.0, "rate": 0.1}, RULE),
        "small_transformer": ({"steps": 20, "damping": 1.0}, "ours, not tuned: 20 passes, as a hundred take minutes"),
        "small_text": ({"rate": 6.0}, RULE),
        "cifar": ({"damping": 1.0, "scale": 50.0, "steps": 200}, "ours: the paper searches damping and scale by trial"),
        "language": (
            {"damping": 1.0, "scale": 50.0, "steps": 200, "batch": 32},
            "ours: the paper searches damping and scale by trial",
        ),
    },
    reads=BOTH,
    space=(Span("rate", 0.1, 3.0), Span("damping", 1.0, 30.0)),
)

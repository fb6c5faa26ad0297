"""Do nothing: hand the original model back; the control every metric must score as "untouched"."""

from __future__ import annotations

from unlearn_jax.methods.support.common import BOTH, MethodSpec, Recipe, Trained, TrainSpec, finish
from unlearn_jax.population.plans import Plan, Sizes, uniform_plan
from unlearn_jax.types import Method


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """The identity fold."""
    init = lambda key, variables: Trained(variables["params"], variables["state"], ())
    update = lambda key, trained, batches: (trained, batches.step.astype("float32") * 0.0)
    return Method(init, update, finish)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """No update."""
    return uniform_plan(0)


ENTRY = MethodSpec(
    name="do_nothing",
    paper="control",
    rule="keep the original weights",
    needs=frozenset({"nothing"}),
    build=build,
    plan=plan,
    batch_stats="none",
    numeric={},
    static={},
    presets=dict.fromkeys(("small", "cifar", "language"), ({}, "nothing to choose")),
    reads=BOTH,
    space=(),
)

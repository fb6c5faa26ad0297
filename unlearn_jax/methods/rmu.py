"""RMU: steer the request's hidden states towards a random direction, hold those of retained data.

Li et al. 2024 (arXiv 2403.03218, with the WMDP benchmark): minimise ``mean over F of |h - scale u|^2 / D +
retain_weight mean over R of |h - h_original|^2 / D`` with h (D,) the states that a block leaves in the residual
stream, and u uniform in [0, 1]^D, made unit length and drawn once from the member's key. As published the weights of
that block and of the two before it move and no others; variant: all their weights, not the down-projections alone.
``layer=middle`` is the middle block, ``layer=block3`` that one (the paper's is the seventh of 32). Where answers
are classes, or a model gives no hidden states, h are its features and all weights before them move.

Variant: the positions that count are those that predict a token of the answer, in F and in R; the paper takes all
tokens of running text, where every token is an answer. Evaluation mode throughout.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from unlearn_jax.errors import choose
from unlearn_jax.methods.support.common import (
    BOTH,
    EARLIER,
    LANGUAGE,
    RATE,
    RULE,
    TUNED,
    MethodSpec,
    Span,
    Trained,
    TrainSpec,
)
from unlearn_jax.methods.support.parts import frozen
from unlearn_jax.methods.support.sequences import answer_mean, beside_plan, beside_retained
from unlearn_jax.population.plans import FORWARD
from unlearn_jax.types import Array, Method, Outputs, PyTree

REACH = 3  # blocks whose weights move: the steered one and those before it


def steered(problem: TrainSpec, outputs: Outputs, layer: str) -> tuple[str, Array]:
    """Name and states (B, T, D) of the steered block; "" and the features (B, D) where there is none to steer.

    Raises:
        InputError: a layer that the model does not have.
    """
    if outputs.hidden is None or problem.task.token_logprob is None:
        return "", outputs.features
    names = list(outputs.hidden)
    name = choose("layer", layer, ("middle", *names))
    name = names[(len(names) - 1) // 2] if name == "middle" else name
    return name, outputs.hidden[name]


def moving(problem: TrainSpec, params: PyTree, trained: Trained, layer: str) -> PyTree:
    """1 for the weights of the steered block and of the two before it, 0 for all others; 1 where there are none."""
    outputs = jax.eval_shape(
        lambda: problem.model.apply(
            {"params": params, "state": trained.state}, jnp.zeros(problem.example.shape, problem.example.dtype)
        )[0]
    )
    name = steered(problem, outputs, layer)[0]
    names: list[str] = list(outputs.hidden or {})
    live = set(names[max(0, names.index(name) - REACH + 1) : names.index(name) + 1]) if name else set()
    live = live & set(params) or set(params)
    return {
        group: jax.tree.map(lambda x, on=group in live: jnp.full_like(x, float(on)), params[group]) for group in params
    }


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Steering on F beside holding on R."""
    layer = static["layer"]

    def apart(student, batch, goal):
        states = steered(problem, problem.model.apply(student, batch.inputs, train=False)[0], layer)[1]
        return answer_mean(jnp.square(states - goal(states)).mean(axis=-1), batch)

    def lose(student, trained, batch):
        def goal(states):
            drawn = jax.random.uniform(jax.random.wrap_key_data(trained.extra["key"]), states.shape[-1:])
            unit = hp["scale"] * drawn / jnp.sqrt(jnp.sum(jnp.square(drawn)))
            return jnp.broadcast_to(unit.reshape((1,) * (states.ndim - 1) + (-1,)), states.shape)

        return apart(student, batch, goal)

    def hold(student, trained, batch, key):
        goal = lambda states: steered(problem, frozen(problem, trained.extra["teacher"], batch.inputs), layer)[1]
        return apart(student, batch, goal), student["state"]

    extra = lambda key, variables: {"teacher": variables, "key": jax.random.key_data(key)}
    mask = lambda trained: moving(problem, trained.params, trained, layer)
    return beside_retained(problem, static, hp, lose, keep=hold, extra=extra, mask=mask)


ENTRY = MethodSpec(
    name="rmu",
    paper="Li et al. 2024, arXiv 2403.03218 (RMU)",
    rule="steer the request's hidden states to a random direction, hold those of retained data at the original's",
    needs=frozenset({"forget", "retain", "teacher"}),
    build=build,
    plan=beside_plan(retain_cost=1.0 + FORWARD),
    numeric={"lr": 1e-4, "scale": 2.0, "retain_weight": 1.0},
    static={"epochs": 10, "batch": 128, "pieces": 12, "optimizer": "adam", "momentum": 0.9, "layer": "middle"},
    batch_stats="none",
    presets={
        "small": TUNED,
        "small_text": ({"pieces": 1, "lr": 9e-4}, RULE),
        "small_conv": ({"pieces": 1, "lr": 3e-3}, EARLIER),
        "small_transformer": ({"pieces": 1, "lr": 1e-3}, EARLIER),
        "cifar": (
            {"pieces": 0, "lr": 1e-4},
            "ours, not tuned: the paper is on text; a rate of Adam that larger networks bear",
        ),
        "language": (
            LANGUAGE[0] | {"pieces": 0},
            LANGUAGE[1] + "; scale 2 and weight 1 as there (the paper: 6.5 and 1,200)",
        ),
    },
    notes="of classifiers, the features are steered",
    reads=BOTH,
    space=(RATE, Span("scale", 0.3, 10.0)),
)

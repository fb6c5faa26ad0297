"""Project: take from each of a method's updates the part that would raise the loss of retained data nearby.

After RFE (Cheng et al. 2026, arXiv 2603.26569), whose second phase projects its own ascent so; here any method's steps
are. Adjacent are the share ``adjacent`` of each retained batch whose original features have the largest cosine with any
requested sample of the update. What RFE would protect first of all are the request's similar samples, which carry its
influence: so with ``expand`` (the default) what the search finds is requested too and only others are
protected; without it, RFE's rule as it stands. What the optimizer did to the weights is projected, once, in evaluation
mode; its moments are not.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from unlearn_jax.methods.rfe import adjacent_part, without_rise
from unlearn_jax.methods.support.common import MethodSpec, Recipe, Trained, TrainSpec, bind_shared, weighted_mean
from unlearn_jax.models import build_model
from unlearn_jax.population.plans import FORWARD
from unlearn_jax.remedies.common import Remedied, Remedy, RemedyContext, costing, moved, without
from unlearn_jax.remedies.search import CHOICES, SEARCH, searched
from unlearn_jax.tasks import classification
from unlearn_jax.trees import tree_add
from unlearn_jax.types import Method, Variables


class Guarded(NamedTuple):
    """A method's state and what its updates are judged by."""

    inner: Trained
    original: Variables


@functools.lru_cache(maxsize=16)
def protecting(problem: TrainSpec, adjacent: float):
    """The wrap; one object for the same problem and share."""

    def wrap(method: Method, shared, hp) -> Method:
        bound = bind_shared(problem, shared)

        def init(key, variables):
            return Guarded(method.init(key, variables), {name: variables[name] for name in ("params", "state")})

        def update(key, state, batches):
            before = state.inner
            after, value = method.update(key, before, batches)
            weight = adjacent_part(bound, state.original, batches, adjacent)[1] * batches.retain.weight

            def spared(params):
                variables = {"params": params, "state": before.state}
                logits = bound.model.apply(variables, batches.retain.inputs, train=False)[0].logits
                return weighted_mean(bound.task.loss(logits, batches.retain), weight)

            step = without_rise(tree_add(after.params, before.params, -1.0), jax.grad(spared)(before.params))
            return Guarded(after._replace(params=tree_add(before.params, step)), state.original), value

        return Method(init, update, lambda state: method.finish(state.inner))

    return wrap


def apply(evidence: RemedyContext, settings: dict) -> Remedied:
    """Search, then run the method with its updates projected."""
    found, spent, treat = None, (0.0, 0.0), evidence.plain
    if settings["expand"]:
        found, spent = searched(evidence, settings)
        treat = moved(evidence, found)
    treat = treat._replace(wrap=protecting(evidence.problem, settings["adjacent"]), wrap_cost=(FORWARD, 1.0 + FORWARD))
    return Remedied(costing(evidence.run(treat), *spent), found)


def follows_gradients(entry: MethodSpec) -> bool:
    """Whether a method's state is `Trained`, whose weights an update moves: by its beginning on a small network."""
    example = jax.ShapeDtypeStruct((1, 2, 2, 1), jnp.float32)
    model = build_model("mlp", 2, (2, 2, 1), widths=(4, 4))
    problem = TrainSpec(model, classification(), example, 2, Recipe())
    method = entry.build(problem, dict(entry.static), dict(entry.numeric))
    variables = jax.eval_shape(model.init, jax.random.key(0), example)
    return isinstance(jax.eval_shape(method.init, jax.random.key(0), variables), Trained)


@functools.lru_cache(maxsize=256)
def _why_not(name: str) -> str:
    """Why a registered method's updates cannot be projected; '' = they can."""
    from unlearn_jax.methods import METHODS

    entry = METHODS[name]
    if why := without("nothing", "fresh_init", "protocol", "reference", forget=True)(entry):
        return why
    if "retain" not in entry.needs:
        return "it reads no retained sample that could be protected"
    if entry.begin is not None:
        return "what it keeps between updates is more than weights"
    return "" if follows_gradients(entry) else "its updates do not move weights, it acts at the end"


REMEDY = Remedy(
    name="project",
    paper="Cheng et al. 2026, arXiv 2603.26569 (RFE)",
    rule="each update less the part that would raise the loss of adjacent retained data, neighbours apart",
    apply=apply,
    numeric={},
    static=SEARCH | {"adjacent": 0.2, "expand": True},
    methods=lambda entry: _why_not(entry.name),
    choices=CHOICES,
    shares=("adjacent",),
)

"""What each method asks for of a model that exists: the table of docs/howto/own_model.md, from the registry alone.

python -m unlearn_jax.own.table
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from unlearn_jax.methods import METHODS
from unlearn_jax.methods.support.common import MethodSpec, Recipe, TrainSpec
from unlearn_jax.own.calling import LogitsOnly, Missing
from unlearn_jax.own.listing import trace
from unlearn_jax.own.refusals import NEVER, asks_for_recipe
from unlearn_jax.population.plans import Sizes
from unlearn_jax.tasks import classification
from unlearn_jax.types import Model, Outputs, Variables

WORDS = {  # what an argument is called in the table
    "retain": "`retain`",
    "heldout": "`validation` or `heldout`",
    "recipe": "`recipe`",
    "features": "features",
    "init": "`init`",
    "head": "a layer called `head`",
    "class": "a whole class to forget",
    "pixels": "float inputs",
}


def needs_of(entry: MethodSpec) -> list[str] | None:
    """What a method asks for beside the request, of `WORDS`; None where it cannot be run on a model that exists."""
    if entry.needs & set(NEVER) or "classes" not in entry.reads:
        return None
    needs = {*entry.needs, *["recipe"] * asks_for_recipe(entry), *_lacked(entry.name)}
    return [need for need in WORDS if need in needs]


@functools.cache
def _lacked(name: str) -> list[str]:
    """All that a method asks for of a perceptron that offers nothing."""
    lacked: list[str] = []
    while (what := _lacks(name, lacked)) is not None:
        lacked.append(what)
    return lacked


def _lacks(name: str, granted: list[str]) -> str | None:
    """What a method asks next of a perceptron that offers no more than is granted."""
    problem = TrainSpec(_plain("features" in granted, "init" in granted), classification(), _SEEN, 3, Recipe())
    variables = jax.eval_shape(_drawn, jax.random.key(0), _SEEN)
    try:
        trace(name, problem, variables, Sizes(10, 100, 3), "small")
    except Missing as missing:
        return missing.what
    return None


_SEEN = jax.ShapeDtypeStruct((1, 4), jnp.float32)


def _drawn(key: Any, inputs: Any) -> Variables:
    """Weights of a perceptron with a hidden layer of 5."""
    one, two = jax.random.split(key)
    layer = lambda key, i, o: {"kernel": 0.1 * jax.random.normal(key, (i, o)), "bias": jnp.zeros(o)}
    return {"params": {"hidden": layer(one, 4, 5), "head": layer(two, 5, 3)}, "state": {}}


def _plain(features: bool, init: bool) -> Model:
    def apply(variables, inputs, key=None, train=False):
        hidden, last = (variables["params"][name] for name in ("hidden", "head"))
        seen = jnp.tanh(inputs @ hidden["kernel"] + hidden["bias"][None])
        logits = seen @ last["kernel"] + last["bias"][None]
        outputs: Any = Outputs(logits, seen) if features else LogitsOnly(logits)
        return outputs, variables["state"]

    def none(key, inputs):
        raise Missing("init")

    return Model(_drawn if init else none, apply)


def methods_table() -> str:
    """A row for each method of the registry: what it asks for beside ``forget``, or why it is not run."""
    lines = ["| method | asks for, beside `forget` |", "| --- | --- |"]
    for name, entry in METHODS.items():
        needs = needs_of(entry)
        if needs is None:
            why = next((NEVER[need] for need in NEVER if need in entry.needs), "is for language models alone")
            lines.append(f"| `{name}` | not run: it {why} |")
        else:
            lines.append(f"| `{name}` | {', '.join(WORDS[need] for need in needs) or 'nothing'} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(methods_table())

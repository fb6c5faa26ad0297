"""Which methods run on a model of the user's own, and what each asks for; the table of docs/howto/own_model.md.

python -m unlearn_jax.own.listing
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from unlearn_jax.config import MOVES_PIXELS
from unlearn_jax.errors import InputError
from unlearn_jax.methods import METHODS, prepare
from unlearn_jax.methods.common import Entry, Problem, Recipe
from unlearn_jax.own.call import classes_of
from unlearn_jax.own.calling import ASKS, LogitsOnly, Missing
from unlearn_jax.own.examples import alike, check_classes, part_of, request_of
from unlearn_jax.own.reading import one, read
from unlearn_jax.own.refusals import NEVER, Given, asks_for_recipe, refusal, scale_for
from unlearn_jax.population.plans import Sizes
from unlearn_jax.tasks import classification
from unlearn_jax.types import Batch, Batches, Model, Outputs, Variables

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


def unlearnable(
    model: Any,
    params: Any = None,
    *,
    forget: tuple,
    retain: tuple | None = None,
    validation: tuple | None = None,
    heldout: tuple | None = None,
    members: int = 0,
    scale: str = "",
    recipe: Recipe | None = None,
    init: Callable | None = None,
) -> dict[str, str]:
    """Which methods `unlearn` can run on this model and these examples, without running any: each is traced.

    Args as of `unlearn`.

    Returns:
        By name of each method of `METHODS`, '' where it runs, else a sentence that says what it wants for.

    Raises:
        InputError: a model, weights or examples that no method can be run on.

    Example:
        >>> import numpy as np
        >>> x, y = np.zeros((6, 4), np.float32), np.arange(6) % 3
        >>> linear = lambda w, x: x @ w
        >>> found = unlearnable(linear, np.zeros((4, 3), np.float32), forget=(x[:2], y[:2]), retain=(x[2:], y[2:]))
        >>> found["scrub"], found["duck"][:40]
        ('', 'duck reads the features before the last ')
    """
    found = read(model, params, members=members, init=init)
    pairs = {"forget": forget, "retain": retain, "validation": validation, "heldout": heldout}
    parts = {name: part_of(pair, name) for name, pair in pairs.items() if pair is not None}
    asked = parts["forget"]
    example = jax.ShapeDtypeStruct((1, *asked.inputs.shape[1:]), asked.inputs.dtype)
    for name, part in parts.items():
        alike(part, asked, name)
        check_classes(part, classes_of(found, example), name)
    request = request_of(asked, parts.get("retain"), parts.get("heldout", parts.get("validation")))
    given = Given(request, "retain" in parts, recipe, bool(jnp.issubdtype(example.dtype, jnp.floating)))
    problem = Problem(found.model, classification(), example, classes_of(found, example), recipe or Recipe())
    sizes = Sizes(len(request.forget), len(request.retain), problem.num_classes)
    why = {}
    for name in METHODS:
        why[name] = refusal(name, given)
        if not why[name]:
            own = scale_for(METHODS[name], scale, one(found.variables)["params"], example)
            why[name] = wanting(name, problem, one(found.variables), sizes, own)
    return why


def wanting(name: str, problem: Problem, variables: Variables, sizes: Sizes, scale: str) -> str:
    """What a method wants for of a model, a sentence; '' for nothing. It is traced, not run."""
    try:
        _trace(name, problem, variables, sizes, scale)
    except Missing as missing:
        return f"{name} {ASKS[missing.what]}."
    except InputError as wrong:
        return str(wrong)
    return ""


def _trace(name: str, problem: Problem, variables: Variables, sizes: Sizes, scale: str) -> None:
    """Trace every kind of update of a method on shapes; a method that begins on the host is not traced."""
    fold, plan, numeric = prepare(name, problem, {}, sizes, scale=scale)
    if METHODS[name].begin is not None:
        return

    def batch(size: int) -> Batch:
        size = max(size, 1)
        vector = lambda dtype: jax.ShapeDtypeStruct((size,), dtype)
        inputs = jax.ShapeDtypeStruct((size, *problem.example.shape[1:]), problem.example.dtype)
        return Batch(inputs, vector(jnp.int32), vector(jnp.float32), vector(jnp.int32))

    def whole(hp, key, own, batches):
        method = fold.build(hp, {})
        state, _ = method.update(key, method.init(key, own), batches)
        return method.finish(state)

    number = lambda dtype: jax.ShapeDtypeStruct((), dtype)
    now = (number(jnp.int32), number(jnp.int32), number(jnp.float32), number(jnp.float32))
    batches = Batches(batch(plan.forget_batch), batch(plan.retain_batch), *now)
    hp = {key: number(jnp.float32) for key in numeric}
    jax.eval_shape(whole, hp, jax.eval_shape(lambda: jax.random.key(0)), variables, batches)


def needs_of(entry: Entry) -> list[str] | None:
    """What a method asks for beside the request, of `WORDS`; None where it cannot be run on a model that exists."""
    if entry.needs & set(NEVER) or "classes" not in entry.reads:
        return None
    needs = [need for need in ("retain", "heldout", "head", "class") if need in entry.needs]
    needs += ["recipe"] * asks_for_recipe(entry) + ["pixels"] * (entry.name in MOVES_PIXELS)
    lacked: list[str] = []
    while (what := _lacks(entry.name, lacked)) is not None:
        lacked.append(what)
    return [need for need in WORDS if need in (*needs, *lacked)]


def _lacks(name: str, granted: list[str]) -> str | None:
    """What a method asks next of a perceptron that offers no more than is granted."""
    problem = Problem(_plain("features" in granted, "init" in granted), classification(), _SEEN, 3, Recipe())
    variables = jax.eval_shape(_drawn, jax.random.key(0), _SEEN)
    try:
        _trace(name, problem, variables, Sizes(10, 100, 3), "small")
    except Missing as missing:
        return missing.what
    return None


_SEEN = jax.ShapeDtypeStruct((1, 4), jnp.float32)


def _drawn(key: Any, inputs: Any) -> Variables:
    """Weights of a perceptron with a hidden layer of 5."""
    layer = lambda i, o: {"kernel": 0.1 * jax.random.normal(key, (i, o)), "bias": jnp.zeros(o)}
    return {"params": {"hidden": layer(4, 5), "head": layer(5, 3)}, "state": {}}


def _plain(features: bool, init: bool) -> Model:
    """The perceptron, with or without features and new weights."""

    def apply(variables, inputs, key=None, train=False):
        hidden, last = (variables["params"][name] for name in ("hidden", "head"))
        seen = jnp.tanh(inputs @ hidden["kernel"] + hidden["bias"][None])
        logits = seen @ last["kernel"] + last["bias"][None]
        return (Outputs(logits, seen) if features else LogitsOnly(logits)), variables["state"]

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

"""`unlearnable`: which methods run on a model of the user's own, found by tracing each, without running any."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from unlearn_jax.errors import InputError
from unlearn_jax.methods import METHODS, prepare
from unlearn_jax.methods.support.common import Recipe, TrainSpec
from unlearn_jax.own.brought import parts_of
from unlearn_jax.own.calling import ASKS, Missing
from unlearn_jax.own.examples import request_of
from unlearn_jax.own.reading import one, read
from unlearn_jax.own.refusals import Given, refusal, scale_for
from unlearn_jax.population.plans import Sizes
from unlearn_jax.tasks import classification
from unlearn_jax.types import Batch, Batches, Variables


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
        By name of each method of `METHODS`, '' where it runs, else a sentence that says what is missing.

    Raises:
        InputError: a model, weights or examples that no method can be run on.

    Example:
        >>> import numpy as np
        >>> x, y = np.zeros((6, 4), np.float32), np.arange(6) % 3
        >>> linear = lambda w, x: x @ w
        >>> found = unlearnable(linear, np.zeros((4, 3), np.float32), forget=(x[:2], y[:2]), retain=(x[2:], y[2:]))
        >>> found["scrub"], found["rmu"][:39]
        ('', 'rmu reads the features before the last ')
    """
    models = read(model, params, members=members, init=init)
    pairs = {"forget": forget, "retain": retain, "validation": validation, "heldout": heldout}
    parts, example, classes = parts_of(models, pairs)
    request = request_of(parts["forget"], parts.get("retain"), parts.get("heldout", parts.get("validation")))
    call = Given(request, "retain" in parts, recipe, bool(jnp.issubdtype(example.dtype, jnp.floating)))
    problem = TrainSpec(models.model, classification(), example, classes, recipe or Recipe())
    sizes = Sizes(len(request.forget), len(request.retain), problem.num_classes)
    why = {}
    for name in METHODS:
        why[name] = refusal(name, call)
        if not why[name]:
            scale_of_method = scale_for(METHODS[name], scale, one(models.variables)["params"], example)
            why[name] = wanting(name, problem, one(models.variables), sizes, scale_of_method)
    return why


def wanting(name: str, problem: TrainSpec, variables: Variables, sizes: Sizes, scale: str) -> str:
    """What a model lacks for a method, a sentence; '' for nothing. The method is traced, not run."""
    try:
        trace(name, problem, variables, sizes, scale)
    except Missing as missing:
        return f"{name} {ASKS[missing.what]}."
    except InputError as wrong:
        return str(wrong)
    return ""


def trace(name: str, problem: TrainSpec, variables: Variables, sizes: Sizes, scale: str) -> None:
    """Trace every kind of update of a method on shapes; a method that begins on the host is not traced."""
    fold, plan, numeric = prepare(name, problem, {}, sizes, scale=scale)
    if METHODS[name].begin is not None:
        return

    def batch(size: int) -> Batch:
        size = max(size, 1)
        vector: Callable[..., Any] = lambda dtype: jax.ShapeDtypeStruct((size,), dtype)
        inputs: Any = jax.ShapeDtypeStruct((size, *problem.example.shape[1:]), problem.example.dtype)
        return Batch(inputs, vector(jnp.int32), vector(jnp.float32), vector(jnp.int32))

    def whole(hp, key, own, batches):
        method = fold.build(hp, {})
        first, second = jax.random.split(key)
        state, _ = method.update(second, method.init(first, own), batches)
        return method.finish(state)

    number = lambda dtype: jax.ShapeDtypeStruct((), dtype)
    now: Any = (number(jnp.int32), number(jnp.int32), number(jnp.float32), number(jnp.float32))
    batches = Batches(batch(plan.forget_batch), batch(plan.retain_batch), *now)
    hp = {key: number(jnp.float32) for key in numeric}
    jax.eval_shape(whole, hp, jax.eval_shape(lambda: jax.random.key(0)), variables, batches)

"""Examples of the user's own, checked, and laid out as the runner takes them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.data.splits import RequestRows
from unlearn_jax.errors import InputError
from unlearn_jax.population.program import Stored

HELD_OUT = ("validation", "test")  # what methods may know as held out, by the names of `RequestRows`


class Part(NamedTuple):
    """Checked examples."""

    inputs: jax.Array  # (n, ...)
    targets: np.ndarray  # (n,) int32


class Request(NamedTuple):
    """All examples of a call, one part behind the other."""

    stored: Stored
    forget: np.ndarray  # rows
    retain: np.ndarray  # rows; those to forget, which no method reads then, where none are given
    heldout: np.ndarray


def part_of(pair: Any, name: str) -> Part:
    """Inputs and labels that go by a name, as arrays.

    Raises:
        InputError: no pair, no example, as many labels as there are not examples, or labels that are no class numbers.
    """
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise InputError(f"{name} is of type {type(pair).__name__}: give a pair (inputs, labels).")
    try:
        inputs, labels = jnp.asarray(pair[0]), np.asarray(pair[1])
    except (TypeError, ValueError):
        raise InputError(
            f"{name} is no pair of arrays of numbers: give (inputs, labels) as the model takes them."
        ) from None
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"labels of {name} are {labels.dtype} {labels.shape}: give the number of its class for each example."
        )
    if inputs.ndim < 1 or len(inputs) != len(labels):
        raise InputError(f"{name} has inputs {inputs.shape} and {len(labels)} labels: give as many of each.")
    if not len(labels):
        raise InputError(f"{name} has no example: give at least one.")
    return Part(inputs, labels.astype(np.int32))


def request_of(forget: Part, retain: Part | None, heldout: Part | None) -> Request:
    """The examples as one array, in which the sets are rows."""
    parts = {"forget": forget, "retain": retain, "held-out": heldout}
    parts = {name: part for name, part in parts.items() if part is not None}
    stops = np.cumsum([0, *(len(part.targets) for part in parts.values())])
    rows = {name: np.arange(a, b, dtype=np.int32) for name, a, b in zip(parts, stops, stops[1:])}
    stored = Stored(
        jnp.concatenate([part.inputs for part in parts.values()]),
        jnp.asarray(np.concatenate([part.targets for part in parts.values()])),
    )
    return Request(
        stored, rows["forget"], rows.get("retain", rows["forget"]), rows.get("held-out", np.zeros(0, np.int32))
    )


def alike(part: Part, forget: Part, name: str) -> None:
    """`InputError` unless inputs are shaped as those of the request."""
    shape = lambda p: f"{p.inputs.dtype} {p.inputs.shape[1:]}"
    if shape(part) != shape(forget):
        raise InputError(f"{name} inputs are {shape(part)} and forget's {shape(forget)}: give one kind of inputs.")


def rows_of(request: Request) -> RequestRows:
    """The request as the runner knows it; nothing is known to be similar to it."""
    none = np.zeros(0, np.int32)
    sets = {"forget": request.forget, "rest": request.retain, "gamma": 1.0}
    sets |= dict.fromkeys(HELD_OUT, request.heldout)
    return RequestRows(**{name: sets.get(name, none) for name in RequestRows._fields})


def check_classes(part: Part, classes: int, name: str) -> None:
    """`InputError` for a label that the model has no logit for."""
    if part.targets.min() < 0 or part.targets.max() >= classes:
        raise InputError(
            f"labels of {name} run from {part.targets.min()} to {part.targets.max()} and the model has {classes} "
            f"classes: give numbers from 0 to {classes - 1}."
        )


def asked_and_kept(forget: Part, retain: Part) -> int:
    """How many of the requested examples stand among the retained ones too, input and label alike."""
    as_bytes = lambda p: [x.tobytes() + y.tobytes() for x, y in zip(np.asarray(p.inputs), p.targets)]
    kept = set(as_bytes(retain))
    return sum(example in kept for example in as_bytes(forget))

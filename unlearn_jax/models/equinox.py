"""Make a `Model` of an Equinox module, which is called for one example at a time (package equinox, not required)."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from unlearn_jax.errors import InputError
from unlearn_jax.types import Array, Model, Outputs, PyTree

BATCH = "batch"  # the axis of examples, over which batch statistics are averaged


def is_equinox(model: Any) -> bool:
    """Whether this is an Equinox module; False where nobody has imported equinox."""
    equinox = sys.modules.get("equinox")
    return equinox is not None and isinstance(model, equinox.Module)


def from_equinox(factory: Callable[[Array], Any]) -> Model:
    """`Model` of the Equinox module ``factory(key)``, or of the ``(module, state)`` of ``eqx.nn.make_with_state``.

    The module is called for one example, ``__call__(x)``, and gives (logits (K,), features (D,)); it is batched here,
    with the axis name ``"batch"``. If it takes ``key``, it is given one an example in training; if it takes ``state``,
    it gives ``((logits, features), state)``. Mode is set by ``eqx.nn.inference_mode``.

    ``params`` are its floating arrays, as nested dicts by the names of its fields; the weights of ``eqx.nn.Linear`` and
    ``eqx.nn.Conv`` stand there in Flax's form, as ``kernel`` with the outputs last. ``state`` holds all other arrays.

    Example:
        >>> import equinox as eqx
        >>> class Small(eqx.Module):
        ...     hidden: eqx.nn.Linear
        ...     head: eqx.nn.Linear
        ...     def __init__(self, key):
        ...         one, two = jax.random.split(key)
        ...         self.hidden, self.head = eqx.nn.Linear(5, 4, key=one), eqx.nn.Linear(4, 2, key=two)
        ...     def __call__(self, x):
        ...         features = jax.nn.relu(self.hidden(x))
        ...         return self.head(features), features
        >>> model = from_equinox(Small)
        >>> variables = model.init(jax.random.key(0), jnp.ones((3, 5)))
        >>> variables["params"]["head"]["kernel"].shape, model.apply(variables, jnp.ones((3, 5)))[0].logits.shape
        ((4, 2), (3, 2))
    """

    @functools.cache
    def structure() -> Structure:
        import equinox as eqx

        return Structure(eqx.filter_eval_shape(factory, jax.random.key(0)))

    def init(key, inputs):
        params, state = structure().split(factory(key))
        return {"params": params, "state": state}

    def apply(variables, inputs, key=None, train=False):
        found, state = structure().call(variables, inputs, key, train)
        if not isinstance(found, tuple):
            raise InputError("the Equinox module returns no pair: let it return (logits, features) of one example.")
        return Outputs(*found), state

    return Model(init, apply)


class Structure:
    """What an Equinox module is but for its numbers; equal where the modules differ in these alone.

    Args:
        whole: a module, or (module, state); arrays or their shapes.
        members: length of a leading axis of every array, which is not a member's; 0 = none.
    """

    def __init__(self, whole: Any, members: int = 0):
        import equinox as eqx

        is_array = lambda x: eqx.is_array(x) or isinstance(x, jax.ShapeDtypeStruct)
        arrays, self.static = eqx.partition(whole, is_array)
        found, self.tree = jax.tree.flatten_with_path(arrays)
        one = lambda x: jax.ShapeDtypeStruct(x.shape[1:] if members else x.shape, x.dtype)
        self.shapes = [one(x) for _, x in found]
        self.turned = [_is_turned(whole, path) for path, _ in found]
        self.names = [(*_names(path[:-1]), "kernel") if t else _names(path) for (path, _), t in zip(found, self.turned)]
        self.stateful = isinstance(whole, tuple)
        self.key = self.tree, jax.tree.structure(self.static), tuple((x.shape, str(x.dtype)) for x in self.shapes)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Structure) and self.key == other.key and self._statics() == other._statics()

    def _statics(self) -> list:
        return jax.tree.leaves(self.static)

    def split(self, whole: Any) -> tuple[dict, dict]:
        """The floating arrays of a module, and its other arrays, by their names."""
        import equinox as eqx

        params, rest = {}, {}
        leaves = jax.tree.leaves(eqx.filter(whole, eqx.is_array))
        for leaf, shape, names, turned in zip(leaves, self.shapes, self.names, self.turned, strict=True):
            into = params if jnp.issubdtype(leaf.dtype, jnp.inexact) and self._trained(names) else rest
            for name in names[:-1]:
                into = into.setdefault(name, {})
            ahead = leaf.ndim - len(shape.shape)
            into[names[-1]] = jnp.transpose(leaf, _flax_order(leaf.ndim, ahead)) if turned else leaf
        return params, rest

    def _trained(self, names: tuple[str, ...]) -> bool:
        """Whether floating arrays of this name are weights: those of a module's state are not."""
        return not self.stateful or names[0] != "state"

    def join(self, params: PyTree, rest: PyTree, ahead: int = 0) -> Any:
        """The module, or (module, state), of what `split` gave; its arrays have ``ahead`` leading axes more."""
        import equinox as eqx

        leaves = []
        for shape, names, turned in zip(self.shapes, self.names, self.turned):
            at = params if jnp.issubdtype(shape.dtype, jnp.inexact) and self._trained(names) else rest
            for name in names:
                at = at[name]
            leaves.append(jnp.transpose(at, _equinox_order(at.ndim, ahead)) if turned else at)
        return eqx.combine(jax.tree.unflatten(self.tree, leaves), self.static)

    def call(self, variables: dict, inputs: Array, key: Array | None, train: bool) -> tuple[Any, dict]:
        """What the module gives for a batch, and its state afterwards, which training alone changes."""
        import equinox as eqx

        whole = self.join(variables["params"], variables["state"])
        module, state = whole if self.stateful else (whole, None)
        module = eqx.nn.inference_mode(module, value=not train)
        takes = inspect.signature(type(module).__call__).parameters
        keys = jax.random.split(key, len(inputs)) if train and key is not None and "key" in takes else None

        def one(x, state, key):
            more = ({"state": state} if self.stateful else {}) | ({} if key is None else {"key": key})
            found = module(x, **more)
            return found if self.stateful else (found, state)

        axes = (0, None, None if keys is None else 0)
        found, state = jax.vmap(one, in_axes=axes, out_axes=(0, None), axis_name=BATCH)(inputs, state, keys)
        if not (self.stateful and train):
            return found, variables["state"]
        return found, self.split((module, state))[1]


def _is_turned(whole: Any, path: tuple) -> bool:
    """Whether an array is the weight of a layer whose outputs stand first, which Flax has last."""
    import equinox as eqx

    if getattr(path[-1], "name", "") != "weight":
        return False
    layer = whole
    for step in path[:-1]:
        layer = (
            getattr(layer, step.name)
            if hasattr(step, "name")
            else layer[step.idx if hasattr(step, "idx") else step.key]
        )
    linear = isinstance(layer, eqx.nn.Linear) and "scalar" not in (layer.in_features, layer.out_features)
    return linear or isinstance(layer, eqx.nn.Conv)


def _names(path: tuple) -> tuple[str, ...]:
    """A path as names, with places in lists at the end of the list's name; of (module, state) the first is dropped."""
    names: list[str] = []
    for step in path:
        if hasattr(step, "idx") and names:
            names[-1] += f"_{step.idx}"
        elif not hasattr(step, "idx"):
            names.append(str(getattr(step, "name", getattr(step, "key", step))))
        elif step.idx == 1:
            names.append("state")
    return tuple(names)


def _flax_order(ndim: int, ahead: int) -> tuple[int, ...]:
    """Axes (..., outputs, inputs, window) as (..., window, inputs, outputs)."""
    return *range(ahead), *range(ahead + 2, ndim), ahead + 1, ahead


def _equinox_order(ndim: int, ahead: int) -> tuple[int, ...]:
    """The way back."""
    return *range(ahead), ndim - 1, ndim - 2, *range(ahead, ndim - 2)

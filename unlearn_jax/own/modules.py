"""NNX and Equinox modules as they are: a trained instance, or one with a state of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from unlearn_jax.errors import InputError
from unlearn_jax.models.equinox import Structure, is_equinox
from unlearn_jax.own.calling import Missing, answered, call_of
from unlearn_jax.types import Model

KINDS = (nnx.Param, nnx.RngState, ...)


def owner(model: Any) -> Any:
    """The Linen module whose bound ``apply`` this is, as train states hold it; anything else as it is."""
    of = getattr(model, "__self__", None)
    return of if isinstance(of, nn.Module) and getattr(model, "__name__", "") == "apply" else model


def read_nnx(module: nnx.Module, params: Any, members: int, init: Callable | None) -> tuple[Model, tuple]:
    """`Model` of an NNX module, and its (params, state, way back).

    Args:
        module: trained; its structure, and its weights where ``params`` are none.
        params: none, or an ``nnx.State`` of it, in whole or in part.
        members: length of the leading axis of its variables; 0 = a single model.
        init: ``rngs -> module``, or none.
    """
    if params is not None and not isinstance(params, (nnx.State, nnx.Module)):
        raise InputError(
            f"params of an NNX module are of type {type(params).__name__}: give an nnx.State, or none for its own."
        )
    module = nnx.clone(params if isinstance(params, nnx.Module) else module)
    if isinstance(params, nnx.State):
        nnx.update(module, params)
    graph, weights, streams, rest = nnx.split(module, *KINDS)

    def back(new_params, new_state):
        made = [jax.tree.map(lambda x: x, part) for part in (weights, rest)]
        for part, values in zip(made, (new_params, new_state)):
            nnx.replace_by_pure_dict(part, values)
        whole = nnx.merge(graph, made[0], streams, made[1])
        if not isinstance(params, nnx.State):
            return nnx.clone(whole)
        flat = dict(nnx.to_flat_state(nnx.state(whole)))
        return nnx.from_flat_state({path: flat[path] for path, _ in nnx.to_flat_state(params)})

    shapes = [_abstract(part, members) for part in (weights, streams, rest)]
    key = tuple((jax.tree.structure(s), tuple((x.shape, str(x.dtype)) for x in jax.tree.leaves(s))) for s in shapes)
    call = call_of(module.__call__, 1)
    made = _model(_Structure((graph, key, call, init), shapes))
    return made, (nnx.to_pure_dict(weights), nnx.to_pure_dict(rest), back)


class _Structure:
    """What a model of an NNX module is made of; equal where the parts are, which decides what is compiled anew."""

    def __init__(self, parts: tuple, shapes: list):
        self.parts, self.shapes = parts, shapes

    def __hash__(self) -> int:
        return hash(self.parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Structure) and self.parts == other.parts


def _abstract(state: Any, members: int) -> Any:
    """Shapes of one member's variables; random streams may be common to all members."""

    def shape(x):
        shape_of_one = x.shape[1:] if members and x.shape[:1] == (members,) else x.shape
        return jax.ShapeDtypeStruct(shape_of_one, x.dtype)

    return jax.tree.map(shape, state)


@functools.lru_cache(maxsize=32)
def _model(structure: _Structure) -> Model:
    """The model of a structure; training mode is set by ``train()`` and by arguments of the usual names."""
    (graph, _, how, init), (weights, streams, rest) = structure.parts, structure.shapes
    copied = lambda part: jax.tree.map(lambda x: x, part)

    def apply(variables, inputs, key=None, train=False):
        params, state = copied(weights), copied(rest)
        nnx.replace_by_pure_dict(params, variables["params"])
        nnx.replace_by_pure_dict(state, variables["state"])
        module = nnx.merge(graph, params, _filled(streams, key), state)
        module.train() if train else module.eval()
        drawn = {} if key is None or not how.key else {how.key: nnx.Rngs(key) if how.key == "rngs" else key}
        outputs = answered(module(inputs, **how.given(train) | drawn))
        return outputs, nnx.to_pure_dict(cast(nnx.State, nnx.split(module, *KINDS)[3])) if train else variables["state"]

    def start(key, inputs):
        if init is None:
            raise Missing("init")
        made = init(nnx.Rngs(key))
        _, params, _, state = nnx.split(made, *KINDS)
        params = nnx.to_pure_dict(params)
        order = [name for name in vars(made) if name in params]  # as they are made: from inputs to outputs, mostly
        ordered = {name: params[name] for name in [*order, *(n for n in params if n not in order)]}
        return {"params": ordered, "state": nnx.to_pure_dict(state)}

    return Model(start, apply)


def _filled(streams: Any, key: Any) -> Any:
    """Random streams started from ``key``."""
    leaves, tree = jax.tree.flatten(streams)
    key = jax.random.key(0) if key is None else key
    is_key = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    new = [
        jax.random.fold_in(key, i) if k else jnp.zeros(x.shape, x.dtype) for i, (x, k) in enumerate(zip(leaves, is_key))
    ]
    return jax.tree.unflatten(tree, new)


def read_equinox(module: Any, params: Any, members: int, init: Callable | None) -> tuple[Model, tuple]:
    """`Model` of an Equinox module, and its (params, state, way back).

    Args:
        module: trained; its structure, and its weights where ``params`` are none.
        params: none; another module of this kind; an ``eqx.nn.State``; or (module, state).
        members: length of the leading axis of its arrays; 0 = a single model.
        init: ``key -> module``, or ``key -> (module, state)``, or none.
    """
    import equinox as eqx

    whole = (module, params) if isinstance(params, eqx.nn.State) else module if params is None else params
    parts = whole if isinstance(whole, tuple) else (whole,)
    if not is_equinox(parts[0]) or not all(isinstance(part, eqx.nn.State) for part in parts[1:]):
        raise InputError(
            f"params of an Equinox module are of type {type(params).__name__}: give its eqx.nn.State, another module, "
            "or none for its own."
        )
    structure = Structure(whole, members)
    weights, rest = structure.split(whole)
    back = lambda new_params, new_state: structure.join(new_params, new_state, ahead=bool(members))
    return _equinox_model(structure, init), (weights, rest, back)


@functools.lru_cache(maxsize=32)
def _equinox_model(structure: Structure, init: Callable | None) -> Model:
    """The model of an Equinox module's structure."""

    def apply(variables, inputs, key=None, train=False):
        found, state = structure.call(variables, inputs, key, train)
        return answered(found), state

    def start(key, inputs):
        if init is None:
            raise Missing("init")
        params, state = structure.split(init(key))
        return {"params": params, "state": state}

    return Model(start, apply)

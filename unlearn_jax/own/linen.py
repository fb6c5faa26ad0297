"""Linen modules as they are: any of the usual names for the mode, batch statistics, dropout, logits alone."""

from __future__ import annotations

import functools
from typing import Any

import jax
from flax import linen as nn

from unlearn_jax.own.calling import answered, call_of
from unlearn_jax.types import Model

ASIDE = "intermediates"


def read_linen(module: nn.Module) -> Model:
    """`Model` of a Linen module; one object for equal modules, so that their programs are reused."""
    try:
        return _model(module)
    except TypeError:  # a module with a field that has no hash
        return _model.__wrapped__(module)


@functools.lru_cache(maxsize=32)
def _model(module: nn.Module) -> Model:
    """All collections but params and intermediates are state, and change in training."""
    how = call_of(module.__call__, 1)

    def init(key, inputs):
        drawn = dict(module.init({"params": key, "dropout": key}, inputs, **how.given(False)))
        params = drawn.pop("params", {})
        return {"params": params, "state": {name: part for name, part in drawn.items() if name != ASIDE}}

    def apply(variables, inputs, key=None, train=False):
        state = variables["state"]
        streams = {} if key is None else {"rngs": {"dropout": key, "params": jax.random.fold_in(key, 1)}}
        collections = {"params": variables["params"], **state}
        if not train:
            return _watched(module, collections, inputs, **streams, **how.given(False))[0], state
        mutable = {"mutable": list(state)}
        outputs, changed = _watched(module, collections, inputs, **streams, **mutable, **how.given(True))
        return outputs, {name: changed.get(name, part) for name, part in state.items()}

    return Model(init, apply)


def _watched(module: nn.Module, collections: dict, inputs: Any, **options) -> tuple:
    """(outputs, changed collections) of a call; where the logits are a dense layer's, its inputs are the features."""
    layers = []

    def watch(call, args, kwargs, context):
        outputs = call(*args, **kwargs)
        if isinstance(context.module, nn.Dense) and args:
            layers.append((args[0], outputs))
        return outputs

    with nn.intercept_methods(watch):
        outputs = module.apply(collections, inputs, **options)
    outputs, changed = outputs if "mutable" in options else (outputs, {})
    features = next((x for x, logits in layers if logits is outputs and x.ndim == 2), None)
    return answered(outputs, features), changed

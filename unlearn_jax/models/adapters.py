"""Make a `Model` of a Flax Linen or NNX module, and put pixel scaling in front of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

from unlearn_jax.errors import InputError
from unlearn_jax.types import Model, Outputs


def from_linen(module: nn.Module, *, mutable: Sequence[str] = ("batch_stats",)) -> Model:
    """`Model` of a Linen module whose ``__call__(x, train)`` returns (logits (B, K), features (B, D)).

    Variables are ``{"params", "state"}``; ``state`` holds the other collections by name, of which those named
    in ``mutable`` change under ``train=True``. ``key`` feeds the ``dropout`` stream; an entry ``shared`` is
    ignored.

    Example:
        >>> import flax.linen as nn
        >>> class Small(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, x, train):
        ...         features = nn.relu(nn.Dense(4)(x))
        ...         return nn.Dense(2)(features), features
        >>> model = from_linen(Small())
        >>> variables = model.init(jax.random.key(0), jnp.ones((3, 5)))
        >>> outputs, state = model.apply(variables, jnp.ones((3, 5)))
        >>> outputs.logits.shape
        (3, 2)
    """

    def init(key, inputs):
        collections = dict(module.init(key, inputs, train=False))
        return {"params": collections.pop("params", {}), "state": collections}

    def apply(variables, inputs, key=None, train=False):
        state = variables["state"]
        rngs = None if key is None else {"dropout": key}
        collections = {"params": variables["params"], **state}
        if not train:
            plain: Any = module.apply(collections, inputs, train=False, rngs=rngs)
            return Outputs(*plain), state
        outputs, changed = module.apply(collections, inputs, train=True, rngs=rngs, mutable=list(mutable))
        return Outputs(*outputs), {name: changed.get(name, value) for name, value in state.items()}

    return Model(init, apply)


def from_nnx(factory: Callable[[nnx.Rngs], nnx.Module]) -> Model:
    """`Model` of the NNX module ``factory(rngs)``; ``__call__(x)`` gives (logits (B, K), features (B, D)).

    ``params`` are the module's ``nnx.Param``, ``state`` its other variables, both as nested dicts of arrays;
    random streams are not stored but made from ``key`` at each call. ``train`` sets the mode by
    ``module.train()`` or ``module.eval()``. The factory must build the same structure every time. Training a
    module that holds random streams (dropout) without a key raises `InputError`.
    """

    def parts(module):
        return nnx.split(module, nnx.Param, nnx.RngState, ...)

    def init(key, inputs):
        _, params, _, state = parts(factory(nnx.Rngs(key)))
        return {"params": nnx.to_pure_dict(params), "state": nnx.to_pure_dict(state)}

    def apply(variables, inputs, key=None, train=False):
        graph, params, streams, state = parts(nnx.eval_shape(lambda: factory(nnx.Rngs(0))))
        nnx.replace_by_pure_dict(params, variables["params"])
        nnx.replace_by_pure_dict(state, variables["state"])
        module = nnx.merge(graph, params, _fill_streams(streams, key, train), state)
        module.train() if train else module.eval()
        outputs = Outputs(*module(inputs))
        return outputs, nnx.to_pure_dict(cast(nnx.State, parts(module)[3])) if train else variables["state"]

    return Model(init, apply)


def _fill_streams(streams, key, train):
    """Random streams of an NNX module, started from ``key``."""
    leaves, tree = jax.tree.flatten(streams)
    if leaves and train and key is None:
        raise InputError("this module draws random numbers in training: pass key to apply.")
    key = jax.random.key(0) if key is None else key
    is_key = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    filled = [
        jax.random.fold_in(key, i) if k else jnp.zeros(leaf.shape, leaf.dtype)
        for i, (leaf, k) in enumerate(zip(leaves, is_key))
    ]
    return jax.tree.unflatten(tree, filled)


def standardize(model: Model, *, mean: Sequence[float] | np.ndarray, std: Sequence[float] | np.ndarray) -> Model:
    """`Model` that takes raw images and gives ``model`` (pixel - mean) / std.

    Inputs (B, ..., C) are uint8 in 0..255 (scaled to [0, 1]) or float32 in [0, 1]; ``mean`` and ``std`` have
    one value a channel, in units of [0, 1]. Raises `InputError` for other dtypes, wrong lengths or a std not
    above 0.
    """
    mean, std = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    if mean.ndim != 1 or mean.shape != std.shape:
        raise InputError(f"mean has shape {mean.shape} and std {std.shape}: give one value of each per channel.")
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise InputError("mean and std must be finite and std above 0: drop or rescale constant channels.")

    def scale(inputs):
        x = jnp.asarray(inputs)
        if x.dtype not in (jnp.uint8, jnp.float32, jnp.float64):
            raise InputError(f"images are {x.dtype}: give uint8 in 0..255 or float32 in [0, 1].")
        if x.shape[-1] != mean.size:
            raise InputError(f"images have {x.shape[-1]} channels, mean {mean.size}: give one mean per channel.")
        x = x.astype(jnp.float32) / 255.0 if x.dtype == jnp.uint8 else x
        shape = (1,) * (x.ndim - 1) + (-1,)
        return (x - mean.astype(x.dtype).reshape(shape)) / std.astype(x.dtype).reshape(shape)

    def init(key, inputs):
        return model.init(key, scale(inputs))

    def apply(variables, inputs, key=None, train=False):
        return model.apply(variables, scale(inputs), key, train)

    return Model(init, apply)

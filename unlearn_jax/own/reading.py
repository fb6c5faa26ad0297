"""What a user calls a model and its weights, as a `Model` with variables on a member axis, and given back alike."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx
from flax.core import FrozenDict, freeze

from unlearn_jax.errors import InputError
from unlearn_jax.models.equinox import is_equinox
from unlearn_jax.own import linen, modules
from unlearn_jax.own.calling import model_of
from unlearn_jax.types import Model, Variables

ASIDE = "intermediates"  # a collection that calls write and nothing reads: it comes back as it was
WHOLE = "all"  # the one group of parameters of a tree that has no names


class Read(NamedTuple):
    """One or several models as the library takes them."""

    model: Model
    variables: Variables  # {"params", "state"}, leading axis N
    members: int  # N; 0 = a single model, whose leading axis is 1
    restore: Callable[[Variables], Any]  # variables like these -> what the user gave


class Form(NamedTuple):
    """One way in which weights come: what a single call of the model takes, apart from any member axis."""

    params: Any
    state: dict
    back: Callable[[Any, dict], Any]  # (params, state) of one model, or of N -> the user's form


def read(model: Any, params: Any = None, *, members: int = 0, init: Callable | None = None) -> Read:
    """The model and its weights as the library takes them.

    Args:
        model: a Linen module, or its bound ``apply``; a trained NNX or Equinox module; a function ``(params, x) ->
            logits`` or ``-> (logits, features)``; or a `Model`.
        params: Linen: the params, or all variables. NNX, Equinox: none = the module's own, or an ``nnx.State``, an
            ``eqx.nn.State``. A function: what it takes first. A `Model`: its variables. A list of these, but for a
            function = a population.
        members: number of models on the leading axis of every array of ``params``; 0 = a single model.
        init: draws new weights where the model cannot: of an NNX module ``rngs -> module``, of an Equinox
            module ``key -> module``, of a function ``(key, x) -> params``.

    Raises:
        InputError: no such model or weights; arrays without a leading axis of that length.
    """
    model = modules.owner(model)
    if isinstance(params, list) and (isinstance(model, (nn.Module, nnx.Module, Model)) or is_equinox(model)):
        return _listed(model, params, members, init)
    if isinstance(members, bool) or not isinstance(members, (int, np.integer)) or members < 0:
        raise InputError(f"members is {members!r}: give the number of models on the leading axis, or leave it out.")
    if isinstance(model, nnx.Module) or is_equinox(model):
        reader = modules.read_nnx if isinstance(model, nnx.Module) else modules.read_equinox
        made, parts = reader(model, params, members, init)
        form = Form(*parts)
    else:
        form = _form(params, isinstance(model, Model))
        if isinstance(model, Model):
            made = model
        elif isinstance(model, nn.Module):
            made = linen.read_linen(model)
        elif callable(model) and not isinstance(model, type):
            made = model_of(model, init, whole=_is_whole(params), named=isinstance(params, (dict, FrozenDict)))
        else:
            kind = "a class" if isinstance(model, type) else f"of type {type(model).__name__}"
            raise InputError(
                f"the model is {kind}: give a Linen, NNX or Equinox module, or a function of (params, inputs)."
            )
    return _stacked(made, form, int(members))


def one(variables: Variables) -> Variables:
    """Shapes of a single model's variables."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), variables)


def _is_whole(params: Any) -> bool:
    """Whether these are all variables of a model, not its params alone."""
    return isinstance(params, (dict, FrozenDict)) and "params" in params


def _form(params: Any, library: bool) -> Form:
    """Weights that are a dictionary or any other tree, or, with ``library``, the variables of a `Model`."""
    if not jax.tree.leaves(params):
        raise InputError("params hold no array: give the trained weights as the second argument.")
    again = freeze if isinstance(params, FrozenDict) else lambda tree: tree
    plain = params.unfreeze() if isinstance(params, FrozenDict) else params
    if library:
        if not (_is_whole(plain) and "state" in plain):
            raise InputError("params of a Model are not its variables: give {'params': ..., 'state': ...}.")
        return Form(plain["params"], plain["state"], lambda p, s: again({"params": p, "state": s}))
    if _is_whole(plain):
        state = {name: part for name, part in plain.items() if name not in ("params", ASIDE)}
        aside = {name: part for name, part in plain.items() if name == ASIDE}
        order = list(plain)
        back = lambda p, s: again({name: ({"params": p} | s | aside)[name] for name in order})
        return Form(plain["params"], state, back)
    if isinstance(plain, dict):
        return Form(plain, {}, lambda p, s: again(p))
    return Form({WHOLE: plain}, {}, lambda p, s: p[WHOLE])


def _stacked(model: Model, form: Form, members: int) -> Read:
    variables = {"params": form.params, "state": form.state}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        if not hasattr(leaf, "dtype"):
            raise InputError(f"params hold {type(leaf).__name__} at {_at(path)}: give arrays.")
        if members and (np.ndim(leaf) == 0 or np.shape(leaf)[0] != members):
            raise InputError(
                f"members is {members} and {_at(path)} has the shape {np.shape(leaf)}: "
                f"stack the models on a leading axis of every array, or leave members out."
            )
    for path, leaf in jax.tree_util.tree_leaves_with_path({"params": form.params}):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise InputError(f"params hold {leaf.dtype} at {_at(path)}, which cannot be trained: give floating arrays.")
    plain = lambda x: np.asarray(x, jax.dtypes.canonicalize_dtype(x.dtype))
    variables = jax.tree.map(lambda x: plain(x) if members else plain(x)[None], variables)
    dtypes = jax.tree.map(lambda x: x.dtype, variables["params"])
    if any(dtype.itemsize < 4 for dtype in jax.tree.leaves(dtypes)):  # small steps would be lost in few bits
        model = half_precision(model, jax.tree.structure(dtypes), tuple(jax.tree.leaves(dtypes)))
        variables["params"] = jax.tree.map(lambda x: x.astype(np.float32), variables["params"])

    def restore(new: Variables) -> Any:
        take = lambda x: jnp.asarray(x if members else np.asarray(x)[0])
        trained = jax.tree.map(lambda x, dtype: take(x).astype(dtype), new["params"], dtypes)
        return form.back(trained, jax.tree.map(take, new["state"]))

    return Read(model, variables, members, restore)


@functools.lru_cache(maxsize=32)
def half_precision(model: Model, structure: Any, dtypes: tuple) -> Model:
    """The model with params in float32, which it is given in the dtypes that it was trained in."""
    cast = lambda params, kinds: jax.tree.map(lambda x, kind: x.astype(kind), params, kinds)

    def init(key, inputs):
        drawn = model.init(key, inputs)
        return drawn | {"params": jax.tree.map(lambda x: x.astype(jnp.float32), drawn["params"])}

    def apply(variables, inputs, key=None, train=False):
        trained = cast(variables["params"], jax.tree.unflatten(structure, dtypes))
        return model.apply(variables | {"params": trained}, inputs, key=key, train=train)

    return Model(init, apply)


def _at(path: tuple) -> str:
    names = [str(getattr(part, "key", getattr(part, "idx", part))) for part in path]
    return "/".join(names)


def _listed(model: Any, params: list, members: int, init: Callable | None) -> Read:
    if members and members != len(params) or not params:
        raise InputError(f"params are a list of {len(params)} and members is {members}: leave members out.")
    each = [read(model, weights, init=init) for weights in params]
    shapes = {str(one(r.variables)) for r in each}
    if len(shapes) > 1:
        raise InputError("the models of the list have params of other names or shapes: give models of one kind.")
    variables = jax.tree.map(lambda *xs: np.concatenate([np.asarray(x) for x in xs]), *(r.variables for r in each))

    def restore(new: Variables) -> list:
        return [r.restore(jax.tree.map(lambda x, i=i: np.asarray(x)[i : i + 1], new)) for i, r in enumerate(each)]

    return Read(each[0].model, variables, len(each), restore)

"""Low-rank adapters on a frozen base model [LoRA: Hu et al., 2021, arXiv 2106.09685].

A layer ``y = x W`` becomes ``y = x W + (alpha / rank) (x A) B``; only A (in, rank) and B (rank, out) are trained. The
product with W has no member axis, so a population holds the base once. Unlike the paper, which adapts the query and
value products alone, every dense layer of the attention is adapted unless told otherwise.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from unlearn_jax.errors import InputError, choose
from unlearn_jax.models.decode import Cached
from unlearn_jax.types import Array, Model, Variables


def lora(
    model: Model,
    *,
    rank: int,
    alpha: float,
    matches: Sequence[str] = ("attention",),
    whole: Sequence[str] = (),
) -> Model:
    """``model`` with trained adapters on some of its dense layers, and its own variables frozen and shared.

    The new model's variables are ``params`` (A and B by layer, nested as in the base, and the layers that are trained
    whole), ``state`` (the ``scale`` alpha / rank, which may differ between members) and ``shared``: the base's own
    variables, which `init` does not make: put them in with ``variables | {"shared": base_variables}``. A is random and
    B zero at first, so that the outputs start exactly as the base's, but for layers trained whole. Running statistics
    of the base stay as they are.

    Args:
        model: made of a Linen module whose dense layers are ``flax.linen.Dense``.
        rank: of the adapters, at least 1.
        alpha: the scale times the rank; 2 x rank is a usual choice.
        matches: a layer is adapted where its path, such as ``block0/attention/qkv``, contains one of these.
        whole: top-level layers of which each member trains its own, from a new initialisation: a classifier's ``head``.

    Raises:
        InputError: a rank below 1; no layer that matches, or none of a name in ``whole`` (in ``init``); no ``shared``
            (in ``apply``).

    Example:
        >>> from unlearn_jax.models import transformer
        >>> base = transformer.decoder(50, (8,))
        >>> tokens = jnp.ones((2, 8), jnp.int32)
        >>> frozen = base.init(jax.random.key(0), tokens)
        >>> adapted = lora(base, rank=4, alpha=8.0)
        >>> variables = adapted.init(jax.random.key(1), tokens) | {"shared": frozen}
        >>> variables["params"]["block0"]["attention"]["qkv"]["a"].shape
        (64, 4)
    """
    if rank < 1:
        raise InputError(f"rank is {rank}: give a whole number of at least 1.")

    def init(key, inputs):
        layers = dense_layers(model, inputs)
        chosen = {path: sizes for path, sizes in layers.items() if any(m in "/".join(path) for m in matches)}
        if not chosen:
            known = ", ".join("/".join(path) for path in layers) or "none"
            raise InputError(f"no dense layer matches {', '.join(matches)}: name parts of the model's layers, {known}.")
        params: dict = {}
        *keys, last = jax.random.split(key, len(chosen) + 1)
        for own, (path, (fan_in, fan_out)) in zip(keys, chosen.items()):
            a = nn.initializers.lecun_normal()(own, (fan_in, rank), jnp.float32)
            _put(params, path, {"a": a, "b": jnp.zeros((rank, fan_out), jnp.float32)})
        drawn = model.init(last, inputs)["params"] if whole else {}
        params |= {name: drawn[choose("layer", name, drawn)] for name in whole}
        return {"params": params, "state": {"scale": jnp.float32(alpha / rank)}}

    def apply(variables, inputs, key=None, train=False):
        base = _base(variables)
        base = base | {"params": base["params"] | {name: variables["params"][name] for name in whole}}
        with _adapting(variables):
            outputs, _ = model.apply(base, inputs, key, train)
        return outputs, variables["state"]

    return Model(init, apply)


@functools.lru_cache(maxsize=32)
def adapted_decoder(decoder: Cached) -> Cached:
    """The cached form of an adapted language model without layers trained whole; the base is not copied by member.

    It takes the variables of `lora` with ``shared``. The same decoder gives the same object.
    """

    def adapted(run):
        def run_adapted(variables, *args):
            base = _base(variables)
            with _adapting(variables):
                return run(base, *args)

        return run_adapted

    return decoder._replace(prefill=adapted(decoder.prefill), step=adapted(decoder.step))


def _base(variables: Variables) -> Variables:
    """The base's variables."""
    if "shared" not in variables:
        raise InputError("the base's variables are missing: pass variables | {'shared': base_variables}.")
    return variables["shared"]


def _adapting(variables: Variables):
    """A context in which every dense layer that has adapters adds what they give."""

    def adapted(call, args, kwargs, context):
        y = call(*args, **kwargs)
        pair = _adapter(variables["params"], context)
        return y if pair is None else y + _low_rank(args[0], pair, variables["state"]["scale"], y.dtype)

    return nn.intercept_methods(adapted)


def merge(variables: Variables) -> Variables:
    """The base's variables with ``W + scale A B`` in place of every adapted W and with the layers trained whole.

    This is of one member. A population's: ``jax.vmap(merge, in_axes=({"params": 0, "state": 0, "shared": None},))``.
    """
    scale = variables["state"]["scale"]

    def merged(base, own):
        if not isinstance(own, dict):
            return own
        if "a" in own and "kernel" in base:
            kernel, update = base["kernel"], scale * (own["a"] @ own["b"])
            wide = jnp.promote_types(kernel.dtype, update.dtype)
            return base | {"kernel": (kernel.astype(wide) + update.astype(wide)).astype(kernel.dtype)}
        return base | {name: merged(base.get(name, {}), inner) for name, inner in own.items()}

    shared = variables["shared"]
    return shared | {"params": merged(shared["params"], variables["params"])}


def dense_layers(model: Model, inputs: Array) -> dict[tuple[str, ...], tuple[int, int]]:
    """Path and (in, out) width of each ``flax.linen.Dense`` of a model, in the order in which they are called."""
    layers = {}

    def watched(call, args, kwargs, context):
        y = call(*args, **kwargs)
        if _is_dense(context):
            layers[tuple(context.module.path)] = (args[0].shape[-1], y.shape[-1])
        return y

    with nn.intercept_methods(watched):
        jax.eval_shape(lambda x: model.init(jax.random.key(0), x), inputs)
    return layers


def _is_dense(context) -> bool:
    return isinstance(context.module, nn.Dense) and context.method_name == "__call__"


def _adapter(params, context) -> dict | None:
    """The A and B of the layer that an intercepted call belongs to, if it has them."""
    if not _is_dense(context):
        return None
    for name in context.module.path:
        params = params.get(name, {})
    return params if "a" in params else None


def _low_rank(x: Array, pair: dict, scale: Array, dtype) -> Array:
    """``scale (x A) B`` in the dtype of the layer's output."""
    return (x.astype(dtype) @ pair["a"].astype(dtype)) @ pair["b"].astype(dtype) * scale.astype(dtype)


def _put(tree: dict, path: Sequence[str], value) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value

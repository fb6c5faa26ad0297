"""What goes into every dense and convolutional layer and the slope of a quantity at what comes out of it.

A dense layer's gradient for one example is ``sum_t a_t s_t'`` with a the layer's input (a trailing 1 for the bias) and
s the slope of the quantity at its output, t running over positions (a convolution's pixels with its patches as
inputs, a sequence's tokens). From these factors come norms and Gram matrices without any (n, P) gradients (ghost
norms: Goodfellow 2015, arXiv 1510.01799; Li et al. 2022, arXiv 2110.05679) and Kronecker-factored curvature. Linen's
`flax.linen.Dense`, `flax.linen.Conv` and this library's `Conv` are tapped; embeddings, norms and other parameters are
not, and say so by being absent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from unlearn_jax.errors import InputError
from unlearn_jax.influence.per_example import MICRO, over_examples, quantity_of
from unlearn_jax.models.layers import Conv
from unlearn_jax.trees import wide
from unlearn_jax.types import Array, Batch, Model, Task, Variables

LAYERS = (nn.Dense, nn.Conv, Conv)


class Factors(NamedTuple):
    """One layer's factors; T positions an example. `layer_gradients` makes gradients of them."""

    inputs: Array  # (n, T, I), with a trailing 1 where the layer has a bias
    slopes: Array  # (n, T, O)


def layer_factors(
    model: Model,
    task: Task,
    variables: Variables,
    batch: Batch,
    *,
    quantity: str = "loss",
    cotangent: Callable[[Array, Batch], Array] | None = None,
    select: Callable[[str], bool] | None = None,
    micro: int = MICRO,
) -> dict[str, Factors]:
    """Factors of every tapped layer for every example, by the layer's path (``block0/conv``).

    Args:
        model: a Linen model whose layers' parameters are in ``params``.
        task: its task.
        variables: one member's.
        batch: n examples.
        quantity: ``loss`` or ``margin``.
        cotangent: instead of a quantity of the task, any scalar of (logits (1, ...), example) to differentiate.
        select: predicate of a layer's path; none = every layer.
        micro: examples side by side.

    Raises:
        InputError: no layer can be tapped, or ``select`` chooses none.
    """
    of = quantity_of(model, task, quantity)

    def scalar(example: Batch) -> Array:
        if cotangent is None:
            return of(variables, example)[0]
        return cotangent(model.apply(variables, example.inputs, train=False)[0].logits, example)

    shapes = jax.eval_shape(lambda example: _recorded(scalar, variables, example, {}, select)[1], example_shapes(batch))
    if not shapes:
        raise InputError("no dense or convolutional layer can be tapped: give a Linen model, and a select that fits.")
    zeros = {name: jnp.zeros(out.shape, out.dtype) for name, (_, out) in shapes.items()}

    def one(example: Batch) -> dict[str, Factors]:
        slope = jax.grad(lambda taps: _recorded(scalar, variables, example, taps, select), has_aux=True)
        slopes, seen = slope(zeros)
        return {name: Factors(_rows(seen[name][0]), _rows(slopes[name])) for name in zeros}

    return over_examples(one, batch, micro=micro)


def tappable(model: Model, variables: Variables, batch: Batch) -> list[str]:
    """Paths of the layers that `layer_factors` takes, in the order of use: used once, dense or plain convolutions.

    Nothing is computed. A model without any such layer (of NNX, say) gives an empty list.
    """
    used_once: dict[str, bool] = {}

    def look(call, args, kwargs, context):
        layer, name = context.module, "/".join(context.module.path)
        if context.method_name == "__call__" and isinstance(layer, LAYERS) and _held(variables, name) is not None:
            used_once[name] = name not in used_once and _plain(layer)
        return call(*args, **kwargs)

    with nn.intercept_methods(look):
        jax.eval_shape(
            lambda example: model.apply(variables, example.inputs, train=False)[0].logits, example_shapes(batch)
        )
    return [name for name, plain in used_once.items() if plain]


def example_shapes(batch: Batch) -> Batch:
    """Shapes of a batch of one example, also where the batch has none."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), batch)


def _rows(x: Array) -> Array:
    """(1, ..., D) of one example -> (T, D), in float32 at least."""
    return x.reshape(-1, x.shape[-1]).astype(wide(x.dtype))


def _recorded(scalar, variables, example, taps, select):
    """The scalar with each tap added to its layer's output, and what each layer was given and gave."""
    seen: dict[str, tuple[Array, Array]] = {}

    def tap(call, args, kwargs, context):
        layer, name = context.module, "/".join(context.module.path)
        out = call(*args, **kwargs)
        if context.method_name != "__call__" or not isinstance(layer, LAYERS):
            return out
        if _held(variables, name) is None or not (select is None or select(name)):
            return out
        if name in seen:
            raise InputError(f"layer '{name}' is used more than once: its factors are not those of one product.")
        inputs = args[0] if args else next(iter(kwargs.values()))
        seen[name] = (_patches(layer, inputs, out), out)
        return out + taps[name] if name in taps else out

    with nn.intercept_methods(tap):
        value = scalar(example)
    return value, seen


def _held(variables: Variables, name: str):
    """The kernel of a layer among the trained parameters; none where it lies elsewhere."""
    node = variables["params"]
    for part in name.split("/"):
        if not isinstance(node, dict) or part not in node:
            return None
        node = node[part]
    return node.get("kernel") if isinstance(node, dict) else None


def _patches(layer, x: Array, out: Array) -> Array:
    """A layer's input as rows that its kernel, reshaped to (I, O), multiplies; a trailing 1 for the bias.

    In float64 where the layer's output is, as of a float64 model that is given float32 data.
    """
    if not isinstance(layer, nn.Dense):
        x = _convolved(layer, x)
    double = out.dtype == jnp.float64
    x = lax.stop_gradient(x.astype(out.dtype if double else wide(x.dtype)))
    x = x.reshape(*out.shape[:-1], -1)
    return jnp.concatenate([x, jnp.ones((*x.shape[:-1], 1), x.dtype)], axis=-1) if layer.use_bias else x


def _pair(setting) -> tuple[int, ...]:
    """A setting of a 2-d convolution, given for both sides or one by one."""
    return tuple(int(v) for v in np.broadcast_to(1 if setting is None else setting, 2))


def _plain(layer) -> bool:
    """Whether a layer's gradient is that of one product with a kernel: dense, or a 2-d convolution without extras."""
    if isinstance(layer, nn.Dense):
        return True
    ones = all(_pair(getattr(layer, name, 1)) == (1, 1) for name in ("kernel_dilation", "input_dilation"))
    whole = getattr(layer, "feature_group_count", 1) == 1 and getattr(layer, "mask", None) is None
    return np.size(layer.kernel_size) == 2 and ones and whole and layer.padding in ("SAME", "VALID")


def _convolved(layer, x: Array) -> Array:
    """Patches (B, H', W', kh kw C) in the order of the kernel's reshape."""
    if not _plain(layer):
        raise InputError(f"layer '{'/'.join(layer.path)}' is no plain 2-d convolution: leave it out by select.")
    (kh, kw), strides = layer.kernel_size, _pair(layer.strides)
    x = jnp.pad(x, ((0, 0), *lax.padtype_to_pads(x.shape[1:3], (kh, kw), strides, layer.padding), (0, 0)))
    out_h, out_w = ((size - k) // s + 1 for size, k, s in zip(x.shape[1:3], (kh, kw), strides))
    stop_h, stop_w = (out_h - 1) * strides[0] + 1, (out_w - 1) * strides[1] + 1
    slices = [x[:, i : i + stop_h : strides[0], j : j + stop_w : strides[1], :] for i in range(kh) for j in range(kw)]
    return jnp.concatenate(slices, axis=-1)


def layer_gradients(factors: Factors) -> Float[Array, "n I O"]:
    """(n, I, O) gradients of a layer's kernel, the bias's row last where it has one."""
    return jnp.einsum("nti,nto->nio", factors.inputs, factors.slopes)


def layer_gram(train: Factors, queries: Factors) -> Float[Array, "n q"]:
    """(n, q) inner products of a layer's gradients, by whichever is cheaper: the factors, or one side's gradients.

    Through the factors it takes n q T^2 (I + O) multiplications, through gradients n I O (T + q).
    """
    (n, t, i), (q, u, o) = train.inputs.shape, queries.slopes.shape
    if n * q * t * u * (i + o) <= i * o * (n * t + q * u + n * q):
        left = jnp.einsum("nti,qui->nqtu", train.inputs, queries.inputs)
        return jnp.einsum("nqtu,nqtu->nq", left, jnp.einsum("nto,quo->nqtu", train.slopes, queries.slopes))
    flat = lambda factors: layer_gradients(factors).reshape(len(factors.inputs), -1)
    return flat(train) @ flat(queries).T


def layer_square_norms(factors: Factors) -> Float[Array, " n"]:
    """(n,) squared norms of a layer's gradients (ghost norms), by whichever is cheaper."""
    (_, t, i), o = factors.inputs.shape, factors.slopes.shape[-1]
    if t * t * (i + o) <= t * i * o:
        left = jnp.einsum("nti,nui->ntu", factors.inputs, factors.inputs)
        return jnp.einsum("ntu,ntu->n", left, jnp.einsum("nto,nuo->ntu", factors.slopes, factors.slopes))
    return jnp.square(layer_gradients(factors)).sum(axis=(1, 2))


def untapped(variables: Variables, factors: dict[str, Factors]) -> list[str]:
    """Paths of trained parameters that no tapped layer holds: embeddings, norms and the like."""
    paths = jax.tree_util.tree_flatten_with_path(variables["params"])[0]
    names = ["/".join(str(getattr(k, "key", k)) for k in path) for path, _ in paths]
    return [name for name in names if name.rpartition("/")[0] not in factors]

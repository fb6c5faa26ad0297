"""Numerical pieces that several methods share: divergences, per-example sums, curvature products, layers by depth."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from unlearn_jax.errors import InputError
from unlearn_jax.methods.support.common import Context, TrainSpec, weighted_mean
from unlearn_jax.runtime.platform import platform
from unlearn_jax.tasks import over_answer
from unlearn_jax.trees import tree_add
from unlearn_jax.types import Array, Batch, PyTree, Variables

# examples side by side on an accelerator; one at a time on a CPU, where a product of one row's activations and slopes,
# squared and added, is one pass over the sum, and a batch of such products is not (docs/performance.md)
MICRO = 16


def distillation(teacher: Array, student: Array, batch: Batch, temperature: Array | float = 1.0) -> Array:
    """Weighted mean of ``temperature^2 KL(softmax(teacher / t) || softmax(student / t))``; logits (B, ..., K) -> ()."""
    apart = over_answer(divergence(teacher / temperature, student / temperature), batch)
    return temperature**2 * weighted_mean(apart, batch.weight)


def divergence(p: Array, q: Array) -> Array:
    """KL(softmax(p) || softmax(q)) in nats, summed over classes; logits (..., K), -inf allowed in p -> (...)."""
    p, q = jax.nn.log_softmax(p.astype(jnp.float32)), jax.nn.log_softmax(q.astype(jnp.float32))
    return jnp.sum(jnp.where(jnp.isneginf(p), 0.0, jnp.exp(p) * (p - q)), axis=-1)


def frozen(problem: TrainSpec, variables: Variables, inputs: Array):
    """Outputs of a model that takes no part in the gradient, in evaluation mode."""
    return lax.stop_gradient(problem.model.apply(variables, inputs, train=False)[0])


def pixels(inputs: Array) -> Array:
    """Images as float32 in [0, 1], in which perturbations are measured; uint8 is divided by 255."""
    return inputs.astype(jnp.float32) / 255.0 if inputs.dtype == jnp.uint8 else inputs


def fresh(problem: TrainSpec, key: Array) -> Variables:
    """A new initialisation of the problem's model."""
    return problem.model.init(key, jnp.zeros(problem.example.shape, problem.example.dtype))


def gathered(context: Context, rows: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Inputs, targets and weights of each member's rows, (N, M, ...) padded with weight 0 to one length."""
    longest = max(1, *map(len, rows))
    table = np.stack([np.pad(r, (0, longest - len(r))) for r in rows]).astype(np.int32)
    weight = np.stack([np.arange(longest) < len(r) for r in rows]).astype(np.float32)
    inputs, targets = (np.asarray(x)[table] for x in (context.stored.inputs, context.stored.targets))
    return {"inputs": inputs, "targets": targets, "weight": weight}


def normal_like(key: Array, tree: PyTree) -> PyTree:
    """Standard normal draws in the shapes of a tree, one key a leaf."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(structure, [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves)])


def zeros_like(tree: PyTree) -> PyTree:
    """A tree of zeros."""
    return jax.tree.map(jnp.zeros_like, tree)


def sum_over_examples(one: Callable[[Batch], PyTree], batch: Batch, micro: int = 0) -> PyTree:
    """Sum over a batch of weight x ``one(example)``, ``micro`` examples side by side, so that B results never coexist.

    ``one`` is given a batch of a single example (leading axis 1) and may differentiate through it. ``micro`` 0 is by
    backend, see `MICRO`.
    """
    size = batch.weight.shape[0]
    micro = micro or (1 if platform() == "cpu" else MICRO)
    micro = next(m for m in range(min(micro, size), 0, -1) if size % m == 0)
    chunks = jax.tree.map(lambda x: x.reshape(size // micro, micro, *x.shape[1:]), batch)

    def single(example):
        value = one(jax.tree.map(lambda x: x[None], example))
        return jax.tree.map(lambda v: v * example.weight.astype(v.dtype), value)

    def body(total, chunk):
        values = jax.vmap(single)(chunk)
        return tree_add(total, jax.tree.map(lambda v: v.sum(axis=0), values)), None

    shapes = jax.eval_shape(single, jax.tree.map(lambda x: x[0, 0], chunks))
    return lax.scan(body, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes), chunks)[0]


def attacked(problem: TrainSpec, variables: Variables, batch: Batch, radius, steps: int, *, towards=None) -> Array:
    """Adversarial images within Euclidean ``radius`` of a batch's, by projected normalised gradient steps.

    Args:
        problem: model and task.
        variables: the attacked model's; evaluation mode.
        batch: images and true labels.
        radius: in pixel units of [0, 1].
        steps: number of steps, each 2.5 / steps of the radius long.
        towards: (B,) labels whose loss is descended; none = the true labels' loss is ascended.

    Returns:
        (B, ...) float32 images, not clipped to [0, 1].
    """
    images = pixels(batch.inputs)
    length = lambda x: jnp.sqrt(jnp.sum(x * x, axis=tuple(range(1, x.ndim)), keepdims=True) + 1e-12)
    sign, labels = (1.0, batch.targets) if towards is None else (-1.0, towards)

    def body(_, moved):
        at = lambda x: summed_loss(problem, variables, batch._replace(inputs=x, targets=labels, weight=ones))
        slope = jax.grad(at)(images + moved)
        moved = moved + sign * (2.5 / steps) * radius * slope / length(slope)
        return moved * jnp.minimum(1.0, radius / length(moved))

    ones = jnp.ones_like(batch.weight)
    return lax.stop_gradient(images + lax.fori_loop(0, steps, body, jnp.zeros_like(images)))


def loss_gradient(problem: TrainSpec, variables: Variables, batch: Batch) -> PyTree:
    """Gradient of the *sum* of weighted losses of a batch with respect to the parameters, evaluation mode."""
    return jax.grad(lambda p: summed_loss(problem, variables | {"params": p}, batch))(variables["params"])


def summed_loss(problem: TrainSpec, variables: Variables, batch: Batch) -> Array:
    """Sum of weighted losses of a batch, evaluation mode."""
    logits = problem.model.apply(variables, batch.inputs, train=False)[0].logits
    return jnp.sum(problem.task.loss(logits, batch) * batch.weight)


def curvature_product(problem: TrainSpec, variables: Variables, batch: Batch, vector: PyTree, kind: str) -> PyTree:
    """Curvature of the sum of weighted losses of a batch times a vector like the parameters, evaluation mode.

    ``kind``: ``hessian``, or ``ggn``, the generalised Gauss-Newton matrix (Schraudolph 2002), which is never
    indefinite where the loss is convex in the logits.
    """
    if kind == "hessian":
        gradient = lambda p: loss_gradient(problem, variables | {"params": p}, batch)
        return jax.jvp(gradient, (variables["params"],), (vector,))[1]
    if kind != "ggn":
        raise InputError(f"unknown curvature '{kind}': choose ggn or hessian.")
    logits_of = lambda p: problem.model.apply(variables | {"params": p}, batch.inputs, train=False)[0].logits
    logits, moved = jax.jvp(logits_of, (variables["params"],), (vector,))
    slope = jax.grad(lambda z: jnp.sum(problem.task.loss(z, batch) * batch.weight))
    back = jax.vjp(logits_of, variables["params"])[1]
    return back(jax.jvp(slope, (logits,), (moved,))[1])[0]


def solve(matrix: Array, right: Array) -> Array:
    """X of ``matrix X = right`` by Gauss-Jordan elimination with pivoting, refined once; (D, D), (D,) or (D, R).

    Not ``jnp.linalg.solve``, whose batched LAPACK calls wait for one another for ever on a CPU split into devices.
    """
    size, flat = matrix.shape[0], right.ndim == 1
    right = right[:, None] if flat else right

    def eliminate(i, rows):
        below = jnp.where(jnp.arange(size) >= i, jnp.abs(rows[:, i]), -1.0)
        best = jnp.argmax(below)
        rows = rows.at[i].set(rows[best]).at[best].set(rows[i])
        pivot = rows[i] / rows[i, i]
        others = rows[:, i].at[i].set(0.0)
        return (rows - others[:, None] * pivot[None, :]).at[i].set(pivot)

    def refine(_, solution):
        rows = jnp.concatenate([matrix, right - matrix @ solution], axis=1)
        return solution + lax.fori_loop(0, size, eliminate, rows)[:, size:]

    solution = lax.fori_loop(0, 2, refine, jnp.zeros_like(right))
    return solution[:, 0] if flat else solution


@functools.lru_cache(maxsize=32)
def depth_order(model, shape: tuple, dtype: str) -> tuple[str, ...]:
    """Names of the top-level parameter groups from input to output: the order in which the model makes them."""
    order: list[str] = []

    def watched(key):
        variables = model.init(key, jnp.zeros(shape, dtype))
        order.extend(variables["params"])
        return variables

    jax.eval_shape(watched, jax.random.key(0))
    return tuple(order)


def last_groups(problem: TrainSpec, params: PyTree, count: int) -> PyTree:
    """1 for the parameters of the last ``count`` top-level groups (the head is one), 0 for all others.

    Raises:
        InputError: ``count`` is below 1 or above the number of groups.
    """
    order = depth_order(problem.model, problem.example.shape, str(problem.example.dtype))
    if not 1 <= count <= len(order):
        raise InputError(f"k is {count} and the model has {len(order)} groups of layers: give 1 up to that many.")
    live = set(order[-count:])
    return {name: jax.tree.map(lambda x, on=name in live: jnp.full_like(x, float(on)), params[name]) for name in params}


def convolutions(problem: TrainSpec, params: PyTree) -> PyTree:
    """1 for convolution kernels, 0 for all else; in a model without any, 1 for the dense kernels before the head.

    A table of embeddings is no kernel: where it is the output layer as well, it is the head.
    """
    deep = any(x.ndim == 4 for x in jax.tree.leaves(params))
    last = depth_order(problem.model, problem.example.shape, str(problem.example.dtype))[-1]

    def chosen(path, x):
        names = [part.key for part in path]
        dense = x.ndim >= 2 and names[0] != last and names[-1] == "kernel"
        return jnp.full_like(x, float(x.ndim == 4 if deep else dense))

    return jax.tree_util.tree_map_with_path(chosen, params)

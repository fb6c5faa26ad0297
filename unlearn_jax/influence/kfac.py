"""Kronecker-factored curvature: KFAC and EK-FAC blocks of the Fisher matrix, one for each dense or convolutional layer.

For a layer with inputs a and slopes s (see `taps`), KFAC [Martens & Grosse, 2015, arXiv 1503.05671] takes the block of
the Fisher matrix to be ``A x S``, A the mean of a a' and S the mean of s s'. EK-FAC [George et al., 2018, arXiv
1806.03884] keeps the eigenvectors of A and S but measures the curvature along each pair of them: the mean square of the
gradient's coordinates there. Layers are taken to be independent of each other.

Layers used at T positions (pixels of a convolution, tokens) follow the `expand` setting of Eschenhagen et al. [2023,
arXiv 2311.00636], for convolutions that of Grosse & Martens [2016, arXiv 1602.01407]: A is the mean over examples and
positions, S the mean over examples of the sum over positions. For EK-FAC this chooses the eigenvectors only, its values
are of whole examples' gradients. A convolution's inputs are its patches, attention has one block for the joint
query, key and value layer and one for the output layer.

Differences from the papers: batch means instead of running ones (all examples are seen), damping is added to the
eigenvalues themselves instead of to A and S, and where a loss is a mean over L answer tokens, slopes are scaled by the
root of L: with labels of the model the Fisher matrix is then the Gauss-Newton matrix of that mean loss.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from unlearn_jax.errors import InputError, choose
from unlearn_jax.influence.checks import check_targets, is_traced
from unlearn_jax.influence.kronecker import Kronecker, check_rows, rotated
from unlearn_jax.influence.per_example import MICRO
from unlearn_jax.influence.pieces import layers_by
from unlearn_jax.influence.taps import Factors, layer_factors, layer_gradients
from unlearn_jax.tasks import answer_tokens
from unlearn_jax.trees import tree_add, wide
from unlearn_jax.types import Array, Batch, Model, PyTree, Task, Variables

LABELS = ("sampled", "empirical", "exact")
VARIANTS = ("ekfac", "kfac")


class Rows(NamedTuple):
    """Examples and the R labels each that stand for its label."""

    batch: Batch
    targets: Array  # (n, R, ...)
    scales: Array  # (n, R), roots of the labels' shares: with them squared slopes only need adding up


def ekfac_fit(
    model: Model,
    task: Task,
    variables: Variables,
    train: Batch,
    *,
    labels: str = "sampled",
    draws: int = 1,
    key: Array | None = None,
    select: Callable[[str], bool] | None = None,
    variant: str = "ekfac",
    micro: int = MICRO,
) -> dict[str, Kronecker]:
    """Curvature blocks of every tapped layer by the layer's path: approximations of the mean loss's Hessian.

    Two passes over the examples, ``micro`` of them at a time: the n x P gradients never coexist. Works under jit and
    under vmap over members, where values go unchecked. The mean is over n, the number of examples: with C_i of one,
    blocks are of ``(1 / n) sum_i w_i C_i``, as in `influence`.

    Args:
        model: a Linen model.
        task: its task, of (B, K) logits or of (B, T, V) logits and (B, T) targets; its loss is a cross-entropy.
        variables: one member's.
        train: n examples; one of weight w counts w times, one of weight 0 is absent, and n is their number all the
            same.
        labels: whose labels the slopes are for. ``sampled``: drawn from the model (the true Fisher matrix, with noise);
            ``exact``: all K classes by their probability (no noise; (B, K) logits only; K passes);
            ``empirical``: the data's.
        draws: labels drawn for an example, with ``sampled``; few examples want ten, or ``exact``.
        key: of the draws; none = ``jax.random.key(0)``. An example's draws follow its row, whatever ``micro``.
        select: predicate of a layer's path; none = every layer.
        variant: ``ekfac``, or ``kfac`` for values that are products of the eigenvalues of A and S.
        micro: examples side by side; a layer with T > 1 holds micro x I x O numbers.

    Raises:
        InputError: unknown names, no examples, no layer to tap, gradients that are not finite, labels that do not go
            with the logits or that the model does not have, weights below 0.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from unlearn_jax.influence.per_example import batch_of
        >>> from unlearn_jax.models import build_model
        >>> from unlearn_jax.tasks import classification
        >>> model = build_model("linear", 2, (3,))
        >>> train = batch_of(jnp.eye(3), jnp.array([0, 1, 0]))
        >>> variables = model.init(jax.random.key(0), train.inputs)
        >>> fit = ekfac_fit(model, classification(), variables, train, labels="exact")
        >>> fit["head"].values.shape
        (4, 2)
    """
    choose("labels", labels, LABELS)
    choose("variant", variant, VARIANTS)
    check_targets(model, variables, train, "train")
    check_rows(train, draws, micro)
    select = layers_by(variables, select)
    program = fit_program(model, task, labels, draws if labels == "sampled" else 1, select, variant, micro)
    fit, largest = program(variables, train, jax.random.key(0) if key is None else key)
    if not is_traced(largest) and not np.isfinite([float(value) for value in largest.values()]).all():
        raise InputError("gradients of the training examples are not finite: look for NaN in variables and inputs.")
    return fit


def parts_of(rows: PyTree, micro: int) -> tuple[PyTree, Array]:
    """Rows in parts of at most ``micro``, filled up by repeating the last, and which are no repetition."""
    count = len(jax.tree.leaves(rows)[0])
    parts = -(-count // micro)
    at = jnp.arange(parts * -(-count // parts)).reshape(parts, -1)
    return jax.tree.map(lambda x: jnp.asarray(x)[jnp.minimum(at, count - 1)], rows), at < count


def mapped(one: Callable[[PyTree], PyTree], rows: PyTree, micro: int) -> PyTree:
    """``one(part)``, with a leading axis of examples, on all parts and joined."""
    count = len(jax.tree.leaves(rows)[0])
    if count <= micro:
        return one(rows)
    parts = lax.map(one, parts_of(rows, micro)[0])
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], parts)


def _summed(one: Callable[[PyTree, Array], PyTree], rows: PyTree, micro: int) -> PyTree:
    """Sum of ``one(part, live)`` over all parts."""
    parts, live = parts_of(rows, micro)
    first = jax.tree.map(lambda x: x[0], (parts, live))
    if len(live) == 1:
        return one(*first)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(one, *first))
    return lax.scan(lambda total, part: (tree_add(total, one(*part)), None), zeros, (parts, live))[0]


@functools.lru_cache(maxsize=64)
def fit_program(model, task, labels, draws, select, variant, micro):
    """The compiled fit: (variables, train, key) -> blocks and the largest value of each."""

    def fit(variables: Variables, train: Batch, key: Array):
        label = lambda part: _labelled(model, labels, draws, variables, part[0], key, part[1])
        targets, scales = mapped(label, (train, jnp.arange(len(train.weight), dtype=jnp.int32)), micro)
        weight = train.weight.astype(scales.dtype)
        rows = Rows(train, targets, scales * jnp.sqrt(weight)[:, None])
        factors = lambda part, live: _factors(model, task, variables, part, live, select)
        moments = _summed(lambda part, live: _moments(*factors(part, live), part.batch, live), rows, micro)
        blocks = {name: _block(*moment, total=len(weight)) for name, moment in moments.items()}
        if variant == "ekfac":
            squares = _summed(lambda part, live: _squares(*factors(part, live), blocks), rows, micro)
            blocks = {name: block._replace(values=squares[name] / len(weight)) for name, block in blocks.items()}
        return blocks, {name: block.values.max() for name, block in blocks.items()}

    def precise(*inputs):
        with jax.default_matmul_precision("highest"):
            return fit(*inputs)

    return jax.jit(precise)


def _labelled(model, labels, draws, variables, batch, key, place) -> tuple[Array, Array]:
    """Targets (n, R, ...) of a part of the examples and the roots (n, R) of their shares."""
    logits = jax.eval_shape(lambda: model.apply(variables, batch.inputs, train=False)[0].logits)
    if logits.shape[:-1] != batch.targets.shape or batch.targets.ndim > (1 if labels == "exact" else 2):
        raise InputError(
            f"labels '{labels}' do not go with logits {logits.shape} and targets {batch.targets.shape}: give (B, K) "
            f"with (B,), or, unless labels are 'exact', (B, T, V) with (B, T)."
        )
    answer = answer_tokens(batch) if batch.targets.ndim == 2 else jnp.ones_like(batch.targets, bool)[:, None]
    size = jnp.maximum(answer.sum(axis=1), 1).astype(wide(logits.dtype))[:, None]
    if labels == "empirical":
        return batch.targets[:, None], jnp.sqrt(size)
    logits = model.apply(variables, batch.inputs, train=False)[0].logits.astype(wide(logits.dtype))
    if labels == "exact":
        classes = jnp.broadcast_to(jnp.arange(logits.shape[-1], dtype=batch.targets.dtype)[None], logits.shape)
        return classes, jnp.exp(0.5 * jax.nn.log_softmax(logits))
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(place)
    draw = lambda k, z: jax.random.categorical(k, z, shape=(draws, *z.shape[:-1])).astype(batch.targets.dtype)
    targets = jax.vmap(draw)(keys, logits)
    if targets.ndim == 3:
        targets = jnp.where(answer[:, None], targets, batch.targets[:, None])
    return targets, jnp.broadcast_to(jnp.sqrt(size / draws), targets.shape[:2])


def _factors(model, task, variables, rows: Rows, live: Array, select) -> tuple[dict, dict]:
    """Each layer's inputs (n, T, I) and scaled slopes (R, n, T, O)."""

    def scaled(logits: Array, example: Batch) -> Array:
        loss = task.loss(logits, example)[0]
        return loss * example.weight[0].astype(loss.dtype)

    def one(label: tuple[Array, Array]) -> dict[str, Factors]:
        batch = rows.batch._replace(targets=label[0], weight=label[1] * live.astype(label[1].dtype))
        factors = layer_factors(model, task, variables, batch, cotangent=scaled, select=select, micro=len(live))
        return {name: f._replace(slopes=f.slopes.astype(f.inputs.dtype)) for name, f in factors.items()}

    labels = jnp.moveaxis(rows.targets, 1, 0), rows.scales.T
    first = one((labels[0][0], labels[1][0]))
    inputs = {name: f.inputs for name, f in first.items()}
    if len(labels[0]) == 1:
        return inputs, {name: f.slopes[None] for name, f in first.items()}
    # a loop: jaxlib 0.10.2 computes many backward passes of one forward pass wrongly on CPU (YNN fusions)
    return inputs, lax.map(lambda given: {name: f.slopes for name, f in one(given).items()}, labels)


def _moments(inputs, slopes, batch: Batch, live: Array) -> dict[str, tuple[Array, Array, Array]]:
    """Each layer's sums of a a' and s s', and how many positions the first is over."""
    moments = {}
    for name, a in inputs.items():
        weight = jnp.broadcast_to((batch.weight.astype(a.dtype) * live.astype(a.dtype))[:, None], a.shape[:2])
        if batch.mask is not None and batch.mask.shape == a.shape[:2]:
            weight = weight * batch.mask.astype(a.dtype)
        a, s = a.reshape(-1, a.shape[-1]), slopes[name].reshape(-1, slopes[name].shape[-1])
        moments[name] = (weight.reshape(-1, 1) * a).T @ a, s.T @ s, weight.sum()
    return moments


def _block(a: Array, s: Array, positions: Array, total: int) -> Kronecker:
    """KFAC's block of weighted sums of a a' over positions and of s s' over examples, of which there are ``total``."""
    bases = [jnp.linalg.eigh(a / positions), jnp.linalg.eigh(s / total)]
    noise = [jnp.finfo(a.dtype).eps * len(values) for values, _ in bases]
    left, right = (jnp.where(v <= e * v.max(), jnp.zeros_like(v), v) for (v, _), e in zip(bases, noise))
    return Kronecker(bases[0][1], bases[1][1], left[:, None] * right[None, :])


def _squares(inputs, slopes, blocks: dict[str, Kronecker]) -> dict[str, Array]:
    """Each layer's sum of squared gradients in its eigenbases; (I, O)."""
    squares = {}
    for name, block in blocks.items():
        a, s = rotated(block, Factors(inputs[name], slopes[name]))
        if a.shape[1] == 1:
            squares[name] = jnp.square(a[:, 0]).T @ jnp.square(s[:, :, 0]).sum(axis=0)
            continue
        add = lambda total, s, a=a: (total + jnp.square(layer_gradients(Factors(a, s))).sum(axis=0), None)
        squares[name] = lax.scan(add, jnp.zeros_like(block.values), s)[0]
    return squares

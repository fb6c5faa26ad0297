"""Influence under KFAC and EK-FAC curvature [George et al., 2018, arXiv 1806.03884; Grosse et al., 2023, 2308.03296].

The Hessian of the mean loss is replaced by a block for each dense or convolutional layer, with known eigenvectors, so
that inverting it costs nothing; `kfac` says how the blocks are made. With C a layer's block and d the damping, or
where it is relative ``relative_damping x mean eigenvalue of C``, a score is a sum over layers of
``g_q . (C + l2 I + d I)^-1 g_i``. Parameters of no tapped layer (embeddings, norms) are taken as fixed and add no
influence; `taps.untapped` lists them.

Differences from Grosse et al.: damping is absolute unless ``relative_damping`` is given (theirs is
``relative_damping=0.1``), the weight decay is in the curvature, and queries keep their full gradients instead of
low-rank ones.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from unlearn_jax.errors import InputError, choose
from unlearn_jax.influence.checks import check_targets
from unlearn_jax.influence.kfac import ekfac_fit, mapped
from unlearn_jax.influence.kronecker import (
    DAMPING,
    Kronecker,
    check_rows,
    checked,
    checked_shift,
    floors,
    rotated,
    shift_of,
    solve,
)
from unlearn_jax.influence.per_example import MICRO
from unlearn_jax.influence.score_checks import pieces
from unlearn_jax.influence.taps import Factors, layer_factors, layer_gradients
from unlearn_jax.types import Array, Batch, Model, Task, Variables

QUANTITIES = ("loss", "margin")


def ekfac_influence(
    model: Model,
    task: Task,
    variables: Variables,
    train: Batch,
    queries: Batch,
    *,
    fit: dict[str, Kronecker] | None = None,
    damping: float = DAMPING,
    l2: float = 0.0,
    relative_damping: float | None = None,
    quantity: str = "loss",
    labels: str = "sampled",
    draws: int = 1,
    key: Array | None = None,
    select: Callable[[str], bool] | None = None,
    variant: str = "ekfac",
    micro: int = MICRO,
) -> Float[Array, "n q"]:
    """Influence of every training example on every query, (n, q).

    Unit: positive = training on the example helped the query. ``score / n`` (n the number of examples that the blocks
    are of, whatever their weights) is the predicted rise of the query's loss, in nats, when the example is removed and
    the normaliser n stays; with ``quantity="margin"``, the predicted fall of its margin. An example of weight w counts
    w times: it scores w times what it would, so an absent one 0. The queries' weights play no part. Queries are solved
    for as many at a time as keep queries x P below 2^25 numbers; for layers with T > 1 micro x I x O come on top. Works
    under jit and under vmap over members, where values go unchecked.

    Args:
        model: a Linen model.
        task: its task.
        variables: one member's.
        train: n examples, weight 0 = absent.
        queries: q examples.
        fit: of `ekfac_fit`, made before; ``labels``, ``draws``, ``key``, ``select`` and ``variant`` then play no part.
        damping: added to every eigenvalue.
        l2: the weight decay l2 of the objective ``mean loss + l2/2 |w|^2``, added likewise.
        relative_damping: share of each layer's mean eigenvalue (without l2) that is added instead of ``damping``.
        quantity: ``loss`` or ``margin`` of the queries.
        labels: see `ekfac_fit`, as for ``draws``, ``key``, ``select`` and ``variant``.
        micro: examples side by side.

    Raises:
        InputError: as `ekfac_fit`, of the queries too; a singular block without damping; scores that are not finite.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from unlearn_jax.influence.per_example import batch_of
        >>> from unlearn_jax.models import build_model
        >>> from unlearn_jax.tasks import classification
        >>> model = build_model("linear", 2, (3,))
        >>> train = batch_of(jnp.eye(3), jnp.array([0, 1, 0]))
        >>> variables = model.init(jax.random.key(0), train.inputs)
        >>> scores = ekfac_influence(model, classification(), variables, train, train, l2=0.1, labels="exact")
        >>> scores.shape, bool((jnp.diag(scores) > 0).all())  # each example helps itself
        ((3, 3), True)
    """
    choose("quantity", quantity, QUANTITIES)
    check_targets(model, variables, train, "train")
    check_rows(train, draws, micro)
    check_targets(model, variables, queries, "queries")
    if len(queries.weight) == 0:
        return jnp.zeros((len(train.weight), 0), jax.tree.leaves(variables["params"])[0].dtype)
    how: dict[str, Any] = dict(labels=labels, draws=draws, key=key, select=select, variant=variant, micro=micro)
    fit = ekfac_fit(model, task, variables, train, **how) if fit is None else fit
    shift = checked_shift(damping, l2, relative_damping)
    program, scores = _pair_program(model, task, quantity, micro), []
    for piece, new in pieces(queries, sum(block.values.size for block in fit.values())):
        scores.append(checked(*program(variables, train, piece, fit, shift))[:, :new])
    return scores[0] if len(scores) == 1 else jnp.concatenate(scores, axis=1)


def ekfac_self_influence(
    model: Model,
    task: Task,
    variables: Variables,
    train: Batch,
    *,
    fit: dict[str, Kronecker] | None = None,
    damping: float = DAMPING,
    l2: float = 0.0,
    relative_damping: float | None = None,
    quantity: str = "loss",
    labels: str = "sampled",
    draws: int = 1,
    key: Array | None = None,
    select: Callable[[str], bool] | None = None,
    variant: str = "ekfac",
    micro: int = MICRO,
) -> Float[Array, " n"]:
    """Influence of every training example on itself, (n,): the diagonal of `ekfac_influence` with itself as queries.

    Unit: positive = training on the example helped it. ``score / n`` is the predicted rise of its own loss, in nats,
    when it is removed (with ``quantity="margin"``, the predicted fall of its margin). Arguments, weights and errors are
    those of `ekfac_influence`; layers with T = 1 form no gradients.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from unlearn_jax.influence.per_example import batch_of
        >>> from unlearn_jax.models import build_model
        >>> from unlearn_jax.tasks import classification
        >>> model = build_model("linear", 2, (3,))
        >>> train = batch_of(jnp.eye(3), jnp.array([0, 1, 0]))
        >>> variables = model.init(jax.random.key(0), train.inputs)
        >>> bool((ekfac_self_influence(model, classification(), variables, train, labels="empirical") > 0).all())
        True
    """
    choose("quantity", quantity, QUANTITIES)
    check_targets(model, variables, train, "train")
    check_rows(train, draws, micro)
    how: dict[str, Any] = dict(labels=labels, draws=draws, key=key, select=select, variant=variant, micro=micro)
    fit = ekfac_fit(model, task, variables, train, **how) if fit is None else fit
    shift = checked_shift(damping, l2, relative_damping)
    return checked(*_self_program(model, task, quantity, micro)(variables, train, fit, shift))


@functools.lru_cache(maxsize=64)
def _pair_program(model, task, quantity, micro):
    """The compiled scores: (variables, train, queries, fit, shift) -> (n, q) and each block's floors."""

    def program(variables: Variables, train: Batch, queries: Batch, fit: dict, shift: tuple):
        factors = functools.partial(_factors, model, task, variables, fit)
        sign = -1.0 if quantity == "margin" else 1.0

        def solved(part: Batch) -> dict[str, Array]:
            gradients = {name: layer_gradients(f) for name, f in factors(part, quantity).items()}
            return {name: sign * solve(fit[name], g, shift_of(fit[name], shift)) for name, g in gradients.items()}

        def scores(part: Batch) -> Array:
            parts = [_against(f, directions[name]) for name, f in factors(part, "loss").items()]
            return sum(parts) * part.weight.astype(parts[0].dtype)[:, None]

        with jax.default_matmul_precision("highest"):
            directions = mapped(solved, queries, micro)
            return mapped(scores, train, micro), {name: floors(block, shift) for name, block in fit.items()}

    return jax.jit(program)


@functools.lru_cache(maxsize=64)
def _self_program(model, task, quantity, micro):
    """The compiled scores: (variables, train, fit, shift) -> (n,) and each block's floors."""

    def program(variables: Variables, train: Batch, fit: dict, shift: tuple):
        def scores(part: Batch) -> Array:
            of_loss = _factors(model, task, variables, fit, part, "loss")
            of_quantity = of_loss if quantity == "loss" else _factors(model, task, variables, fit, part, quantity)
            scores_now: Any = sum(_with_itself(fit[name], f, of_quantity[name], shift) for name, f in of_loss.items())
            return (scores_now if quantity == "loss" else -scores_now) * part.weight.astype(scores_now.dtype)

        with jax.default_matmul_precision("highest"):
            return mapped(scores, train, micro), {name: floors(block, shift) for name, block in fit.items()}

    return jax.jit(program)


def _factors(model, task, variables, fit, batch: Batch, quantity: str) -> dict[str, Factors]:
    """Factors of the layers that have a block, in its dtype."""
    how: dict[str, Any] = dict(quantity=quantity, select=lambda name: name in fit, micro=len(batch.weight))
    found = layer_factors(model, task, variables, batch, **how)
    if set(found) != set(fit):
        raise InputError(f"fit has blocks of {', '.join(fit)}, the model layers {', '.join(found)}: fit this model.")
    return {name: Factors(f.inputs, f.slopes.astype(f.inputs.dtype)) for name, f in found.items()}


def _against(factors: Factors, directions: Array) -> Array:
    """Inner products (n, q) of gradients with directions (q, I, O), through the factors where they are smaller."""
    a, s = factors
    if a.shape[1] == 1 and len(directions) < a.shape[2]:
        return (jnp.einsum("ni,qio->nqo", a[:, 0], directions) * s).sum(axis=-1)
    return layer_gradients(factors).reshape(len(a), -1) @ directions.reshape(len(directions), -1).T


def _with_itself(block: Kronecker, of_loss: Factors, of_quantity: Factors, shift: tuple) -> Array:
    """Inner products (n,) of an example's gradients of loss and quantity under the inverse block."""
    inverse = 1.0 / (block.values + shift_of(block, shift))
    (a, s), (b, u) = rotated(block, of_loss), rotated(block, of_quantity)
    if a.shape[1] == 1:
        return (jnp.square(a[:, 0]) @ inverse * s[:, 0] * u[:, 0]).sum(axis=-1)
    return (layer_gradients(Factors(a, s)) * layer_gradients(Factors(b, u)) * inverse[None]).sum(axis=(1, 2))

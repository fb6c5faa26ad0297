"""TRAK: logistic regression on the gradients of the margin, by a population [Park et al., 2023, arXiv 2303.14186].

A model is replaced by a linear one in the features phi = grad margin, margin = log(p / (1 - p)), whose loss is
log(1 + exp(-margin)); one Newton step then says what removing a row does. The paper drops the curvature's weights
p (1 - p), without which every score is too small; here their mean is put in by default, which restores the unit and,
lam being relative, keeps the paper's ranks. Against exact leave-one-out of softmax regressions (150 rows, 10 to 50
parameters, 2 to 10 classes) scores were then .8 to 2 times the truth, the more the classes the larger, at rank
correlations of .91 to .99 (l2 as lam); the paper's letter gave .1 to .7 times at .80 to .99. Leave-one-out
denominators, which the paper drops too, and its last step, a soft threshold that sets small scores to 0, are left out.

Where there are fewer rows than parameters and no projection, the kernel comes from layers' factors (`gram`): neither
(n, P) gradients nor a (P, P) matrix are made.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from unlearn_jax.errors import InputError, choose
from unlearn_jax.influence.checks import check_targets, is_traced
from unlearn_jax.influence.gram import gram_matrix
from unlearn_jax.influence.per_example import MICRO, example_gradients, flatten, values
from unlearn_jax.influence.pieces import check_sets, finite, layout_of, leaves_by, score_dtype
from unlearn_jax.influence.projection import KINDS, projected_gradients
from unlearn_jax.influence.trak_kernel import by_features, by_rows
from unlearn_jax.trees import join_shared, split_shared
from unlearn_jax.types import Array, Batch, Model, Task, Variables

CURVATURES = ("mean", "identity", "newton")
AVERAGES = ("scores", "factors")
STEEPEST = 60.0  # nats; margins beyond it are taken for it in p (1 - p), which float32 can still hold


class Settings(NamedTuple):
    """What a compiled program is made for."""

    dim: int | None
    kind: str
    curvature: str
    select: Callable[[str], bool] | None
    micro: int
    block: int | None


class TrakSums(NamedTuple):
    """Sums over members, or one member's part of them."""

    scores: Array  # (n, q)
    kernel: Array  # (n, q), scores without the slope
    slope: Array  # (n,), 1 - p
    size: Array  # () mean squared norm of the features
    pivot: Array  # () smallest pivot of the factorisation by the diagonal's entry, the worst member's


def trak(
    model: Model,
    task: Task,
    variables: Variables,
    train: Batch,
    queries: Batch,
    *,
    dim: int | None = None,
    kind: str = "rademacher",
    key: Array | None = None,
    lam: float = 0.0,
    relative: float = 1e-3,
    curvature: str = "mean",
    ensemble: bool = False,
    average: str = "scores",
    select: Callable[[str], bool] | None = None,
    block: int | None = None,
    micro: int = MICRO,
) -> Float[Array, "n q"]:
    """TRAK scores (train, queries): ``n phi_q . (Phi' R Phi + lam I)^-1 phi_i (1 - p_i)``.

    Positive = training on i helped q; score / n is the predicted **fall of q's margin** in nats when i is removed and
    the normaliser n kept. p is the sigmoid of the task's margin; for a task of language that is the probability of the
    whole answer, so that a row's loss is -log p of it rather than the mean over its tokens.

    Args:
        model: the model.
        task: its task.
        variables: one member's, or with ``ensemble`` a population's.
        train: n rows. The weight multiplies a row's part of the kernel and its score: rows of weight 0 are absent and
            score 0; n counts them all.
        queries: q rows; the weight plays no part. None of them: the result is (n, 0).
        dim: columns of a random projection, see `projected_gradients`; none = the gradients as they are.
        kind: of the projection: ``rademacher``, ``gaussian`` or ``factored``.
        key: typed random key for a projection; every member has its own.
        lam: added to the kernel's diagonal. n (l2 + damping) is that of influence functions.
        relative: this times the mean of the kernel's (up to n) eigenvalues is added as well.
        curvature: R. ``mean``: the mean of p (1 - p); ``identity``: 1, the paper's letter, whose scores are in no unit;
            ``newton``: each row's own p (1 - p), with which the scores of a logistic regression on two classes are its
            influence functions. The kernel is solved in P x P or n x n, whichever is smaller.
        ensemble: variables have a leading member axis (but ``shared``); members go one by one in one program.
        average: over members. ``scores``: the mean of their scores; ``factors``: the paper's, the mean of the kernel's
            part times the mean of 1 - p.
        select: restriction to parameters, see `gram`.
        block: rows of a side at once where layers' factors are used, see `gram`.
        micro: examples differentiated side by side.

    Raises:
        InputError: no train rows, labels that the model does not have, a dim without a key, unknown names, gradients
            that are not finite, a lam below 0, a kernel that is singular in the working precision. With lam = relative
            = 0 and more parameters than rows the scores are the limit of a small lam, unless rows' gradients depend on
            one another.

    Source: Park et al., 2023 (arXiv 2303.14186).

    Example:
        >>> from unlearn_jax.influence.per_example import batch_of
        >>> from unlearn_jax.models import build_model
        >>> from unlearn_jax.tasks import classification
        >>> x = np.eye(3, dtype=np.float32)
        >>> model, batch = build_model("linear", 2, (3,)), batch_of(x, np.array([0, 1, 1]))
        >>> variables = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(0), x))
        >>> scores = trak(model, classification(), variables, batch, batch, lam=1.0, relative=0.0)
        >>> print((scores / 3)[1].round(2))  # without row 1 its own margin would fall by .89 nats, row 2's by .22
        [-0.22  0.89  0.22]
    """
    check_sets(train, queries)
    _check(dim, kind, key, lam, relative, curvature, average)
    one = _one_member(variables) if ensemble else variables
    for batch, name in ((train, "train"), (queries, "queries")):
        check_targets(model, one, batch, name)
    if len(queries.weight) == 0:
        return jnp.zeros((len(train.weight), 0), score_dtype(variables))
    run = _program(
        model, task, Settings(dim, kind, curvature, leaves_by(variables, select), micro, block), ensemble, average
    )
    scores, size, pivot = run(variables, train, queries, key, lam, relative)
    _check_kernel(size, pivot, scores.dtype)
    return finite(scores)


def _check(dim, kind, key, lam, relative, curvature, average) -> None:
    choose("projection", kind, KINDS)
    choose("curvature", curvature, CURVATURES)
    choose("average", average, AVERAGES)
    if dim is not None and key is None:
        raise InputError("a projection is drawn from a key: give key, for example jax.random.key(0).")
    for name, value in (("lam", lam), ("relative", relative)):
        if not is_traced(value) and not (np.isfinite(value) and value >= 0):
            raise InputError(f"{name} is {value}: give a finite number of at least 0.")


def _one_member(variables: Variables) -> Variables:
    unshared, shared = split_shared(variables)
    return join_shared(jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), unshared), shared)


def _check_kernel(size: Array, pivot: Array, dtype) -> None:
    """Raise `InputError` for a kernel that is not finite or singular, where it is known already."""
    if is_traced(size, pivot):
        return
    if not np.isfinite(size):
        raise InputError("margins' gradients are not finite on train: drop those rows, or use a model that converged.")
    if not pivot > 8 * jnp.finfo(dtype).eps:
        raise InputError(f"the kernel is singular in {dtype}: give a larger lam or relative, or a smaller dim.")


@functools.lru_cache(maxsize=64)
def _program(model, task, settings: Settings, ensemble: bool, average: str):
    """The compiled `trak` of one model and setting: scores, and what tells whether they can be trusted."""

    def run(variables, train, queries, key, lam, relative):
        def of(unshared, number) -> TrakSums:
            mine = None if key is None else jax.random.fold_in(key, number)
            return _member(model, task, settings, unshared, train, queries, mine, lam, relative)

        if not ensemble:
            sums, members = of(variables, 0), 1
        else:
            sums, members = _summed(of, variables)
        if average == "factors":
            scores = len(train.weight) * sums.kernel * sums.slope[:, None] / members**2
        else:
            scores = len(train.weight) * sums.scores / members
        return scores, sums.size, sums.pivot

    return jax.jit(run)


def _summed(of, variables: Variables) -> tuple[TrakSums, int]:
    """Members' parts added up, one after another."""
    unshared, shared = split_shared(variables)
    members = len(jax.tree.leaves(unshared)[0])
    alone = lambda index: of(join_shared(jax.tree.map(lambda x: jnp.asarray(x)[index], unshared), shared), index)

    def add(index, total: TrakSums) -> TrakSums:
        new = alone(index)
        summed = jax.tree.map(jnp.add, total, new)
        return summed._replace(pivot=jnp.minimum(total.pivot, new.pivot))

    return lax.fori_loop(1, members, add, alone(0)), members


def _member(model, task, settings, variables, train, queries, key, lam, relative) -> TrakSums:
    """One member's scores, before they are multiplied by n."""
    dtype = score_dtype(variables)
    margins = jnp.clip(values(model, task, variables, train, quantity="margin").astype(dtype), -STEEPEST, STEEPEST)
    slope, weight = jax.nn.sigmoid(-margins), train.weight.astype(dtype)
    bend = slope * jax.nn.sigmoid(margins)
    if settings.curvature == "mean":
        bend = jnp.full_like(bend, jnp.sum(weight * bend) / jnp.sum(weight))
    bend = weight if settings.curvature == "identity" else weight * bend
    extra = lambda trace, rank: jnp.asarray(lam, dtype) + jnp.asarray(relative, dtype) * trace / rank
    parts = _grams(model, task, settings, variables, train, queries) if _by_kernel(settings, variables, train) else None
    if parts is None:
        phi = _features(model, task, settings, variables, train, key).astype(dtype)
        parts = phi, _features(model, task, settings, variables, queries, key).astype(dtype)
        solve = by_features
        if phi.shape[1] > len(phi):
            multiply = functools.partial(jnp.matmul, precision="highest")
            parts, solve = (multiply(phi, phi.T), multiply(phi, parts[1].T)), by_rows
    else:
        solve = by_rows
    kernel, size, pivot = solve(*parts, bend, extra)
    return TrakSums(weight[:, None] * slope[:, None] * kernel, kernel, weight * slope, size, pivot)


def _by_kernel(settings: Settings, variables: Variables, train: Batch) -> bool:
    """Whether rows are fewer than parameters, and these not projected."""
    return settings.dim is None and len(train.weight) < flatten(variables, settings.select).vector.size


def _features(model, task, settings, variables, batch, key) -> Array:
    """(n, k) gradients of the margin, projected if there is a dim."""
    kinds: dict[str, Any] = dict(quantity="margin", select=settings.select, micro=settings.micro)
    if settings.dim is None:
        return example_gradients(model, task, variables, batch, **kinds)
    return projected_gradients(model, task, variables, batch, dim=settings.dim, key=key, kind=settings.kind, **kinds)


def _grams(model, task, settings, variables, train, queries) -> tuple[Array, Array]:
    """(n, n) and (n, q) inner products of the margins' gradients."""
    layout = layout_of(model, variables, train, settings.select)
    kinds = dict(quantities=("margin",) * 2, cosine=False, block=settings.block, micro=settings.micro)
    between = lambda batch: gram_matrix(model, task, variables, train, batch, layout, **kinds)
    return between(train), between(queries)

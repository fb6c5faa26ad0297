"""One Newton step as a fold: gather a change of the gradient over the request, then solve against the curvature.

Not a method itself: `influence`, `warnecke_second` and others say which change. The curvature is that of the mean loss
on the retained data plus ``damping``; solvers: conjugate gradients (``cg``, one exact pass over the retained data an
iteration), LiSSA (``lissa``, one batch an iteration: Agarwal et al. 2017, arXiv 1602.03943), and ``dense`` (the whole
matrix, for a few thousand weights at most).

LiSSA diverges where its scale is below half the largest curvature of a batch. So at least `PROBES` power iterations, a
batch each, come before it, and the scale is at least 1.1 times the largest curvature that they met. Curvature below
- ``damping`` (only with ``curvature=hessian``) no scale can bound: what is returned is the solution after the pass of
the smallest mean squared residual, no step where no pass has less than none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unlearn_jax.errors import InputError, choose
from unlearn_jax.methods.support.common import Recipe, TrainSpec, phased_method
from unlearn_jax.methods.support.parts import curvature_product, normal_like, solve, summed_loss, zeros_like
from unlearn_jax.population.plans import Plan, Sizes, passes, phased_plan, request_batch
from unlearn_jax.trees import tree_add, tree_dot, tree_scale, tree_select
from unlearn_jax.types import Array, Batch, Method, PyTree, Variables

GATHER, PRODUCT, STEP, PROBE = range(4)
PROBES = 10  # power iterations, at least
SOLVERS = ("cg", "lissa", "dense")
DENSE_MOST = 4000  # weights


class Newton(NamedTuple):
    """What the fold carries; vectors are trees like the parameters."""

    variables: Variables
    change: PyTree  # right-hand side: sum over the request
    solution: PyTree
    residual: PyTree
    direction: PyTree  # of conjugate gradients; LiSSA: of the power iterations
    product: PyTree  # sum over the retained examples so far of curvature x direction; (P, P) for the dense solver;
    # LiSSA: the best solution so far
    count: Array  # retained examples summed in this pass
    retained: Array  # and in a whole pass
    started: Array
    key: Array  # data of the key
    top: Array  # LiSSA: largest curvature met
    gaps: Array  # (2,) LiSSA: sum of squared residuals in this pass, and how many
    least: Array  # LiSSA: the smallest mean of a pass


def newton_fold(
    problem: TrainSpec, static: dict, hp: dict, change: Callable[[Variables, Batch, Array], PyTree]
) -> Method:
    """The fold "w += rate H_R^-1 (sum of changes) / n_R".

    Args:
        problem: model and task.
        static: ``solver``, ``curvature`` (ggn or hessian).
        hp: ``damping`` added to the curvature of the mean loss, ``rate`` of the step, least ``scale`` of LiSSA.
        change: (variables, request batch, key data) -> minus the change of the summed gradient.
    """
    solver = choose("solver", static["solver"], SOLVERS)
    choose("curvature", static["curvature"], ("ggn", "hessian"))

    def init(key, variables):
        params = variables["params"]
        zero, square = zeros_like(params), zeros_like(params)
        if solver == "dense":
            size = sum(x.size for x in jax.tree.leaves(params))
            if size > DENSE_MOST:
                raise InputError(f"the model has {size} weights, too many for solver 'dense': choose cg or lissa.")
            square = jnp.zeros((size, size))
        none, data = jnp.float32(0.0), jax.random.key_data(key)
        toward = normal_like(jax.random.fold_in(key, 5), params) if solver == "lissa" else zero
        counters = none, none, jnp.bool_(False), data, none, jnp.zeros(2), jnp.float32(jnp.inf)
        return Newton(variables, zero, zero, zero, toward, square, *counters)

    def gather(key, state, batches):
        total = tree_add(state.change, change(state.variables, batches.forget, state.key))
        return state._replace(change=total), summed_loss(problem, state.variables, batches.forget)

    times = lambda state, batch, v: curvature_product(problem, state.variables, batch, v, static["curvature"])

    def product(key, state, batches):
        batch, begun = batches.retain, state.started
        if solver == "lissa":
            state = _lissa(state, times(state, batch, state.solution), batch, hp)
        elif solver == "dense":
            state = state._replace(product=state.product + _dense(state, batch, times))
        else:
            start = lambda x: tree_select(begun, x, state.change)
            state = state._replace(residual=start(state.residual), direction=start(state.direction))
            state = state._replace(product=tree_add(state.product, times(state, batch, state.direction)))
        started = jnp.bool_(True)
        return state._replace(count=state.count + batch.weight.sum(), started=started), jnp.float32(0.0)

    def probe(key, state, batches):
        probed = _probed(state, times(state, batches.retain, state.direction), batches.retain)
        return probed, probed.top

    def step(key, state, batches):
        if solver == "cg":
            state = _conjugate(state, hp["damping"])
        elif solver == "lissa":
            state = _best(state)
        counts = {"count": jnp.float32(0.0), "retained": state.count}
        return state._replace(**counts), jnp.sqrt(tree_dot(state.residual, state.residual))

    def end(state):
        solution = state.product if solver == "lissa" else state.solution
        if solver == "dense":
            flat, back = ravel_pytree(state.change)
            matrix = state.product / jnp.maximum(state.retained, 1.0) + hp["damping"] * jnp.eye(flat.shape[0])
            solution = back(solve(matrix, flat))
        moved = tree_scale(solution, hp["rate"] / jnp.maximum(state.retained, 1.0))
        return state.variables | {"params": tree_add(state.variables["params"], moved)}

    return phased_method(init, [gather, product, step] + [probe] * (solver == "lissa"), end)


def _conjugate(state: Newton, damping) -> Newton:
    """One iteration of conjugate gradients, once the product is summed over the whole pass."""
    count = jnp.maximum(state.count, 1.0)
    image = tree_add(tree_scale(state.product, 1.0 / count), state.direction, damping)
    old, curve = tree_dot(state.residual, state.residual), tree_dot(state.direction, image)
    length = jnp.where(curve > 0, old / jnp.where(curve > 0, curve, 1.0), 0.0)  # stops for good at negative curvature
    residual = tree_add(state.residual, image, -length)
    ratio = tree_dot(residual, residual) / jnp.maximum(old, 1e-30)
    direction = tree_add(residual, state.direction, ratio)
    return state._replace(
        solution=tree_add(state.solution, state.direction, length),
        residual=residual,
        direction=tree_scale(direction, (curve > 0).astype(jnp.float32)),
        product=zeros_like(state.product),
    )


def _probed(state: Newton, product: PyTree, batch: Batch) -> Newton:
    """One power iteration on the curvature of a batch's mean loss."""
    live = batch.weight.sum()
    mean = tree_scale(product, 1.0 / jnp.where(live > 0, live, 1.0))
    size, before = (jnp.sqrt(tree_dot(x, x)) for x in (mean, state.direction))
    moved = tree_select(size > 0, tree_scale(mean, 1.0 / jnp.where(size > 0, size, 1.0)), state.direction)
    return state._replace(direction=moved, top=jnp.maximum(state.top, size / before))


def _lissa(state: Newton, product: PyTree, batch: Batch, hp: dict) -> Newton:
    """x <- b / scale + (I - (H + damping) / scale) x on one batch; the limit is (H + damping)^-1 b."""
    live = batch.weight.sum()
    mean = tree_scale(product, 1.0 / jnp.where(live > 0, live, 1.0))
    gap = tree_add(state.change, tree_add(mean, state.solution, hp["damping"]), -1.0)
    shown = (live > 0).astype(jnp.float32)  # a batch beyond a smaller member's last example says nothing
    scale = jnp.maximum(hp["scale"], 1.1 * (state.top + hp["damping"]))
    gaps = state.gaps + shown * jnp.stack([tree_dot(gap, gap), jnp.float32(1.0)])
    return state._replace(solution=tree_add(state.solution, gap, shown / scale), residual=gap, gaps=gaps)


def _best(state: Newton) -> Newton:
    """Keeps the solution if its pass had the smallest mean squared residual; not a number is never the smallest."""
    mean, none = state.gaps[0] / jnp.maximum(state.gaps[1], 1.0), tree_dot(state.change, state.change)
    better = mean <= jnp.minimum(state.least, none)
    return state._replace(
        product=tree_select(better, state.solution, state.product),
        least=jnp.where(better, mean, state.least),
        gaps=jnp.zeros(2),
    )


def _dense(state: Newton, batch: Batch, times: Callable) -> Array:
    """(P, P) curvature of the batch's summed loss, a column a product."""
    flat, back = ravel_pytree(state.change)
    columns = jax.lax.map(lambda one: ravel_pytree(times(state, batch, back(one)))[0], jnp.eye(flat.shape[0]))
    return columns.T


def newton_plan(sizes: Sizes, static: dict, recipe: Recipe, gather_cost: float = 1.0) -> Plan:
    """A pass over the request; then ``steps`` iterations of the solver: a pass each, or a batch each for LiSSA, whose
    number is rounded up to whole passes, as that of its power iterations is.
    """
    batch = request_batch(sizes, static["batch"])
    scan, whole = passes(sizes.forget, batch), passes(sizes.retain, static["batch"])
    once = [PRODUCT] * whole + [STEP]
    lengths = {"cg": static["steps"], "lissa": passes(static["steps"], whole), "dense": 1}
    rounds = lengths[choose("solver", static["solver"], SOLVERS)]
    probes = [PROBE] * whole * (passes(PROBES, whole) if static["solver"] == "lissa" else 0)
    return phased_plan(
        np.asarray([GATHER] * scan + probes + once * rounds),
        forget_batch=batch,
        retain_batch=static["batch"],
        forget_cost=(gather_cost, 0.0, 0.0, 0.0),
        retain_cost=(0.0, 2.0, 0.0, 2.0),
        forget_pass=scan,
        retain_pass=whole,
    )

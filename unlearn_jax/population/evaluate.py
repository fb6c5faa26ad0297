"""Margins, correctness and features of every member on stored examples."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from unlearn_jax import trees
from unlearn_jax.population.run import Stored
from unlearn_jax.population.sharding import member_mesh, member_shardings, over_members
from unlearn_jax.types import Batch, Model, Task, Variables


class Evaluation(NamedTuple):
    """Per-member, per-example results."""

    margin: np.ndarray  # (N, n) float32, nats
    correct: np.ndarray  # (N, n) float32, 0 or 1; NaN where the margin is not finite
    answer: np.ndarray | None = None  # (N, n) int32, the answer given, of tasks that have one


_PROGRAMS: dict = {}


def _program(model: Model, task: Task | None, axis: str, mesh: Mesh):
    """The jitted evaluation of one block of examples by a chunk of members: scores, or logits without a task."""
    key = (model, task, axis, mesh.size)
    if key not in _PROGRAMS:

        def block(own, common):
            shared, inputs, targets = common
            variables = own | ({"shared": shared} if shared else {})
            logits = model.apply(variables, inputs, train=False)[0].logits
            if task is None:
                return (logits,)
            batch = Batch(inputs, targets, jnp.ones(targets.shape[0]), jnp.arange(targets.shape[0], dtype=jnp.int32))
            given = () if task.answer is None else (task.answer(logits, batch),)
            return task.margin(logits, batch), task.correct(logits, batch), *given

        split, whole = member_shardings(mesh)
        _PROGRAMS[key] = jax.jit(over_members(block, axis, mesh), in_shardings=(split, whole), out_shardings=split)
    return _PROGRAMS[key]


def _blocks(model, task, variables, data: Stored, width: int, axis: str, block: int):
    """Yield (members, examples, outputs) of every block as (slice, slice, tuple of NumPy arrays)."""
    own, shared = trees.split_shared(variables)
    members, n = len(jax.tree.leaves(own)[0]), data.targets.shape[0]
    large = int(np.prod(data.inputs.shape[1:])) >= 1000 and jax.default_backend() == "cpu"
    block = min(block or (128 if large else 1024), n)
    mesh = member_mesh(width)
    split, whole = member_shardings(mesh)
    run = _program(model, task, axis, mesh)
    for start in range(0, members, width):
        rows = np.minimum(np.arange(start, start + width), members - 1)
        live = min(width, members - start)
        chunk = jax.device_put(trees.take_members(own, rows), split)
        for first in range(0, n, block):
            at = np.minimum(np.arange(first, first + block), n - 1)
            found = run(chunk, jax.device_put((shared, data.inputs[at], data.targets[at]), whole))
            stop = min(first + block, n)
            cut = tuple(np.asarray(values)[:live, : stop - first] for values in found)
            yield slice(start, start + live), slice(first, stop), cut


def evaluate(
    model: Model,
    task: Task,
    variables: Variables,
    data: Stored,
    *,
    width: int,
    axis: str = "vmap",
    block: int = 0,
) -> Evaluation:
    """Evaluate a population on all of ``data``, in evaluation mode.

    Args:
        model: the members' model.
        task: what margin and correctness mean.
        variables: leading axis N.
        data: n examples.
        width: members per program; a multiple of the devices.
        axis: vmap or map.
        block: examples at a time; 0 = 1024, or 128 for images of 1,000 values and more on a CPU, whose patches must
            stay in its cache.

    Returns:
        (N, n) margins and correctness. A member whose weights are not finite has NaN in every entry.
    """
    own = trees.split_shared(variables)[0]
    margins = np.zeros((len(jax.tree.leaves(own)[0]), data.targets.shape[0]), np.float32)
    correct = np.zeros_like(margins)
    answer = None if task.answer is None else np.zeros(margins.shape, np.int32)
    for members, examples, found in _blocks(model, task, variables, data, width, axis, block):
        margins[members, examples], correct[members, examples] = found[:2]
        if answer is not None:
            answer[members, examples] = found[2]
    bad = ~np.isfinite(margins).all(axis=1) | ~_finite_members(own)
    margins[bad], correct[bad] = np.nan, np.nan
    return Evaluation(margins, correct, answer)


def predict(
    model: Model, variables: Variables, data: Stored, *, width: int, axis: str = "vmap", block: int = 0
) -> np.ndarray:
    """Logits of a population on all of ``data``, in evaluation mode: (N, n, K) float32. Arguments as of `evaluate`."""
    members = len(jax.tree.leaves(trees.split_shared(variables)[0])[0])
    logits = None
    for rows, examples, (found,) in _blocks(model, None, variables, data, width, axis, block):
        if logits is None:
            logits = np.zeros((members, data.targets.shape[0], found.shape[-1]), np.float32)
        logits[rows, examples] = found
    return logits


def _finite_members(own) -> np.ndarray:
    """(N,) whether every floating weight of the member is finite."""
    leaves = [np.asarray(x) for x in jax.tree.leaves(own) if jnp.issubdtype(x.dtype, jnp.floating)]  # bfloat16 too
    return np.all([np.isfinite(x).reshape(len(x), -1).all(axis=1) for x in leaves], axis=0)


def features(model: Model, variables: Variables, inputs: np.ndarray, *, members: int = 4) -> np.ndarray:
    """Penultimate features of the first members side by side; (n, ...) -> (n, members x D)."""
    own, shared = trees.split_shared(variables)
    members = min(members, len(jax.tree.leaves(own)[0]))
    apply = jax.jit(lambda v, x: model.apply(v, x, train=False)[0].features)
    parts = []
    for i in range(members):
        one = jax.tree.map(lambda x, i=i: jnp.asarray(x[i]), own) | ({"shared": shared} if shared else {})
        parts.append(np.asarray(apply(one, jnp.asarray(inputs)), np.float32))
    return np.concatenate(parts, axis=1)

"""Margins, correctness and features of every member on stored examples."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from unlearn_jax import trees
from unlearn_jax.models.decode import Cached
from unlearn_jax.models.lora import adapted_decoder
from unlearn_jax.population.answers import Spoken, answered, asked_by_token, asked_whole
from unlearn_jax.population.run import Stored
from unlearn_jax.population.sharding import (
    data_size,
    member_groups,
    member_mesh,
    member_shardings,
    over_members,
    split_batch,
    weight_shardings,
)
from unlearn_jax.runtime import multihost
from unlearn_jax.types import Batch, Model, Task, Variables


class Evaluation(NamedTuple):
    """Per-member, per-example results."""

    margin: np.ndarray  # (N, n) float32, nats
    correct: np.ndarray  # (N, n) float32, 0 or 1; NaN where the margin is not finite
    scores: np.ndarray | None = None  # (N, n, K) float32, log-probability of each candidate answer, nats
    spoken: Spoken | None = None  # language, where the answers are known to have L tokens
    greedy: np.ndarray | None = None  # (N, n, L) int32, the answer by greedy decoding


_PROGRAMS: dict = {}


def _program(model: Model, task: Task | None, decoder: Cached | None, axis: str, mesh: Mesh):
    """The jitted evaluation of one block of examples by a chunk of members: scores, or logits without a task."""
    key = (model, task, decoder, axis, mesh)
    if key not in _PROGRAMS:

        def block(own, common):
            shared, *examples = common
            inputs, targets = split_batch(examples, mesh)
            variables = trees.join_shared(own, shared)
            apply = lambda x: model.apply(variables, x, train=False)[0].logits
            if task is None:
                return apply(inputs)
            batch = Batch(inputs, targets, jnp.ones(targets.shape[0]), jnp.arange(targets.shape[0], dtype=jnp.int32))
            if task.candidates is not None:
                if decoder is None:
                    traced: Any = answered(task, batch, asked_whole(apply))
                    return Evaluation(*traced)
                run = adapted_decoder(decoder) if shared else decoder  # nothing is merged: the base stays one
                traced = answered(task, batch, asked_by_token(run, variables), decoder.never)
                return Evaluation(*traced)
            logits = apply(inputs)
            traced = task.margin(logits, batch), task.correct(logits, batch)
            return Evaluation(*traced)

        split, whole = member_shardings(mesh)
        placed: dict[str, Any] = {"in_shardings": (split, whole)}
        if data_size(mesh) > 1:
            placed = {}  # as the weights come
        _PROGRAMS[key] = jax.jit(over_members(block, axis, mesh), out_shardings=split, **placed)
    return _PROGRAMS[key]


def _blocks(model, task, decoder, variables, data: Stored, width: int, axis: str, block: int, data_devices: int):
    """Yield (members, examples, outputs) of every block as (slice, slice, tree of NumPy arrays)."""
    weights, shared = trees.split_shared(variables)
    members, n = len(jax.tree.leaves(weights)[0]), data.targets.shape[0]
    large = int(np.prod(data.inputs.shape[1:])) >= 1000 and jax.default_backend() == "cpu"
    block = min(block or (128 if large or (task and task.candidates) else 1024), n)
    block = -(-block // data_devices) * data_devices
    groups = member_groups(width, data_devices)
    width = -(-width // groups) * groups
    mesh = member_mesh(width, data_devices)
    whole = member_shardings(mesh)[1]
    run = _program(model, task, decoder, axis, mesh)
    shared = multihost.placed(shared, weight_shardings(mesh, shared, members=False))  # once: it may be large
    for start in range(0, members, width):
        rows = np.minimum(np.arange(start, start + width), members - 1)
        live = min(width, members - start)
        chunk = trees.take_members(weights, rows)
        chunk = multihost.placed(chunk, weight_shardings(mesh, chunk))
        for first in range(0, n, block):
            at = np.minimum(np.arange(first, first + block), n - 1)
            outputs = run(chunk, (shared, *multihost.placed((data.inputs[at], data.targets[at]), whole)))
            stop = min(first + block, n)
            window = np.s_[:live, : stop - first]  # without padding
            part = jax.tree.map(lambda x, window=window: x[window], multihost.gathered(outputs))
            yield slice(start, start + live), slice(first, stop), part


def _collected(blocks, members: int, examples: int) -> Any:
    """The outputs of all blocks as one tree of arrays (members, examples, ...)."""
    whole = None
    for rows, columns, outputs in blocks:
        if whole is None:
            whole = jax.tree.map(lambda v: np.zeros((members, examples, *v.shape[2:]), v.dtype), outputs)
        for table, part in zip(jax.tree.leaves(whole), jax.tree.leaves(outputs)):
            table[rows, columns] = part
    return whole


def evaluate(
    model: Model,
    task: Task,
    variables: Variables,
    data: Stored,
    *,
    width: int,
    axis: str = "vmap",
    block: int = 0,
    decoder: Cached | None = None,
    data_devices: int = 1,
) -> Evaluation:
    """Evaluate a population on all of ``data``, in evaluation mode.

    Args:
        model: the members' model.
        task: what margin and correctness mean.
        variables: leading axis N.
        data: n examples.
        width: members per program; rounded up where devices do not divide them.
        axis: vmap or map.
        block: examples at a time; 0 = 1024, or 128 for images of 1,000 values and more on a CPU, whose patches must
            stay in its cache and for candidate answers, whose logits are large.
        decoder: for candidate answers, the model with a cache of keys and values, which saves running a statement for
            every beginning of an answer; adapters on a shared base are not merged into it.
        data_devices: devices that hold one member together.

    Returns:
        (N, n) margins and correctness, NaN for a member whose weights are not finite; of language with known candidate
        answers also their log-probabilities and what is said of the true answer's tokens.
    """
    weights = trees.split_shared(variables)[0]
    members = len(jax.tree.leaves(weights)[0])
    blocks = _blocks(model, task, decoder, variables, data, width, axis, block, data_devices)
    scores = _collected(blocks, members, data.targets.shape[0])
    bad = ~np.isfinite(scores.margin).all(axis=1) | ~_finite_members(weights)
    scores.margin[bad], scores.correct[bad] = np.nan, np.nan
    return scores


def predict(
    model: Model,
    variables: Variables,
    data: Stored,
    *,
    width: int,
    axis: str = "vmap",
    block: int = 0,
    data_devices: int = 1,
) -> np.ndarray:
    """Logits of a population on all of ``data``, in evaluation mode: (N, n, K) float32. Arguments as of `evaluate`."""
    members = len(jax.tree.leaves(trees.split_shared(variables)[0])[0])
    blocks = _blocks(model, None, None, variables, data, width, axis, block, data_devices)
    return _collected(blocks, members, data.targets.shape[0])


def _finite_members(weights) -> np.ndarray:
    leaves = [np.asarray(x) for x in jax.tree.leaves(weights) if jnp.issubdtype(x.dtype, jnp.floating)]  # bfloat16 too
    return np.all([np.isfinite(x).reshape(len(x), -1).all(axis=1) for x in leaves], axis=0)


def features(
    model: Model, variables: Variables, inputs: np.ndarray, *, members: int = 4, block: int = 2048
) -> np.ndarray:
    """Penultimate features of the first members side by side; (n, ...) -> (n, members x D).

    ``block`` rows are computed at a time.
    """
    weights, shared = trees.split_shared(variables)
    members, count = min(members, len(jax.tree.leaves(weights)[0])), len(inputs)
    apply = jax.jit(lambda v, x: model.apply(v, x, train=False)[0].features)
    parts, block = [], min(block, count)
    for i in range(members):
        one = jax.tree.map(lambda x, i=i: jnp.asarray(x[i]), weights) | ({"shared": shared} if shared else {})
        blocks = []
        for first in range(0, count, block) if count else (0,):
            at = np.minimum(np.arange(first, first + block), count - 1)
            blocks.append(np.asarray(apply(one, jnp.asarray(inputs[at])), np.float32)[: count - first])
        parts.append(np.concatenate(blocks))
    return np.concatenate(parts, axis=1)

"""Embeddings by networks trained on the data themselves: features, and gradients in the units of their curvature."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.data.arrays import Dataset
from unlearn_jax.data.kinds import KINDS
from unlearn_jax.data.similarity.nearest import unit_rows
from unlearn_jax.errors import InputError
from unlearn_jax.influence import batch_of, ekfac_fit
from unlearn_jax.influence.layers import DAMPING, MAX_ROWS, last_layer
from unlearn_jax.influence.rows import ekfac_rows
from unlearn_jax.methods import TrainSpec, prepare
from unlearn_jax.mining.config import MiningConfig, study_of
from unlearn_jax.population import checkpoint
from unlearn_jax.population.evaluate import features
from unlearn_jax.population.members import make_tables, member_keys
from unlearn_jax.population.run import Options, Stored, run_population
from unlearn_jax.studies.problems import problem_of, published_shared
from unlearn_jax.studies.setup import Watch, checked_options
from unlearn_jax.trees import join_shared, split_shared
from unlearn_jax.types import Variables

MAX_COLUMNS, PROJECTED = 8192, 2048  # parameters from which gradients are projected, and to how many
BLOCK = 1024  # samples whose gradients are made at a time


class Networks(NamedTuple):
    """Trained members and what they read."""

    problem: TrainSpec
    variables: Variables
    dataset: Dataset  # read


def train_networks(config: MiningConfig, dataset: Dataset, options: Options, watch: Watch) -> Networks:
    """Members trained on all training samples by the data set's recipe.

    Raises:
        InputError: members that diverged; as `problem_of`.
    """
    study, members = study_of(config), config.members
    read_data = KINDS[dataset.kind].read(dataset, study.features, np.zeros(0, np.int64))
    problem = problem_of(study, read_data, [])
    options = checked_options(options, problem)
    data = Stored(jnp.asarray(read_data.train.inputs), jnp.asarray(read_data.train.targets))
    fold, plan, hp = prepare("retrain", problem)
    keys = member_keys(config.seed, "mining", members)
    tables = make_tables([np.arange(len(data.targets), dtype=np.int32)] * members)
    if options.store is not None:
        checkpoint.check_writable(options.store)
    watch.stage("networks", members)
    labelled = watch.on(options)._replace(label="networks")
    shared = join_shared({}, published_shared(study, read_data))
    values = {name: np.full(members, value) for name, value in hp.items()}
    population = run_population(fold, plan, data, tables, keys, shared, hp=values, options=labelled)
    leaves = jax.tree.leaves(split_shared(population.variables)[0])
    if not all(np.isfinite(np.asarray(leaf, np.float32)).all() for leaf in leaves):
        raise InputError("the networks diverged: give fewer --steps, another --model, or another --embedding.")
    return Networks(problem, population.variables, read_data)


def feature_rows(networks: Networks, watch: Watch) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows of both splits, whose cosines are the mean over members of theirs."""
    watch.say("features of every sample")
    members = _members(networks)
    parts = [
        features(networks.problem.model, networks.variables, part.inputs, members=members)
        for part in (networks.dataset.train, networks.dataset.test)
    ]
    by_member = [part.reshape(len(part), members, -1) for part in parts]
    mean = by_member[0].mean(axis=0, keepdims=True)
    train, test = ([unit_rows(part[:, i] - mean[:, i]) for i in range(members)] for part in by_member)
    return joined(train), joined(test)


def influence_rows(
    networks: Networks, watch: Watch, *, layers: str, seed: int
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Unit rows of both splits and a note; cosines are the mean over members of those of EK-FAC influence.

    Args:
        networks: trained.
        watch: progress.
        layers: ``last`` or ``all``.
        seed: of the samples that the curvature is fitted to and of projections.

    Raises:
        InputError: no layer can be tapped.
    """
    problem, parts, note = networks.problem, (networks.dataset.train, networks.dataset.test), ""
    train, test = [], []
    for member in range(_members(networks)):
        watch.say(f"curvature and gradients of network {member + 1}")
        weights, shared = split_shared(networks.variables)
        variables = join_shared(jax.tree.map(lambda x, i=member: jnp.asarray(x)[i], weights), shared)
        fit = _fit(problem, variables, parts[0], layers, seed)
        size = sum(block.values.size for block in fit.values())
        dim = PROJECTED if size > MAX_COLUMNS else None
        for rows, part in zip((train, test), parts):
            rows.append(_gradients(problem, variables, part, fit, dim, seed))
        note = f"influence is that of {size:,} weights, layers {', '.join(sorted(fit))}"
        note += f", whose gradients were projected to {dim:,} numbers by random signs" if dim else ""
    return joined(train), joined(test), (note,)


def joined(parts: list[np.ndarray]) -> np.ndarray:
    """Unit rows by member -> unit rows whose cosine is the mean of theirs (rows of zeros apart)."""
    return parts[0] if len(parts) == 1 else unit_rows(np.concatenate(parts, axis=1))


def _members(networks: Networks) -> int:
    return len(jax.tree.leaves(split_shared(networks.variables)[0])[0])


def _fit(problem: TrainSpec, variables: Variables, train, layers: str, seed: int) -> dict:
    """Curvature of the chosen layers on the training samples, or on a random part of many."""
    rows = np.arange(len(train.targets))
    if len(rows) > MAX_ROWS:
        rows = np.sort(np.random.default_rng([seed, 21]).choice(rows, MAX_ROWS, replace=False))
    batch, task = batch_of(train.inputs[rows], train.targets[rows]), problem.task
    classes = task.candidates is None and task.token_logprob is None
    labels = "exact" if classes and problem.num_classes <= 20 else "sampled"
    select = last_layer(problem.model, variables, batch) if layers == "last" else None
    return ekfac_fit(problem.model, task, variables, batch, labels=labels, select=select)


def _gradients(problem: TrainSpec, variables: Variables, part, fit: dict, dim: int | None, seed: int) -> np.ndarray:
    """Unit rows of one split, a block at a time."""
    count, blocks = len(part.targets), []
    size = min(BLOCK, count)
    how: dict[str, Any] = dict(relative_damping=DAMPING, dim=dim, key=jax.random.key(seed))
    for first in range(0, count, size):
        at = np.minimum(np.arange(first, first + size), count - 1)
        batch = batch_of(part.inputs[at], part.targets[at])
        rows = unit_rows(np.asarray(ekfac_rows(problem.model, problem.task, variables, batch, fit, **how)))
        blocks.append(rows[: count - first])
    return np.concatenate(blocks)

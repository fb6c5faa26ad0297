"""The examples of an attribution study: who trains, who is asked about, which rows form a cluster."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from unlearn_jax.attribution.config import AttributionConfig, study_of
from unlearn_jax.data.splits import request_rows
from unlearn_jax.errors import InputError
from unlearn_jax.influence.per_example import batch_of
from unlearn_jax.setup import SILENT, Setup, Watch, prepare_study
from unlearn_jax.types import Batch


class Ground(NamedTuple):
    """Rows of the stored examples, and where among them the clusters lie."""

    setup: Setup
    train: np.ndarray  # (n,) stored rows of the training set, ascending
    queries: np.ndarray  # (q,) stored rows asked about: the targets, then test examples
    targets: np.ndarray  # (g,) places of the targets within ``train``, by cluster
    clusters: list[np.ndarray]  # places within ``train`` of each target and its copies
    asked: np.ndarray  # (q,) cluster whose target each query is, -1 = a test example

    @property
    def masks_without_targets(self) -> np.ndarray:
        """(g, n) 1 = trained on, with each target left out in turn."""
        return _without(len(self.train), [self.targets[[g]] for g in range(len(self.targets))])

    @property
    def masks_without_clusters(self) -> np.ndarray:
        """(g, n) 1 = trained on, with each whole cluster left out in turn."""
        return _without(len(self.train), self.clusters)

    def batch(self, rows: np.ndarray) -> Batch:
        """Stored rows as a batch."""
        stored = self.setup.stored
        return batch_of(stored.inputs[jnp.asarray(rows)], stored.targets[jnp.asarray(rows)])

    def labels(self, rows: np.ndarray) -> np.ndarray:
        """(k,) classes of stored rows."""
        return self.setup.bench.labels[rows].astype(np.int64)


def _without(n: int, groups: list[np.ndarray]) -> np.ndarray:
    """(groups, n) masks with each group left out."""
    masks = np.ones((len(groups), n), bool)
    for mask, group in zip(masks, groups):
        mask[group] = False
    return masks


def prepare_ground(config: AttributionConfig, watch: Watch = SILENT, **options) -> Ground:
    """Load the data, choose targets, make copies.

    Raises:
        InputError: as `prepare_study`; a language data set, which has no classes.
    """
    setup = prepare_study(study_of(config), watch, **options)
    if setup.problem.task.candidates is not None:
        raise InputError(f"--dataset {config.dataset} has no classes: attribution studies are of classifiers.")
    bench, rows = setup.bench, request_rows(setup.bench, 0, copies=config.copies)
    train = np.sort(rows.everything)
    place = lambda at: np.searchsorted(train, at)
    number = bench.cluster[rows.forget]
    order = np.argsort(number)
    targets = rows.forget[order]
    mine = bench.cluster[train]
    clusters = [np.flatnonzero((mine == g) & (bench.request[train] == 0)) for g in number[order]]
    count = min(config.queries, len(rows.test))
    test = np.sort(np.random.default_rng([config.seed, 12]).choice(rows.test, count, replace=False))
    asked = np.concatenate([np.arange(len(targets)), np.full(count, -1)])
    return Ground(setup, train, np.concatenate([targets, test]), place(targets), clusters, asked)

"""The examples of an attribution study: training rows, queries, and which rows form a cluster."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from unlearn_jax.attribution.config import AttributionConfig, study_of, tracks_of
from unlearn_jax.data import load_dataset
from unlearn_jax.data.splits import request_rows
from unlearn_jax.errors import InputError
from unlearn_jax.influence.exact_logistic import LARGEST
from unlearn_jax.influence.per_example import batch_of
from unlearn_jax.studies.resolve import resolve
from unlearn_jax.studies.setup import SILENT, Setup, Watch, prepare_study
from unlearn_jax.types import Batch

MAX_INPUTS = 800  # values of a sample on the exact track


class Ground(NamedTuple):
    """Rows of the stored examples, and where among them the clusters lie."""

    setup: Setup
    train: np.ndarray  # (n,) stored rows of the training set, ascending
    queries: np.ndarray  # (q,) stored rows of the queries: the targets, then test examples
    targets: np.ndarray  # (g,) places of the targets within ``train``, by cluster
    clusters: list[np.ndarray]  # places within ``train`` of each target and its copies
    asked: np.ndarray  # (q,) cluster whose target each query is, -1 = a test example

    @property
    def copied(self) -> bool:
        """Whether a cluster is more than its target."""
        return any(len(cluster) > 1 for cluster in self.clusters)

    def batch(self, rows: np.ndarray) -> Batch:
        """Stored rows as a batch."""
        stored = self.setup.stored
        return batch_of(stored.inputs[jnp.asarray(rows)], stored.targets[jnp.asarray(rows)])

    def labels(self, rows: np.ndarray) -> np.ndarray:
        """(k,) classes of stored rows."""
        return self.setup.bench.labels[rows].astype(np.int64)


def _check_inputs(config: AttributionConfig, inputs: np.ndarray, classes: int) -> None:
    """`InputError` where the exact track is chosen and impossible."""
    if "exact" not in tracks_of(config):
        return
    if not np.issubdtype(inputs.dtype, np.floating) and inputs.ndim == 2:
        raise InputError("the exact track is a regression on numbers, and these inputs are tokens: --tracks network.")
    size = inputs[0].size
    if size > MAX_INPUTS or (size + 1) * classes > LARGEST:
        raise InputError(
            f"the exact track takes {MAX_INPUTS} values a sample and {LARGEST:,} weights at most, these {size} "
            f"and {(size + 1) * classes:,}: give --tracks network, or data with fewer values."
        )


def prepare_ground(config: AttributionConfig, watch: Watch = SILENT, **options) -> Ground:
    """Load the data, choose targets, make copies.

    Raises:
        InputError: as `prepare_study`; a language data set, which has no classes; the exact track of samples with more
            values than a dense curvature matrix has room for, or of tokens, whose numbers mean nothing.
    """
    watch.begin("reading data, building networks")
    dataset = load_dataset(config.dataset, data_dir=options.get("data_dir"))
    if dataset.kind == "facts":
        raise InputError(
            f"--dataset {config.dataset} has no classes, and attribution studies are of classifiers: give another."
        )
    if dataset.kind != "text":  # before pilots are trained; texts are still to be read
        _check_inputs(config, dataset.train.inputs, dataset.num_classes)
    setup = prepare_study(resolve(study_of(config)), watch, **options)
    _check_inputs(config, setup.bench.inputs, dataset.num_classes)
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

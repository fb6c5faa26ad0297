"""`digits_poisoned`: digits of which 20 carry a bright mark in a corner and the label 0, as in a backdoor attack."""

from __future__ import annotations

import os

import numpy as np

from unlearn_jax.data import DATASETS, Dataset, Split
from unlearn_jax.data.sources.embedded import digits
from unlearn_jax.data.targets import distance_to_class

NAME, POISONED, LABEL, SIDE = "digits_poisoned", 20, 0, 3
POOL = 60  # images least like a 0, among which the poisoned ones are drawn


def digits_poisoned(*, data_dir: str | os.PathLike | None = None) -> Dataset:
    """The embedded digits with a 3x3 mark in the upper right corner of 20 training images, labelled 0.

    They are images of other digits that look least like a 0, so that ``--targets distant`` finds just these; a clean
    image that lies farther from its class than they do is left out. The test images are as they were. ``data_dir`` is
    ignored, and there so that every source is called alike.
    """
    plain = digits(data_dir=data_dir)
    train = plain.train
    marked, labels = train.inputs.copy(), train.targets.copy()
    marked[:, :SIDE, -SIDE:] = 1.0
    away = ((marked - train.inputs[labels == LABEL].mean(axis=0)) ** 2).sum(axis=(1, 2, 3))
    away[labels == LABEL] = 0.0
    pool = np.argsort(-away, kind="stable")[:POOL]
    rows = np.random.default_rng(7).choice(pool, POISONED, replace=False)
    inputs, labels[rows] = train.inputs.copy(), LABEL
    inputs[rows] = marked[rows]
    made = plain._replace(name=NAME, train=Split(inputs, labels, train.ids))
    ahead = np.argsort(-distance_to_class(made), kind="stable")[:POISONED]
    kept = np.setdiff1d(np.arange(len(labels)), np.setdiff1d(ahead, rows))
    return made._replace(train=Split(inputs[kept], labels[kept], train.ids[kept]))


def register() -> None:
    """Make the data set known by name."""
    if NAME not in DATASETS:
        DATASETS[NAME] = digits_poisoned

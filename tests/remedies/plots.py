"""A toy study with planted near-duplicates: each requested sample has a copy among the retained ones."""

import functools
from types import SimpleNamespace

import numpy as np
import toy

from unlearn_jax.data.splits import RequestRows
from unlearn_jax.methods import prepare
from unlearn_jax.methods.runner import RunSpec
from unlearn_jax.population.run import Options
from unlearn_jax.studies.remedies import evidence_of

MEMBERS = 4
PLANTED = np.arange(30, 40)  # retained rows, copies of the requested 40..49 in turn
EMPTY = np.zeros(0, np.int32)
SETTINGS = {"epochs": [3], "batch": [16], "lr": [0.01]}


def examples():
    """The toy's examples with the planted copies: a little noise on the pixels, the same label."""
    inputs, targets = toy.examples()
    inputs[PLANTED] = inputs[toy.REQUESTED] + 0.01 * np.random.default_rng(1).normal(size=(10, *toy.SHAPE))
    targets[PLANTED] = targets[toy.REQUESTED]
    return inputs.astype(np.float32), targets


@functools.cache
def stored():
    """The same as the runner takes them."""
    return toy.stored(*examples())


def job(requested=toy.REQUESTED, members=MEMBERS):
    """The `RunSpec` of the toy study; the planted copies are its similar samples."""
    kept = np.setdiff1d(np.concatenate([toy.KEPT, toy.REQUESTED]), requested).astype(np.int32)
    one = RequestRows(
        np.asarray(requested, np.int32), EMPTY, np.intersect1d(kept, PLANTED).astype(np.int32),
        np.setdiff1d(kept, PLANTED).astype(np.int32), toy.UNUSED, EMPTY, EMPTY, 1.0,
    )  # fmt: skip
    problem = toy.problem()
    training = prepare("retrain", problem)
    return RunSpec(problem, stored(), [one] * members, training, Options(chunk=members), 0, 50, "small", 0.0)


def evidence(method, remedy, original, given=None, requested=toy.REQUESTED):
    """What a remedy is given of the toy study."""
    bench = SimpleNamespace(kind="image", labels=examples()[1], texts=None)
    given = SETTINGS if given is None else given
    return evidence_of(SimpleNamespace(bench=bench), job(requested), method, remedy, given, original)

"""Populations made of random numbers, whose truth is known: what audits are tested on without training anything."""

import numpy as np

from unlearn_jax.evaluation.panels import EvalSplits, Panels, PopulationOutputs
from unlearn_jax.roles import NULLS

MEMBERS, CLASSES = 16, 4
SIZES = {"forget": 10, "similar": 20, "rest": 40, "test": 40}
CLUSTERS = {"forget": np.arange(10), "similar": np.repeat(np.arange(10), 2)}
# by population, what is added to the true label's logit on targets and on similar samples
LIFTS = {
    "oracle": (0.0, 0.0),
    "retrain": (4.0, 5.0),
    "original": (6.0, 6.0),
    "null": (0.0, 0.0),
    "null_b": (0.0, 0.0),
    "null_c": (0.0, 0.0),
    "good": (0.0, 0.0),
    "half": (3.0, 3.0),
    "bad": (6.0, 6.0),
    "retrain_b": (4.0, 5.0),
    "retrain_c": (4.0, 5.0),
    "kept": (4.0, 5.0),
}
NAMES = tuple(LIFTS)[:9]


def synthetic(seed=0, requests=1, members=MEMBERS, splits=tuple(SIZES), names=NAMES, measured=True):
    """Panels of populations that differ by `LIFTS` alone; examples of a seed are the same for all populations."""
    rng = np.random.default_rng([seed, 0])
    grounds, bases = [], []
    for _ in range(requests):
        labels = {split: rng.integers(CLASSES, size=SIZES[split]) for split in splits}
        clusters = {s: CLUSTERS.get(s, np.arange(SIZES[s])) for s in splits}
        distance = {s: rng.random(SIZES[s]) for s in splits}
        grounds.append(EvalSplits(labels, clusters, distance))
        bases.append({s: rng.normal(0, 1, (SIZES[s], CLASSES)) for s in splits})
    populations = []
    for number, name in enumerate(names):
        own = np.random.default_rng([seed, 1, number])
        logits = [
            {s: answers(own, base[s], ground.labels[s], members, LIFTS[name], s) for s in splits}
            for ground, base in zip(grounds, bases)
        ]
        extra = curves(own, LIFTS[name][0], members * requests) if measured else {}
        role = name if name in ("oracle", "retrain", *NULLS) else "original"
        populations.append(PopulationOutputs(name, "", role, logits, extra))
    return Panels(grounds, populations, {"dataset": "synthetic", "copies": 2, "gamma": 1 / 3}, {})


def answers(rng, base, labels, members, lift, split):
    """Logits (members, n, C) with a shift of each member."""
    made = base + rng.normal(0, 0.6, (members, *base.shape)) + rng.normal(0, 0.3, (members, 1, base.shape[1]))
    raised = {"forget": lift[0], "similar": lift[1], "rest": 6.0}.get(split, 2.0)
    made[:, np.arange(len(labels)), labels] += raised
    return made.astype(np.float32)


def curves(rng, lift, members):
    """Relearning curves that reach the top sooner where more was kept, and sureness at noisy images."""
    pace = (2.0 + lift) / 20.0
    rising = np.clip(0.3 + lift / 9.0 + pace * np.arange(30) / 3 + rng.normal(0, 0.01, (members, 30)), 0, 1)
    noisy = np.clip(0.2 + lift / 9.0 + rng.normal(0, 0.02, (members, 5, SIZES["forget"])), 0, 1)
    return {"relearning": rising, "benign_relearning": rising**2, "noisy": noisy}

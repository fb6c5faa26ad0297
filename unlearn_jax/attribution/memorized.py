"""Self-influence beside memorization: who is right about an example only when it was trained on."""

from __future__ import annotations

import numpy as np

from unlearn_jax.attribution.ground import Ground
from unlearn_jax.attribution.tables import interval_of, spearman
from unlearn_jax.attribution.tracks import Track
from unlearn_jax.influence import ekfac_self_influence, gradient_norms, memorization, self_influence

MEMBERS = 2  # members of an ensemble that self-influence is the mean of


def memorized_rows(track: Track, ground: Ground, seed: int) -> tuple[list[dict], list[dict]]:
    """Memorization and self-influence of every training example, and their rank correlations.

    Returns:
        Rows with ``memorization`` (share right with it less without, of all subsets), its standard error and
        ``score`` by estimator (influence, ekfac, gradient: the squared norm); and summary rows, whose intervals are
        over examples, a target and its copies drawn together. Noise of the subsets and of the ensemble is not in them.
    """
    memorized = memorization(track.subsets.own_correct, track.subsets.masks)
    scorers = {
        "influence": lambda member: self_influence(track.model, track.task, member, track.train, **track.solving),
        "ekfac": lambda member: ekfac_self_influence(
            track.model, track.task, member, track.train, labels="exact", **track.damped
        ),
        "gradient": lambda member: np.square(gradient_norms(track.model, track.task, member, track.train)),
    }
    if track.solving["solver"] != "explicit":  # as many systems of equations as there are examples
        del scorers["influence"]
    copies = ground.setup.bench.origin[ground.train] == 1
    targets = np.isin(np.arange(len(ground.train)), ground.targets)
    rows, summary = [], []
    defined = np.isfinite(memorized.value)
    numbers = _numbers(ground)
    for name, of in scorers.items():
        score = np.mean([np.asarray(of(member), np.float64) for member in track.members[:MEMBERS]], axis=0)
        for i in np.flatnonzero(defined):
            kind = "target" if targets[i] else "copy" if copies[i] else "rest"
            rows.append({
                "track": track.name, "estimator": name, "row": int(ground.train[i]), "kind": kind,
                "memorization": float(memorized.value[i]), "error": float(memorized.error[i]), "score": float(score[i]),
            })  # fmt: skip
        figure = lambda a, b: spearman(a.ravel(), b.ravel())
        pair = (score[defined][None], memorized.value[defined][None])
        keys = {"track": track.name, "removed": "", "estimator": name, "metric": "memorization_correlation"}
        summary.append(keys | interval_of(figure, *pair, seed, clusters=numbers[defined], resamples=300))
    return rows, summary


def _numbers(ground: Ground) -> np.ndarray:
    """(n,) cluster of each training example; one outside of all clusters is its own."""
    numbers = len(ground.clusters) + np.arange(len(ground.train))
    for number, cluster in enumerate(ground.clusters):
        numbers[cluster] = number
    return numbers

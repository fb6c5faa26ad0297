"""The error of forgetting grows with proximity to the request."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unlearn_jax.audits.replay import read_config
from unlearn_jax.data import load_dataset
from unlearn_jax.data.kinds import KINDS
from unlearn_jax.metrics import Draws, error_against_distance, error_of, subset_draws, t_estimate
from unlearn_jax.studies.config import StudyConfig

from .claim import Claim, ClaimResult, Table, told
from .read import StoredLevel, first_request, read_level

METHODS = ("gradient_ascent", "random_label", "finetune")
RESAMPLES, BINS = 200, 5


def studies() -> dict[str, StudyConfig]:
    """A request of half of a class, as in the source, and a random one; no copies."""
    common = {"copies": "0", "num_targets": 60, "methods": ",".join(METHODS)}
    return {
        "class": StudyConfig(targets="class", **common),
        "random": StudyConfig(targets="random", **common),
    }


def distances(level: StoredLevel) -> tuple[np.ndarray, np.ndarray]:
    """Columns of retained and test images, and 1 - cosine of each to the nearest target, by block means of pixels."""
    config, _ = read_config(level.run)
    dataset = load_dataset(config.dataset)
    parts = [KINDS[dataset.kind].embedding(part, slice(None)) for part in (dataset.train, dataset.test)]
    ids, rows = np.concatenate([dataset.train.ids, dataset.test.ids]), np.concatenate(parts)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    order = np.argsort(ids)
    at = order[np.searchsorted(ids[order], level.index["dataset_id"])]
    targets = np.flatnonzero(level.index["split"] == "forget")
    columns = np.flatnonzero(np.isin(level.index["split"], ("rest", "test")))
    return columns, 1.0 - (rows[at[columns]] @ rows[at[targets]].T).max(axis=1)


def probability(margins: np.ndarray) -> np.ndarray:
    """Of the true label, from log-odds."""
    return 1.0 / (1.0 + np.exp(-np.clip(margins, -60.0, 60.0)))


def nearer_less_farther(unlearned, reference, control, near, far, seed: int = 0, resamples: int = RESAMPLES):
    """Mean error on the near examples less that on the far ones, beyond what two like references show.

    Args:
        unlearned: probability of the true label, (members, n).
        reference: the same, of retrained models.
        control: the same, of models that differ from the reference in nothing but their seeds.
        near: (n,) booleans.
        far: (n,) booleans.
        seed: of the draws.
        resamples: number of draws.
    """
    figure = lambda u, r, c: error_of(u, r).mean(axis=0) - error_of(c, r).mean(axis=0)
    how = {"roles": ("original", "retrain", "oracle"), "seed": seed, "resamples": resamples}
    a, b = (subset_draws(figure, *(p[:, at] for p in (unlearned, reference, control)), **how) for at in (near, far))
    apart = (a.value - b.value, a.both - b.both, a.members - b.members)
    return t_estimate(Draws(*apart, a.n, min(a.clusters, b.clusters), min(a.freedom, b.freedom)))


def estimate(runs: dict[str, Path]) -> ClaimResult:
    """Nearest fifth less farthest fifth for each method and request, and the curves."""
    figures, tables = [], []
    for number, kind in enumerate(("class", "random")):
        level = first_request(read_level(runs[kind], salt=number))
        columns, away = distances(level)
        probabilities = {name: probability(level.margins[name][:, columns]) for name in ("retrain", "oracle", *METHODS)}
        low, high = np.quantile(away, [1 / BINS, 1 - 1 / BINS])
        rows, centres = [], None
        for name in METHODS:
            populations = (probabilities[name], probabilities["retrain"], probabilities["oracle"])
            difference = nearer_less_farther(*populations, away <= low, away >= high, level.seed)
            decides = kind == "class" and name != "finetune"
            more = {"null": 0.0, "claimed": "above"} if decides else {}
            words = f"{kind} request: error of {name}, nearest less farthest fifth"
            figures.append(told(words, difference, "above 0" if name != "finetune" else "", digits=3, **more))
        for name in (*METHODS, "oracle"):
            curve = error_against_distance(probabilities[name], probabilities["retrain"], away, bins=BINS)
            centres = curve.centre
            shown = "two retrained populations" if name == "oracle" else name
            rows.append((shown, [(float(v), np.nan, np.nan) for v in curve.value]))
        heads = ("error against retraining", *(f"{c:.3f}" for c in centres))
        caption = f"{kind} request: mean error by distance to the nearest target (1 - cosine), nearest first."
        tables.append(Table(caption, heads, rows, (3,) * BINS))
    return ClaimResult(figures, tuple(tables))


CLAIM = Claim(
    name="proximity",
    title="The error of forgetting grows with proximity to the request",
    statement="The difference between an unlearned model's and a retrained model's predictions is larger on retained "
    "and test samples near the request than on those far from it, for gradient ascent and random labels.",
    sources=(
        "Dolgova and Stich 2026, Forgetting Has Neighbors, arXiv 2605.31317: pointwise discrepancy grows with "
        "geometric proximity for gradient ascent and random labelling; CIFAR-100, partial classes (abstract read)",
    ),
    expected="Above 0 for gradient ascent and random labels on part of a class; less so on a random request, which is "
    "near everything. No figure of the source is known to us.",
    rule="On the request of part of a class, both methods' error on the nearest fifth less that on the farthest must "
    "have its whole 95% interval above 0. What two retrained populations differ by is taken off.",
    limits=(
        "Distance is of 8x8 block means of pixels; error is of the true label's probability alone.",
        "Most of the nearest images are of the request's class, in the source's setting as in ours.",
    ),
    minutes=2.0,
    studies=studies,
    estimate=estimate,
)

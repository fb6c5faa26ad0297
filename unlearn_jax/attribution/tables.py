"""What an attribution study records: tables of plain rows, each figure with an interval where it is a summary.

Intervals are over clusters alone (``lds``: over the subsets' models and the queries). The ensemble that scores are the
mean of, and on the network track the models behind the truth, are taken as they are: their noise is not in them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from unlearn_jax.attribution.estimators import ESTIMATORS
from unlearn_jax.attribution.ground import Ground
from unlearn_jax.attribution.tracks import Track, Truth
from unlearn_jax.influence import lds
from unlearn_jax.metrics import bootstrap_interval

Scores = dict[str, np.ndarray]  # (n, q) by estimator


def predictions(scores: Scores, groups: list[np.ndarray], newton: np.ndarray | None = None) -> Scores:
    """(groups, q) predicted by each estimator's plain sum, and by a Newton step where one is given."""
    sums = {name: np.stack([table[group].sum(axis=0) for group in groups]) for name, table in scores.items()}
    return sums | ({} if newton is None else {"newton": newton})


def removal_rows(track: Track, ground: Ground, kind: str, predicted: Scores, truth: Truth) -> list[dict]:
    """A row for each group, query and estimator; all in nats of margin, n already divided out."""
    n = len(ground.train)
    rows = []
    for name, table in predicted.items():
        for g, q in np.ndindex(table.shape):
            rows.append({
                "track": track.name, "removed": kind, "estimator": name, "cluster": g,
                "query": int(ground.queries[q]), "own": bool(ground.asked[q] == g), "predicted": table[g, q] / n,
                "actual": truth.value[g, q] / n, "error": truth.error[g, q] / n,
            })  # fmt: skip
    return rows


def agreement_rows(track: Track, ground: Ground, kind: str, predicted: Scores, truth: Truth, seed: int) -> list[dict]:
    """How near predictions are to what removal really does: on the removed targets, and over all queries."""
    groups = np.arange(len(truth.value))
    on_targets = lambda table: table[groups, groups][None]  # queries begin with the targets, in the clusters' order
    figures = {
        "own_ratio": (on_targets, lambda p, a: _share(p.sum(), a.sum())),
        "own_error": (on_targets, lambda p, a: _share(np.abs(p - a).sum(), np.abs(a).sum())),
        "own_correlation": (on_targets, lambda p, a: pearson(p.ravel(), a.ravel())),
        "correlation": (lambda table: table[None], lambda p, a: pearson(p.ravel(), a.ravel())),
        "rank_correlation": (lambda table: table[None], lambda p, a: spearman(p.ravel(), a.ravel())),
    }
    rows = []
    for name, table in predicted.items():
        for metric, (cut, figure) in figures.items():
            if metric in ("own_ratio", "own_error") and not (name == "newton" or ESTIMATORS[name].scaled):
                continue
            keys = {"track": track.name, "removed": kind, "estimator": name, "metric": metric}
            rows.append(keys | interval_of(figure, cut(table), cut(truth.value), seed))
    return rows


def interval_of(figure: Callable, a: np.ndarray, b: np.ndarray, seed: int, clusters=None, resamples: int = 500) -> dict:
    """A figure of two paired rows (1, n, ...), its percentile interval over the n, and n, as fields of a table."""
    pair = {"roles": ("one", "one"), "method": "percentile", "clusters": clusters}
    interval = bootstrap_interval(figure, a, b, resamples=resamples, seed=seed, **pair)
    return {"value": interval.value, "ci_low": interval.low, "ci_high": interval.high, "n": a.shape[1]}


def lds_rows(track: Track, ground: Ground, scores: Scores, seed: int) -> list[dict]:
    """Linear datamodelling score of each estimator, on subsets that none of them was fitted to."""
    at, rows = track.subsets.judging, []
    for name, table in scores.items():
        score = lds(table, track.subsets.masks[at], track.subsets.margin[at], seed=seed)
        keys = {"track": track.name, "removed": "half", "estimator": name, "metric": "lds"}
        rows.append(keys | {"value": score.value, "ci_low": score.ci_low, "ci_high": score.ci_high, "n": score.members})
    return rows


def carrier_rows(track: Track, ground: Ground, scores: Scores) -> list[dict]:
    """Who carries each target: what its own example, its similar samples and the rest say of it, and whether the
    most helpful examples are its similar samples."""
    n, rows = len(ground.train), []
    for name, table in scores.items():
        for g, cluster in enumerate(ground.clusters):
            column, target = table[:, g], int(ground.targets[g])
            similar = np.setdiff1d(cluster, [target])
            order = np.argsort(-np.where(np.arange(n) == target, -np.inf, column), kind="stable")
            top = order[: len(similar)]
            rows.append({
                "track": track.name, "estimator": name, "cluster": g, "own": column[target] / n,
                "similar": column[similar].sum() / n, "rest": (column.sum() - column[cluster].sum()) / n,
                "recall": float(np.isin(similar, top).mean()) if len(similar) else np.nan,
            })  # fmt: skip
    return rows


def carried_rows(track: Track, carriers: list[dict], seed: int) -> list[dict]:
    """Share of what a cluster says of its target that the similar samples say, and recall of them, with intervals.

    Neither where there are no similar samples.
    """
    rows = []
    for name in dict.fromkeys(row["estimator"] for row in carriers):
        mine = [row for row in carriers if row["estimator"] == name and np.isfinite(row["recall"])]
        if not mine:
            continue
        column = lambda key, mine=mine: np.asarray([[row[key] for row in mine]])
        figures = {
            "carried_by_similar": (lambda s, o: _share(s.sum(), s.sum() + o.sum()), column("similar"), column("own")),
            "similar_found": (lambda r, _: r.mean(), column("recall"), column("recall")),
        }
        for metric, (figure, a, b) in figures.items():
            keys = {"track": track.name, "removed": "", "estimator": name, "metric": metric}
            rows.append(keys | interval_of(figure, a, b, seed))
    return rows


def kept_row(track: Track, seed: int) -> dict:
    """What the share carried by similar samples is an estimate of: 1 - (fall without the target alone) / (fall without
    its cluster), of the targets' own margins."""
    groups = np.arange(len(track.singles.value))
    one, whole = (truth.value[groups, groups][None] for truth in (track.singles, track.clusters))
    figure = lambda a, b: 1.0 - _share(a.sum(), b.sum())
    keys = {"track": track.name, "removed": "", "estimator": "removal", "metric": "carried_by_similar"}
    return keys | interval_of(figure, one, whole, seed)


def _share(part: float, whole: float) -> float:
    """Their ratio; NaN of nothing."""
    return float(part / whole) if whole else float("nan")


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation; NaN where either does not vary."""
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size > 0 else float("nan")


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation."""
    from scipy.stats import rankdata

    return pearson(rankdata(a), rankdata(b))

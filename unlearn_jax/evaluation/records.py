"""What an audit leaves: audit.csv and audit.parquet with every figure, curves.npz with what is drawn, a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from unlearn_jax.evaluation.panels import label_of
from unlearn_jax.metrics import Draws, Estimate
from unlearn_jax.metrics.bands import NullBand
from unlearn_jax.results.recorder import write_json
from unlearn_jax.results.tables import FIGURES, JUDGED, KEYS, row_of, seals, write_csv, write_parquet
from unlearn_jax.runtime.disk import write_whole

NO_BAND = NullBand(np.nan, np.nan, np.nan, 0)
BETTER = {1: "small", -1: "large", 2: "near the ideal"}  # by the sides of a band


class MetricResult(NamedTuple):
    """One figure of one population."""

    method: str
    remedy: str
    setting: str
    metric: str
    variant: str  # which of a metric's forms this is
    split: str
    reference: str  # with what it was compared, '' = a figure of the models alone
    estimate: Estimate
    ideal: float  # what models show that never saw the targets' clusters; the mean of the band, or the reference's own
    band: NullBand = NO_BAND
    draws: Draws | None = None  # behind the estimate, shared between methods; not written
    sides: int = 2  # of the band; 1 = a distance, which nothing is too small for, -1 = a likeness, nor too large

    @property
    def label(self) -> str:
        """Name of the population with its remedy and setting."""
        return label_of(self.method, self.remedy, self.setting)

    @property
    def inside(self) -> bool | None:
        """Whether the figure lies in the null band; None where there is none."""
        value, (low, high, *_) = self.estimate.value, self.band
        if np.isnan([low, high, value]).any():
            return None
        return bool((self.sides == -1 or value <= high) and (self.sides == 1 or low <= value))


COLUMNS = (*KEYS, *FIGURES, *JUDGED)
RANKED = ("metric", "variant", "split", "reference", "method", "away", "rank", "low", "high", "tau", "detects_retrain")


def row_of_figure(figure: MetricResult, facts: dict) -> dict:
    """A figure as a flat row, of all requests together."""
    names = ("method", "remedy", "setting", "metric", "variant", "split", "reference")
    keys = row_of({**facts, "request": "all", **{name: getattr(figure, name) for name in names}})
    band = figure.band
    judged = (figure.ideal, BETTER[figure.sides], band.low, band.high, band.members)
    inside = "" if figure.inside is None else str(figure.inside).lower()
    return keys | dict(zip(FIGURES, figure.estimate)) | dict(zip(JUDGED, (*judged, inside)))


def rows_of_ranking(ranking) -> list[dict]:
    """A `Ranking`, a row for each method."""
    detects = "" if ranking.detects is None else str(ranking.detects).lower()
    return [
        dict(zip(RANKED, (*ranking[:4], method, *(ranking[at][i] for at in range(5, 9)), ranking.tau, detects)))
        for i, method in enumerate(ranking.methods)
    ]


def write_audit(
    folder: Path, figures: list[MetricResult], ranked: list, facts: dict, curves: dict[str, np.ndarray], manifest: dict
) -> Path:
    """Write the folder of an audit, each file whole or not at all, the manifest last.

    Args:
        folder: made where it is missing.
        figures: all of them.
        ranked: `Ranking` of each metric.
        facts: what goes into every row.
        curves: arrays for the page.
        manifest: command, settings, notes, times, versions.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = [row_of_figure(figure, facts) for figure in figures]
    places = [row for ranking in ranked for row in rows_of_ranking(ranking)]

    def arrays(path: Path) -> None:
        with path.open("wb") as file:
            np.savez_compressed(file, **cast(dict[str, Any], curves))

    write_csv(folder / "audit.csv", COLUMNS, rows)
    write_csv(folder / "ranking.csv", RANKED, places)
    write_parquet(folder / "audit.parquet", COLUMNS, rows)
    write_whole(folder / "curves.npz", arrays)
    count = {"audit.csv": len(rows), "ranking.csv": len(places), "audit.parquet": len(rows)}
    write_json(folder / "audit.json", manifest | {"files": seals(folder, count)})
    return folder

"""What an audit leaves: audit.csv and audit.parquet with every figure, curves.npz with what is drawn, a manifest."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from unlearn_jax.metrics import Draws, Estimate
from unlearn_jax.metrics.bands import NullBand
from unlearn_jax.results.recorder import seals, write_json, write_whole

FACTS = ("dataset", "model", "targets", "similarity", "copies", "gamma")
NO_BAND = NullBand(np.nan, np.nan, np.nan, 0)
BETTER = {1: "small", -1: "large", 2: "near the ideal"}  # by the sides of a band


class MetricResult(NamedTuple):
    """One figure of one population."""

    method: str
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
        """Name of the population with its setting."""
        return f"{self.method}[{self.setting}]" if self.setting else self.method

    @property
    def inside(self) -> bool | None:
        """Whether the figure lies in the null band; None where there is none."""
        value, (low, high, *_) = self.estimate.value, self.band
        if np.isnan([low, high, value]).any():
            return None
        return bool((self.sides == -1 or value <= high) and (self.sides == 1 or low <= value))


COLUMNS = (
    *FACTS, "method", "setting", "metric", "variant", "split", "reference", "value", "ci_low", "ci_high",
    "ci_members_low", "ci_members_high", "n", "ideal", "better", "null_low", "null_high", "null_members", "inside_null",
)  # fmt: skip


def row_of(figure: MetricResult, facts: dict) -> dict:
    """A figure as a flat row."""
    e, band = figure.estimate, figure.band
    keys = {name: facts.get(name, "") for name in FACTS}
    keys |= {name: getattr(figure, name) for name in ("method", "setting", "metric", "variant", "split", "reference")}
    keys |= dict(zip(("value", "ci_low", "ci_high", "ci_members_low", "ci_members_high", "n"), e))
    keys |= {
        "ideal": figure.ideal,
        "better": BETTER[figure.sides],
        "null_low": band.low,
        "null_high": band.high,
        "null_members": band.members,
    }
    return keys | {"inside_null": "" if figure.inside is None else str(figure.inside).lower()}


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
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    rows = [row_of(figure, facts) for figure in figures]

    def table(path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)

    def parquet(path: Path) -> None:
        numbers = set(COLUMNS[COLUMNS.index("value") : COLUMNS.index("inside_null")]) - {"better"}
        kinds = [(name, pa.float64() if name in numbers else pa.string()) for name in COLUMNS]
        texts = [{k: v if k in numbers else str(v) for k, v in row.items()} for row in rows]
        pq.write_table(pa.Table.from_pylist(texts, schema=pa.schema(kinds)), path)

    def arrays(path: Path) -> None:
        with path.open("wb") as file:
            np.savez_compressed(file, **cast(dict[str, Any], curves))

    def ranking(path: Path) -> None:
        names = ("metric", "variant", "split", "reference", "method", "away", "rank", "low", "high", "tau")
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow((*names, "sees_retrain"))
            for r in ranked:
                told = "" if r.detects is None else str(r.detects).lower()
                for i, method in enumerate(r.methods):
                    writer.writerow([*r[:4], method, r.away[i], r.rank[i], r.low[i], r.high[i], r.tau, told])

    write_whole(folder / "audit.csv", table)
    write_whole(folder / "ranking.csv", ranking)
    write_whole(folder / "audit.parquet", parquet)
    write_whole(folder / "curves.npz", arrays)
    rows_of = {"audit.csv": len(rows), "ranking.csv": sum(len(r.methods) for r in ranked), "audit.parquet": len(rows)}
    write_json(folder / "audit.json", manifest | {"files": seals(folder, rows_of)})
    return folder

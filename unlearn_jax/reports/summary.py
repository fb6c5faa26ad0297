"""The pooled rows of summary.csv, indexed by copies level and population."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import NamedTuple

from unlearn_jax.errors import InputError
from unlearn_jax.evaluation.frontier import GATE
from unlearn_jax.reports.reading import number
from unlearn_jax.results.tables import FIGURES, read_csv

REFERENCES = ("original", "retrain", "placebo", "dedup", "oracle")
GIVEN = {"oracle_matching": "upper bound", "datamodel_matching": "uses retrained models"}  # not methods of practice
ANEW = "full cost"  # retraining with a remedy: a yardstick, not a method of practice
SHARED = ("original", "oracle")  # the same populations whatever the identified fraction, so stored once
KEYS = ("copies", "method", "metric", "value")


class Cell(NamedTuple):
    """One figure with its intervals; NaN where it was not measured."""

    mean: float = math.nan
    low: float = math.nan
    high: float = math.nan
    members_low: float = math.nan
    members_high: float = math.nan
    n: float = math.nan

    def scaled(self, by: float) -> Cell:
        """The figure with its intervals in other units."""
        return Cell(*(by * value for value in self[:5]), n=self.n)


class Entry(NamedTuple):
    """One line of the table: a reference, or a method with its remedy, setting and budget."""

    method: str
    remedy: str = ""
    setting: str = ""
    budget: str = ""

    @property
    def is_reference(self) -> bool:
        """Whether this is one of the reference populations."""
        return self.method in REFERENCES and not self.remedy and not self.setting

    @property
    def kind(self) -> str:
        """What sets a method apart that is given retrained models, or trains one in full; '' for one of practice."""
        return ANEW if self.method == "retrain" and not self.is_reference else GIVEN.get(self.method, "")


class Summary(NamedTuple):
    """The pooled rows of one configuration, by copies level."""

    cells: dict[tuple[int, Entry], dict[tuple[str, str, str, str], Cell]]  # -> by metric, variant, split, reference
    levels: tuple[int, ...]  # ascending
    facts: dict[str, str]  # dataset, model, targets, similarity
    gamma: dict[int, float]  # identified fraction of each level, NaN where not recorded
    left_out: tuple[str, ...]  # other configurations in the file that the page does not show
    shares: dict[int, dict[float, dict[str, Cell]]]  # level with several gammas -> gamma -> reference -> residual

    def entries(self, level: int) -> list[Entry]:
        """Entries of a level, ascending in residual distance, wrecked and then unmeasured ones last."""
        here = [entry for at, entry in self.cells if at == level]
        distance = lambda e: self.distance(level, e).mean
        return sorted(here, key=lambda e: (math.isnan(distance(e)), self.wrecked(level, e), _nan_last(distance(e))))

    def reference(self, level: int, name: str) -> Entry | None:
        """The entry of a reference population, None where the run has none."""
        return next((e for at, e in self.cells if at == level and e.is_reference and e.method == name), None)

    def find(
        self,
        level: int,
        entry: Entry | str | None,
        metric: str,
        split: str | None = None,
        reference: str | None = None,
        variant: str | None = None,
    ) -> Cell:
        """The cell of a metric (None = whatever split or reference it has); an empty `Cell` where missing."""
        if isinstance(entry, str):
            entry = self.reference(level, entry)
        cells = {} if entry is None else self.cells.get((level, entry), {})
        for (name, form, at, against), cell in cells.items():
            if name == metric and variant in (None, form) and split in (None, at) and reference in (None, against):
                return cell
        return Cell()

    def residual(self, level: int, entry: Entry | str) -> Cell:
        """Signed residual influence against the oracle."""
        return self._against_oracle(level, entry, "residual_influence")

    def distance(self, level: int, entry: Entry | str) -> Cell:
        """Residual distance against the oracle."""
        return self._against_oracle(level, entry, "residual_distance")

    def wrecked(self, level: int, entry: Entry) -> bool:
        """Whether a population keeps less than `GATE` of the oracle's accuracy on rest, so that it has no rank."""
        mine, theirs = (self.find(level, one, "accuracy", "rest").mean for one in (entry, "oracle"))
        return not entry.is_reference and mine < GATE * theirs

    def _against_oracle(self, level: int, entry: Entry | str, metric: str) -> Cell:
        """The stored figure; for the two ends of the scale, where none is stored, their defined values."""
        cell = self.find(level, entry, metric, "forget", "oracle")
        ends: dict[Entry | str | None, float] = {}
        ends |= {self.reference(level, "oracle"): 0.0, self.reference(level, "original"): 1.0}
        return Cell(ends[entry]) if math.isnan(cell.mean) and entry is not None and entry in ends else cell

    def band(self, level: int) -> float:
        """Half width of the null band in ratio units, NaN where unknown."""
        band = self.find(level, "oracle", "null_band_ratio").mean
        if math.isnan(band):
            units = self.find(level, "oracle", "null_band").mean
            span = self.span(level).mean
            band = units / span if span else math.nan
        return abs(band)

    def span(self, level: int) -> Cell:
        """What the original has beyond the oracle, in nats."""
        return self.find(level, "original", "influence_span", reference="oracle")

    def identifiable(self, level: int) -> bool:
        """False only where the run says that residuals cannot be read at this level."""
        return self.find(level, "oracle", "identifiable").mean != 0.0

    def requested(self, level: int) -> int:
        """Members of each cluster that the request names: the target and, for a large gamma, copies."""
        gamma = self.gamma.get(level, math.nan)
        return 1 if math.isnan(gamma) else min(level + 1, max(1, round(gamma * (level + 1))))

    def label(self, entry: Entry) -> str:
        """How an entry is named in tables and figures."""
        budgets = {e.budget for _, e in self.cells if e.method == entry.method}
        name = entry.method + (f" + {entry.remedy}" if entry.remedy else "")
        name += f" ({entry.setting})" if entry.setting else ""
        return name + (f" [{entry.budget}]" if entry.budget and len(budgets) > 1 else "")


def read_summary(path: Path) -> Summary:
    """Read summary.csv, keeping pooled requests and one configuration per copies level."""
    try:
        rows = read_csv(path)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"cannot read {path} ({error}): run unlearn-jax study again to write it.") from error
    return summarise(rows, path)


def summarise(rows: list[dict], path: Path) -> Summary:
    """Index rows that were read from ``path``."""
    if not rows or not set(KEYS) <= set(rows[0]):
        raise InputError(f"{path} has no rows with {', '.join(KEYS)}: run unlearn-jax study again to write it.")
    try:
        return _summarise(rows)
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} holds a bad number ({error}): run unlearn-jax study again.") from error


def _summarise(rows: list[dict[str, str]]) -> Summary:
    """Select the configuration to show and index its cells."""
    pooled = [row for row in rows if row.get("request", "all") in ("all", "")]
    rows = pooled or [row for row in rows if row["request"] == rows[0]["request"]]
    facts = {axis: rows[0].get(axis) or "" for axis in ("dataset", "model", "targets")}
    left_out = _others(rows, facts)
    rows = [row for row in rows if all((row.get(axis) or "") == value for axis, value in facts.items())]
    levels = tuple(sorted({int(float(row["copies"])) for row in rows}))
    cells: dict = {}
    gamma, similarity, shares = {}, "", {}
    for level in reversed(levels):
        here = [row for row in rows if int(float(row["copies"])) == level]
        gammas = [g for row in here if not math.isnan(g := number(row.get("gamma")))]
        gamma[level] = min(gammas, default=math.nan)
        one = {"similarity": here[0].get("similarity") or ""}
        similarity = similarity or one["similarity"]
        left_out += [f"{note} at {level} copies" for note in _others(here, one)]
        if len(set(gammas)) > 1:
            left_out.append(f"in tables, identified fractions above {gamma[level]:.2g} at {level} copies")
            shares[level] = _by_share(here)
        fits = lambda row, g=gamma[level]: math.isnan(number(row.get("gamma"))) or number(row["gamma"]) == g
        here = [row for row in here if (row.get("similarity") or "") == one["similarity"]]
        shared = [row for row in here if row["method"] in SHARED and not fits(row)]
        for row in [row for row in here if fits(row)] + shared:
            _add(cells, level, row)
    return Summary(cells, levels, {**facts, "similarity": similarity}, gamma, tuple(left_out), shares)


def _by_share(rows: list[dict[str, str]]) -> dict[float, dict[str, Cell]]:
    """Residual influence of the references by identified fraction."""
    by_share: dict[float, dict[str, Cell]] = {}
    for row in rows:
        if (
            (row["metric"], row.get("reference")) == ("residual_influence", "oracle")
            and not row.get("setting")
            and not row.get("remedy")
        ):
            cell = Cell(*(number(row.get(name)) for name in FIGURES))
            by_share.setdefault(number(row["gamma"]), {}).setdefault(row["method"], cell)
    return by_share


def _add(cells: dict, level: int, row: dict[str, str]) -> None:
    """Store one row; the first of equal keys stays."""
    entry = Entry(*(row.get(name) or "" for name in Entry._fields))
    key = (row["metric"], *(row.get(name) or "" for name in ("variant", "split", "reference")))
    cells.setdefault((level, entry), {}).setdefault(key, Cell(*(number(row.get(name)) for name in FIGURES)))


def _others(rows: list[dict[str, str]], shown: dict[str, str]) -> list[str]:
    """What each axis also holds beside the value shown."""
    notes = []
    for axis, value in shown.items():
        others = sorted({row.get(axis) or "" for row in rows} - {value, ""})
        notes += [f"{axis} {', '.join(others)}"] if others else []
    return notes


def _nan_last(value: float) -> tuple[bool, float]:
    """Sort key: ascending, NaN at the end."""
    return (math.isnan(value), 0.0 if math.isnan(value) else value)

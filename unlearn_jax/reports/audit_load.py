"""Read the folder of an audit into plain Python and NumPy; every fault is one `InputError`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.evaluation.panels import label_of
from unlearn_jax.reports.reading import number, present, reading
from unlearn_jax.results.tables import check_seals, read_csv
from unlearn_jax.runtime.archives import read_arrays, read_json

REFERENCES = ("oracle", "retrain")
FIRST = ("retrain", "placebo", "dedup", "null", "oracle", "original")  # order of the populations, methods after them
FILES = ("audit.json", "audit.csv", "ranking.csv", "curves.npz")
AGAIN = "run unlearn-jax audit again"
TRUTH = {"true": True, "false": False, "": None}
Key = tuple[str, str, str, str]  # metric, variant, split, reference


class Row(NamedTuple):
    """One figure of one population."""

    value: float
    low: float
    high: float
    members_low: float
    members_high: float
    n: float
    null_low: float
    null_high: float
    inside: bool | None  # whether it lies in the null band, None = there is no band
    better: str  # small (a distance), large (a likeness) or near the ideal


class Ranks(NamedTuple):
    """How one metric ranks the methods."""

    places: dict[str, tuple[float, float, float]]  # method -> rank and its simultaneous bounds
    tau: float
    detects: bool | None


class Audit(NamedTuple):
    """Everything that the page shows."""

    path: Path
    manifest: dict[str, Any]
    figures: dict[Key, dict[str, Row]]  # -> population -> figure, in the order of audit.csv
    ranks: dict[Key, Ranks]
    curves: dict[str, np.ndarray]

    @property
    def populations(self) -> list[str]:
        """Labels of the populations that have figures: retrain and its kin first, then the others as recorded."""
        named = {label: None for group in self.figures.values() for label in group}
        return sorted(named, key=lambda label: FIRST.index(label) if label in FIRST else len(FIRST))

    @property
    def methods(self) -> list[str]:
        """Labels of those that are ranked."""
        return [str(label) for label in self.manifest.get("methods") or []]

    @property
    def references(self) -> list[str]:
        """The references of this audit."""
        return [name for name in REFERENCES if any(key[3] == name for key in self.figures)]

    @property
    def kind(self) -> str:
        """Of which kind the null populations are."""
        return "oracle" if "oracle" in self.manifest["members"] or "oracle" in self.references else "retrain"

    def alike(self, reference: str) -> list[str]:
        """Further populations like a reference, of which its null bands are made; none = bands of its halves."""
        return [str(label) for label in self.manifest.get("alike", {}).get(reference, [])]

    def find(self, metric: str, variant: str, split: str | None, reference: str) -> Key | None:
        """The key of a metric; ``split`` None = whichever is there."""
        keys = self.figures if split is None else [(metric, variant, split, reference)]
        alike = lambda key: (*key[:2], key[3]) == (metric, variant, reference) and key in self.figures
        return next(filter(alike, keys), None)

    def ranking(self, key: Key | None) -> Ranks | None:
        """How a metric ranks the methods; None where it does not, or is not there."""
        return None if key is None else self.ranks.get(key)

    def curve(self, kind: str, label: str, reference: str = "") -> np.ndarray | None:
        """An array of curves.npz; None where it is not there or holds no number."""
        values = self.curves.get("/".join(filter(None, (kind, label, reference))))
        return values if values is not None and np.isfinite(values).any() else None


def read_audit(folder: Path) -> Audit:
    """Read the folder of an audit; raises `InputError` where it is missing, half-written or damaged."""
    if not folder.is_dir():
        raise InputError(f"there is no audit at {folder}: give the folder that unlearn-jax audit wrote.")
    present(folder, FILES, f"the audit in {folder} has no {{name}}, so it is half-written: {AGAIN}.")
    with reading(f"the audit in {folder} is damaged", AGAIN):
        manifest = read_json(folder / "audit.json")
        for name in ("facts", "members", "examples"):
            if not isinstance(manifest[name], dict):
                raise ValueError(f"audit.json holds no {name}")
        if not manifest["members"] or not all(isinstance(n, int) for n in manifest["members"].values()):
            raise ValueError("audit.json holds no members")
        check_seals(folder, manifest, again=AGAIN)
        curves = _curves(folder / "curves.npz")
        return Audit(folder, manifest, _figures(folder / "audit.csv"), _ranks(folder / "ranking.csv"), curves)


def _figures(path: Path) -> dict[Key, dict[str, Row]]:
    """Every figure by metric and population."""
    names = ("value", "ci_low", "ci_high", "ci_members_low", "ci_members_high", "n", "null_low", "null_high")
    figures: dict[Key, dict[str, Row]] = {}
    for row in read_csv(path):
        label = label_of(row["method"], row.get("remedy", ""), row["setting"])
        figure = Row(*(number(row[n]) for n in names), inside=TRUTH[row["inside_null"]], better=row["better"])
        figures.setdefault(_key(row), {}).setdefault(label, figure)
    if not figures:
        raise ValueError(f"{path.name} has no rows")
    return figures


def _ranks(path: Path) -> dict[Key, Ranks]:
    """Every metric's ranking; none where no method could be ranked."""
    rankings: dict[Key, Ranks] = {}
    for row in read_csv(path):
        ranks = rankings.setdefault(_key(row), Ranks({}, number(row["tau"]), TRUTH[row["detects_retrain"]]))
        ranks.places[row["method"]] = number(row["rank"]), number(row["low"]), number(row["high"])
    return rankings


def _curves(path: Path) -> dict[str, np.ndarray]:
    """What is drawn, as float64."""
    curves = {name: np.asarray(part, np.float64) for name, part in read_arrays(path).items()}
    points = {"roc": curves["fpr"].shape[-1]}
    for name, values in curves.items():
        kind = name.partition("/")[0]
        if kind == "klom_null" and (values.ndim != 2 or len(values) != 4):
            raise ValueError(f"curves.npz holds {name} of another shape")
        banded = kind in ("roc", "relearning", "benign_relearning", "noisy", "targeted", "distance")
        if banded and (values.ndim != 2 or len(values) != 3 or values.shape[1] != points.get(kind, values.shape[1])):
            raise ValueError(f"curves.npz holds {name} of shape {values.shape}")
        if kind == "distance" and curves[f"distance_centre{name[8:]}"].shape != values.shape[1:]:
            raise ValueError(f"curves.npz holds {name} of other bins than its centres")
    return curves


def _key(row: dict[str, str]) -> Key:
    """Metric, variant, split and reference of a row."""
    return row["metric"], row["variant"], row["split"], row["reference"]

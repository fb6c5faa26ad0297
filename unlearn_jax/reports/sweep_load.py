"""Read the folder of a sweep; every fault is one `InputError`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from unlearn_jax.reports.reading import Estimate, estimate, number, opened
from unlearn_jax.results.tables import read_csv

ENTRIES = ("asked", "config", "axes", "settings", "rungs", "cost", "choices", "copies", "status")

UNCLEAR = (
    "Residuals are not identifiable here (fewer than 8 seeds in a request, or the originals differ from the oracle by "
    "no more than noise): read no order from distances."
)


class Sweep(NamedTuple):
    """Everything that the page shows."""

    path: Path
    told: dict[str, Any]  # sweep.json
    figures: dict[tuple[str, str, str, str, str], Estimate]  # by setting and `Key`, of runs at their whole length

    def find(
        self, setting: str, metric: str, split: str = "", variant: str = "", reference: str | None = None
    ) -> Estimate:
        """A figure of a setting, None = whatever its reference; NaN where there is none."""
        some = ("", "oracle", "retrain") if reference is None else (reference,)
        keys = ((setting, metric, variant, split, one) for one in some)
        return next((self.figures[key] for key in keys if key in self.figures), Estimate())

    def apart(self, setting: str, key: str) -> Estimate:
        """A difference that sweep.json gives of a setting: gain, nearer or regret; NaN where there is none."""
        return difference_of(next((one for one in self.told["settings"] if one["setting"] == setting), None), key)

    @property
    def whole(self) -> list[dict]:
        """The settings that ran at their whole length."""
        return [one for one in self.told["settings"] if one["share"] == 1.0]

    @property
    def rule(self) -> str:
        """By which settings were dropped and the preset chosen."""
        return self.told["asked"]["sweep"]["rule"]

    @property
    def method(self) -> str:
        """What was swept, METHOD or METHOD+REMEDY."""
        remedy = self.told["config"].get("remedies", "")
        return self.told["asked"]["sweep"]["method"] + (f"+{remedy}" if remedy else "")


def difference_of(entry: dict | None, key: str) -> Estimate:
    """Three numbers of an entry; NaN where it has none."""
    values = (entry or {}).get(key) or []
    return Estimate(*map(number, values)) if len(values) == 3 else Estimate()


def _split_of(row: dict) -> str:
    """The split of a figure; held-out figures of runs that had no validation split were of their test split."""
    return "validation" if row["metric"].startswith("heldout_") else row["split"]


def read_sweep(folder: Path) -> Sweep:
    """Read the folder; raises `InputError` where it is missing, unfinished or damaged."""
    folder = Path(folder)
    with opened(folder, "sweep", ENTRIES) as manifest:
        budget = manifest["config"]["budget"]
        last = f"{budget:g}" if budget else ""
        figures = {
            (row["setting"], row["metric"], row.get("variant", ""), _split_of(row), row.get("reference", "")): estimate(
                row, "value", "ci_low", "ci_high"
            )
            for row in read_csv(folder / "summary.csv")
            if row["budget"] == last
        }
    return Sweep(folder, manifest, figures)

"""The rows of the metric table that the page of an audit shows, as it shows them: of single models minus a reference's.
"""

from __future__ import annotations

from typing import NamedTuple

from unlearn_jax.evaluation.metric import Metric, ModelMetric
from unlearn_jax.evaluation.recorded import RESIDUAL
from unlearn_jax.evaluation.table import METRICS

ALIKE = "what two alike populations show (the null band)"


class Shown(NamedTuple):
    """One metric in one variant against a reference."""

    metric: str  # in audit.csv
    variant: str
    split: str | None  # None = whichever the audit has
    name: str
    group: str
    digits: int
    ideal: str
    what: str
    source: str = ""
    scale: float = 1.0  # the page shows value * scale
    line: bool = True  # has a definition of its own


def shown(row: Metric) -> Shown:
    """A row as the page shows it."""
    told = (row.group, row.digits)
    if isinstance(row, ModelMetric):
        head, comma, tail = row.title.partition(",")
        name, what = f"{head} gap{comma}{tail}", f"{row.what} Minus the reference's."
        own = (f"{row.metric}_gap", row.variant, row.split, name, *told, "0", what)
    else:
        ideal = ALIKE if row.ideal is None else f"{row.ideal:g}"
        own = (row.metric, row.variant, row.split, row.title, *told, ideal, row.what)
    return Shown(*own, row.source, row.scale, row.listed)


MAIN = tuple(shown(row) for row in METRICS if row.title and (row.is_compared or isinstance(row, ModelMetric)))
TARGETED = tuple(m for m in MAIN if m.split in ("forget", "") and m.group != RESIDUAL)  # what is known of the targets


def named(key) -> Shown:
    """A metric of audit.csv that is not among the main ones."""
    metric, variant, split, _ = key
    told = ", ".join(part.replace("_", " ") for part in (metric, variant, split) if part)
    return Shown(metric, variant, split, told, "", 3, "", "")

"""The rows of the metric table as pages show them: under their titles, of single models minus a reference's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from unlearn_jax.evaluation.metric import SEVERAL, Metric, ModelMetric, RecordedMetric
from unlearn_jax.evaluation.recorded import RESIDUAL
from unlearn_jax.evaluation.table import metric_of, rows

ALIKE = "what two alike populations show (the null band)"


class Shown(NamedTuple):
    """One metric in one variant against a reference."""

    metric: str  # in files
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
    shared, split = (row.group, row.digits), None if row.split == SEVERAL else row.split
    if isinstance(row, ModelMetric):
        head, comma, tail = row.title.partition(",")
        name, what = f"{head} gap{comma}{tail}", f"{row.what} Minus the reference's."
        fields = (f"{row.metric}_gap", row.variant, split, name, *shared, "0", what)
    else:
        ideal = ALIKE if row.ideal is None else f"{row.ideal:g}"
        fields = (row.metric, row.variant, split, row.title, *shared, ideal, row.what)
    return Shown(*fields, row.source, row.scale, row.listed)


def main_rows() -> list[Shown]:
    """The rows that have a title, in the order of the table."""
    return [shown(row) for row in rows() if row.title and (row.is_compared or isinstance(row, ModelMetric))]


def targeted_rows() -> list[Shown]:
    """Those of what is known of the targets, beside what the project itself is about."""
    return [one for one in main_rows() if one.split in ("forget", "") and one.group != RESIDUAL]


def further(keys: Iterable[tuple[str, str, str, str]]) -> list[tuple[Shown, tuple[str, str, str, str]]]:
    """What a study or a sweep measured beside what it is about: rows and keys, in the order of the table.

    Of a metric that this process does not know the name in files is shown.

    Args:
        keys: metric, variant, split and reference of figures that are there, each once or more often.
    """
    order = {row.metric: place for place, row in enumerate(rows())}
    there, ranked = set(keys), []
    compared = {key[:3] for key in there if key[3]}
    for key in there:
        row = metric_of(*key[:3])
        if row is None:  # put in by the process that ran it, which is another one
            ranked.append((len(order), named(key), key))
            continue
        one, raw = shown(row), isinstance(row, ModelMetric) and key[0] == row.metric
        if isinstance(row, RecordedMetric) or (raw and (one.metric, *key[1:3]) in compared):
            continue  # of single models and compared, the comparison is shown
        one = one._replace(name=row.title) if raw else one
        titled = row.title and row.key[1:] == key[1:3]
        ranked.append(
            (order.get(row.metric, len(order)), one if titled else named(key)._replace(digits=row.digits), key)
        )
    return [(one, key) for *_, one, key in sorted(ranked, key=lambda each: (each[0], each[2]))]


def named(key) -> Shown:
    """A figure that has no title: by its name in files."""
    metric, variant, split, _ = key
    words = ", ".join(part.replace("_", " ") for part in (metric, variant, split) if part)
    return Shown(metric, variant, split, words, "", 3, "", "")

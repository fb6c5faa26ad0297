"""The metric table: every figure that studies, sweeps and audits measure, in the order in which pages show them.

A new metric is a function in a file of `unlearn_jax.metrics` and a row of `rows`; one of your own is put into
`METRICS`. Audits measure every row whose needs they have; studies and sweeps those that ``--metrics`` names, of single
examples' margins and answers alone, and those whose row has ``studies=True``. Pages, rankings and docs/metrics.md read
the rows.
`METRICS` has, besides, what runs record of themselves (`recorded`).
"""

from __future__ import annotations

from unlearn_jax.errors import InputError
from unlearn_jax.evaluation.metric import STUDIED, Metric, RecordedMetric
from unlearn_jax.evaluation.recorded import RECORDED
from unlearn_jax.evaluation.rows import MEASURED
from unlearn_jax.registry import Registry


def _fault(name: str, entry: object) -> str:
    """What is wrong with an entry of `METRICS`, '' for nothing."""
    each = entry if isinstance(entry, tuple) else (entry,)
    named = [row.metric for row in each if isinstance(row, Metric)]
    if not named or len(named) < len(each):
        return "is no Metric and no tuple of Metrics (unlearn_jax.evaluation.metric)"
    return "" if set(named) == {name} else f"has a row that is not called '{name}'"


def _by_name(each: tuple[Metric, ...]) -> dict[str, tuple[Metric, ...]]:
    return {
        name: tuple(row for row in each if row.metric == name) for name in dict.fromkeys(row.metric for row in each)
    }


METRICS: Registry = Registry(_by_name((*RECORDED, *MEASURED)), "metric", "unlearn_jax.metrics", _fault)


def rows() -> tuple[Metric, ...]:
    """All rows that are built in or put in, in order."""
    return tuple(row for entry in METRICS.values() for row in _rows_of_entry(entry))


def rows_of(kind: type) -> tuple:
    """The rows of one class."""
    return tuple(row for row in rows() if isinstance(row, kind))


def metric_of(metric: str, variant: str = "", split: str | None = None) -> Metric | None:
    """The row of a figure of a file; of a variant or a split that no row names, the first of that metric.

    Args:
        metric: its name; METRIC_gap, a figure minus a reference's, is that of METRIC.
        variant: as in the file.
        split: as in the file; None = any.
    """
    name = metric if metric in METRICS else metric.removesuffix("_gap")
    rows_named = _rows_of_entry(METRICS[name]) if name in METRICS else ()
    exact = [row for row in rows_named if row.variant == variant and split in (None, row.split)]
    return next(iter(exact or rows_named), None)


def study_metrics(words: str) -> tuple[Metric, ...]:
    """The rows that a study or a sweep measures beside what it is about, in the table's order.

    Args:
        words: names with commas, or all; a name stands for all its variants and splits.

    Raises:
        InputError: no such metric, or one that needs what only an audit knows.
    """
    listed = [word.strip() for word in words.split(",") if word.strip()]
    named = {METRICS.pick(word) for word in listed if word != "all"}
    fit = [row for row in rows() if not isinstance(row, RecordedMetric) and set(row.needs) <= STUDIED]
    fit += [row for name in named - set(METRICS) for row in _rows_of_entry(METRICS[name])]
    for name in sorted(named - {row.metric for row in fit}):
        row = _rows_of_entry(METRICS[name])[0]
        if isinstance(row, RecordedMetric):
            raise InputError(f"metric '{name}' is recorded without being asked for where it can be: leave it out.")
        needs = ", ".join(need for need in row.needs if need not in STUDIED)
        instead = "run unlearn-jax audit instead" if name in list(METRICS) else "put it into METRICS before an audit"
        raise InputError(f"metric '{name}' needs {needs}, which a study does not keep: {instead}.")
    return tuple(row for row in fit if "all" in listed or row.metric in named or row.studies)


def _rows_of_entry(entry: Metric | tuple[Metric, ...]) -> tuple[Metric, ...]:
    return entry if isinstance(entry, tuple) else (entry,)

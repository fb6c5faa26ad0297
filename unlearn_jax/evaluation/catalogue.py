"""The metric table as a page.

python -m unlearn_jax.evaluation.catalogue > docs/metrics.md
"""

from __future__ import annotations

from unlearn_jax.evaluation.metric import (
    NEEDS,
    REFERENCES,
    SEVERAL,
    CompositeMetric,
    MatchedMetric,
    Metric,
    ModelMetric,
    PopulationMetric,
    RecordedMetric,
)
from unlearn_jax.evaluation.table import rows

KINDS = {
    ModelMetric: "of single models; files also have NAME_gap, minus each reference's",
    PopulationMetric: "of a population and a reference, example by example",
    CompositeMetric: "of means of a population and of a reference",
    MatchedMetric: "of features, model beside model",
    RecordedMetric: "recorded by runs themselves",
}
OPENING = """# Metrics

Made from the table of metrics by `python -m unlearn_jax.evaluation.catalogue`; a test holds this
page to it. Every figure that studies, sweeps and audits write is a row here. Audits measure every
row of the first four tables whose needs they have. Studies and sweeps record what they are about
(the last table), accuracies and margins of every split they have, and what
`--metrics klom,energy_distance` (or `all`) asks for of the rows that need `margin` alone:

```bash
python experiments/study.py --copies 0,4 --metrics klom,u_lira_auc,tow
python experiments/sweep.py --method scrub --hp lr=log:1e-4:1e-1:8 --copies 4 --metrics klom
```

They then stand in summary.csv, with intervals, on a study's page under "Further metrics", on a
sweep's page as columns of its settings (against the oracle; with `--no-oracle` figures of single
models alone). Null bands need populations of their own, which only an audit trains
([audits](audits.md) says how to read them). The functions themselves: [API](api/metrics.md); a metric of your own:
[extending](extending.md#a-metric).

*Ideal* is the value of models that never saw the targets' clusters; "band" means that two
populations which differ in nothing but their seeds show some value above 0, which the null band of
an audit gives. In italics: splits other than `forget` alone. A metric's variant stands behind its
name; where nothing else is said, comparisons are against `oracle` and `retrain`.

*Needs*: {needs}.
"""
HEADS = ("metric", "what it is", "unit", "ideal", "needs", "source")


def ideal(row: Metric) -> str:
    """What models show that never saw the targets' clusters."""
    if isinstance(row, ModelMetric):
        return "the reference's"
    if row.ideal is None:
        return "band" if isinstance(row, PopulationMetric | MatchedMetric) else ""
    return f"{row.ideal:g}"


def what_it_is(row: Metric, splits: list[str]) -> str:
    """What a figure is, of which splits, and against which references where these are not both."""
    where = ", ".join(split if split != SEVERAL else "several" for split in splits if split)
    text = row.what + (f" *{where}*" if where not in ("", "forget") else "")
    other = row.is_compared and row.references != REFERENCES
    return text + (f" Against {', '.join(row.references)}." if other else "")


def metrics_table(kind: type) -> str:
    """A line for each metric and variant of a class."""
    lines = ["| " + " | ".join(HEADS) + " |", "|" + " --- |" * len(HEADS)]
    by_name: dict[tuple[str, str], list[Metric]] = {}
    for row in rows():
        if type(row) is kind:
            by_name.setdefault((row.metric, row.variant), []).append(row)
    for (metric, variant), same in by_name.items():
        row, name = same[0], f"`{metric}`" + (f" {variant}" if variant else "")
        what = what_it_is(row, [one.split for one in same])
        cells = (name, what, row.unit, ideal(row), ", ".join(row.needs), row.source)
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines)


def page() -> str:
    """The whole page."""
    needs = "; ".join(f"*{name}* = {text}" for name, text in NEEDS.items())
    parts = [OPENING.format(needs=needs)]
    parts += [f"## {text[0].upper()}{text[1:]}\n\n{metrics_table(kind)}\n" for kind, text in KINDS.items()]
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")

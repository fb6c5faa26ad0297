"""Influence as gradients predict it against what removal really does, one example or a whole cluster at a time.

    unlearn-jax influence                                   # digits: softmax regression, and an MLP
    unlearn-jax influence --dataset reuters_r8 --tracks network --model mlp

Two tracks. Exact: softmax regression refitted to its optimum without each target, each cluster of similar samples and
random halves of the data. Network: populations retrained without them. Every estimator is asked what each removal
does, and how well it ranks models by what they were trained on (linear datamodelling score).

Cost of the default: about 2 minutes on 2 CPU cores. It should show influence functions right about single examples of
the regression, their sum wrong about clusters, and a Newton step with the cluster's own curvature right about both.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from unlearn_jax.attribution.config import AttributionConfig
from unlearn_jax.cli.common import (
    command,
    command_line,
    finish,
    interval,
    keep_compiled_programs,
    rows_of,
    use_every_core,
    watched,
)
from unlearn_jax.reports import write_influence_page
from unlearn_jax.results.tables import read_csv


@dataclass(frozen=True)
class Args:
    """Hold estimators of influence against removal."""

    study: tyro.conf.OmitArgPrefixes[AttributionConfig] = AttributionConfig()
    out: Path | None = None
    """run folder; default runs/influence-DATASET"""
    store: Path | None = None
    """folder of trained members, reused between runs; default "populations" beside the run folder"""
    data_dir: Path | None = None
    """prepared data; default $UNLEARN_JAX_DATA, else ~/tensorflow_datasets"""
    chunk: int = 0
    """members in one compiled program; 0 = by backend"""
    page: bool = True
    """write influence.html"""
    quiet: bool = False
    """no progress"""
    json: bool = False
    """print one JSON object instead of the table: the run folder, the page and every row of summary.csv"""


def run(args: Args) -> None:
    """Run the study, draw its page, and print the headline."""
    from unlearn_jax.attribution import run_attribution

    use_every_core()
    keep_compiled_programs(Path("runs") / "compiled")
    out = args.out or Path("runs") / f"influence-{Path(args.study.dataset).stem}"
    with watched(args.quiet) as watch:
        run_attribution(
            args.study,
            out,
            store=args.store,
            watch=watch,
            command=command_line(),
            data_dir=args.data_dir,
            chunk=args.chunk,
        )

    record = lambda: {"run": out, "rows": rows_of(out / "summary.csv")}
    finish(args.json, lambda: headline(out), record, (lambda: write_influence_page(out)) if args.page else None)


HEADLINE = (  # removed, metric, heading
    ("target", "own_ratio", "one: predicted / actual"),
    ("cluster", "own_ratio", "cluster: predicted / actual"),
    ("cluster", "correlation", "cluster: correlation"),
    ("half", "lds", "LDS"),
)


def headline(out: Path) -> str:
    """A line for each track and estimator, from ``summary.csv``."""
    rows = read_csv(out / "summary.csv")
    by_figure = {(r["track"], r["estimator"], r["removed"], r["metric"]): r for r in rows}
    lines = [f"{'track':<8} {'estimator':<12} " + " ".join(f"{heading:<28}" for *_, heading in HEADLINE)]
    for track, name in dict.fromkeys((r["track"], r["estimator"]) for r in rows):
        cells = [by_figure.get((track, name, removed, metric)) for removed, metric, _ in HEADLINE]
        if any(cells):
            lines.append(
                f"{track:<8} {name:<12} " + " ".join(f"{interval(cell) if cell else '':<28}" for cell in cells)
            )
    return "\n".join([*(line.rstrip() for line in lines), f"run folder: {out}"])


main = command(Args, __doc__, run)

"""The main job: measure what deleting a sample leaves behind when similar samples stay.

    unlearn-jax study                                    # digits, 0, 1, 4 and 8 near copies per target
    unlearn-jax study --dataset cifar10 --copies 4 --methods none --members 16

Trains the reference populations (original, retrain, oracle, placebo, dedup), runs the unlearning methods from the
originals, scores everything against the oracle, writes the run folder and draws its report.

Cost of the default: about 2.5 minutes on 2 CPU cores (41 populations of 32 models, 17 of them from scratch). It should
reach residual(retrain) near .5, .8, .9 at 1, 4, 8 copies and noise around 0 at none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from unlearn_jax.cli.common import (
    Hosts,
    command,
    command_line,
    finish,
    interval,
    join,
    keep_compiled_programs,
    rows_of,
    use_every_core,
    watched,
)
from unlearn_jax.cli.study_args import StudyArgs
from unlearn_jax.metrics.residual import why_unidentifiable
from unlearn_jax.reports import write_report
from unlearn_jax.results.tables import read_csv
from unlearn_jax.runtime.archives import read_json

WHY = {  # by what `why_unidentifiable` says
    "few": "fewer than 8 members in a request",
    "lost": "too many members of the original or the oracle diverged",
    "noise": "the span is within the noise",
}


@dataclass(frozen=True)
class Run:
    """Where things are written, and how the devices are used; no figure depends on it but by rounding."""

    out: Path | None = None
    """run folder; default runs/NAME, NAME made from the configuration"""
    report: bool = True
    """draw report.html at the end"""
    quiet: bool = False
    """no progress"""
    json: bool = False
    """print one JSON object instead of the table: the run folder, the page and every row of summary.csv"""
    store: Path | None = None
    """folder of trained members, reused between runs; default "populations" beside the run folder"""
    data_dir: Path | None = None
    """prepared data; default $UNLEARN_JAX_DATA, else ~/tensorflow_datasets"""
    save_every: float = 10.0
    """minutes between two times that the state of members in training is kept; 0 = only when asked to stop"""
    chunk: int = 0
    """members in one compiled program; 0 = by backend"""
    axis: str = "auto"
    """members side by side (vmap) or one after another in the program (map); auto = by model and backend; measured =
    try both, and both kinds of convolution, for a few updates, and remember the faster in the store"""
    loop: str = "auto"
    """the training loop: on the device (scan), on the host, or auto"""
    data_devices: int = 1
    """devices that hold one member together and share its batches, for models too large for one (docs/scaling.md)"""


@dataclass(frozen=True)
class Args(StudyArgs):
    """Measure what deleting a sample leaves behind when similar samples stay."""

    run: tyro.conf.OmitArgPrefixes[Run] = Run()
    hosts: tyro.conf.OmitArgPrefixes[Hosts] = Hosts()


def run(args: Args) -> None:
    """Run the study, draw the report, and print the headline."""
    from unlearn_jax.runtime import multihost
    from unlearn_jax.studies.run import run_study

    join(args.hosts)
    use_every_core()
    keep_compiled_programs(Path("runs") / "compiled")
    study, how = args.study, args.run
    with watched(how.quiet or not multihost.is_first()) as watch:
        out = run_study(
            study, how.out, store=how.store, watch=watch, command=command_line(), data_dir=how.data_dir,
            chunk=how.chunk, axis=how.axis, data_devices=how.data_devices, loop=how.loop, save_every=how.save_every,
        )  # fmt: skip
    multihost.from_process_zero(lambda: tell(out, how.report, how.json))  # the others stay until it is drawn


def tell(out: Path, report: bool, as_json: bool) -> None:
    """Print the headline, or all rows as JSON, and draw the report."""
    record = lambda: {"run": out, "rows": rows_of(out / "summary.csv")}
    finish(as_json, lambda: headline(out), record, (lambda: write_report(out)) if report else None, "report")


def headline(out: Path) -> str:
    """The signed residual and the distance of every population, a line each, from ``summary.csv``."""
    pooled = [r for r in read_csv(out / "summary.csv") if r["request"] == "all"]
    for r in pooled:
        r["method"] += f"+{r['remedy']}" if r["remedy"] else ""
    rows = [r for r in pooled if r["reference"] == "oracle"]
    lost = {(r["copies"], r["gamma"], r["method"], r["setting"]): r for r in pooled if r["metric"] == "n_diverged"}
    config = read_json(out / "manifest.json")["config"]
    each = config["members"] // config["requests"]
    keyed = {
        (r["copies"], r["gamma"], r["method"], r["setting"], r["metric"]): r for r in rows if r["split"] == "forget"
    }
    lines = [f"{'copies':>6} {'gamma':>5}  {'population':<32} {'residual influence':<22} residual distance"]
    for (copies, gamma, method, setting, metric), row in keyed.items():
        if metric == "residual_influence":
            other = keyed[copies, gamma, method, setting, "residual_distance"]
            name = f"{method}[{setting}]" if setting else method
            gone = lost.get((copies, gamma, method, setting), {"value": 0})
            note = f"  {float(gone['value']):.0f} of {gone['n']} members diverged" if float(gone["value"]) else ""
            lines.append(f"{copies:>6} {float(gamma):>5.2f}  {name:<32} {interval(row):<22} {interval(other)}{note}")
    for (copies, gamma, *_, metric), row in keyed.items():
        if metric == "identifiable" and float(row["value"]) == 0:
            span = keyed[copies, gamma, "original", "", "influence_span"]
            band = keyed[copies, gamma, "oracle", "", "null_band"]
            gone = sum(float(lost[copies, gamma, name, ""]["value"]) for name in ("original", "oracle"))
            why = WHY[why_unidentifiable(each, int(gone), _number(span["ci_low"]), _number(band["value"]))]
            lines.append(f"copies {copies}, gamma {float(gamma):.2f}: not identifiable, {why}")
    return "\n".join([*lines, f"run folder: {out}"])


def _number(text: str) -> float:
    return float(text or "nan")


main = command(Args, __doc__, run)

"""The main job: measure what deleting a sample leaves behind when similar samples stay.

    unlearn-jax study                                    # digits, 0, 1, 4 and 8 near copies per target
    unlearn-jax study --dataset cifar10 --copies 4 --methods none --members 16

Trains the reference populations (original, retrain, oracle, placebo, dedup), runs the unlearning methods from the
originals, scores everything against the oracle, writes the run folder and draws its report.

Cost of the default: about 2.5 minutes on 2 CPU cores (41 populations of 32 models, 17 of them from scratch). It should
reach residual(retrain) near .5, .8, .9 at 1, 4, 8 copies and noise around 0 at none.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import tyro

from unlearn_jax.cli.common import (
    Hosts,
    command,
    command_line,
    finish,
    join,
    keep_compiled_programs,
    rows_of,
    use_every_core,
    watched,
)
from unlearn_jax.cli.study_args import StudyArgs
from unlearn_jax.cli.study_table import table_of
from unlearn_jax.reports import read_run, words, write_report


@dataclass(frozen=True)
class Run:
    """Where things are written, and how the devices are used; no figure depends on it but by rounding."""

    out: Path | None = None
    """run folder; default runs/NAME, NAME made from the configuration"""
    report: bool = True
    """draw report.html at the end"""
    quiet: bool = False
    """no progress and no table: nothing on stderr but errors, on stdout the lines of the run folder and the report"""
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
    multihost.from_process_zero(lambda: tell(out, how))  # the others stay until it is drawn


def tell(out: Path, how: Run) -> None:
    """Print the headline, or all rows as JSON, and draw the report."""
    record = lambda: {"run": out, "rows": rows_of(out / "summary.csv")}
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    lines = lambda: where(out) if how.quiet else headline(out, width)
    finish(how.json, lines, record, (lambda: write_report(out)) if how.report else None, "report")


def headline(out: Path, width: int = 0) -> str:
    """The answer in a sentence, the table of `table_of`, how long it took, and where the rest is.

    ``width`` is that of the terminal, 0 = of none.
    """
    run = read_run(out)
    answer = words.headline(run)
    sentence = [*textwrap.wrap(answer, max(width - 1, 40)), ""] if width else [answer]
    return "\n".join([*sentence, *table_of(run, width), *_took(run.manifest), where(out)])


def where(out: Path) -> str:
    """The line that says where the run is."""
    return f"run folder: {out}"


def _took(manifest: dict) -> list[str]:
    """How long the run took, where its manifest says so."""
    if "seconds_total" not in manifest:
        return []
    compiling = manifest.get("compile_seconds", 0.0)
    return [f"took {manifest['seconds_total']:.0f} s, {compiling:.0f} s of it compiling"]


main = command(Args, __doc__, run)

"""Put a preset file to the test: methods with its settings beside their defaults, on targets that it was not made on.

    unlearn-jax check-presets --presets vision-natural-small --benchmark vision-natural-small --copies 2
    unlearn-jax check-presets --presets runs/sweep-scrub-digits-.../preset.json --copies 4

Runs every method whose settings the file changes, at its defaults and with the file, from the same originals, and says
of each by the 95% interval of the paired difference whether it comes nearer to the oracle, and whether it loses or
regains held-out accuracy. Members and targets are drawn alike for both. Data, targets and recipe are asked for as of
`unlearn-jax study`, with whose run it shares trained members; the check is at the largest number of copies.
`--methods` is all here: those that the file changes.

Cost: both settings of a method are one program, as dear as a study of these methods with twice the members; most of it
compiles. With the defaults' own settings in the file every difference should be exactly 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from unlearn_jax.cli.common import command, command_line, finish, keep_compiled_programs, use_every_core, watched
from unlearn_jax.cli.study_args import Run, StudyArgs
from unlearn_jax.reports import write_check_page
from unlearn_jax.runtime.archives import read_json
from unlearn_jax.studies.config import Methods


@dataclass(frozen=True)
class CheckRun(Run):
    """Where things are written, and how the devices are used."""

    out: Path | None = None
    """run folder; default runs/check-PRESETS-DATASET-..., made from the configuration"""
    page: bool = True
    """write check.html"""
    json: bool = False
    """print one JSON object instead of the table: the run folder, the page and what check.json says"""


@dataclass(frozen=True)
class Args(StudyArgs):
    """Put a preset file to the test, on targets that it was not made on."""

    methods: tyro.conf.OmitArgPrefixes[Methods] = Methods(methods="all")
    run: tyro.conf.OmitArgPrefixes[CheckRun] = CheckRun()


def run(args: Args) -> None:
    """Run the check, draw its page, and print the headline."""
    from unlearn_jax.sweeps import check_name, run_check

    use_every_core()
    keep_compiled_programs(Path("runs") / "compiled")
    study, how = args.study, args.run
    out = how.out or Path("runs") / check_name(study)
    with watched(how.quiet) as watch:
        run_check(
            study, out, store=how.store, watch=watch, command=command_line(), data_dir=how.data_dir, chunk=how.chunk,
            axis=how.axis,
        )  # fmt: skip

    record = lambda: {"run": out, "check": read_json(out / "check.json")}
    finish(how.json, lambda: headline(out), record, (lambda: write_check_page(out)) if how.page else None)


def headline(out: Path) -> str:
    """A line for each method, what they come to, and what to beware of, from ``check.json``."""
    from unlearn_jax.reports.check_page import cautions, findings, lines

    record = read_json(out / "check.json")
    return "\n".join([*lines(record), *findings(record), *cautions(record), f"run folder: {out}"])


main = command(Args, __doc__, run)

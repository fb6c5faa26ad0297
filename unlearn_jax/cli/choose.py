"""Choose every method's settings on tuning targets without looking at the oracle.

    unlearn-jax study --copies 4 --requests 4 --skip-requests 4 --methods scrub --hp scrub.alpha=.1,2 --out A
    unlearn-jax choose A                    # writes A/chosen.json, prints the study to run

Allowed are settings under which no member diverges and held-out accuracy does not fall by more than .5 points, as far
as can be told. Of these it takes the one that treats held-out examples most like the original does, and the request no
surer than held-out examples suggest. Several runs on the same targets, with settings that fix shapes, count as one.
Afterwards, and apart, it says what an oracle would have chosen.

Cost: none; it reads summary.csv and manifest.json of the runs.
"""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from unlearn_jax.cli.common import command, print_json
from unlearn_jax.errors import InputError
from unlearn_jax.reports.load import read_manifest
from unlearn_jax.results.recorder import write_json
from unlearn_jax.results.tables import check_seals, read_csv
from unlearn_jax.runtime.archives import read_json
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.sweeps.rules import ALLOWED, RULES, choose_settings, grouped, regret


@dataclass(frozen=True)
class Args:
    """Choose settings on tuning targets without looking at the oracle."""

    runs: Annotated[list[Path], tyro.conf.Positional]
    """folders that unlearn-jax study wrote, all on the same targets"""
    out: Path | None = None
    """where to write the choices; default chosen.json in the first run; the regret goes beside it"""
    rule: str = "margins"
    """margins; request, which takes what is least sure of the request; or heldout, which does not look at it"""
    json: bool = False
    """print one JSON object instead of the lines: the files, what the choices say, and apart from them the regret"""


FREE = ("methods", "remedies", "hp", "resamples", "metrics")  # in which runs may differ


def read_rows(runs: list[Path]) -> tuple[list[dict[str, str]], dict]:
    """Rows of the largest copies level and smallest gamma, requests pooled, and what was asked.

    Raises:
        InputError: a missing, unfinished or older run, or runs on different targets.
    """
    rows, config = [], {}
    for run in runs:
        manifest = read_manifest(run)
        mine = {k: v for k, v in (manifest.get("asked") or manifest["config"]).items() if k not in FREE}
        if config and (differ := [k for k in mine if mine[k] != config.get(k)]):
            raise InputError(f"{run} is another study than {runs[0]} ({', '.join(differ)} differ): give runs alike.")
        config = mine
        check_seals(run, manifest)
        try:
            pooled = [r for r in read_csv(run / "summary.csv") if r["request"] == "all"]
            top = max(int(r["copies"]) for r in pooled)
            pooled = [r for r in pooled if int(r["copies"]) == top]
            least = min(float(r["gamma"]) for r in pooled)
            rows += [r for r in pooled if float(r["gamma"]) == least]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"cannot read {run}/summary.csv: run unlearn-jax study again.") from error
    return rows, config


def commands(choices, asked: dict) -> list[str]:
    """Studies of the choices on other targets than they were made on."""
    default, requests = dataclasses.asdict(StudyConfig()), asked.get("requests", 1)
    skipped = asked.get("skip_requests", 0)
    config = asked | {"skip_requests": 0 if skipped >= requests else skipped + requests}
    words = []
    for name, value in config.items():
        each = [value] if isinstance(value, str | int | float) else list(value or ())  # left open: none
        usual = default.get(name)
        if name in default and each and each != [usual] and value != "":
            words += [f"--{name.replace('_', '-')}", *map(str, each)]
    lines = []
    for methods, remedy, hp in grouped(choices):
        more = (
            ["--methods", ",".join(methods)] + (["--remedies", remedy] if remedy else []) + (["--hp", *hp] * bool(hp))
        )
        lines.append(shlex.join(["unlearn-jax", "study", *words, *more]))
    return lines


def write_choices(runs: list[Path], out: Path | None = None, rule: str = "margins") -> tuple[str, tuple[Path, Path]]:
    """Choose, write the choices and the regret, each to its own file; what to print, and the two files."""
    rows, config = read_rows(runs)
    choices = choose_settings(rows, rule)
    out, ready = out or runs[0] / "chosen.json", commands(choices, config)
    entries = [c._asdict() | {"hp": c.words} for c in choices]
    content = {"rule": rule, "said": RULES[rule], "allowed_points": ALLOWED, "tuned_on": config, "choices": entries}
    looked = regret(rows, choices)
    regrets = [
        {
            "population": r.choice.name, "chosen": r.choice.setting, "distance": r.distance, "best": r.best,
            "best_distance": r.best_distance, "regret": r.gap,
        }
        for r in looked
    ]  # fmt: skip
    try:
        write_json(out, content | {"commands": ready})
        apart = out.with_name(f"{out.stem}.regret.json")
        write_json(apart, {"looked_at": "the oracle, after the choice", "regret": regrets})
    except OSError as error:
        raise InputError(f"cannot write {out} ({error.strerror}): choose a writable place with --out.") from error
    lines = [f"{'population':<32} {'chosen':<28} {'held-out error':>14} {'points lost':>11} {'surer by':>9}  allowed"]
    lines += [_line(c) for c in choices]
    lines += ["", "To report them, on other targets:", *ready]
    lines += ["", "Apart, with the oracle, after the choice (residual distance):"]
    lines += [f"{'population':<32} {'chosen':>7} {'best':>7} {'regret':>7}  best setting"]
    for r in looked:
        best = r.best or "defaults"
        lines.append(f"{r.choice.name:<32} {r.distance:>7.2f} {r.best_distance:>7.2f} {r.gap:>7.2f}  {best}")
    return "\n".join([*lines, f"written: {out}, {apart}"]), (out, apart)


def _line(choice) -> str:
    error, lost, surer = (
        choice.seen.get(name, float("nan"))
        for name in ("heldout_margin_error", "heldout_accuracy_drop", "request_margin_gap")
    )
    note = "" if choice.allowed else "  none: the least harm was taken"
    return (
        f"{choice.name:<32} {choice.setting or 'defaults':<28} {error:>14.2f} {lost:>11.2f} {surer:>9.2f}  "
        f"{choice.allowed} of {choice.candidates}{note}"
    )


def run(args: Args) -> None:
    """Choose, write, and print the choices."""
    if not args.runs:
        raise InputError("no run is given: name one or more folders that unlearn-jax study wrote.")
    text, written = write_choices(args.runs, args.out, args.rule)
    if args.json:
        record, apart = (read_json(path) for path in written)
        print_json({"chosen": written[0], "regret": written[1], **record, "apart": apart})
    else:
        print(text)


main = command(Args, __doc__, run)

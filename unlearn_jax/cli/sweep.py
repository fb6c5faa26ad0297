"""Sweep a method's hyperparameters, as one population, and choose a setting without looking at the oracle.

    unlearn-jax sweep --method scrub --hp lr=log:1e-4:1e-1:16 alpha=.1,.5 --seeds 8
    unlearn-jax sweep --method scrub --hp lr=log:1e-4:1e-1 alpha=lin:.05:2 --draw sobol --draws 32 --halving 3
    unlearn-jax study --methods scrub --presets runs/sweep-scrub-digits-.../preset.json
    unlearn-jax sweep --method all --hp auto --draw sobol --draws 8       # one preset file for every method

Numeric hyperparameters are a leading axis of the population; those that fix shapes or code are a program each. Settings
are judged by retained and held-out accuracy, the margins of held-out examples and the request, and a population attack;
the oracle is looked at afterwards, to say what that choice costs. The options of data and targets are those of
`unlearn-jax study`; the sweep runs at the largest number of copies.

Cost of the first command with `--copies 4 --skip-requests 1`: about a minute on 2 CPU cores (33 settings of 8 members,
as much as 32 networks trained from scratch). It should choose a rate near 1e-3, at a residual distance near .7 and a
regret near .5. A sweep of every method takes 10 to 20 minutes on digits, most of it to compile.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from unlearn_jax.cli.common import command, command_line, finish, keep_compiled_programs, use_every_core, watched
from unlearn_jax.cli.study_args import Run, StudyArgs
from unlearn_jax.reports import write_sweep_page, write_sweeps_page
from unlearn_jax.runtime.archives import read_json
from unlearn_jax.sweeps.config import SweepConfig, sweep_name


@dataclass(frozen=True)
class SweepRun(Run):
    """Where things are written, and how the devices are used."""

    out: Path | None = None
    """run folder; default runs/sweep-METHOD-DATASET-..., made from the configuration"""
    page: bool = True
    """write sweep.html, of several methods sweeps.html and the page of each"""
    json: bool = False
    """print one JSON object instead of the table: the run folder, the page and what sweep.json says (several methods:
    sweeps.json)"""


@dataclass(frozen=True)
class First:
    """What the help shows first."""

    sweep: tyro.conf.OmitArgPrefixes[SweepConfig] = SweepConfig()


@dataclass(frozen=True)
class Args(StudyArgs, First):
    """Sweep a method's hyperparameters and choose a setting without the oracle."""

    run: tyro.conf.OmitArgPrefixes[SweepRun] = SweepRun()


def run(args: Args) -> None:
    """Run the sweep, draw its page, and print the headline."""
    from unlearn_jax.sweeps import are_several, run_sweep, run_sweeps

    use_every_core()
    keep_compiled_programs(Path("runs") / "compiled")
    study, how = args.study, args.run
    out = how.out or Path("runs") / sweep_name(args.sweep, study)
    several = are_several(args.sweep.method)
    with watched(how.quiet) as watch:
        (run_sweeps if several else run_sweep)(
            args.sweep, study, out, store=how.store, watch=watch, command=command_line(), data_dir=how.data_dir,
            chunk=how.chunk, axis=how.axis,
        )  # fmt: skip
    name, lines = ("sweeps", overview) if several else ("sweep", headline)

    def draw() -> Path:
        if several and not how.quiet:
            print("drawing the pages of all methods, about a second each", file=sys.stderr, flush=True)
        return (write_sweeps_page if several else write_sweep_page)(out)

    record = lambda: {"run": out, name: read_json(out / f"{name}.json")}
    finish(how.json, lambda: lines(out), record, draw if how.page else None)


def headline(out: Path) -> str:
    """What every rule chose, a line each, what the sweep cost, and where the preset is."""
    record = read_json(out / "sweep.json")
    cost, rungs = record["cost"], record["rungs"]
    trainings = lambda evals: f"{evals / cost['one_training']:.0f}"
    heads = f"{'held-out error':>14} {'points lost':>11} {'surer by':>9} {'distance':>9} regret"
    lines = [f"{'rule':<11} {'chosen':<32} {heads}"]
    for rule, chosen in record["choices"].items():
        seen = [chosen["seen"].get(name, float("nan")) for name in
                ("heldout_margin_error", "heldout_accuracy_drop", "request_margin_gap")]  # fmt: skip
        figures = f"{seen[0]:>14.2f} {seen[1]:>11.2f} {seen[2]:>9.2f} {chosen.get('distance', float('nan')):>9.2f}"
        lost = f" {chosen['regret']:.2f}" if "regret" in chosen else ""
        lines.append(f"{rule:<11} {chosen['setting'] or 'defaults':<32} {figures}{lost}")
    choice = record["choices"][record["asked"]["sweep"]["rule"]]
    lines.append(f"allowed: {choice['allowed']} of {choice['candidates']} settings that ran whole")
    if len(rungs) > 1:
        steps = ", ".join(f"{len(rung['run'])} at {rung['share']:.3g}" for rung in rungs)
        lines.append(f"settings by share of the length: {steps}")
    lines.append(
        f"cost: as much as {trainings(cost['grad_evals'])} networks trained from scratch"
        + (f" (all at whole length: {trainings(cost['without_halving'])})" if len(rungs) > 1 else "")
    )
    return "\n".join([*lines, *unclear(record), f"preset: {out / 'preset.json'}", f"run folder: {out}"])


def unclear(told: dict) -> list[str]:
    """That distances are within the noise, where they are."""
    from unlearn_jax.reports.sweep_load import UNCLEAR

    return [UNCLEAR] if told.get("identifiable") is False else []


def overview(out: Path) -> str:
    """What the preset file says of every method, a line each, and where it is."""
    record = read_json(out / "sweeps.json")
    number = lambda x: f"{x:.2f}" if isinstance(x, float) else ""
    lines = [f"{'method':<20} {'chosen':<36} {'allowed':>8} {'defaults':>9} {'distance':>9} {'best':>6}  preset"]
    for name, one in record["methods"].items():
        chosen = (one.get("chosen") or "defaults") if "candidates" in one else ""
        allowed = f"{one['allowed']} of {one['candidates']}" if "candidates" in one else ""
        far = [number(one.get(key)) for key in ("default_distance", "distance", "best_distance")]
        preset = f"{'defaults' if one['kept_defaults'] else 'chosen'}: {one['why']}"
        lines.append(f"{name:<20} {chosen:<36} {allowed:>8} {far[0]:>9} {far[1]:>9} {far[2]:>6}  {preset}")
    changed = sum(not one["kept_defaults"] for one in record["methods"].values())
    lines += [f"{changed} of {len(record['methods'])} methods leave their defaults", *record["left_out"]]
    if record["rules"]:
        regrets = [
            f"{rule} {regret['regret'][0]:.2f} ({regret['best']:.3g})" for rule, regret in record["rules"].items()
        ]
        lines.append(f"mean regret (how often the best allowed setting): {', '.join(regrets)}")
    ends = [f"preset: {out / 'preset.json'}", f"run folder: {out} (a folder for each method)"]
    return "\n".join([*lines, *unclear(record), *ends])


main = command(Args, __doc__, run)

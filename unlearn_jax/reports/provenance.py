"""How the numbers of a study were made: its command, device and versions, and where each level lies."""

from __future__ import annotations

import math

from unlearn_jax.reports.load import Run
from unlearn_jax.reports.render import Made, Table, Td, Tr, inline, made, number

HEADS = ("rows of summary.csv", "margins of every model", "members")


def made_of(run: Run, prefix: str = "reproduce") -> Made:
    """The command, what it ran on, and where the numbers of each level lie (anchors ``PREFIX-LEVEL``)."""
    manifest = run.manifest
    seeds = {name: value for name, value in manifest["config"].items() if "seed" in name}
    config = {name: value for name, value in manifest["config"].items() if name not in seeds}
    made_how = made(
        manifest,
        config,
        Started=inline(manifest.get("started")),
        Seeds=inline(seeds),
        Seconds_compiling=number(manifest.get("compile_seconds"), 1),
        Benchmark=_benchmark(manifest.get("benchmark") or {}),
        Recipe=inline(manifest.get("recipe")),
    )
    about = f"Every number of this run is in {run.path.resolve().name}/summary.csv, made by the command above."
    return made_how._replace(about=about, levels=_levels(run, prefix))


def _levels(run: Run, prefix: str) -> Table:
    """A row for each level: which rows of summary.csv its numbers are, and the folder of its margins."""
    rows = []
    for level in run.summary.levels:
        gamma, members = run.summary.gamma[level], run.summary.find(level, "retrain", "margin", "forget").n
        keys = f"copies={level}" + ("" if math.isnan(gamma) else f", gamma={gamma:.3f}") + ", request=all"
        cells = [Td(keys, kind="said"), Td(margins_at(run, level) or "–", kind="said")]
        cells.append(Td("–" if math.isnan(members) else f"{members:g}"))
        rows.append(Tr(Td(f"{level} copies"), cells, anchor=f"{prefix}-{level}"))
    heads = [Td("Level", kind="name"), *(Td(text, kind="said" * (text != "members")) for text in HEADS)]
    return Table([heads], rows, "made")


def margins_at(run: Run, level: int) -> str:
    """The folder of a level's margins within the run folder, that of the last one being ``margins``; '' = not there."""
    place = f"margins/copies={level}"
    folders = (name for name in (f"{place},gamma={run.summary.gamma[level]:.3f}", place) if (run.path / name).is_dir())
    return next(folders, "margins" if level == run.summary.levels[-1] else "")


def _benchmark(benchmark: dict) -> str:
    """vision-copies version 1, digest 0123456789ab, as recorded; nothing where the study is of no benchmark."""
    if not benchmark:
        return ""
    state = {True: "as recorded", False: "not as recorded", None: ""}.get(benchmark.get("as_recorded"), "")
    changed = f"with other {', '.join(benchmark['changed'])}" if benchmark.get("changed") else ""
    named = f"{benchmark['name']} version {benchmark['version']}"
    return ", ".join(part for part in (named, changed, f"digest {benchmark['digest'][:12]}", state) if part)

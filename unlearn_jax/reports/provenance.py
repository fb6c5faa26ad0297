"""How numbers were made: a run's command, device and versions, and where each level lies, with anchors to link to."""

from __future__ import annotations

import math
from html import escape
from typing import Any

from unlearn_jax.reports.frame import definitions, inline
from unlearn_jax.reports.load import Run


def command_of(manifest: dict[str, Any]) -> str:
    """The command that made a run; '' where it was not recorded."""
    command = manifest.get("command") or ""
    return " ".join(map(str, command)) if isinstance(command, list) else str(command)


def link(level: int | None = None, prefix: str = "reproduce") -> str:
    """A link to the command of a figure or table, or to the place of one level."""
    place = prefix if level is None else f"{prefix}-{level}"
    return f'<a class="made" href="#{place}">how it was made</a>'


BELOW = f'<p class="caption">{link()}</p>'  # of a table without a caption


def block(run: Run, prefix: str = "reproduce") -> str:
    """The command, what it ran on, and where the numbers of each level lie (anchors ``PREFIX-LEVEL``)."""
    command = command_of(run.manifest)
    shown = f"<pre>{escape(command)}</pre>" if command else "<p>The command was not recorded.</p>"
    return f'<div class="box">{shown}{definitions(_pairs(run.manifest))}{_levels(run, prefix)}</div>'


def _pairs(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """Device, versions, seeds, times and commit, as far as the manifest holds them."""
    config, notes = manifest["config"], manifest.get("notes") or []
    seeds = {name: value for name, value in config.items() if "seed" in name}
    total, compiling = manifest.get("seconds_total"), manifest.get("compile_seconds")
    times = [f"{manifest['started']} to {manifest['finished']}"] if {"started", "finished"} <= set(manifest) else []
    times += [f"{total:.1f} s in all"] if isinstance(total, int | float) else []
    times += [f"of which {compiling:.1f} s compiling"] if isinstance(compiling, int | float) else []
    pairs = [
        ("Device", inline(manifest.get("device"))),
        ("Commit", inline(manifest.get("git_commit"))),
        ("Seeds", inline(seeds)),
        ("Times", ", ".join(times)),
        ("Versions", inline(manifest.get("versions"))),
        ("Benchmark", _benchmark(manifest.get("benchmark") or {})),
        ("Configuration", inline({k: v for k, v in config.items() if k not in seeds and v not in ("", [], 0)})),
        ("Recipe", inline(manifest.get("recipe"))),
        ("Notes", notes if isinstance(notes, str) else "; ".join(map(inline, notes))),
    ]
    return [pair for pair in pairs if pair[1]]


def _levels(run: Run, prefix: str) -> str:
    """A row for each level: which rows of summary.csv its numbers are, and the folder of its margins."""
    rows = []
    for level in run.summary.levels:
        gamma, members = run.summary.gamma[level], run.summary.find(level, "retrain", "margin", "forget").n
        keys = f"copies={level}" + ("" if math.isnan(gamma) else f", gamma={gamma:.3f}") + ", request=all"
        cells = f'<td class="said">{escape(keys)}</td><td class="said">{escape(margins_at(run, level)) or "–"}</td>'
        cells += f"<td>{'–' if math.isnan(members) else f'{members:g}'}</td>"
        rows.append(f'<tr id="{prefix}-{level}"><th class="name" scope="row">{level} copies</th>{cells}</tr>')
    head = (
        '<thead><tr><th class="name" scope="col">Level</th><th class="said" scope="col">rows of summary.csv</th>'
        '<th class="said" scope="col">margins of every model</th><th scope="col">members</th></tr></thead>'
    )
    about = f"Every number of this run is in {run.path.resolve().name}/summary.csv, made by the command above."
    table = f'<div class="scroll"><table class="made">{head}<tbody>{"".join(rows)}</tbody></table></div>'
    return f'<p class="caption">{escape(about)}</p>{table}'


def margins_at(run: Run, level: int) -> str:
    """The folder of a level's margins within the run folder, that of the last one being ``margins``; '' = not there."""
    own = f"margins/copies={level}"
    found = (name for name in (f"{own},gamma={run.summary.gamma[level]:.3f}", own) if (run.path / name).is_dir())
    return next(found, "margins" if level == run.summary.levels[-1] else "")


def _benchmark(told: dict) -> str:
    """vision-copies version 1, digest 0123456789ab, as recorded; nothing where the study is of no benchmark."""
    if not told:
        return ""
    state = {True: "as recorded", False: "not as recorded"}.get(told.get("as_recorded"), "")
    changed = f"with other {', '.join(told['changed'])}" if told.get("changed") else ""
    named = f"{told['name']} version {told['version']}"
    return ", ".join(part for part in (named, changed, f"digest {told['digest'][:12]}", state) if part)

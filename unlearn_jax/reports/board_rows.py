"""Rows of the leaderboard: taken from run folders, kept in one CSV file that is sorted, so that changes can be read."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import shlex
from pathlib import Path
from typing import Any, NamedTuple

from unlearn_jax.errors import InputError
from unlearn_jax.reports.columns import COLUMNS, Line, Named, levels_of, lines_of
from unlearn_jax.reports.compare_load import config_of
from unlearn_jax.reports.load import Run
from unlearn_jax.reports.render import command_of
from unlearn_jax.studies.presets import SHIPPED, read_presets

FIGURES = ("residual", "distance", "price_test", "price_rest", "price_similar")
STUDY = (
    "study", "dataset", "model", "benchmark", "benchmark_digest", "targets", "num_targets", "requests", "similarity",
    "copies", "gamma", "seed", "members",
)  # fmt: skip
POPULATION = ("method", "remedy", "setting", "budget", "source", "kind")
MADE = ("diverged", "null_band", "device", "versions", "commit", "date", "command")
HEADER = (
    *STUDY, *POPULATION, *(f"{name}{end}" for name in FIGURES for end in ("", "_low", "_high")), "cost", *MADE,
)  # fmt: skip
NUMBERS = {name for name in HEADER if name.partition("_low")[0].partition("_high")[0] in (*FIGURES, "cost")}
NUMBERS |= {"copies", "gamma", "members", "requests", "num_targets", "diverged", "null_band"}
KEYS = ("study", "copies", "gamma", "method", "remedy", "setting", "budget")  # of one row
FREE = {"methods", "remedies", "hp", "presets", "copies", "gamma", "budget", "resamples", "benchmark", "metrics"}
PATHS = {"--dataset", "--presets", "--tokenizer"}  # options that name data or a file, which may be a path
PLACES = {"--out", "--store", "--data-dir"}  # options that say where things lie, with a value
SILENT = {"--quiet", "--no-quiet", "--report", "--no-report", "--json", "--no-json"}


class Added(NamedTuple):
    """What adding a run did."""

    rows: list[dict[str, str]]  # of the whole file
    new: int
    renewed: int
    kept: int  # that were made later than the run


def rows_of_run(one: Named, levels: str = "", source: str = "") -> list[dict[str, str]]:
    """Rows of a run's populations at these levels, those that residuals identify.

    Args:
        one: a complete study.
        levels: numbers of copies with commas, or all; '' = the last.
        source: where settings that ``--hp`` gave come from; '' = said to be given.

    Raises:
        InputError: an unfinished run, one whose command or versions were not recorded, no such level, or no level that
            is identifiable.
    """
    run = one.run
    if run.unfinished:
        raise InputError(f"the run in {run.path} is unfinished: the same study command completes it.")
    for name in ("command", "versions", "device"):
        if not run.manifest.get(name):
            raise InputError(f"the run in {run.path} does not say its {name}: run unlearn-jax study again.")
    chosen = levels_of(levels, [one])
    identified = {one.name: [level for level in chosen[one.name] if run.summary.identifiable(level)]}
    if not identified[one.name]:
        unclear = f"nothing can be read from residuals of {run.path} at these levels"
        raise InputError(f"{unclear}: they are not identifiable.")
    columns = {name: COLUMNS[name] for name in (*FIGURES, "cost")}
    shown = lambda line: math.isfinite(line.cells[1].low) or line.entry.method == "original"
    lines = filter(shown, lines_of([one], columns, identified, ""))
    shared = _of_run(run)
    return [{**shared, **_of_line(line, run, source)} for line in lines]


def _of_run(run: Run) -> dict[str, str]:
    """What all rows of a run have in common."""
    manifest, facts = run.manifest, run.summary.facts
    config, benchmark = config_of(manifest), manifest.get("benchmark") or {}
    versions = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())
    named = f"{benchmark['name']} v{benchmark['version']}" if benchmark else ""
    named += f" with other {', '.join(benchmark['changed'])}" if benchmark.get("changed") else ""
    return {
        "study": study_of(manifest), "dataset": facts["dataset"], "model": facts["model"], "benchmark": named,
        "benchmark_digest": str(benchmark.get("digest", ""))[:12], "targets": facts["targets"],
        "num_targets": _targets(run), "requests": _text(config.get("requests")),
        "similarity": facts["similarity"], "seed": _text(config.get("seed")), "members": _text(config.get("members")),
        "device": str(manifest["device"]), "versions": versions, "commit": str(manifest.get("git_commit") or ""),
        "date": str(manifest.get("finished") or "")[:10],
        "command": public_command(command_of(manifest), _presets(manifest)[0]),
    }  # fmt: skip


def _targets(run: Run) -> str:
    """Targets of a request as found, on average where requests differ in size; else what was asked for."""
    return _number(sum(run.sizes) / len(run.sizes)) if run.sizes else _text(config_of(run.manifest).get("num_targets"))


def _of_line(line: Line, run: Run, source: str) -> dict[str, str]:
    """What a row says of its own population."""
    entry, level, gamma = line.entry, line.level, line.summary.gamma[line.level]
    setting, whence = _settings(line, run.manifest, source)
    row = {
        "copies": str(level), "gamma": _number(gamma), "method": entry.method, "remedy": entry.remedy,
        "setting": setting, "budget": entry.budget, "source": whence,
        "kind": "reference" if entry.is_reference else entry.kind,
        "diverged": _number(line.diverged), "null_band": _number(line.summary.band(level)),
    }  # fmt: skip
    for name, cell in zip((*FIGURES, "cost"), line.cells):
        row[name] = _number(cell.mean)
        if name != "cost":
            row[f"{name}_low"], row[f"{name}_high"] = _number(cell.low), _number(cell.high)
    return row


def _settings(line: Line, manifest: dict[str, Any], source: str) -> tuple[str, str]:
    """The settings of a population that are not its defaults, and where they come from."""
    entry, config = line.entry, config_of(manifest)
    set_words = [word for word in config.get("hp") or () if word.partition(".")[0] in (entry.method, entry.remedy)]
    set_words = [] if entry.is_reference else set_words
    preset, of_preset = _presets(manifest)
    of_remedy = [word.partition(".")[2] for word in set_words if word.partition(".")[0] != entry.method]
    setting = ", ".join(filter(None, [entry.setting, *of_remedy]))
    if not set_words:
        return setting, "default" + (f", scale {config['scale']}" if config.get("scale") else "")
    if set(set_words) <= of_preset:
        return setting, f"preset {preset}".strip()
    return setting, source or "given"


def _presets(manifest: dict[str, Any]) -> tuple[str, set[str]]:
    """The name of the presets of a run, of those that come with the package the one to ask for, and their settings."""
    presets = manifest.get("presets")
    recorded = presets if isinstance(presets, dict) else {}
    shipped = (
        file.stem for file in sorted(SHIPPED.glob("*.json")) if read_presets(file.stem).digest == recorded["digest"]
    )
    name = next(shipped, recorded.get("name", "")) if recorded.get("digest") else recorded.get("name", "")
    return name, set(recorded.get("settings") or ())


def study_of(manifest: dict[str, Any]) -> str:
    """Twelve letters, the same for runs that ask the same question: data, targets, model, recipe, members and seed."""
    config = {name: value for name, value in config_of(manifest).items() if name not in FREE}
    benchmark = manifest.get("benchmark") or {}
    parts = [config, manifest.get("recipe"), manifest.get("dataset_digest"), benchmark.get("digest")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]


def public_command(command: str, presets: str = "") -> str:
    """A command without where things lie and what is printed; of files of one's own, and of ``presets``, the names."""
    words, kept, skip = shlex.split(command), [], False
    for word in words:
        name, equals, value = word.partition("=")
        if skip or name in SILENT:
            skip = False
        elif name in PLACES:
            skip = "=" not in word
        elif presets and (name == "--presets" or kept[-1:] == ["--presets"]):
            kept += [f"--presets={presets}" if "=" in word else word if name == "--presets" else presets]
        elif name.startswith("--") and equals and (name in PATHS or _is_path(value)):
            kept.append(f"{name}={_named(value)}")
        elif _is_path(word) or kept[-1:] and kept[-1] in PATHS:
            kept.append(_named(word))
        else:
            kept.append(word)
    return shlex.join(kept)


def _is_path(word: str) -> bool:
    return word.startswith(("/", "~", "\\", "./", "../", "file:")) or word[1:3] in (":\\", ":/")


def _named(word: str) -> str:
    return word.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] or "."


def added(rows: list[dict[str, str]], more: list[dict[str, str]]) -> Added:
    """The rows with those of a run: of the same study, level, population and settings the newer one stays."""
    key = lambda row: (*(row[name] for name in KEYS), row["source"].startswith("default"))
    held, new, renewed, kept = {key(row): row for row in rows}, 0, 0, 0
    for row in more:
        before = held.get(key(row))
        if before is not None and before["date"] > row["date"]:
            kept += 1
            continue
        new, renewed = new + (before is None), renewed + (before is not None)
        held[key(row)] = row
    return Added(sorted(held.values(), key=_order), new, renewed, kept)


def _order(row: dict[str, str]) -> tuple:
    """By study, references first, then by method."""
    study = [row[name] for name in ("dataset", "benchmark", "similarity")]
    numbers = [value(row, name) for name in ("copies", "gamma", "requests", "members")]
    rest = [row[name] for name in ("study", *POPULATION)]
    return (*study, *((math.isnan(n), 0.0 if math.isnan(n) else n) for n in numbers), row["kind"] != "reference", *rest)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of the file, [] where there is none yet; raises `InputError` where it is damaged."""
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path} ({error}): give a file of experiments/leaderboard.py.") from error
    if tuple(reader.fieldnames or ()) != HEADER:
        raise InputError(f"{path} has other columns than a leaderboard: give a file of experiments/leaderboard.py.")
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise InputError(f"{path} is damaged in line {number}: take it back from version control.")
        for name in NUMBERS:
            _checked(path, number, name, row[name])
    return rows


def _checked(path: Path, number: int, name: str, text: str) -> None:
    try:
        float(text or "nan")
    except ValueError as error:
        raise InputError(f"{path} has {name} '{text}' in line {number}: it must be a number, or empty.") from error


def written(rows: list[dict[str, str]]) -> str:
    """The file's content."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, HEADER, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def value(row: dict[str, str], name: str) -> float:
    """A number of a row, NaN where it is empty."""
    return float(row[name] or "nan")


def _number(number: float) -> str:
    """Six significant digits; nothing where it is not known."""
    return f"{number:.6g}" if math.isfinite(number) else ""


def _text(value: Any) -> str:
    """A value of the configuration; nothing where it is left open."""
    return "" if value is None else str(value)

"""Several studies side by side: what differs in their options, and which populations they share."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.reports.columns import Named, read_named
from unlearn_jax.reports.drawings import KINDS, kind_of_run, level_of
from unlearn_jax.reports.provenance import margins_at
from unlearn_jax.reports.render import inline
from unlearn_jax.studies.config import StudyConfig

KEYS = {"device": "device", "devices": "devices", "commit": "git_commit"}
MAX_RUNS = 26  # runs, each of which has a letter
OWN = ("forget", "rest", "test")  # splits of samples that are the same whatever the copies of a target are
ALIKE = 1e-3  # nats: margins of one model computed twice differ by rounding, those of two models by far more
Difference = tuple[str, tuple[str, ...]]  # what it is called, its value in each run


class Shared(NamedTuple):
    """Members that several runs have in common."""

    runs: tuple[int, ...]
    members: int
    populations: tuple[str, ...]


class Comparison(NamedTuple):
    """Everything that the page shows."""

    runs: tuple[Named, ...]
    levels: tuple[int, ...]  # the level shown of each run
    options: tuple[Difference, ...]  # that differ
    around: tuple[Difference, ...]  # data, versions, device: those that differ
    same: tuple[tuple[int, ...], ...]  # groups of runs of one configuration
    shared: tuple[Shared, ...]

    def letter(self, number: int) -> str:
        """What a run is called in figures and tables."""
        return chr(ord("A") + number)

    def level_of(self, number: int) -> str:
        """4 copies."""
        return f"{self.levels[number]} {'copy' if self.levels[number] == 1 else 'copies'}"


def only_studies(folder: Path, done: str) -> None:
    """Raise `InputError` where a folder holds another run than a study; ``done``: what can be done to studies alone."""
    kind = kind_of_run(folder)
    if kind != "study":
        called, script = KINDS[kind][:2]
        raise InputError(f"{folder} is {called} ({script}), and only studies can be {done}: give folders of study.py.")


def read_comparison(folders: list[Path], level: int | None = None) -> Comparison:
    """Read the runs and set them side by side.

    Args:
        folders: two or more that unlearn-jax study wrote.
        level: copies; None = the largest level that all have, else each run's own last one.

    Raises:
        InputError: too few or too many runs, one that is no study, is damaged or has no rows, or lacks the level.
    """
    if not 2 <= len(folders) <= MAX_RUNS:
        raise InputError(f"{len(folders)} run is given: name 2 to {MAX_RUNS} folders of studies to compare."
                         if len(folders) < 2 else f"{len(folders)} runs: name at most {MAX_RUNS}.")  # fmt: skip
    for folder in folders:
        only_studies(folder, "compared")
    runs = read_named(folders)
    common = set.intersection(*(set(one.run.summary.levels) for one in runs))
    level = max(common) if level is None and common else level
    levels = tuple(level_of(one.run.summary, level, one.run.path) for one in runs)
    configs = [_options(one.run.manifest) for one in runs]
    alike = [[n for n, other in enumerate(configs) if other == config] for config in configs]
    same = tuple(dict.fromkeys(tuple(group) for group in alike if len(group) > 1))
    around = _differing([_around(one.run.manifest) for one in runs])
    return Comparison(tuple(runs), levels, _differing(configs), around, same, _shared(runs, levels))


def config_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """The options of a study; those that came after it was run have their defaults."""
    return dataclasses.asdict(StudyConfig()) | manifest["config"]


def _options(manifest: dict[str, Any]) -> dict[str, str]:
    """Options of a study in words, with the training recipe, which depends on them."""
    config = config_of(manifest)
    recipe = manifest.get("recipe")
    recipe = {f"training: {k}": v for k, v in recipe.items()} if isinstance(recipe, dict) else {}
    options = {name.replace("_", "-"): value for name, value in config.items()} | recipe
    return {name: _said(value) for name, value in options.items()}


def _said(value: Any) -> str:
    """A value of an option in words; nothing where it is left open."""
    return ", ".join(map(inline, value)) if isinstance(value, list | tuple) else inline(value)


def _around(manifest: dict[str, Any]) -> dict[str, str]:
    """What a run was made with, and of which data."""
    benchmark, versions = manifest.get("benchmark"), manifest.get("versions")
    facts = {"data digest": str(manifest.get("dataset_digest") or "")[:12]}
    if isinstance(benchmark, dict) and benchmark:
        facts["benchmark digest"] = str(benchmark.get("digest", ""))[:12]
    facts |= {name: inline(manifest.get(key)) for name, key in KEYS.items()}
    return facts | ({k: inline(v) for k, v in versions.items()} if isinstance(versions, dict) else {})


def _differing(facts: list[dict[str, str]]) -> tuple[Difference, ...]:
    """What is not the same everywhere, in the order of the first run that says it."""
    names = dict.fromkeys(name for one in facts for name in one)
    rows = [(name, tuple(one.get(name, "") for one in facts)) for name in names]
    return tuple(row for row in rows if len(set(row[1])) > 1)


def _shared(runs: list[Named], levels: tuple[int, ...]) -> tuple[Shared, ...]:
    """Populations of which two runs hold the same members at their shown levels, told by the stored margins."""
    kept = [_margins(one, level) for one, level in zip(runs, levels)]
    shared: dict[tuple[tuple[int, ...], int], list[str]] = {}
    for (a, (rows_a, mine)), (b, (rows_b, theirs)) in itertools.combinations(enumerate(kept), 2):
        if levels[a] != levels[b] or rows_a is None or rows_b is None or not np.array_equal(rows_a, rows_b):
            continue
        for name in mine:
            if name in theirs and (members := same_members(mine[name], theirs[name])):
                shared.setdefault(((a, b), members), []).append(name)
    return tuple(Shared(*key, tuple(names)) for key, names in shared.items())


def same_members(a: np.ndarray, b: np.ndarray) -> int:
    """How many models two populations have in common: all of the smaller one, as its members come first; else 0.

    Args:
        a: margins (members, examples).
        b: the same of another run.
    """
    count = min(len(a), len(b))
    alike = count > 0 and a.shape[1:] == b.shape[1:]
    return count if alike and np.allclose(a[:count], b[:count], rtol=1e-4, atol=ALIKE, equal_nan=True) else 0


def _margins(one: Named, level: int) -> tuple[np.ndarray | None, dict[str, np.ndarray]]:
    """Rows of samples that nobody made, and margins on these by population; (None, {}) where they are not stored."""
    import pyarrow.parquet as parquet

    if not (place := margins_at(one.run, level)):
        return None, {}
    folder = one.run.path / place
    try:
        index = parquet.read_table(folder / "index.parquet")
        rows = index.column("stored_row" if "stored_row" in index.column_names else "row").to_numpy()
        columns = np.flatnonzero(np.isin(index.column("split").to_numpy(zero_copy_only=False), OWN))
        files = sorted(file for file in folder.glob("*.npy"))
        return rows[columns], {
            file.stem: np.load(file, mmap_mode="r", allow_pickle=False)[:, columns] for file in files
        }
    except (OSError, ValueError, KeyError, EOFError, IndexError):
        return None, {}

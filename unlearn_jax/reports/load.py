"""Read a run folder into plain Python and NumPy; every fault is one `InputError`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.reports.reading import gallery_of, present, reading
from unlearn_jax.reports.summary import REFERENCES, Summary, read_summary, summarise
from unlearn_jax.results.recorder import levels_done
from unlearn_jax.results.tables import check_seals, renamed
from unlearn_jax.runtime.archives import parse_json, read_array, read_json

FORMS = {  # of what pages read of a manifest
    "versions": (dict,), "benchmark": (dict,), "presets": (dict,), "similarity": (dict,), "notes": (list, str),
    "command": (str,), "recipe": (dict,),
}  # fmt: skip
GOES_ON = "the same unlearn-jax study command goes on where it stopped"
REQUIRED = ("manifest.json", "summary.csv", "results.parquet", "margins/index.parquet")


class Run(NamedTuple):
    """Everything that the page shows."""

    path: Path
    manifest: dict[str, Any]
    summary: Summary
    margins: dict[str, np.ndarray]  # reference -> margins of targets, one value per (member, target)
    num_targets: int  # distinct targets found in the stored index, 0 where unknown
    gallery: dict[str, np.ndarray] | None  # images or texts by cluster, labels, class_names
    answers: dict[str, list[dict[str, int]]]  # population -> for each cluster of the gallery, members by answer
    unfinished: str = ""  # how far the run is, where it is not complete
    sizes: tuple[int, ...] = ()  # targets of each request as stored, () where unknown


def read_run(path: Path) -> Run:
    """Read a run folder, of an unfinished run what is done; raises `InputError` where it is missing or damaged."""
    if not path.is_dir():
        raise InputError(f"there is no run folder at {path}: give the folder that unlearn-jax study wrote.")
    manifest, members = read_manifest(path), None
    if manifest.get("status") == "complete":
        present(path, REQUIRED, f"the run in {path} has no {{name}}: run unlearn-jax study again to complete it.")
        check_seals(path, manifest)
        summary = read_summary(path / "summary.csv")
    else:
        rows, members = rows_so_far(path, manifest)
        summary = summarise(rows, path / "records.jsonl")
    with reading(f"the run in {path} is damaged", "run unlearn-jax study again"):
        level = summary.levels[-1]
        margins, sizes = _read_margins(path, level, summary.gamma[level], members)
        gallery = gallery_of(path / "gallery.npz") if (path / "gallery.npz").is_file() else None
        shape = gallery["images"].shape if gallery and "texts" not in gallery else (1,) * 5
        if len(shape) != 5 or shape[-1] not in (1, 3):
            raise ValueError(f"gallery.npz holds pictures of shape {shape}")
        answers = read_json(path / "answers.json") if (path / "answers.json").is_file() else {}
    return Run(path, manifest, summary, margins, sum(sizes), gallery, answers, progress(manifest), sizes)


def number_told(config: dict[str, Any], sizes) -> str:
    """Targets of a request in words: 30; 98 to 105 where requests differ in size; '' where nothing says how many.

    Args:
        config: of the study; what it asks for counts where the sizes are not known, unless it asks for whole classes.
        sizes: targets of each request, as found.
    """
    if sizes:
        return f"{min(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
    asked = "" if config.get("targets") == "whole_class" else config.get("num_targets")
    return f"{asked}" if asked else ""


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a run."""
    try:
        manifest = read_json(path / "manifest.json")
    except FileNotFoundError as error:
        raise InputError(f"{path} has no manifest.json: give a run folder that unlearn-jax study wrote.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}/manifest.json: run unlearn-jax study again.") from error
    if not isinstance(manifest, dict):
        raise InputError(f"{path}/manifest.json was written by no study: give the folder that unlearn-jax study wrote.")
    for name, kinds in FORMS.items():
        if not isinstance(manifest.get(name) or kinds[0](), kinds):
            raise InputError(f"{path}/manifest.json has {name} of another form than a study writes: run it again.")
    config = manifest.get("config")
    return {**manifest, "config": config if isinstance(config, dict) else {}}


def _read_margins(
    path: Path, level: int, gamma: float, members: list[dict] | None
) -> tuple[dict[str, np.ndarray], tuple[int, ...]]:
    """Margins of the targets under each member of each reference, flattened; and the number of targets by request.

    ``members`` are rows of single members where results.parquet is not there yet.
    """
    import pyarrow.parquet as parquet

    folder = path / "margins"  # of the last level, whose identified fraction may be another than the one shown
    places = [folder / f"copies={level},gamma={gamma:.3f}", *([] if members is None else [folder / f"copies={level}"])]
    folder = next((place for place in places if place.is_dir()), folder)
    index = parquet.read_table(folder / "index.parquet").to_pydict()
    targets: dict[str, list[int]] = {}
    requests = index.get("request") or [""] * len(index["row"])
    for row, split, request in zip(index["row"], index["split"], requests):
        if split == "forget":
            targets.setdefault(str(request), []).append(int(row))
    owners = _members_by_request(path, level, members) if len(targets) > 1 else {}
    margins = {}
    for name in REFERENCES:
        if targets and (folder / f"{name}.npy").is_file():
            values = read_array(folder / f"{name}.npy")
            all_of_them = range(len(values)) if len(targets) == 1 else []
            rows_of = {request: owners.get((name, request), all_of_them) for request in targets}
            parts = [values[np.ix_(rows_of[request], rows)].ravel() for request, rows in targets.items()]
            margins[name] = np.concatenate(parts).astype(np.float64)
    margins = {name: values for name, values in margins.items() if values.size}
    return margins, tuple(len(set(rows)) for rows in targets.values())


def _members_by_request(path: Path, level: int, members: list[dict] | None) -> dict[tuple[str, str], list[int]]:
    """Which members of each reference serve which request, from the per-member margin rows."""
    import pyarrow.parquet as parquet

    names = ["method", "metric", "split", "copies", "request", "member"]
    if members is None:
        table = parquet.read_table(path / "results.parquet", columns=names).to_pydict()
    else:
        table = {name: [row[name] for row in members] for name in names}
    owners: dict[tuple[str, str], set[int]] = {}
    for method, metric, split, copies, request, member in zip(*(table[name] for name in names)):
        if metric == "margin" and split == "forget" and int(copies) == level and int(member) >= 0:
            owners.setdefault((method, str(request)), set()).add(int(member))
    return {key: sorted(members) for key, members in owners.items() if key[1] != "all"}


def rows_so_far(path: Path, manifest: dict[str, Any]) -> tuple[list[dict], list[dict]]:
    """Rows of the levels that are done: those of the summary, and those of single members.

    Raises:
        InputError: none is done.
    """
    done, rows = set(levels_done(manifest)), []
    try:
        lines = (path / "records.jsonl").read_bytes().splitlines(keepends=True)
        rows = [parse_json(line) for line in lines if line.endswith(b"\n")]  # the last one may be in writing
        rows = [row for row in rows if (row["copies"], row["gamma"]) in done]
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot read {path}/records.jsonl ({error}): run unlearn-jax study again.") from error
    if not rows:
        raise InputError(f"the run in {path} has nothing to show yet: {_how_far(manifest)}; {GOES_ON}.")
    return [renamed(row) for row in rows if "member" not in row], [row for row in rows if row.get("member", -1) >= 0]


def progress(manifest: dict[str, Any]) -> str:
    """How far a run is, as a sentence; '' for one that is complete."""
    return "" if manifest.get("status") == "complete" else f"Unfinished: {_how_far(manifest)}; {GOES_ON}."


def _how_far(manifest: dict[str, Any]) -> str:
    """2 of 4 levels are done (copies 0, 1); running or killed at copies 4, scrub, since 2026-01-01T10:00:00."""
    done = [copies for copies, _ in levels_done(manifest)]
    words: dict[str | None, str] = {"running": "running or killed", "stopped": "stopped", "failed": "failed"}
    copies = f" (copies {', '.join(map(str, dict.fromkeys(done)))})" if done else ""
    at, status = manifest.get("at"), manifest.get("status")
    at = at if isinstance(at, dict) and {"copies", "population", "since"} <= set(at) else {}
    place = f" at copies {at['copies']}, {at['population']}, since {at['since']}" if at else ""
    done_of = f"{len(done)} of {manifest.get('levels', '?')} levels are done{copies}"
    return f"{done_of}; {words.get(status, f'status {status!r}')}{place}"

"""What a sweep writes of its choice, and whose folder it may write into."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from unlearn_jax.errors import InputError
from unlearn_jax.runtime.archives import read_json
from unlearn_jax.studies.populations import Level
from unlearn_jax.studies.resolve import Study


def facts_of(study: Study, level: Level) -> dict[str, Any]:
    """What a record says of the data, the model and the targets."""
    return {
        "dataset": study.dataset_name,
        "model": study.model,
        "scale": study.scale,
        "copies": level.copies,
        "gamma": float(level.rows[0].gamma),
        "target_counts": [len(rows.forget) for rows in level.rows],
    }


def completed(began: float) -> dict[str, Any]:
    """What a record says of a call that began then and is complete."""
    seconds = time.time() - began
    return {"finished": time.strftime("%Y-%m-%dT%H:%M:%S"), "seconds_total": seconds, "status": "complete"}


def chosen_values(told: dict) -> dict:
    """The values of the setting that the sweep's rule chose, by name."""
    chosen = told["choices"][told["asked"]["sweep"]["rule"]]["setting"]
    return next(one["values"] for one in told["settings"] if one["setting"] == chosen)


def by_owner(told: dict, values: dict) -> dict[str, dict]:
    """Values by method and, where there is one, remedy; its names are REMEDY.NAME among the values."""
    remedy = told["config"]["remedies"]
    of_remedy = {k.partition(".")[2]: v for k, v in values.items() if "." in k}
    of_method = {told["asked"]["sweep"]["method"]: {k: v for k, v in values.items() if "." not in k}}
    return of_method | ({remedy: of_remedy} if remedy else {})


def about_of(told: dict) -> dict:
    """What a preset file says of the sweep that made it."""
    sweep, config = told["asked"]["sweep"], told["config"]
    chosen = told["choices"][sweep["rule"]]
    usual = ("benchmark", "similarity", "targets", "num_targets", "requests", "skip_requests", "train_size", "seed")
    return {
        "chosen_by": sweep["rule"],
        "said": chosen["said"],
        "allowed": chosen["allowed"],
        "candidates": chosen["candidates"],
        "seeds": sweep["seeds"],
        "scale": told["scale"],
        "dataset": told["dataset"],
        "model": told["model"],
        **{name: config[name] for name in usual},
        "copies": told["copies"],
        "versions": told["versions"],
        "git_commit": told["git_commit"],
    }


def refuse_other(out: Path, asked: dict, name: str = "sweep.json", what: str = "sweep") -> None:
    """Raise `InputError` where the folder holds something else than ``what`` of this configuration (``name``)."""
    if out.exists() and not out.is_dir():
        raise InputError(f"'{out}' is a file: give another --out folder.")
    if not out.exists() or not any(p for p in out.iterdir() if p.name == name or not p.name.startswith(".")):
        return
    try:
        other = read_json(out / name)["asked"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"'{out}' holds something else than a {what}: give another --out folder.") from None
    if other != asked:
        raise InputError(f"'{out}' holds another {what}: give another --out folder.")


def refuse_other_data(path: Path, digest: str) -> None:
    """Raise `InputError` where a record of an earlier call says that it was made of other data under the same name."""
    try:
        before = read_json(path).get("dataset_digest", digest)
    except FileNotFoundError:
        return
    if before != digest:
        raise InputError(f"'{path.parent}' is of other data under the same name: give another --out folder.")

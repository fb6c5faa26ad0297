"""Released evaluation logs, read and judged: what they state, what their questions give, and which conclusions stand.

`audit_released` reads the log of an unlearned model beside logs of retrained models and of the original, and writes a
folder. Nothing is trained or generated.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.population import checkpoint
from unlearn_jax.released.compare import Aggregate, aggregates, quality
from unlearn_jax.released.conclusions import Conclusion, conclusions
from unlearn_jax.released.logs import Log, read_log
from unlearn_jax.released.together import alike, check_together
from unlearn_jax.results.recorder import write_json

FILE = "released.json"


def audit_released(
    unlearned: str | Path,
    retain: Sequence[str | Path] = (),
    full: str | Path | None = None,
    *,
    out: Path | None = None,
    draws: int = 1000,
    seed: int = 0,
    command: str = "",
) -> Path:
    """Judge a released log and write ``released.json``.

    Args:
        unlearned: EVAL or SUMMARY log of open-unlearning (TOFU, MUSE), or an aggregated log of TOFU's repository of
            2024; gzipped or not.
        retain: logs of retrained models, evaluated on the same questions.
        full: log of the original model.
        out: folder; None = ``audits/`` and the log's name.
        draws: of questions, behind every interval.
        seed: of the draws.
        command: for the record.

    Returns:
        The folder. ``released.json`` has, by metric, what is stated, what the questions give and the comparisons, and
        the conclusions.

    Raises:
        InputError: a file that is no log, logs of other questions, a folder that cannot be written.

    Example:
        >>> audit_released("missing.json")
        Traceback (most recent call last):
        unlearn_jax.errors.InputError: cannot read missing.json (No such file or directory): give the log's path.
    """
    if draws < 1:
        raise InputError(f"--resamples is {draws}: give 1 or more.")
    log, others, original = read_log(unlearned), [read_log(path) for path in retain], full and read_log(full)
    beside = [("--retain", one) for one in others] + ([("--full", original)] if original else [])
    for place, (option, other) in enumerate(beside):
        check_together(log, other, option)
        if twice := [one.name for _, one in beside[:place] if alike(one, other)]:
            raise InputError(f"{option} {other.name} has the same values as {twice[0]}: give logs of different models.")
    found = aggregates(log, others, original or None, draws=draws, seed=seed)
    tested = quality(log, others) if others else None
    told = conclusions(found, tested, len(others), bool(original))
    out = out or Path("audits") / log.name
    checkpoint.check_writable(out, "--out")
    write_json(out / FILE, _content(log, others, original or None, found, tested, told, draws, seed, command))
    return out


def _content(log: Log, others, original, found, tested, told, draws, seed, command) -> dict[str, Any]:
    """What the file says."""
    return {
        "kind": "released",
        "command": command,
        "unlearned": log.name,
        "format": log.kind,
        "retain": [one.name for one in others],
        "full": original.name if original else None,
        "draws": draws,
        "seed": seed,
        "written": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "aggregates": {one.name: _plain(one) for one in found},
        "forget_quality": tested._asdict() if tested else None,
        "conclusions": [one._asdict() for one in told],
    }


def _plain(one: Aggregate) -> dict[str, Any]:
    """An aggregate as JSON; what is not known is null."""
    fields = one._asdict() | {"agrees": one.agrees}
    del fields["name"]
    finite = lambda value: None if isinstance(value, float) and not np.isfinite(value) else value
    return {key: finite(value) for key, value in fields.items()}


__all__ = ["FILE", "Aggregate", "Conclusion", "audit_released", "read_log"]

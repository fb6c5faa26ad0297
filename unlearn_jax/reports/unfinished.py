"""What an unfinished run has measured so far: the levels that are whole in records.jsonl."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unlearn_jax.errors import InputError
from unlearn_jax.results.recorder import levels_done
from unlearn_jax.results.tables import renamed
from unlearn_jax.runtime.archives import parse_json

GOES_ON = "the same unlearn-jax study command goes on where it stopped"


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
    told = f"{len(done)} of {manifest.get('levels', '?')} levels are done"
    told += f" (copies {', '.join(map(str, dict.fromkeys(done)))})" if done else ""
    at, status = manifest.get("at"), manifest.get("status")
    at = at if isinstance(at, dict) and {"copies", "population", "since"} <= set(at) else {}
    told += f"; {words.get(status, f'status {status!r}')}"
    return told + (f" at copies {at['copies']}, {at['population']}, since {at['since']}" if at else "")

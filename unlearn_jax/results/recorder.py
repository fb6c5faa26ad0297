"""What a run records: JSON lines while it runs, the tables of `tables` when it is done, a manifest beside them."""

from __future__ import annotations

import io
import json
import os
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from unlearn_jax import registry
from unlearn_jax.metrics import Estimate
from unlearn_jax.results.tables import FIGURES, KEYS, row_of, seals, write_csv, write_parquet
from unlearn_jax.runtime import signals
from unlearn_jax.runtime.disk import write_whole

WAITING = 128  # rows in memory before they are written
PACKAGES = ("unlearn_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy", "scikit-learn")


class Recorder:
    """Collects rows and keeps ``records.jsonl`` up to date; `finish` writes the tables.

    Lines are appended whole, so that the file can be read at any time. A run that goes on makes the rows of the levels
    that were finished again, from the store: those that are in the file already are not written twice, and from the
    first one that differs on (of members that had to be trained again, say) the old lines give way. So every row is in
    the file once. A line that a killed process has left unfinished is the last one, without a line end; the next run
    completes it.

    The one object with state in the library: it owns an open file.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.values: list[dict] = []
        self.summaries: list[dict] = []
        self._file = _opened(folder / "records.jsonl")
        self._sure = 0  # bytes of the file that are rows of this run
        self._waiting: list[bytes] = []

    def member_values(self, keys: dict[str, Any], values) -> None:
        """One row per member; keys as in `KEYS`, missing ones ''."""
        for member, value in enumerate(values):
            if value is not None:
                self._add(self.values, row_of(keys) | {"member": member, "value": float(value)})

    def figure(self, keys: dict[str, Any], estimate: Estimate | float, n: int = 0) -> None:
        """A population-level figure: a row of the summary, and one with member = -1 among the values."""
        if not isinstance(estimate, Estimate):
            estimate = Estimate(float(estimate), *[float("nan")] * 4, n=n)
        row = row_of(keys)
        self._add(self.summaries, row | dict(zip(FIGURES, estimate)))
        self._add(self.values, row | {"member": -1, "value": estimate.value})

    def _add(self, rows: list[dict], row: dict) -> None:
        signals.look()
        rows.append(row)
        self._waiting.append(json.dumps(row).encode() + b"\n")
        if len(self._waiting) >= WAITING:
            self.flush()

    def flush(self) -> None:
        """Bring the file on disk up to date.

        Raises:
            OSError: there is no room; what was written of the rows is taken back.
        """
        rows, self._waiting = self._waiting, []
        self._file.seek(self._sure)
        known = self._file.read(sum(map(len, rows)))
        alike = 0
        while alike < len(rows) and known.startswith(rows[alike]):
            known = known[len(rows[alike]) :]
            self._sure += len(rows[alike])
            alike += 1
        if alike == len(rows):
            return
        self._file.truncate(self._sure)
        self._file.seek(self._sure)
        _write_all(self._file, b"".join(rows[alike:]))
        self._sure = self._file.tell()

    def close(self) -> None:
        """Bring the file on disk up to date and let go of it."""
        if not self._file.closed:
            with self._file:
                self.flush()

    def finish(self) -> dict[str, dict]:
        """Write ``results.parquet`` and ``summary.csv``, each whole or not at all; their `seals` for the manifest."""
        self.flush()
        self._file.truncate(self._sure)  # rows that a run before this one made and this one did not
        self.close()
        write_parquet(self.folder / "results.parquet", (*KEYS, "member", "value"), self.values)
        write_csv(self.folder / "summary.csv", (*KEYS, *FIGURES), self.summaries)
        return seals(self.folder, {"results.parquet": len(self.values), "summary.csv": len(self.summaries)})


def _opened(path: Path) -> io.FileIO:
    """The file, to be read and written at any place; made where it is missing."""
    return io.FileIO(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666), "r+")


def _write_all(file: io.FileIO, block: bytes) -> None:
    """Write a block at the end, or nothing of it."""
    began = file.tell()
    try:
        while block:
            block = block[file.write(block) :]
    except OSError:
        file.truncate(began)
        raise


def write_json(path: Path, content: dict) -> None:
    """Write JSON whole or not at all."""
    write_whole(path, lambda p: p.write_text(json.dumps(content, indent=1, default=str), encoding="utf-8"))


def levels_done(manifest: dict) -> list[tuple[int, float]]:
    """(copies, gamma) of the levels that a manifest says are done; nothing where it says something else."""
    told = manifest.get("levels_done")
    number = lambda value: isinstance(value, int | float) and not isinstance(value, bool)
    sound = lambda one: isinstance(one, list | tuple) and len(one) == 2 and all(map(number, one))
    return [tuple(one) for one in told if sound(one)] if isinstance(told, list | tuple) else []


def replace_bytes(path: Path, old: bytes, new: bytes) -> None:
    """Put bytes in the place of the first such ones of a file that are as many or more, filled up with spaces.

    The file takes no more room, so that it can be done where there is none.
    """
    with path.open("r+b") as file:
        at = file.read().find(old)
        if at >= 0 and len(new) <= len(old):
            file.seek(at)
            file.write(new.ljust(len(old)))


def environment() -> dict[str, Any]:
    """Versions, device and git commit of this process, for the manifest."""
    import platform

    import jax

    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    versions |= registry.USED
    device = jax.devices()[0]
    kind = device.device_kind if device.platform != "cpu" else f"cpu, {os.cpu_count()} cores"
    return {"versions": versions, "device": kind, "devices": jax.device_count(), "git_commit": _git_commit()}


def _git_commit() -> str:
    """Commit of the source tree, with '+' where it has changes; '' outside a checkout."""
    here = Path(__file__).resolve().parent
    ask = lambda *words: subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=False)
    try:
        head = ask("rev-parse", "--short=12", "HEAD")
        changed = ask("status", "--porcelain", "--untracked-files=no")
    except OSError:
        return ""
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "") if head.returncode == 0 else ""

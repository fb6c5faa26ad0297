"""Room on the disk: asked about before a run begins, and waited for where a write finds none."""

from __future__ import annotations

import errno
import os
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from unlearn_jax.errors import InputError
from unlearn_jax.runtime import signals

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # the disk, the user's quota, the process's limit
NEAR = 0.8  # of the free space, above which a run is warned
PAUSE = 10.0  # seconds between two tries

T = TypeVar("T")


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, says that there is no room; libraries may have wrapped it in words."""
    while error is not None:
        if getattr(error, "errno", None) in FULL or "No space left" in str(error) or "quota exceeded" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def full(folder: Path) -> OSError:
    """The error that says that there is no room in ``folder``."""
    return OSError(errno.ENOSPC, "No space left on device", str(folder))


def free(folder: Path) -> int:
    """Free bytes where ``folder`` is, or will be."""
    there = next(part for part in (folder.absolute(), *folder.absolute().parents) if part.exists())
    return shutil.disk_usage(there).free


def check_room(folder: Path, option: str, sure: float, most: float) -> str:
    """Whether there is room for what a run writes.

    Args:
        folder: where it writes.
        option: by which the user gives another folder.
        sure: bytes that it certainly writes.
        most: bytes that it writes unless some of it is there already.

    Returns:
        A warning without its full stop where it may not fit; else ''.

    Raises:
        InputError: what is certainly written does not fit.
    """
    room = free(folder)
    if sure > room:
        raise InputError(
            f"about {size(sure)} are to be written to '{folder}' and {size(room)} are free: free some space, give "
            f"another {option} folder, or ask for fewer --members, --copies or --methods."
        )
    if most > NEAR * room:
        return f"up to {size(most)} are to be written to '{folder}' and {size(room)} are free"
    return ""


def size(count: float) -> str:
    """12.3 GB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def write_whole(path: Path, write: Callable[[Path], object], mark: str = "part") -> None:
    """Call ``write(temporary path)`` and move the result into place, so that no half-written file is ever seen.

    ``mark`` ends the temporary name; where several processes may write the same file, it keeps them apart.
    """
    temporary = path.with_name(f".{path.name}-{mark}")
    if temporary.is_symlink():  # what it points to is not ours
        temporary.unlink()
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_array(path: Path, array: np.ndarray, mark: str = "part") -> None:
    """Write a .npy file as `write_whole` does."""

    def save(part: Path) -> None:
        with part.open("wb") as file:
            np.save(file, array)

    write_whole(path, save, mark)


def write_arrays(path: Path, arrays: dict[str, Any], *, compressed: bool = True, mark: str = "part") -> None:
    """Write a .npz file as `write_whole` does."""

    def save(part: Path) -> None:
        with part.open("wb") as file:
            (np.savez_compressed if compressed else np.savez)(file, **arrays)

    write_whole(path, save, mark)


def patiently(write: Callable[[], T], seconds: float) -> T:
    """``write()``, tried again for up to ``seconds`` where there is no room, so that space can be freed meanwhile.

    What took an hour to train is worth an hour's wait, and nothing is worth more than doing it again.

    Raises:
        OSError: there was no room to the end, or the run was asked to stop.
    """
    began, warned = time.monotonic(), False
    while True:
        try:
            return write()
        except OSError as error:
            left = seconds - (time.monotonic() - began)
            if not is_full(error) or left <= 0 or signals.asked():
                raise
            if not warned:
                where = f" '{error.filename}'" if error.filename else ""
                warnings.warn(f"no room to write{where}: free some space within {seconds:.0f} s.", stacklevel=2)
                warned = True
        _pause(min(PAUSE, left))


def _pause(seconds: float) -> None:
    """Wait, but not on after a signal."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not signals.asked():
        time.sleep(min(0.2, seconds))

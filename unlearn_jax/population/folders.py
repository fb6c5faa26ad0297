"""Folders that runs write to: whether they can, who holds one, and what killed runs have left in them.

Nothing is taken away but what the program itself names: a mark of 32 hexadecimal digits, host and process.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import stat
import tempfile
import time
import warnings
from pathlib import Path

from unlearn_jax.errors import InputError

ABANDONED = 48 * 3600.0  # seconds after which what is half-written is abandoned, whichever machine wrote it
# a chunk, the state of one in training, a note or what was measured, as `mine` marks them, with what Orbax adds
STAGED = re.compile(
    r"\.(?:[0-9a-f]{32}(?:\.[0-9a-f]{16}-\d+|\.json)?|ways\.json)-(?P<host>.*)-(?P<process>[1-9]\d*)(?P<orbax>\.orbax-checkpoint-tmp.*)?"
)
PROBE = re.compile(r"\.probe-(?P<host>.*)-(?P<process>[1-9]\d*)")  # an empty file that earlier versions made
HOLDER = re.compile(rb" \(process \d+ on [^\n]*\)")  # what a lock says


def check_writable(folder: Path, option: str = "--out", *, keep: bool = True) -> Path:
    """Make ``folder`` and prove that a file can be written there; without ``keep``, where it would be made.

    Other runs may do the same at once: nothing that another can see is taken away again.

    Raises:
        InputError: it cannot; names ``option``, by which the user gives another folder.
    """
    try:
        if keep:
            folder.mkdir(parents=True, exist_ok=True)
        there = next(part for part in (folder.absolute(), *folder.absolute().parents) if _exists(part))
        with tempfile.TemporaryFile(dir=there):
            pass
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot write to '{folder}' ({reason}): give another {option} folder.") from error
    return folder


def _exists(path: Path) -> bool:
    """Whether there is anything under a name, a link to nothing too.

    Raises:
        OSError: there can be no such name.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


@contextlib.contextmanager
def locked(folder: Path):
    """Hold ``folder`` for this process while the block runs; a killed process lets go of it by itself.

    The file that is locked is never reached through a link, and one that is not ours stays as it is.

    Raises:
        InputError: another process holds it; what is there cannot be locked.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on this platform
        yield
        return
    path = folder / ".lock"
    with contextlib.ExitStack() as opened:
        while True:
            file, ours = _opened(path)
            opened.enter_context(file)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                content = file.read(200)
                holder = content.decode(errors="replace") if HOLDER.fullmatch(content) else ""
                raise InputError(
                    f"another run is writing to '{folder}'{holder}: wait for its end, or give another --out folder."
                ) from None
            except OSError as error:
                warnings.warn(f"'{folder}' cannot be locked ({error.strerror}): start one run at a time.", stacklevel=3)
            if _still(file, path):  # else the last one to hold it has taken it away meanwhile
                break
        ours = ours or bool(HOLDER.fullmatch(file.read(200))) and os.fstat(file.fileno()).st_nlink == 1
        if not ours:
            yield
            return
        file.truncate(0)
        file.seek(0)
        file.write(f" (process {os.getpid()} on {platform.node()})".encode())
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _opened(path: Path):
    """The file of a lock, and whether it was made here.

    Raises:
        InputError: there is something else under its name.
    """
    how = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    while True:
        try:
            return os.fdopen(os.open(path, how | os.O_CREAT | os.O_EXCL, 0o666), "r+b", buffering=0), True
        except FileExistsError:
            pass
        except OSError as error:
            raise InputError(
                f"cannot write to '{path.parent}' ({error.strerror}): give another --out folder."
            ) from None
        try:
            file = os.fdopen(os.open(path, how), "r+b", buffering=0)
        except FileNotFoundError:  # taken away meanwhile
            continue
        except OSError as error:
            raise InputError(
                f"'{path}' is no file of a run ({error.strerror}): move it away, or give another --out folder."
            ) from None
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file, False
        file.close()
        raise InputError(f"'{path}' is no file of a run: move it away, or give another --out folder.")


def _still(file, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False


def mine() -> str:
    """How what this process has half-written is marked."""
    return f"{platform.node()}-{os.getpid()}"


def sweep(folder: Path) -> None:
    """Take away what processes that are gone left half-written: of this machine, or untouched for long.

    Only what bears a name that `mine` marks, and is of the kind that is written under it, is touched.
    """
    for left in folder.glob(".*"):
        name = STAGED.fullmatch(left.name) or PROBE.fullmatch(left.name)
        if name is None:
            continue
        with contextlib.suppress(OSError):
            status = left.lstat()
            gone = name["host"] == platform.node() and not _runs(int(name["process"]))
            if not gone and time.time() - status.st_mtime <= ABANDONED:
                continue
            if stat.S_ISDIR(status.st_mode) and name.re is STAGED:
                shutil.rmtree(left)
            elif stat.S_ISREG(status.st_mode) and (name.re is STAGED or status.st_size == 0):
                left.unlink()


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True

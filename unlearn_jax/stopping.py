"""Being asked to stop, by SIGTERM or Ctrl-C: the first time where nothing is lost, the second time at once.

A signal raises `Stopped` where it comes, which is safe because files are written whole or not at all; within `held` it
waits until the work in hand is put away.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_ASKED: list[int] = []  # the signal that came, at most one
_HELD: list[None] = []  # one entry for each `held` block that runs


class Stopped(KeyboardInterrupt):
    """Raised where a run ends because it was asked to; ``signum`` is the signal."""

    def __init__(self, signum: int):
        super().__init__(signum)
        self.signum = signum


@contextlib.contextmanager
def listening(tell: Callable[[int], None] = lambda signum: None) -> Iterator[None]:
    """Turn the first signal into `Stopped` while the block runs; a second one ends the process at once.

    Signals that are ignored, as in the background of a script, stay so. Without effect outside the main thread.

    Args:
        tell: called with the signal when it comes, from within its handler.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _ASKED.clear()
    before = {one: signal.getsignal(one) for one in SIGNALS}

    def come(signum: int, frame) -> None:
        for one in SIGNALS:
            signal.signal(one, signal.SIG_DFL)
        _ASKED.append(signum)
        tell(signum)
        if not _HELD:
            raise Stopped(signum)

    for one, known in before.items():
        if known is not signal.SIG_IGN:
            signal.signal(one, come)
    try:
        yield
    finally:
        for one, known in before.items():
            signal.signal(one, signal.SIG_DFL if known is None else known)
        _ASKED.clear()


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Make a signal wait for the end of the block, or for `obey` within it."""
    _HELD.append(None)
    try:
        yield
    finally:
        _HELD.pop()
    if not _HELD:
        obey()


def asked() -> int:
    """The signal that has come; 0 = none."""
    return int(_ASKED[0]) if _ASKED else 0


def obey() -> None:
    """Raise `Stopped` if a signal has come."""
    if _ASKED:
        raise Stopped(_ASKED[0])

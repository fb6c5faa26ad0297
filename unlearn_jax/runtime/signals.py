"""Being asked to stop, by SIGTERM or Ctrl-C: the first time where nothing is lost, the second time at once.

A signal raises `Stopped` where it comes, which is safe because files are written whole or not at all; within `held` it
waits until the work in hand is put away. Where Python ignores exceptions (callbacks of the garbage collector, of which
JAX has one, and of weak references, ``__del__``), what was raised is lost: it is raised again as soon as the main
thread is out of there, and again where a run looks (`look`).
"""

from __future__ import annotations

import contextlib
import signal
import sys
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
    before, hook = {one: signal.getsignal(one) for one in SIGNALS}, sys.unraisablehook

    def come(signum: int, frame) -> None:
        for one in SIGNALS:
            signal.signal(one, signal.SIG_DFL)
        _ASKED.append(signum)
        tell(signum)
        if not _HELD:
            raise Stopped(signum)

    for one, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(one, come)

    def ignored(what) -> None:
        if isinstance(what.exc_value, Stopped):
            _raise_soon()
        else:
            hook(what)

    sys.unraisablehook = ignored
    try:
        yield
        look()
    finally:
        if sys.getprofile() is _again:
            sys.setprofile(None)
        if sys.unraisablehook is ignored:
            sys.unraisablehook = hook
        for one, handler in before.items():
            signal.signal(one, signal.SIG_DFL if handler is None else handler)
        _ASKED.clear()


def _raise_soon() -> None:
    """Raise `Stopped` in the main thread at its next call or return, by Python's hook for profilers if it is free."""
    if threading.current_thread() is threading.main_thread() and sys.getprofile() is None:
        sys.setprofile(_again)


def _again(frame, event: str, arg) -> None:
    """Raise `Stopped`, but not in this module, which is on its way out of where exceptions are ignored."""
    if frame.f_code.co_filename == __file__:
        return
    sys.setprofile(None)
    look()


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


def look() -> None:
    """Raise `Stopped` if a signal has come and nothing is held; called where long work can end without loss."""
    if not _HELD:
        obey()

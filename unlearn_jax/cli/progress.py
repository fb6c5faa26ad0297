"""Progress of a command on stderr: two live lines on a terminal, plain lines in a pipe or file.

What is done part by part (a population, the scores of a level) is one line each as it ends. On a terminal two lines
below them say what goes on and how far the whole is; they are gone at the end. Elsewhere, what goes on has a line of
its own where none was written for `EVERY` seconds, so also during a long compilation. Colours are those of rich, which
heeds NO_COLOR; only a terminal has them.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from unlearn_jax.cli.parts import Part, Whole

if TYPE_CHECKING:  # JAX is imported where the block begins
    from unlearn_jax.studies.setup import Watch

EVERY = 25.0  # seconds after which a log has another line, whatever goes on
TICK = 0.5  # seconds between two looks at the clock
_SHOWN: list[Display] = []  # that of the command that runs, at most one


@contextmanager
def watched(quiet: bool, unit: str = "members") -> Iterator[Watch]:
    """A study's `Watch` that shows members (or another unit) done, time spent and time left."""
    from unlearn_jax.studies.setup import Watch

    if quiet:
        yield Watch()
        return
    from rich.console import Console

    display, over = Display(Console(stderr=True), unit), threading.Event()

    def look() -> None:
        while not over.wait(TICK):
            display.tick()

    clock = threading.Thread(target=look, name="progress", daemon=True)
    _SHOWN.append(display)
    try:
        display.open()
        clock.start()
        yield Watch(display.stage, display.advance, display.say, display.begin, display.plan, display.phase,
                    display.end)  # fmt: skip
    finally:
        over.set()
        display.close()
        _SHOWN.remove(display)


def leave(text: str) -> bool:
    """Have the live lines taken away and ``text`` said in their place; False where there are none.

    For handlers of signals: nothing is waited for, and the cursor is there at once.
    """
    if not (_SHOWN and _SHOWN[-1].live):
        return False
    os.write(2, b"\x1b[?25h")
    _SHOWN[-1].leaving = text
    return True


class Display:
    """What is written; `tick` is called from another thread than the rest."""

    def __init__(self, console: Any, unit: str = "members") -> None:
        self.console, self.unit, self.lock = console, unit, threading.RLock()
        self.whole, self.part = Whole(), None
        self.written = time.perf_counter()  # when a line was last written
        self.live: Any = None
        self.leaving = ""

    def open(self) -> None:
        """Show the live lines, if this is a terminal."""
        if self.console.is_interactive and self.console.file.isatty():
            from rich.live import Live

            self.live = Live(
                get_renderable=self.lines, console=self.console, auto_refresh=False, transient=True,
                redirect_stdout=False,
            )  # fmt: skip
            self.live.start()

    def close(self) -> None:
        """Say what was cut short, and take the live lines away."""
        with self.lock:
            self._end(cut=True)
            self._leave()

    def plan(self, names: list[str]) -> None:
        """As of `Watch`; and so are the others."""
        with self.lock:
            self.whole.plan(names)

    def stage(self, label: str, members: int) -> None:
        """A part begins."""
        with self.lock:
            self._end()
            self.whole.begin(label)
            self.part = Part(label, members)
            self._refresh()

    def begin(self, what: str) -> None:
        """Something begins that is no part."""
        with self.lock:
            if self.part is not None and self.part.name == what:
                return
            self._end()
            self.part = Part(what, silent=True)
            self._refresh()
            if self.live is None:
                self._write(f"{what} ...")

    def phase(self, doing: str) -> None:
        """What the part at hand does."""
        with self.lock:
            if self.part is not None:
                self.part.phase(doing)

    def advance(self, done: float, examples: int) -> None:
        """How far it is."""
        with self.lock:
            if self.part is not None:
                self.part.advance(done, examples)

    def say(self, text: str) -> None:
        """A line of its own."""
        with self.lock:
            self._write(text)

    def tick(self) -> None:
        """Bring the live lines up to date; in a log write a line if there was none for long."""
        with self.lock:
            if self.leaving:
                self._leave()
            self._refresh()
            if self.live is None and self.part is not None and time.perf_counter() - self.written >= EVERY:
                self._write(f"{self.part.now(self.unit)} ({self.whole.told(self.part)})")

    def lines(self) -> Any:
        """The live lines: what goes on, and the whole."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        line = lambda text: Text(text, no_wrap=True, overflow="ellipsis")
        both, whole = Table.grid(), Table.grid(padding=(0, 1, 0, 0))
        both.add_row(line(self.part.now(self.unit) if self.part else "working"))
        if self.whole.count:
            whole.add_row(ProgressBar(self.whole.count, self.whole.done, 24), line(self.whole.told(self.part)))
        else:
            whole.add_row(line(self.whole.told(self.part)))
        both.add_row(whole)
        return both

    def end(self) -> None:
        """The part at hand is over."""
        with self.lock:
            self._end()

    def _end(self, cut: bool = False) -> None:
        part, self.part = self.part, None
        if part is not None:
            self.whole.end(part)
            if not part.silent:
                whole = f" ({self.whole.told(None)})" if self.live is None and self.whole.count else ""
                self._write(part.ended(self.unit, cut) + whole)

    def _refresh(self) -> None:
        if self.live is not None:
            self.live.refresh()

    def _write(self, text: str) -> None:
        self.written = time.perf_counter()
        if self.live is None:
            print(text, file=sys.stderr, flush=True)
        else:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _leave(self) -> None:
        """Take the live lines away for good, and say what is to be said in their place."""
        live, text = self.live, self.leaving
        self.live, self.leaving = None, ""
        if live is not None:
            live.stop()
        if text:
            self._write(text)

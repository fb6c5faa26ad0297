"""Progress of a script on stderr: a live bar for each stage on a terminal, in a log a line as each one ends.

On a terminal colours are those of rich, which heeds NO_COLOR; in a log there are none.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # JAX is imported where the block begins
    from unlearn_jax.studies.setup import Watch

EVERY = 60.0  # seconds after which a stage that is not done yet gets a line of its own in a log


@contextmanager
def watched(quiet: bool, unit: str = "members") -> Iterator[Watch]:
    """A study's `Watch` that shows members (or another unit) done, examples a second and time left."""
    from unlearn_jax.studies.setup import Watch

    if quiet:
        yield Watch()
        return
    from rich.console import Console

    console = Console(stderr=True)
    with _bars(console, unit) if console.is_terminal else _lines(unit) as callbacks:
        yield Watch(*callbacks)


@dataclass
class _Stage:
    label: str
    members: int
    start: float = field(default_factory=lambda: time.perf_counter())
    seconds: float = 0.0  # from its start to when it was last heard of; what is scored after it is not in it
    done: float = 0.0
    base: int = 0  # examples of the chunks before this one, each of which counts from zero
    seen: int = 0

    def advance(self, done: float, examples: int) -> None:
        """So many members are done, after so many examples of the chunk at hand."""
        if examples < self.seen:
            self.base += self.seen
        self.done, self.seen, self.seconds = done, examples, time.perf_counter() - self.start

    def rate(self) -> str:
        """Examples a second; none where members were read back from the store, or a method has no updates."""
        trained = self.base + self.seen
        return f"{trained / max(self.seconds, 1e-9):,.0f} ex/s" if trained else "no training"


@contextmanager
def _bars(console, unit: str) -> Iterator[tuple]:
    """A live bar for each stage; before the first a spinner, which is gone before an error is printed."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<16}"), BarColumn(24), MofNCompleteColumn(), TextColumn(unit),
        TextColumn("{task.fields[rate]:>14}"), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    bar, stages = Progress(*columns, console=console, refresh_per_second=4), []
    waiting = console.status("starting")

    def stage(label: str, members: int) -> None:
        waiting.stop()
        bar.start()
        stages.append((_Stage(label, members), bar.add_task(label, total=members, rate="")))

    def advance(done: float, examples: int) -> None:
        now, task = stages[-1]
        now.advance(done, examples)
        bar.update(task, completed=round(done, 1), rate=now.rate())

    waiting.start()
    try:
        yield stage, advance, lambda text: console.print(text), lambda what: waiting.update(what)
    finally:
        waiting.stop()
        if stages:
            bar.stop()


@contextmanager
def _lines(unit: str) -> Iterator[tuple]:
    """Plain lines: what begins first, what has ended, and once a minute how far a long stage is."""
    stages: list[_Stage] = []  # one at most: that which has not ended
    written: list[float | None] = [None]  # seconds into it when a line was last written; None before the first stage
    begun: list[str] = []  # what goes on before it

    def write(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def end() -> None:
        for now in stages:
            short = f"{now.done:.0f} of " if round(now.done, 1) < now.members else ""
            write(f"{now.label}: {short}{now.members:,} {unit} in {now.seconds:.1f} s, {now.rate()}")
        stages.clear()

    def stage(label: str, members: int) -> None:
        end()
        if written[0] is None:
            write(f"{label}: {members:,} {unit} ...")
        stages.append(_Stage(label, members))
        written[0] = 0.0

    def advance(done: float, examples: int) -> None:
        for now in stages:
            now.advance(done, examples)
            if now.seconds - (written[0] or 0.0) >= EVERY and done < now.members:
                written[0] = now.seconds
                left = now.seconds * (now.members - done) / max(done, 1e-9)
                write(f"{now.label}: {done:.1f} of {now.members:,} {unit}, {now.rate()}, about {left:.0f} s left")
        if stages and done >= stages[0].members:
            end()

    def begin(what: str) -> None:
        if what not in begun:
            begun.append(what)
            write(f"{what} ...")

    try:
        yield stage, advance, write, begin
    finally:
        end()

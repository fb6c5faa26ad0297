"""The parts of a command: what they are doing, how long they take, and how far the whole is."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field


@dataclass
class Part:
    """What goes on, from its beginning."""

    name: str
    members: int = 0  # 0 = a piece of work that has none
    silent: bool = False  # it gets no line as it ends
    start: float = field(default_factory=lambda: time.perf_counter())
    doing: str = ""
    trained: bool = False  # whether it ever trained
    since: float = 0.0  # when it began to do that
    compiling: float = 0.0  # seconds, of what is over
    heard: float = 0.0  # seconds into it without compilation when members were last heard of
    done: float = 0.0
    base: int = 0  # examples of the chunks before this one, each of which counts from zero
    seen: int = 0

    def phase(self, doing: str) -> None:
        """It does something else from now on."""
        self.compiling, self.doing, self.since = self.compiled(), doing, time.perf_counter()
        self.trained |= doing == "training"

    def compiled(self) -> float:
        """Seconds that went into compilation."""
        return self.compiling + (time.perf_counter() - self.since if self.doing == "compiling" else 0.0)

    def spent(self) -> float:
        """Seconds since it began."""
        return time.perf_counter() - self.start

    def advance(self, done: float, examples: int) -> None:
        """So many members are done, after so many examples of the chunk at hand."""
        if examples < self.seen:
            self.base += self.seen
        self.done, self.seen, self.heard = done, examples, self.spent() - self.compiled()

    def rate(self) -> str:
        """Examples a second; none where members were read back from the store; '' where they were not counted."""
        if count := self.base + self.seen:
            return f"{count / max(self.heard, 1e-9):,.0f} ex/s"
        return "" if self.trained else "no training"

    def ended(self, unit: str, cut: bool) -> str:
        """Its line when it is over, or was cut short."""
        time_taken = f"{self.spent():.1f} s"
        if not self.members:
            return f"{self.name}: {time_taken}"
        short = f"{self.done:.0f} of " if cut and round(self.done, 1) < self.members else ""
        compiling = f", {self.compiled():.1f} s of it compiling" if self.compiled() >= 0.05 else ""
        rate = f", {rate}" if (rate := self.rate()) else ""
        return f"{self.name}: {short}{self.members:,} {unit} in {time_taken}{compiling}{rate}"

    def now(self, unit: str) -> str:
        """Where it is."""
        doing = verb(self.name) if self.doing == "training" else self.doing
        members = f"{self.done:,.0f} of {self.members:,} {unit}" if self.members else ""
        rate = self.rate() if self.base + self.seen else ""
        told = ", ".join(word for word in (doing, members, rate, clock(self.spent())) if word)
        return f"{self.name}: {told}"


class Whole:
    """The parts of a command that are known beforehand, and how long they take."""

    def __init__(self) -> None:
        self.start, self.count = time.perf_counter(), 0
        self.to_come: list[str] = []
        self.at = ""  # the part of them that is at hand
        self.took: dict[str, float] = {}  # seconds of the last part of a name, without compilation
        self.first: dict[str, float] = {}  # of the first, with it

    def plan(self, names: list[str]) -> None:
        """So many more parts are to come, in this order."""
        self.count += len(names)
        self.to_come += names

    def begin(self, name: str) -> None:
        """A part begins, which may be one that was not foreseen."""
        self.at = name if name in self.to_come else ""
        if self.at:
            self.to_come = self.to_come[self.to_come.index(name) + 1 :]

    def end(self, part: Part) -> None:
        """A part is over."""
        if part.name == self.at:
            self.took[part.name], self.at = part.spent() - part.compiled(), ""
            self.first.setdefault(part.name, part.spent())

    def expected(self, name: str, known: Collection[str]) -> float:
        """Seconds of a part: as long as the last of its name, else as others of its kind, else as all in the mean.

        What is not among the ``known`` has yet to be compiled, as the first part of every other name was.
        """
        if name in self.took:
            return self.took[name]
        seconds = self.took if name in known else self.first
        alike = [value for other, value in seconds.items() if verb(other) == verb(name)] or list(seconds.values())
        return sum(alike) / len(alike)

    def left(self, part: Part | None) -> float | None:
        """Seconds until all is done; None where nothing can be said of it."""
        if not self.took or not (self.to_come or self.at):
            return None
        known, rest = set(self.took), 0.0
        if part is not None and part.name == self.at:
            if part.done and part.members:
                rest = part.heard / part.done * part.members - (part.spent() - part.compiled())
            else:
                rest = self.expected(part.name, known) - part.spent()
            rest = max(rest, 0.0)
            known.add(part.name)
        for name in self.to_come:
            rest += self.expected(name, known)
            known.add(name)
        return rest

    def told(self, part: Part | None) -> str:
        """7 of 45 parts, 1:23, about 3:20 left."""
        parts, left = f"{self.done} of {self.count} parts, " if self.count else "", self.left(part)
        gone = clock(time.perf_counter() - self.start)
        return f"{parts}{gone} elapsed" + (f", about {clock(left)} left" if left is not None else "")

    @property
    def done(self) -> int:
        """Parts that are over."""
        return self.count - len(self.to_come) - bool(self.at)


def verb(name: str) -> str:
    """What the members of a part are doing: unlearning those of a method, training all others."""
    from unlearn_jax.methods import METHODS
    from unlearn_jax.roles import REFERENCES

    method = name.split(" ")[0].partition("+")[0]
    return "unlearning" if method in METHODS and method not in REFERENCES else "training"


def clock(seconds: float) -> str:
    """0:07, 12:30, 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

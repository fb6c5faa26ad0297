"""Progress on a terminal of 80 by 24, in a log, and not at all, by a clock that the tests turn."""

import io
import os
import re

import pytest
from rich.console import Console

from unlearn_jax.cli import common, parts, progress
from unlearn_jax.cli.common import guarded, watched

LIVE = 3  # lines at most
PARTS = ["original", "retrain", "scrub", "scores"]
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that tests set."""
    now = [0.0]
    monkeypatch.setattr(parts.time, "perf_counter", lambda: now[0])
    return now


def shown(width=80):
    """A display on a terminal, and what is written to it."""
    said = Terminal()
    console = Console(file=said, force_terminal=True, width=width, height=24, color_system=None)
    display = progress.Display(console)
    display.open()
    return display, said


def screen(display):
    """The live lines as they are at 80 columns."""
    console = Console(file=io.StringIO(), width=80, height=24)
    console.print(display.lines())
    return console.file.getvalue().splitlines()


def run(display, clock, each=10.0):
    """Go through all parts, half of each compiling; what `display` has live on the way."""
    seen = []

    def look():
        display.tick()
        seen.append(screen(display))

    display.begin("reading data")
    look()
    display.plan(PARTS)
    for name in PARTS:
        display.stage(name, 0 if name == "scores" else 8)
        display.phase("compiling")
        clock[0] += each / 2
        look()
        display.phase("training")
        for done in (4.0, 8.0):
            clock[0] += each / 4
            display.advance(done, int(done) * 100)
            look()
    return seen


def test_a_terminal_has_a_few_live_lines_and_each_part_once(clock):
    display, said = shown()
    seen = run(display, clock)
    display.close()
    assert all(len(lines) <= LIVE and max(map(len, lines)) <= 80 for lines in seen)
    told = ESCAPE.sub("", said.getvalue())
    for name in PARTS:
        assert len(re.findall(rf"^.*{name}: .* s of it compiling|{name}: 10.0 s", told, re.MULTILINE)) == 1
    assert said.getvalue().rindex("\x1b[?25h") > said.getvalue().rindex("\x1b[?25l")


def test_the_live_lines_say_what_goes_on_and_what_is_left(clock):
    display, _ = shown()
    seen = run(display, clock)
    display.close()
    texts = [" ".join(lines) for lines in seen]
    assert "reading data" in texts[0] and "left" not in texts[1] and "original: compiling, 0 of 8" in texts[1]
    assert "original: training, 4 of 8 members" in texts[2] and "scrub: unlearning, 8 of 8" in texts[9]
    assert "2 of 4 parts" in texts[7] and "0:25 elapsed, about 0:15 left" in texts[7]  # what was not met has to compile
    assert "3 of 4 parts" in texts[-1] and "0:40 elapsed" in texts[-1]


def test_time_left_counts_compilation_once(clock):
    display, _ = shown()
    display.plan(["scrub", "salun", "scrub", "salun"])
    display.stage("scrub", 8)
    display.phase("compiling")
    clock[0] += 10.0
    display.phase("training")
    clock[0] += 2.0
    display.stage("salun", 8)
    assert "about 0:16 left" in screen(display)[1]  # 12 s as the first of its name, and twice 2 s
    display.close()


def test_a_name_that_is_too_long_is_cut_and_a_setting_is_no_markup(clock):
    display, said = shown(40)
    display.stage("scrub[alpha=2]" + "x" * 90, 8)
    display.tick()
    display.say("scrub[alpha=2]")
    display.close()
    assert len(screen(display)) <= LIVE and "scrub[alpha=2]\n" in ESCAPE.sub("", said.getvalue()).replace("\r", "")


def test_a_log_has_a_line_every_half_minute_and_no_escapes(clock, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # of a service that collects logs
    display = progress.Display(Console(stderr=True))
    display.open()
    written, count = [], [0]

    def look():
        display.tick()
        count[0] += (err := capsys.readouterr().err).count("\n")
        if err:
            written.append((clock[0], err))

    display.plan(PARTS)
    for name in PARTS:
        display.stage(name, 8)
        display.phase("compiling")
        for _ in range(180):  # three minutes of compilation, in which nothing else is heard
            clock[0] += 0.5
            look()
    display.close()
    times = [0.0, *(at for at, _ in written)]
    assert max(after - before for before, after in zip(times, times[1:])) <= 30
    assert "\x1b" not in "".join(text for _, text in written) and count[0] < 25
    assert written[0][1] == "original: compiling, 0 of 8 members, 0:25 (0 of 4 parts, 0:25 elapsed)\n"


def test_a_log_has_a_line_as_a_part_ends(clock, capsys):
    display = progress.Display(Console(stderr=True))
    run(display, clock)
    display.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "reading data ..." and [line.partition(":")[0] for line in lines[1:]] == PARTS
    assert lines[1].startswith("original: 8 members in 10.0 s, 5.0 s of it compiling, 160 ex/s (1 of 4 parts, 0:10")


def test_what_was_cut_short_is_said_and_chunks_add_up(capsys):
    with watched(quiet=False) as watch:
        watch.begin("reading data")
        watch.begin("reading data")
        watch.stage("retrain", 4)
        watch.advance(2.0, 1000)
        watch.advance(4.0, 500)  # the next chunk counts from zero
        watch.say("a note")
        watch.stage("oracle", 4)
        watch.advance(1.0, 0)
    told = capsys.readouterr()
    lines = told.err.splitlines()
    assert told.out == "" and lines[:2] == ["reading data ...", "a note"] and len(lines) == 4
    assert lines[2].startswith("retrain: 4 members in 0.") and lines[2].endswith(" ex/s")
    assert lines[3].startswith("oracle: 1 of 4 members in ") and lines[3].endswith(", no training")


@pytest.mark.parametrize("quiet", [True, False])
def test_nothing_is_said_where_nothing_happened_or_quiet_was_asked(quiet, capsys):
    with watched(quiet=quiet) as watch:
        if quiet:
            watch.begin("reading data")
            watch.stage("retrain", 4)
            watch.say("a note")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_the_terminal_is_clean_after_an_error(error, monkeypatch):
    said = Terminal()
    monkeypatch.setattr("rich.console.Console", lambda **_: Console(file=said, force_terminal=True, width=80))
    with pytest.raises(error), watched(quiet=False) as watch:
        watch.stage("retrain", 4)
        raise error
    assert "retrain: 0 of 4 members" in said.getvalue() and not progress._SHOWN
    assert said.getvalue().rindex("\x1b[?25h") > said.getvalue().rindex("\x1b[?25l")


def test_being_asked_to_stop_ends_the_live_lines_and_says_so_once(monkeypatch, capsys):
    said, raw = Terminal(), []
    monkeypatch.setattr("rich.console.Console", lambda **_: Console(file=said, force_terminal=True, width=80))
    monkeypatch.setattr(os, "write", lambda where, what: raw.append(what))

    def asked():
        with watched(quiet=False) as watch:
            watch.stage("retrain", 4)
            common._tell_of_stopping(2)
            raise KeyboardInterrupt

    assert guarded(asked) == 130 and raw == [b"\x1b[?25h"]  # the cursor at once, in case a second signal comes
    assert capsys.readouterr().err.count("stopping: keeping what is trained") == 1
    assert said.getvalue().rstrip("\r").rindex("\x1b[?25h") > said.getvalue().rindex("\x1b[?25l")
    common._tell_of_stopping(2)  # where nothing is live
    assert raw[1:] == [common.STOPPING]

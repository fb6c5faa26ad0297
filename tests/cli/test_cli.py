"""What the scripts share: progress on a terminal, in a log and not at all; results as JSON."""

import io
import json
import math
import os
import re
import runpy
import sys
from pathlib import Path

import pytest
import rich.console

from unlearn_jax.cli import options, progress
from unlearn_jax.cli.common import print_json, rows_of, watched
from unlearn_jax.errors import InputError, choose
from unlearn_jax.methods import METHODS


def followed(**asked):
    """A stage of four members in two chunks, and a second one that is cut short."""
    with watched(quiet=asked.get("quiet", False)) as watch:
        watch.begin("reading data")
        watch.begin("reading data")
        watch.say("a note")
        watch.stage("retrain", 4)
        watch.advance(2.0, 1000)
        watch.advance(4.0, 500)  # the next chunk counts from zero
        watch.stage("oracle", 4)
        watch.advance(1.0, 0)


def test_a_log_has_a_line_as_a_stage_ends(capsys):
    followed()
    told = capsys.readouterr()
    lines = told.err.splitlines()
    assert told.out == "" and lines[:3] == ["reading data ...", "a note", "retrain: 4 members ..."]
    assert lines[3].startswith("retrain: 4 members in 0.") and lines[3].endswith(" ex/s")
    assert lines[4].startswith("oracle: 1 of 4 members in ") and lines[4].endswith(", no training")
    assert len(lines) == 5


def test_a_log_says_once_a_minute_how_far_a_long_stage_is(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    with watched(quiet=False) as watch:
        watch.stage("original", 8)
        for second in (1, 59, 61, 62, 120, 122):
            now[0] = float(second)
            watch.advance(second / 122 * 8, second * 10)
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == "original: 4.0 of 8 members, 10 ex/s, about 61 s left"
    assert lines[2:] == ["original: 8 members in 122.0 s, 10 ex/s"]


def test_a_terminal_has_a_bar_and_before_it_a_spinner(monkeypatch):
    said, real = io.StringIO(), rich.console.Console
    monkeypatch.setattr(rich.console, "Console", lambda **_: real(file=said, force_terminal=True, width=120))
    followed()
    told = said.getvalue()
    assert told.index("reading data") < told.index("retrain") < told.index("oracle")
    assert "4/4" in told and "a note" in told and "1/4" in told and told.rstrip().endswith("\x1b[?25h")


@pytest.mark.parametrize("quiet", [True, False])
def test_nothing_is_said_where_nothing_happened_or_quiet_was_asked(quiet, capsys):
    if quiet:
        followed(quiet=True)
    else:
        with watched(quiet=False):
            pass
    assert capsys.readouterr() == ("", "")


def test_rows_come_back_as_numbers_and_json_has_no_nan(tmp_path, capsys):
    (tmp_path / "summary.csv").write_text("method,request,mean,n,inside\nscrub,all,0.25,8,true\nssd,1,nan,,false\n")
    rows = rows_of(tmp_path / "summary.csv")
    assert rows[0] == {"method": "scrub", "request": "all", "value": 0.25, "n": 8, "inside": True}
    assert rows[1]["request"] == 1 and math.isnan(rows[1]["value"]) and rows[1]["n"] == ""
    print_json({"run": tmp_path, "rows": rows, "figures": (1.5, float("inf"))})
    told = json.loads(capsys.readouterr().out)
    assert told["run"] == str(tmp_path) and told["rows"][1]["value"] is None and told["figures"] == [1.5, None]


EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
SCRIPTS = sorted(
    p for p in [*EXPERIMENTS.glob("[a-z]*.py"), *EXPERIMENTS.glob("bench/[a-z]*.py")] if p.stem != "golden"
)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_help_says_how_to_call_what_it_costs_and_what_every_option_means(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.syspath_prepend(str(script.parent))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    told = capsys.readouterr()
    assert not ended.value.code and told.err == ""
    assert f"python {script.relative_to(EXPERIMENTS.parent)}" in told.out and re.search(r"\b[Cc]osts?\b", told.out)
    assert not re.search(r"None|\bSTR\b|\(default: \)|--no-quiet|''", told.out) and "\x1b" not in told.out
    lines = told.out.splitlines()
    if script.stem != "peers":  # it is called where none of this is installed
        assert max(len(line) for line in lines if not line.startswith("usage")) <= 80
    assert "--json" in told.out or script.stem == "leaderboard", "its commands have it"
    for line, after in zip(lines, [*lines[1:], ""]):
        if found := re.match(
            r"[│|] (--\w[\w-]*)", line
        ):  # the words stand beside the option, or below it where that is long
            words = line[2:].strip(" │|").partition("  ")[2] or after.strip(" │|")
            words = re.sub(r"\((default|required)[^()]*\)", "", words).strip()
            assert len(words) > 3 and not words.startswith("--"), f"{found[1]} says nothing"


def test_a_description_fits_the_terminal():
    doc = """What it does, in words that take more room.

        python experiments/it.py                   # all of it
        python experiments/it.py --one 1 --two 2 --three 3

    - a list, whose first entry is long
      and goes on
    - and another
    """
    assert options.described(doc, 200).splitlines()[2] == "    python experiments/it.py                   # all of it"
    told = options.described(doc, 40)
    assert max(map(len, told.splitlines())) <= 40
    assert "    # all of it\n    python experiments/it.py\n" in told
    assert "    python experiments/it.py --one 1 \\\n        --two 2 --three 3\n\n- a list, whose" in told
    assert told.endswith("long and\n  goes on\n- and another")


def test_colours_are_for_terminals(monkeypatch):
    seen = lambda: os.environ.get("TERM")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for errors, plain, expected in ((True, "", "xterm"), (False, "", "dumb"), (True, "1", "dumb")):
        monkeypatch.setattr(sys.stderr, "isatty", lambda errors=errors: errors)
        monkeypatch.setenv("NO_COLOR", plain)
        with options._colour():  # tyro asks stdout and TERM alone
            assert seen() == expected
        assert seen() == "xterm"


def test_a_wrong_value_is_named_with_its_option(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["study.py", "--members", "many"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(EXPERIMENTS / "study.py"), run_name="__main__")
    told = capsys.readouterr()
    assert ended.value.code == 2 and told.out == "" and "--members" in told.err and "None" not in told.err


def test_an_unknown_name_is_told_with_the_nearest_one():
    with pytest.raises(InputError, match=r"^unknown method 'scrubb': choose one of .*; 'scrub' is nearest\.$"):
        choose("method", "scrubb", METHODS)
    with pytest.raises(InputError, match=r"woodfisher\.$"):
        choose("method", "sleep", METHODS)

"""What the scripts share: words of help and errors, colours, results as JSON."""

import json
import math
import os
import re
import runpy
import sys
from pathlib import Path

import pytest

from unlearn_jax.cli import options
from unlearn_jax.cli.common import print_json, rows_of
from unlearn_jax.errors import InputError, choose
from unlearn_jax.methods import METHODS


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

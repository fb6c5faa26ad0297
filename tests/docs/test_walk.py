"""The page of a newcomer's first hour: its blocks are found, written and run in order, and its method is a method."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from unlearn_jax import METHODS

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "first_hour.md").read_text(encoding="utf-8")
spec = importlib.util.spec_from_file_location("walk", DOCS / "walk.py")
walk = importlib.util.module_from_spec(spec)
spec.loader.exec_module(walk)


def walked(tmp_path, page):
    (tmp_path / "page.md").write_text(page)
    words = [sys.executable, str(DOCS / "walk.py"), "page.md", "--folder", str(tmp_path)]
    return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)


def test_blocks_run_in_one_shell_and_are_timed(tmp_path):
    first = "# P\n## A\n```python\n# say.py\nprint('hello')\n```\n```bash\nname=out.txt\n```\n"
    page = first + "## B\n```bash\npython3 say.py > $name\n```\n"
    ended = walked(tmp_path, page)
    assert ended.returncode == 0 and (tmp_path / "out.txt").read_text() == "hello\n"
    assert [line.split()[0] for line in ended.stdout.splitlines()] == ["A", "B"]


def test_it_stops_at_the_first_error_and_asks_for_file_names(tmp_path):
    ended = walked(tmp_path, "## A\n```bash\nfalse\ntouch late\n```\n## B\n```bash\ntouch late\n```\n")
    assert ended.returncode == 1 and not (tmp_path / "late").exists()
    assert walked(tmp_path, "```python\nprint()\n```\n").returncode == 2


def test_the_page_has_each_step_and_its_own_data_and_method_are_whole(tmp_path, monkeypatch):
    found = walk.blocks(PAGE)
    assert sorted({heading[0] for heading, *_ in found}) == ["1", "2", "3", "4", "5"]
    files = {content.split()[1]: content for _, language, content in found if language == "python"}
    monkeypatch.chdir(tmp_path)
    exec(compile(files["table.py"], "table.py", "exec"), {"__name__": "__main__"})
    with np.load("table.npz") as table:
        assert table["x_train"].shape == (450, 1, 30, 1) and 0 <= table["x_train"].min() <= table["x_train"].max() <= 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "doubt", None)
        exec(compile(files["doubt.py"], "doubt.py", "exec"), {"__name__": "doubt"})
        assert METHODS["doubt"].name == "doubt" and set(METHODS["doubt"].numeric) == {"lr", "pull"}
    assert "doubt" not in METHODS

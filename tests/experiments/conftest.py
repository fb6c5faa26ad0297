"""What tests of scripts share: a script called in this process, in an empty folder."""

import runpy
import sys
from pathlib import Path

import pytest
import toy
from made_runs import unsaved  # noqa: F401

from unlearn_jax.data import DATASETS

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


@pytest.fixture(autouse=True)
def _data_sets_as_they_were():
    """Scripts may make data sets of their own known by name."""
    before = dict(DATASETS)
    yield
    for name in set(DATASETS) - set(before):
        del DATASETS[name]


@pytest.fixture
def script(tmp_path, monkeypatch, capsys):
    """Run a script in an empty folder: name and words -> (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)

    def call(name, *words):
        path = EXPERIMENTS / f"{name}.py"
        monkeypatch.setattr(sys, "argv", [path.name, *map(str, words)])
        monkeypatch.syspath_prepend(str(path.parent))
        with pytest.raises(SystemExit) as ended, toy.quick_programs():
            runpy.run_path(str(path), run_name="__main__")
        return ended.value.code, *capsys.readouterr()

    return call


@pytest.fixture
def refused(script, tmp_path):
    """Assert that a script refuses its words in one sentence and leaves nothing new: name, words, what is said."""

    def call(name, *words, said=""):
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        code, output, errors = script(name, *words)
        assert code == 2 and output == "", (output, errors)
        assert errors.startswith("error: ") and errors.count("\n") == 1 and said in errors, errors
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        return errors

    return call

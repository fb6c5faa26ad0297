"""experiments/defaults.py: a line a method, marks, correlations, and what it refuses; nothing is trained."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from unlearn_jax import defaults
from unlearn_jax.defaults import Effect

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "defaults.py"


def ran(monkeypatch, capsys, *words, found=()):
    """Exit code, what is printed, and the configurations that were asked for."""
    asked = []

    def effects(config, *, store):
        asked.append(config)
        return iter(found)

    monkeypatch.setattr(defaults, "effects", effects)
    monkeypatch.setattr(sys, "argv", ["defaults.py", *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return ended.value.code, capsys.readouterr(), asked


def test_it_marks_what_does_not_keep_the_rest_and_correlates_the_request_length_family(monkeypatch, capsys, tmp_path):
    rng = np.random.default_rng(0)
    made = lambda name, rest, shift, **more: Effect(name, 30, rest, rest - 1, 50.0, 1.5, 0.25, shift, **more)
    shift = rng.normal(size=30)
    found = [
        made("finetune", 99.0, shift),
        made("scrub", 80.0, shift),
        made("npo", 98.0, 2.0 * shift),
        made("simnpo", 98.0, -shift),
        made("unsir", np.nan, np.zeros(0), refused="unsir is for whole classes"),
    ]
    monkeypatch.chdir(tmp_path)
    code, told, asked = ran(monkeypatch, capsys, "--sizes", "30", found=found)
    lines = told.out.splitlines()
    assert not code and [line.split()[1] for line in lines[:5]] == ["finetune", "scrub", "npo", "simnpo", "unsir"]
    assert ["below 95%" in line for line in lines[:5]] == [False, True, False, False, False]
    assert lines[4].endswith("unsir is for whole classes") and "correlation" in lines[5]
    table = {line.split()[1]: line.split()[2:] for line in lines[6:]}
    assert set(table) == {"scrub", "npo", "simnpo"} and table["npo"] == ["1.00", "1.00", "-1.00"]
    assert asked[0].targets == "random" and asked[0].copies == "4" and asked[0].seed == 7


def test_sizes_are_studies_of_their_own(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, _, asked = ran(monkeypatch, capsys, "--targets", "atypical", "--skip-requests", "4")
    assert not code and [one.num_targets for one in asked[:2]] == [30, 150]
    assert [one.targets for one in asked] == ["atypical", "atypical", "whole_class"]
    assert [one.copies for one in asked] == ["4", "2", "0"] and [one.skip_requests for one in asked] == [4, 4, 0]


@pytest.mark.parametrize("size", ["0", "many", "-3"])
def test_a_size_that_is_none_is_refused(size, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, told, asked = ran(monkeypatch, capsys, f"--sizes={size}")
    assert code == 2 and not asked and len(told.err.strip().splitlines()) >= 1

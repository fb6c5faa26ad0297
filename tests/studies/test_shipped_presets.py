"""The preset files that come with the package: complete, sound, and made on other requests than studies report."""

import dataclasses
import json
import tomllib
from pathlib import Path

import pytest

from unlearn_jax.data.benchmarks import BENCHMARKS
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.presets import METHODS, SHIPPED, read_presets, with_presets
from unlearn_jax.studies.resolve import resolve
from unlearn_jax.studies.validate import check

NAMES = sorted(path.stem for path in SHIPPED.glob("*.json"))
ROOT = Path(__file__).resolve().parents[2]


def test_there_are_some_and_a_wheel_holds_them_and_what_pages_need():
    assert "vision-copies-small" in NAMES
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    held = {path for pattern in package["unlearn_jax"] for path in SHIPPED.parents[1].glob(pattern)}
    assert held == {path for path in SHIPPED.parents[1].rglob("*") if path.suffix in (".json", ".css", ".js", ".html")}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_covers_methods_of_its_benchmark_and_no_others(name):
    presets, study = read_presets(name), StudyConfig(benchmark=name, methods="all")
    known = [method for method in resolve(study).wrapped if method in presets.methods]  # some came after it was made
    assert name in BENCHMARKS and list(presets.methods) == known == list(presets.about["methods"]) and len(known) > 15
    config, told = with_presets(dataclasses.replace(study, presets=name))
    check(resolve(config))
    assert told["name"] == name and set(resolve(config).settings) == {m for m, own in presets.methods.items() if own}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_says_how_it_was_made(name):
    about = read_presets(name).about
    command = f"python experiments/sweep.py --benchmark {name} "
    assert about["command"].startswith(command) and " --method all --hp auto" in about["command"]
    assert about["benchmark"] == name and about["scale"] == resolve(StudyConfig(benchmark=name)).scale
    assert about["skip_requests"] >= 1 and f" --skip-requests {about['skip_requests']}" in about["command"]
    assert about["versions"]["jax"] and about["git_commit"].isalnum() and about["kept"] and about["said"]
    assert "/" not in about["command"].replace("experiments/", "").replace("runs/", "").replace(f"presets/{name}", "")


@pytest.mark.parametrize("name", NAMES)
def test_what_it_says_of_a_method_fits_its_settings(name):
    content = json.loads((SHIPPED / f"{name}.json").read_text())
    for method, own in content["methods"].items():
        told, static = content["about"]["methods"][method], METHODS[method].static
        pinned = set(told.get("pinned", ()))  # not swept: as they were when the others were chosen
        assert told["kept_defaults"] == (own == {}) and bool(told["why"]) and pinned <= set(own)
        assert told.get("allowed", 0) <= told.get("candidates", 0)
        if told["why"] == "clearly better":
            assert 0 < told["gain"][1] <= told["gain"][0] <= told["gain"][2] and told["allowed"]
        if own:
            chosen = dict(word.split("=") for word in told["chosen"].split(","))
            swept = {name: value for name, value in own.items() if name not in pinned}
            assert {k: float(v) for k, v in chosen.items()} == pytest.approx({k: float(v) for k, v in swept.items()})
        for name in pinned:
            assert name in static or name in METHODS[method].numeric

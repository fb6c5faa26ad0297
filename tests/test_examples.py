"""The README's Python and the docstrings' examples run as they stand."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import jax
import pytest

import unlearn_jax
from unlearn_jax.data import DATASETS
from unlearn_jax.methods import METHODS

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
MODULES = sorted(m.name for m in pkgutil.walk_packages(unlearn_jax.__path__, "unlearn_jax."))


@pytest.fixture
def registries():
    """Leave the registries as they were."""
    kept = dict(METHODS), dict(DATASETS)
    yield
    for registry, before in zip((METHODS, DATASETS), kept):
        registry.clear()
        registry.update(before)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_readme_block_runs(number, tmp_path, monkeypatch, registries, capsys):
    monkeypatch.chdir(tmp_path)
    block = BLOCKS[number].replace("members=8, steps=100", "members=4, steps=4")
    names: dict = {}
    exec(compile(block, f"README block {number}", "exec"), names)
    if "run_study" in block:
        assert (tmp_path / "runs/shrink/summary.csv").read_text().count("shrink=0.001") > 0
    if "DATASETS" in block:
        assert DATASETS["mine"]().num_classes == 3
    if "residual_influence" in block:
        assert re.search(r"Estimate\(value=0\.(79|80|81)", capsys.readouterr().out)


def test_readme_has_the_promised_blocks():
    assert len(BLOCKS) == 3


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    with jax.numpy_rank_promotion("allow"):
        result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0

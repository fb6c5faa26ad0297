"""The Python of the docs, and the docstrings' examples, run as they stand."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import jax
import pytest
import toy

import unlearn_jax
from unlearn_jax.data import DATASETS

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("docs/usage.md", "docs/influence.md", "docs/remedies.md")
IN_PAGES = {page: re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL) for page in PAGES}
SMALL = "members=2, steps=4, resamples=20, train_size=200, num_targets=4"
BLOCKS = [block for blocks in IN_PAGES.values() for block in blocks]
MODULES = sorted(m.name for m in pkgutil.walk_packages(unlearn_jax.__path__, "unlearn_jax."))
COSTLY = {  # examples of more than a second; what they show is held against the truth by the tests of these modules
    *(f"unlearn_jax.influence.{name}" for name in ("curvature", "iterations", "low_rank", "projection", "subsets")),
    "unlearn_jax.own.listing",
    "unlearn_jax.testing",
    *(f"unlearn_jax.models.{name}" for name in ("decode", "lora", "transformer")),
}


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block_runs(number, tmp_path, monkeypatch, registries, capsys):
    monkeypatch.chdir(tmp_path)
    block = BLOCKS[number].replace("members=8, steps=100", SMALL)
    names: dict = {}
    with toy.quick_programs():
        exec(compile(block, f"block {number}", "exec"), names)
    if "run_study" in block:
        assert (tmp_path / "runs/shrink/summary.csv").read_text().count("shrink=0.001") > 0
    if "DATASETS" in block:
        assert DATASETS["mine"]().num_classes == 3
    if "residual_influence" in block:
        assert re.search(r"Estimate\(value=0\.(79|80|81)", capsys.readouterr().out)
    if "ekfac_influence" in block:
        assert capsys.readouterr().out == "(40, 40) (1, 40)\n"
    if "logistic_removal" in block:
        assert capsys.readouterr().out == "True\n"  # the Newton step is nearer to the truth than the sum


def test_pages_have_the_promised_blocks():
    assert [len(blocks) for blocks in IN_PAGES.values()] == [4, 1, 1]


def test_public_functions_have_examples():
    public = (getattr(unlearn_jax, name) for name in unlearn_jax.__all__)
    bare = {one.__name__ for one in public if callable(one) and not isinstance(one, type) and ">>>" not in one.__doc__}
    assert bare == {"run_study"}  # docs/usage.md has it


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in COSTLY else n for n in MODULES])
def test_docstring_examples(name):
    with jax.numpy_rank_promotion("allow"):
        result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0

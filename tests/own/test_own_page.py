"""The page of the one call, run as the one script that it is; its last block with fewer updates."""

import re
from pathlib import Path

import jax
import pytest

PAGE = (Path(__file__).parents[2] / "docs/howto/own_model.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def plain():
    """Ranks and dtypes as a user has them."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def test_the_example_and_the_comparison_run_as_they_stand(plain, capsys):
    exec(compile("\n".join(BLOCKS[:2]), "own_model.md", "exec"), {"__name__": "page"})
    found = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert float(found["accuracy_retain"].split()[0]) > 0.95 and float(found["accuracy_validation"].split()[0]) > 0.9
    assert "null" in found["margin_forget_gap"] and len(BLOCKS) == 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*lowered validation accuracy")
def test_the_other_networks_run(plain, capsys):
    last = BLOCKS[2]
    for large, small in {"steps=200": "steps=10", ', "scrub"': ""}.items():
        assert large in last
        last = last.replace(large, small)
    exec(compile(BLOCKS[0] + BLOCKS[1].split("\n\n")[0] + "\n" + last, "own_model.md", "exec"), {"__name__": "page"})
    rows = [line.split(" | ")[:3] for line in capsys.readouterr().out.splitlines() if " | " in line]
    scales = {"resnet": "small_conv", "nnx": "small", "texts": "small_transformer"}
    methods = ("do_nothing", "finetune")
    assert rows == [[name, scale, method] for name, scale in scales.items() for method in methods]

"""The notebooks' cells, run one after another in one namespace each, at smaller sizes."""

import json
from pathlib import Path

import pytest
import toy

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
SMALLER = {
    "tour": (
        'methods="finetune,gradient_ascent",\n    train_size=500,\n    members=8,\n    steps=300,\n',
        "methods='finetune', train_size=500, members=2, steps=4, resamples=20",
    ),
    "new_method": None,
}
SHOWN = {
    "tour": ("0 copies  original", "4 copies  finetune", "(1200, 8, 8, 1)", "'bias': (8, 10)", "Estimate(value=0.796"),
    "new_method": ("declared, cost,", "breaks 1 of the contract's rules:\n  weightless: ", "push 3: margin"),
}


def cells(name):
    """Type and text of each cell, outputs and all."""
    found = json.loads((FOLDER / f"{name}.ipynb").read_text("utf-8"))
    assert (found["nbformat"], found["metadata"]["kernelspec"]["name"]) == (4, "python3")
    return found["cells"]


def test_every_notebook_is_run_here():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(SMALLER)


@pytest.mark.parametrize("name", SMALLER)
def test_outputs_are_cleared_and_links_lead_somewhere(name):
    for cell in cells(name):
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
        else:
            links = [part.split(")")[0] for part in "".join(cell["source"]).split("](")[1:]]
            assert all((FOLDER / link).exists() for link in links), links


@pytest.mark.slow  # docs/usage.md and docs/extending.md show the same
@pytest.mark.parametrize("name", SMALLER)
def test_cells_run_in_order(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "notebook"}
    with toy.quick_programs():
        for number, cell in enumerate(cells(name)):
            if cell["cell_type"] == "code":
                text = "".join(cell["source"])
                text = text.replace(*SMALLER[name]) if SMALLER[name] else text
                exec(compile(text, f"{name}, cell {number}", "exec"), names)
    shown = capsys.readouterr().out
    assert all(text in shown for text in SHOWN[name]), shown

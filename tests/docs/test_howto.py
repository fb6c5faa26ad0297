"""The pages of docs/howto, each run as the one script that it is, at smaller sizes."""

import re
from pathlib import Path

import pytest
import toy

FOLDER = Path(__file__).parents[2] / "docs" / "howto"
SMALLER = {
    "audit": {
        "MEMBERS = 16": "MEMBERS = 3",
        "max_iter=30": "max_iter=2",
        'out=Path("audits/mine")': 'out=Path("audits/mine"), how=Precision(20, 20, 100, 0)',
        "import audit_logits": "import Precision, audit_logits",
    },
    "hf": {"range(3)": "range(1)"},
    "data": {"members=8, steps=200": "members=2, steps=4, resamples=20"},
    "model": {"members=8": "members=2, resamples=20, num_targets=6, train_size=200", "steps=300": "steps=4"},
}
LEAVES = {
    "audit": ("audits/mine/audit.csv", "'audit.parquet', 'curves.npz', 'ranking.csv']"),
    "hf": ("tiny/adapters/adapter_config.json", "['adapter_config.json', 'adapter_model.safetensors']"),
    "data": ("runs/mine/summary.csv", "has 300 images and 299 labels: give as many of each."),
    "model": (
        "runs/small_net/summary.csv",
        "small_net (2, 10) 410 13427.0\nsmall_nnx (2, 10) 1210 2410.0\nsmall_equinox (2, 10) 1210",
    ),
}


def test_pages_with_python_are_run_here():
    found = {path.stem for path in FOLDER.glob("*.md") if "```python" in path.read_text("utf-8")}
    assert found == {*SMALLER, "own_model"}  # which tests/own runs


def blocks(name):
    return re.findall(r"```python\n(.*?)```", (FOLDER / f"{name}.md").read_text("utf-8"), re.DOTALL)


def test_what_the_page_on_data_says_of_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec("\n".join(blocks("data")[:2]), {"__name__": "page"})
    assert capsys.readouterr().out.startswith("(300, 8, 8, 1) 3\n") and (tmp_path / "mine.npz").is_file()


@pytest.mark.parametrize("name", [n if n == "audit" else pytest.param(n, marks=pytest.mark.slow) for n in SMALLER])
def test_page_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = "\n".join(blocks(name))
    for large, small in SMALLER[name].items():
        assert large in text
        text = text.replace(large, small)
    with toy.quick_programs():
        exec(compile(text, f"{name}.md", "exec"), {"__name__": "page"})
    written, said = LEAVES[name]
    assert (tmp_path / written).is_file() and said in capsys.readouterr().out


def test_the_tutorials_figure_is_drawn_from_a_summary(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/final").mkdir(parents=True)
    names = "copies,request,method,reference,metric,value,ci_low,ci_high"
    rows = [
        f"{copies},{request},{method},oracle,{metric},0.5,0.4,0.6"
        for copies in (8, 0)
        for request in ("all", "0")
        for method in ("retrain", "scrub", "prmq", "oracle")
        for metric in ("residual_influence", "residual_distance")
    ]
    (tmp_path / "runs/final/summary.csv").write_text("\n".join([names, *rows]))
    (block,) = re.findall(r"```python\n(.*?)```", (FOLDER.parent / "tutorial.md").read_text("utf-8"), re.DOTALL)
    found: dict = {}
    exec(compile("import matplotlib\nmatplotlib.use('Agg')\n" + block, "tutorial.md", "exec"), found)
    assert (tmp_path / "figure.pdf").is_file() and found["copies"] == (0, 8)
    assert [line.get_label() for line in found["panels"][0].lines[:3]] == ["retrained", "SCRUB", "PRMQ"]
    found["plt"].close(found["figure"])

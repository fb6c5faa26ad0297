"""The neighbours script and its page: a headline and a page, or one sentence and exit code 2."""

import json
import re
import shutil

import documents
import numpy as np
import pytest
from made_runs import sound

from unlearn_jax import reports
from unlearn_jax.errors import InputError
from unlearn_jax.reports.neighbours_page import percent, read_search, sizes_figure, targets_said

EVIL = "<b>evil&co"


def test_digits_end_in_a_headline_and_a_page_of_pictures(script, tmp_path):
    code, out, errors = script("neighbours", "--train-size", 400, "--test-size", 100, "--threshold", 0.95, "--quiet")
    assert (code, errors) == (0, "")
    lines = out.splitlines()
    told = json.loads((tmp_path / "runs/neighbours-digits/neighbours.json").read_text())
    assert lines[0].startswith(
        f"{told['linked']} of 400 training images are in {told['clusters']} clusters of two or more"
    )
    assert lines[-2:] == ["run folder: runs/neighbours-digits", "page: runs/neighbours-digits/neighbours.html"]
    page = (tmp_path / "runs/neighbours-digits/neighbours.html").read_text()
    sound(page)
    sections = ["found", "thresholds", "largest", "test", "words", "reproduce"]
    assert re.findall(r'<section id="(\w+)"', page) == sections
    shown = sum(min(size, 9) * count for size, count in told["sizes"] if count) if told["clusters"] <= 12 else 24
    assert page.count("<img") >= shown
    assert "http" not in re.sub(r"http://www.w3.org/\S*", "", page) and "python experiments/neighbours.py" in page


def test_texts_are_escaped_and_targets_without_a_neighbour_are_named(script, tmp_path, unsaved):
    rows = documents.made_texts(60)
    rows += [(label, f"{text} {EVIL}") for label, text in rows[:30]]
    table = documents.write_table(tmp_path / "news.tsv", rows)
    (tmp_path / "ids.txt").write_text("0\n5\n")
    words = ("--dataset", table, "--mutual", "--threshold", 0.6, "--ids", tmp_path / "ids.txt")
    code, out, errors = script("neighbours", *words, "--quiet")
    assert (code, errors) == (0, "")
    page = (tmp_path / "runs/neighbours-news/neighbours.html").read_text()
    assert EVIL not in page and "&lt;b&gt;evil&amp;co" in page
    assert "of 2 targets ha" in out and '<section id="target"' in page


def test_targets_are_told_apart():
    target = lambda number, near: {"id": number, "near": near, "similarity": 0.5}
    many = [target(i, i == 0) for i in range(30)]
    some, alone = targets_said({"targets": many})
    assert some == "1 of 30 targets has a neighbour." and alone.endswith("and 9 others.")
    assert targets_said({"targets": []}) == [] and len(targets_said({"targets": many[:1]})) == 1
    assert [percent(x) for x in (1, 0.996, 0.5, 0.001, 0, None)] == ["100%", "99.6%", "50%", "0.1%", "0%", "none"]


def test_a_page_is_not_drawn_of_half_a_search(script, tmp_path):
    script("neighbours", "--train-size", 300, "--test-size", 50, "--threshold", 0.95, "--quiet", "--no-page")
    run = tmp_path / "runs/neighbours-digits"
    assert not (run / "neighbours.html").exists()
    search = read_search(run)
    counted = sizes_figure(search._replace(told=search.told | {"sizes": [[2, 7], [3, 2], [90, 1]]})).axes[0]
    assert [bar.get_height() for bar in counted.patches] == [9, 0, 0, 0, 0, 1]
    for name in ("gallery.npz", "clusters.parquet", "neighbours.json"):
        broken = tmp_path / f"broken-{name}"
        shutil.copytree(run, broken)
        (broken / name).write_text("{}")
        with pytest.raises(InputError, match="run unlearn-jax neighbours again"):
            reports.write_neighbours_page(broken)
        assert not (broken / "neighbours.html").exists()
    with pytest.raises(InputError, match="no finished search"):
        reports.write_neighbours_page(tmp_path)
    held = dict(np.load(run / "gallery.npz"))
    np.savez(run / "gallery.npz", **(held | {"label": held["label"] + 100}))
    with pytest.raises(InputError, match="labels without a name"):
        reports.write_neighbours_page(run)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--dataset", "nonsense"), "unknown data set"),
        (("--threshold", "2"), "--threshold is 2"),
        (("--seed", "-1"), "--seed is -1: give 0 up to"),
        (("--threshold", ".6"), "one cluster takes in"),
        (("--threshold", ".9999"), "the nearest pair has"),
        (("--ids", "none.txt"), "cannot be read"),
        (("--embedding-file", "none.npy"), "there is no file"),
    ],
)
def test_bad_input_is_one_line(refused, tmp_path, words, said):
    refused("neighbours", *words, "--quiet", said=said)
    assert list(tmp_path.rglob("*.json")) == []

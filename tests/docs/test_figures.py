"""Figures on pages are those of stored runs: a changed one is found, and the commands give them again."""

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
import printed  # noqa: E402


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """The pages and what is stored, where they may be changed."""
    for page in {*printed.PAGES, *(one["page"] for one in printed.said())}:
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / page).write_bytes((ROOT / page).read_bytes())
    stored = tmp_path / "docs" / "figures"
    stored.mkdir(parents=True)
    for file in printed.STORED.glob("*.json"):
        (stored / file.name).write_bytes(file.read_bytes())
    (tmp_path / printed.PICTURE).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / printed.PICTURE).write_bytes((ROOT / printed.PICTURE).read_bytes())
    monkeypatch.setattr(printed, "ROOT", tmp_path)
    monkeypatch.setattr(printed, "STORED", stored)
    return tmp_path


def changed(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def nudged(match):
    """A figure whose last digit is another."""
    return match[0][:-1] + str((int(match[0][-1]) + 1) % 10)


def test_pages_show_what_is_stored():
    assert printed.differences() == []


def test_every_block_with_a_command_and_its_output_is_of_a_stored_run():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    with_blocks = {str(page.relative_to(ROOT)) for page in pages if printed.blocks(page.read_text("utf-8"))}
    assert with_blocks == set(printed.PAGES)


def test_stored_runs_are_those_that_the_pages_need():
    stored = {file.stem for file in printed.STORED.glob("*.json")} - {"said"}
    assert stored == set(printed.commands())


@pytest.mark.parametrize("page", printed.PAGES)
def test_a_changed_figure_in_a_block_is_found(copied, page):
    text = (copied / page).read_text(encoding="utf-8")
    for lines in printed.blocks(text).values():
        line = next((line for line in lines if re.search(r"\d\.\d+$", line)), None)
        if line:
            changed(copied / page, line, re.sub(r"[\d.]+$", nudged, line))
            assert len(printed.differences()) == 1
            (copied / page).write_text(text, encoding="utf-8")


@pytest.mark.parametrize("at", range(len(printed.said())))
def test_a_changed_figure_in_a_sentence_is_found_and_written_anew(copied, at):
    one = printed.said()[at]
    text = (copied / one["page"]).read_text(encoding="utf-8")
    match = printed.search(one, text)
    assert match.re.groups > 1, "a sentence without a figure"
    start, end = match.span(2)
    wrong = text[:start] + re.sub(r"\d(?=\D*$)", nudged, text[start:end]) + text[end:]
    (copied / one["page"]).write_text(wrong, encoding="utf-8")
    assert len(printed.differences()) == 1
    printed.write()
    assert (copied / one["page"]).read_text(encoding="utf-8").split() == text.split()


def test_a_changed_row_and_another_command_are_found(copied):
    path = printed.STORED / "study-final.json"
    run = json.loads(path.read_text(encoding="utf-8"))
    rows = {row[0]: row for row in run["rows"]}
    rows["4 scrub alpha=2 oracle forget residual_distance"][1] += 0.1
    path.write_text(json.dumps(run), encoding="utf-8")
    assert len(printed.differences()) == 2  # the sentence and the picture
    run["command"] += " --seed 1"
    path.write_text(json.dumps(run), encoding="utf-8")
    assert any("another command" in line for line in printed.differences())


def test_words_that_are_gone_are_found(copied):
    one = printed.said()[0]
    (copied / one["page"]).write_text("# Empty\n", encoding="utf-8")
    assert any("the words are not there" in line for line in printed.differences())


@pytest.mark.parametrize(
    ("number", "form", "text"),
    [
        (0.825, "percent", "82"),
        (-0.004, "ratio", ".00"),
        (-0.59, "ratio", "-.59"),
        (1.25, "points", "1.2"),
        (-0.59, "table", "-0.59"),
        (167680, "rank", "167,680"),
    ],
)
def test_numbers_in_the_form_of_the_pages(number, form, text):
    assert printed.shown(number, form) == text


def near(old, new):
    """Equal within a quarter of the interval, or .02 where there is none."""
    room = max(0.02, 0.02 * abs(old[0]), (old[2] - old[1]) / 4 if None not in old else 0.0)
    return all(a == b if a is None or b is None else abs(a - b) <= room for a, b in zip(old, new))


@pytest.mark.slow
@pytest.mark.parametrize("chain", printed.chains(), ids=lambda chain: chain[-1])
def test_the_commands_give_these_figures_again(chain, tmp_path):
    for name in chain:
        before, after = printed.stored(name), printed.run(printed.commands()[name], tmp_path)
        for page in printed.PAGES:  # the lines that a page shows of it are still printed, with whatever figures
            lines = printed.blocks((ROOT / page).read_text("utf-8")).get(before["command"], [])
            heads = {printed.known_by(line) for line in after["printed"]}
            assert all(printed.known_by(line) in {*heads, "", "..."} for line in lines)
        old, new = ({row[0]: row[1:] for row in run["rows"]} for run in (before, after))
        assert old.keys() == new.keys()
        wrong = [key for key in old if "step" not in key and not near(old[key], new[key])]
        assert not wrong, wrong[:5]

"""The page that compares studies, on synthetic runs; and that every page's links lead somewhere."""

import re
import shutil

import numpy as np
import pyarrow
import pytest
from made_runs import METHODS, Page, change, edit, fake_run, section_of, sound
from pyarrow import parquet

from unlearn_jax import reports
from unlearn_jax.cli import report as report_command
from unlearn_jax.errors import InputError
from unlearn_jax.reports.compare_figures import common_labels, distances_figure, references_figure
from unlearn_jax.reports.compare_load import read_comparison, same_members


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run at 0 and 4 copies; one at 4, with other methods and members; one that shares the first one's models."""
    folder = tmp_path_factory.mktemp("compared")
    two = {name: METHODS[name] for name in ("scrub", "random_label")}
    first = fake_run(folder / "first", levels=(0, 4), methods=two)
    other = fake_run(folder / "other", levels=(4,), methods={"scrub": METHODS["finetune"]})
    change(first, _methods="core", _copies=[0, 4])
    command = 'python experiments/study.py --copies 4 --out "<b>"'
    change(other, _methods="scrub", _copies=[4], _members=16, git_commit="ffff", command=command)
    for file in (other / "margins").glob("*.npy"):
        np.save(file, np.load(file)[:16] + 3.0)  # other models
    third = shutil.copytree(other, folder / "third")
    for file in (third / "margins").glob("*.npy"):
        few = np.load(first / "margins" / file.name)[:16]
        np.save(file, few if file.stem in ("original", "oracle") else few + 2.0)
    return first, other, third


@pytest.fixture(scope="module")
def told(runs):
    return read_comparison(list(runs))


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    return reports.write_comparison(list(runs), tmp_path_factory.mktemp("page") / "compare.html").read_text()


def test_only_what_differs_is_listed(told):
    assert dict(told.options) == {
        "methods": ("core", "scrub", "scrub"),
        "copies": ("0, 4", "4", "4"),
        "members": ("32", "16", "16"),
    }
    assert dict(told.around) == {"commit": ("0123abcd", "ffff", "ffff")}
    assert told.levels == (4, 4, 4) and told.same == ((1, 2),)


def test_fields_that_came_later_count_as_their_defaults(runs, tmp_path):
    run = shutil.copytree(runs[1], tmp_path / "run")
    change(run, _presets="")  # left open, as where it is missing
    assert "presets" not in dict(read_comparison([runs[1], run]).options)
    change(run, _presets="mine.json")
    assert dict(read_comparison([runs[1], run]).options)["presets"] == ("", "mine.json")


def test_shared_models_are_told_by_their_margins(told, page):
    assert [(one.runs, one.members, one.populations) for one in told.shared] == [((0, 2), 16, ("oracle", "original"))]
    assert "A and C hold the same 16 models of oracle, original: their margins agree" in page
    assert "B and C have the same configuration." in page
    alone = read_comparison([told.runs[0].run.path, told.runs[1].run.path])
    assert not alone.shared and not alone.same


def test_models_are_shared_at_the_level_shown_alone(runs, tmp_path):
    first, other = (shutil.copytree(runs[0], tmp_path / name) for name in ("first", "other"))
    names = lambda level: [one.populations for one in read_comparison([first, other], level).shared]
    assert len(names(4)[0]) == 5 and names(0) == []  # the margins of level 0 are not stored
    for run in (first, other):
        shutil.copytree(run / "margins", run / "margins" / "copies=0", ignore=lambda *_: ["copies=0"])
    np.save(other / "margins/copies=0/retrain.npy", np.load(other / "margins/retrain.npy") + 1)
    assert names(0) == [("dedup", "oracle", "original", "placebo")]
    shutil.copytree(other / "margins/copies=0", other / "margins/copies=0,gamma=1.000")
    np.save(other / "margins/copies=0,gamma=1.000/dedup.npy", np.load(other / "margins/dedup.npy") + 1)
    assert names(0) == [("oracle", "original", "placebo")]


def test_models_are_told_by_samples_that_nobody_made(runs, tmp_path):
    """Two levels of similarity at no copies: one set of models, asked about copies that differ."""
    first, other = (shutil.copytree(runs[0], tmp_path / name) for name in ("first", "other"))
    index = parquet.read_table(first / "margins/index.parquet").to_pydict()
    index["split"] = [*index["split"][:-10], *["similar"] * 10]
    for run in (first, other):
        parquet.write_table(pyarrow.table(index), run / "margins/index.parquet")
    for file in (other / "margins").glob("*.npy"):
        values = np.load(file)
        values[:, -10:] += 2.0
        np.save(file, values)
    assert len(read_comparison([first, other]).shared[0].populations) == 5


def test_same_members_allows_rounding_alone():
    values = np.random.default_rng(0).normal(size=(8, 5))
    assert same_members(values, values[:3] + 1e-4) == 3
    assert same_members(values, values[:3] + 0.01) == same_members(values, values[:, :4]) == 0
    assert same_members(values, values[1:]) == same_members(values, values[:0]) == 0
    values[0, 0] = np.nan  # a diverged member is the same one as well
    assert same_members(values, values.copy()) == 8


def test_page_is_sound_self_contained_and_in_order(page):
    found = sound(page)
    order = ["answer", "unpaired", "differ", "share", "main", "distances", "methods", "words", "reproduce"]
    assert [name for name in found.ids if name in order] == order
    assert not Page(page).tags & {"script", "link", "iframe", "object"}
    assert not re.search(r'(src|href)="(?!data:image/png;base64,|#)', page) and "url(http" not in page
    assert "Differences between runs were not computed." in page
    assert page.index("prefers-color-scheme:dark") and page.count("<svg") == 4


def test_every_run_has_its_command_and_levels(page):
    found = sound(page)
    assert {"run-a", "run-a-0", "run-a-4", "run-b", "run-b-4", "run-c-4"} <= set(found.ids)
    assert "--out &#34;&lt;b&gt;&#34;</pre>" in page
    assert found.links.count("#run-b-4") > 5 and "#run-a-0" not in found.links  # the level that is shown


def test_table_has_a_line_for_each_population_and_run(told, page):
    rows = [[" ".join(cell.split()) for cell in row] for row in section_of(page, "methods").rows]
    names = [row[0].split(" ")[0] for row in rows if len(row) == 8 or len(row) == 7]
    assert names == ["Population", "oracle", "dedup", "placebo", "retrain", "original", "random_label", "scrub"]
    scrub = next(n for n, row in enumerate(rows) if row[0].startswith("scrub"))
    assert [row[-6] for row in rows[scrub : scrub + 3]] == ["A", "B", "C"]
    for row, (one, level) in zip(rows[scrub : scrub + 3], zip(told.runs, told.levels)):
        summary = one.run.summary
        entry = next(e for e in summary.entries(level) if e.method == "scrub")
        cell = summary.distance(level, entry)
        assert row[-4] == f"{cell.mean:.2f} [{cell.low:.2f}, {cell.high:.2f}]"


def test_table_says_what_cannot_be_read(runs, tmp_path, unsaved):
    run = shutil.copytree(runs[1], tmp_path / "unclear")
    edit(run, lambda row: row | ({"value": "0.0"} if row["metric"] == "identifiable" else {}))
    text = reports.write_comparison([runs[0], run], tmp_path / "page.html").read_text()
    assert "B: residuals are not identifiable" in text and "A: residuals" not in text
    assert text.count('<span class="tag">3 diverged</span>') == 1  # random_label of the first


def test_figures_share_their_axes(told):
    for width in (9.4, 3.9):
        panels = [axes for axes in references_figure(told, width).axes if axes.get_visible()]
        assert len(panels) == 3 and len({axes.get_ylim() for axes in panels}) == 1
        assert len({axes.get_xlim() for axes in panels}) == 1
        assert [axes.get_title(loc="left") for axes in panels] == ["A: first", "B: other", "C: third"]
    assert common_labels(told) == ["dedup", "scrub", "placebo", "retrain"]  # .27, .73, .81, .82
    labels = [text.get_text() for text in distances_figure(told).axes[0].get_yticklabels()]
    assert labels == common_labels(told) and "random_label" not in labels


def test_single_levels_are_rows_with_names(told):
    alike = read_comparison([told.runs[1].run.path, told.runs[2].run.path])
    panels = references_figure(alike).axes
    assert [text.get_text() for text in panels[0].get_yticklabels()] == [
        "original", "retrain", "placebo", "dedup", "oracle"
    ]  # fmt: skip
    assert panels[0].get_xlim() == panels[1].get_xlim() and not panels[0].texts[0].get_text()


def test_levels_without_a_common_one_are_each_runs_last(runs, tmp_path, unsaved):
    only = fake_run(tmp_path / "only", levels=(1, 8), methods={"scrub": METHODS["scrub"]})
    told = read_comparison([runs[0], only])
    assert told.levels == (4, 8)
    assert read_comparison([runs[0], runs[1]], 4).levels == (4, 4)
    with pytest.raises(InputError, match="other has no level of 0 copies: choose among 4"):
        read_comparison([runs[0], runs[1]], 0)
    text = reports.write_comparison([runs[0], only], tmp_path / "page.html").read_text()
    assert "A at 4 copies, B at 8 copies" in text
    sound(text)


def test_runs_of_other_kinds_or_without_rows_are_refused(runs, tmp_path):
    for name, kind in {"sweep.json": "a sweep", "audit.json": "an audit", "neighbours.json": "a search"}.items():
        (tmp_path / kind).mkdir()
        (tmp_path / kind / name).write_text("{}")
        with pytest.raises(InputError, match=f"is {kind}.*only studies can be compared"):
            read_comparison([runs[0], tmp_path / kind])
    (tmp_path / "manifest.json").write_text('{"kind": "attribution"}')
    with pytest.raises(InputError, match="is an attribution study"):
        read_comparison([runs[0], tmp_path])
    (tmp_path / "manifest.json").write_text('{"status": "running", "config": {}}')
    with pytest.raises(InputError, match="nothing to show yet"):
        read_comparison([runs[0], tmp_path])
    with pytest.raises(InputError, match="1 run is given"):
        read_comparison([runs[0]])
    with pytest.raises(InputError, match="given twice"):
        read_comparison([runs[0], runs[0]])


def test_command_writes_the_page_or_nothing(runs, tmp_path, monkeypatch, capsys, unsaved):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        report_command.run(report_command.Args(runs=[runs[0], tmp_path]))
    assert not list(tmp_path.iterdir())
    report_command.run(report_command.Args(runs=list(runs[:2]), levels="4"))
    assert capsys.readouterr().out == "compare.html\n"
    sound((tmp_path / "compare.html").read_text())


def test_figures_of_a_comparison_go_by_name(runs, tmp_path):
    draw = lambda name, **how: reports.save_figure(list(runs), tmp_path / f"{name}.svg", **how).read_text()
    assert "A: first" in draw("distances", width="single") and "random_label" not in draw("distances")
    assert draw("any") == draw("references") != draw("distances")
    with pytest.raises(InputError, match="unknown figure of this run 'main': choose one of distances, references"):
        draw("any", which="main")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"figure": "a.pdf", "out": "b.html"}, "--figure and --out are both given"),
        ({"theme": "dark"}, "--theme is of a figure"),
        ({"which": "main"}, "--which is of a figure"),
        ({"levels": "4"}, "--levels is of tables"),
        ({"levels": "1,4", "figure": "a.pdf"}, "is not one number"),
    ],
)
def test_what_would_be_passed_over_is_refused(runs, asked, message):
    with pytest.raises(InputError, match=message):
        report_command.run(report_command.Args(runs=[runs[0]], **asked))


def test_a_folder_of_sweeps_is_told_apart(tmp_path):
    (tmp_path / "sweeps.json").write_text("{}")
    for asked in ({}, {"figure": tmp_path / "a.pdf"}):
        with pytest.raises(InputError, match="the sweeps in .* cannot be read .*run unlearn-jax sweep again"):
            report_command.run(report_command.Args(runs=[tmp_path], **asked))


def test_every_kind_of_folder_has_its_page(tmp_path, monkeypatch, capsys):
    drawn = {kind: lambda folder, out, kind=kind: f"{kind} {out}" for kind in report_command.PAGES}
    monkeypatch.setattr(report_command, "PAGES", drawn)
    kinds = {"sweep.json": "sweep", "sweeps.json": "sweeps", "audit.json": "audit", "neighbours.json": "neighbours"}
    for name, kind in kinds.items():
        (tmp_path / kind).mkdir()
        (tmp_path / kind / name).write_text('{"status": "complete"}')
        report_command.run(report_command.Args(runs=[tmp_path / kind], out="page.html"))
    (tmp_path / "manifest.json").write_text('{"kind": "attribution"}')
    report_command.run(report_command.Args(runs=[tmp_path]))
    told = ["sweep page.html", "sweeps page.html", "audit page.html", "neighbours page.html", "influence None"]
    assert capsys.readouterr().out.splitlines() == told


def test_links_of_a_study_lead_to_its_command_and_levels(runs):
    found = sound(reports.write_report(runs[0]).read_text())
    assert {"reproduce", "reproduce-0", "reproduce-4"} <= set(found.ids)
    assert {"#reproduce", "#reproduce-4"} <= set(found.links)
    text = (runs[0] / "report.html").read_text()
    figures, tables = text.count("<figcaption>"), text.count("<table")
    assert text.count('class="made"') >= figures + 2 and tables >= 3
    for caption in re.findall(r"<figcaption>.*?</figcaption>", text):
        assert 'class="made"' in caption
    assert "copies=4, gamma=0.200, request=all" in text

"""The report page, on synthetic run folders."""

import csv
import re
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from made_runs import (
    MEMBERS,
    METHODS,
    NUMBERS,
    REFERENCES,
    TARGETS,
    Page,
    change,
    edit,
    fake_rows,
    fake_run,
    table,
    write_rows,
)
from pyarrow import parquet

from unlearn_jax import reports
from unlearn_jax.cli import report as report_command
from unlearn_jax.errors import InputError
from unlearn_jax.reports import board_rows, columns
from unlearn_jax.reports import words as report_words
from unlearn_jax.reports.gallery import which_stay
from unlearn_jax.reports.load import number_told, read_run

SECTIONS = ["answer", "curve", "found", "panels", "methods", "forest", "margins", "pictures", "similarity"]
SECTIONS += ["words", "reproduce"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fake_run(tmp_path_factory.mktemp("several") / "run")


@pytest.fixture(scope="module")
def page(run):
    return reports.write_report(run).read_text()


def test_has_every_section_and_needs_no_network(page):
    found = Page(page)
    assert [name for name in found.ids if name in SECTIONS] == SECTIONS and len(found.ids) == len(set(found.ids))
    assert not found.tags & {"script", "link", "iframe", "object"}
    assert not re.search(r'(src|href)="(?!data:image/png;base64,|#)', page)
    assert "url(http" not in page and "@import" not in page


def test_table_numbers_equal_the_summary(run, page):
    rows = table(page)
    distances = [float(row[1].split()[0]) for row in rows.values()]
    assert distances == sorted(distances) and len(distances) == 11 and next(iter(rows)) == "oracle"
    with (run / "summary.csv").open(newline="") as file:
        cells = {(r["method"], r["metric"], r["split"]): r for r in csv.DictReader(file) if r["copies"] == "8"}
    assert set(rows) == {*REFERENCES, *METHODS}

    def shown(method, metric, split, digits, scale=1.0):
        row = cells[method, metric, split]
        mean, low, high = (f"{scale * float(row[k]):.{digits}f}" for k in ("value", "ci_low", "ci_high"))
        return f"{mean} [{low}, {high}]".replace("-", "−")

    for method in METHODS:
        row = rows[method]
        assert row[0].removesuffix(" in band") == shown(method, "residual_influence", "forget", 2)
        assert row[1] == shown(method, "residual_distance", "forget", 2)
        for i, split in enumerate(("similar", "rest", "test")):
            assert row[2 + i] == shown(method, "price_accuracy", split, 1)
        for i, split in enumerate(("forget", "similar", "test_similar", "test")):
            assert row[5 + i] == shown(method, "accuracy", split, 1, 100).split()[0]
        assert row[9:12] == ["0.11", "3,000", "24.0k"]
    assert rows["random_label"][12] == "⚠ 3" and rows["scrub"][12] == "0"


def test_answer_and_findings_quote_the_intervals(page):
    assert re.search(r'id="answer">Deleting the 30 targets and retraining left 93% \[\d+, \d+\]', page)
    assert "8 near copies of each" in page
    assert "it must be" in page
    rows = table(page)
    assert rows["neggrad_plus"][14] == "−0.26 [−0.28, −0.24]" and rows["placebo"][13] == "−0.02 [−0.04, 0.00]"


def changed(metric, method, copies="4", **values):
    """An edit of the rows of a metric and a method."""
    keys = {"metric": metric, "method": method, "copies": copies}
    return lambda row: row | (values if all(row[k] == v for k, v in keys.items()) else {})


LITTLE = changed("residual_influence", "retrain", value="0.03")
FEW = changed("identifiable", "oracle", value="0.0")
SHORT = changed("influence_span", "original", ci_low="0.2")
TWICE = changed("residual_influence", "retrain", copies="0", value="0.0")


@pytest.mark.parametrize(
    ("levels", "edits", "config", "said"),
    [
        ((4,), [LITTLE], {}, ["no influence that this run can tell from none", "within the null band"]),
        ((4,), [FEW], {}, ['id="answer">Not identifiable', "too few members"]),
        ((4,), [FEW, SHORT], {}, ["the original and the oracle differ too little"]),
        ((0, 4), [TWICE], {}, ["one population was used twice"]),
        (
            (4,), [], {"_requests": 4},
            ["Deleting the 30 targets of a request", "30 a request atypical", "32 (8 a request)"],
        ),
    ],
)  # fmt: skip
def test_claims_follow_the_evidence(tmp_path, unsaved, levels, edits, config, said):
    run = fake_run(tmp_path / "run", levels=levels)
    change(run, **config)
    for one in edits:
        edit(run, one)
    text = reports.write_report(run).read_text()
    assert all(words in text for words in said)


def test_the_table_has_the_bounds_of_a_rank(tmp_path, unsaved):
    run = fake_run(tmp_path / "run", levels=(4,))
    first = lambda r: r["metric"] == "distance_rank" and r["method"] == "neggrad_plus"
    edit(run, lambda r: r | ({"ci_low": "1", "ci_high": "1"} if first(r) else {}))
    assert table(reports.write_report(run).read_text())["neggrad_plus"][15] == "1 [1, 1]"


def test_an_upper_bound_is_told_apart_from_the_methods(tmp_path, unsaved):
    methods = METHODS | {"oracle_matching": (0.02, 0.03, -1.0, 0.1, 0.2)}
    text = reports.write_report(fake_run(tmp_path / "run", levels=(4,), methods=methods)).read_text()
    assert text.count('<span class="tag">upper bound</span>') == 1
    assert table(text)["oracle_matching"][1] == "0.12 [0.07, 0.18]"
    alone = fake_run(tmp_path / "alone", levels=(4,), methods={"oracle_matching": methods["oracle_matching"]})
    assert set(table(reports.write_report(alone).read_text())) == {*REFERENCES, "oracle_matching"}


@pytest.mark.parametrize(("rest", "wrecked"), [(0.306, True), (0.949, True), (0.951, False)])
def test_a_method_that_ruins_the_model_is_marked_and_never_called_nearest(tmp_path, unsaved, rest, wrecked):
    methods = METHODS | {"woodfisher": (0.0, 0.0, 40.0, 100 - 100 * rest, 60.0)}
    rows = fake_rows((4,), methods)
    accuracy = next(r for r in rows if r["metric"] == "accuracy" and r["split"] == "test")
    for name in ("oracle", "retrain", *methods):
        held = rest if name == "woodfisher" else 1.0
        rows.append(accuracy | {"method": name, "split": "rest", **dict.fromkeys(NUMBERS[:5], held)})
    run = fake_run(tmp_path / "run", levels=(4,), methods=methods)
    unranked = lambda r: wrecked and (r["method"], r["metric"]) == ("woodfisher", "distance_rank")  # as of a study
    write_rows(run, [row for row in rows if not unranked(row)])
    text = reports.write_report(run).read_text()
    assert (f"{100 * rest:.1f}% right on rest" in text) is wrecked
    order = list(table(text))
    place = next(i for i, name in enumerate(order) if name.startswith("woodfisher"))
    assert (text.count('<span class="tag">wrecked') == 1) is wrecked
    assert (place == len(order) - 1) is wrecked
    ranks = {name: row[15] for name, row in table(text).items()}
    assert (ranks["woodfisher"] == "–") is wrecked and ranks["neggrad_plus"] != "–"


def test_as_many_targets_are_told_of_as_there_were(tmp_path, unsaved):
    run = fake_run(tmp_path / "run", levels=(4,))  # its index has 30
    change(run, _num_targets=7, _targets="whole_class")
    text = reports.write_report(run).read_text()
    assert "Deleting the 30 targets" in text and not re.search(r"\b7 (targets|atypical|whole)", text)
    rows = board_rows.rows_of_run(columns.read_named([run])[0])
    assert {row["num_targets"] for row in rows} == {"30"}


@pytest.mark.parametrize(
    ("config", "sizes", "told"),
    [
        ({"num_targets": 30, "targets": "whole_class"}, (120,), "120"),
        ({"num_targets": 30, "targets": "whole_class"}, (98, 105, 101), "98 to 105"),
        ({"num_targets": 30, "targets": "whole_class"}, None, ""),
        ({"num_targets": 30, "targets": "person"}, (36,), "36"),
        ({"num_targets": 30, "targets": "random"}, None, "30"),
        ({}, (), ""),
    ],
)
def test_the_number_of_targets_in_words(config, sizes, told):
    assert number_told(config, sizes) == told


def test_escapes_hostile_names(tmp_path):
    hostile = '<script>alert("1")</script>&$x$'
    run = fake_run(tmp_path / "run", levels=(1, 4), methods={hostile: METHODS["scrub"]})
    change(run, device=hostile, notes=[hostile])
    text = reports.write_report(run).read_text()
    assert "<script" not in text and "&lt;script&gt;" in text
    assert "script" not in Page(text).tags


FILES = ["manifest.json", "summary.csv", "results.parquet", "margins/index.parquet"]


@pytest.mark.parametrize("file", [*FILES, "margins/oracle.npy", "gallery.npz"])
def test_a_missing_or_damaged_file_is_an_input_error(tmp_path, file):
    run = fake_run(tmp_path / "run", levels=(4,))
    if file != "results.parquet":
        (run / file).write_bytes((run / file).read_bytes()[:40])
        with pytest.raises(InputError):
            reports.write_report(run)
    if file in FILES:
        (run / file).unlink()
        with pytest.raises(InputError, match=re.escape(Path(file).name)):
            reports.write_report(run)
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("status", ["running", None])
def test_unfinished_run_is_an_input_error(tmp_path, status):
    run = fake_run(tmp_path / "run", levels=(4,))
    change(run, status=status)
    (run / "report.html").write_text("older")
    with pytest.raises(InputError, match="nothing to show yet"):
        reports.write_report(run)
    assert (run / "report.html").read_text() == "older"
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


def test_command_exits_with_2_and_one_sentence(tmp_path, capsys):
    run = fake_run(tmp_path / "run", levels=(4,))
    (run / "summary.csv").unlink()
    assert report_command.main([str(run), "--out", str(tmp_path / "page.html")]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and "summary.csv" in errors and not (tmp_path / "page.html").exists()


def test_unwritable_out_is_an_input_error(run, tmp_path):
    with pytest.raises(InputError, match="cannot write"):
        reports.write_report(run, tmp_path / "absent" / "page.html")


def test_a_run_of_an_earlier_version_has_the_same_page(tmp_path, unsaved):
    run = fake_run(tmp_path / "run", levels=(4,))
    now = reports.write_report(run).read_text()
    table = run / "summary.csv"
    head, rows = table.read_text().split("\n", 1)
    assert ",value," in head
    table.write_text(head.replace(",value,", ",mean,") + "\n" + rows)
    assert reports.write_report(run).read_text() == now


def test_one_level_run(tmp_path):
    run = fake_run(tmp_path / "run", levels=(4,))
    text = reports.write_report(run, tmp_path / "page.html").read_text()
    shown = [name for name in Page(text).ids if name in SECTIONS]
    assert shown == [name for name in SECTIONS if name not in ("panels", "found")]
    assert "ridge law 0.80" in text and "By number of copies" not in text


def test_references_alone_without_copies(tmp_path, unsaved):
    run = fake_run(tmp_path / "run", levels=(0,), methods={})
    text = reports.write_report(run).read_text()
    assert set(table(text)) == set(REFERENCES)
    assert "with no copies in the training set" in text


def test_members_that_are_all_nan_leave_a_readable_page(tmp_path):
    run = fake_run(tmp_path / "run", levels=(1, 4))
    np.save(run / "margins/dedup.npy", np.full((MEMBERS, 2 * TARGETS), np.nan, np.float32))
    edit(run, lambda r: r | (dict.fromkeys(NUMBERS, "nan") if r["metric"].startswith("residual") else {}))
    text = reports.write_report(run).read_text()
    assert "dedup: no finite margin" in text and "960 values that are not finite" in text
    assert "did not measure retraining" in text


def test_missing_optional_parts_do_not_break_the_page(tmp_path):
    run = fake_run(tmp_path / "run", levels=(0, 4))
    keep = ("accuracy", "residual_influence")
    edit(run, lambda r: r if r["metric"] in keep and r["method"] not in ("placebo", "dedup") else None)
    (run / "manifest.json").write_text('{"status": "complete"}')
    (run / "gallery.npz").unlink()
    for file in (run / "margins").glob("*.npy"):
        file.unlink()
    text = reports.write_report(run).read_text()
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL).lower().replace("finan", "")
    assert "This run stored no pictures" in text and "neggrad_plus" in text


def test_diverged_everywhere_goes_last(tmp_path, unsaved):
    run = fake_run(tmp_path / "run", levels=(1, 4))
    blank = {name: "nan" for name in NUMBERS}
    lost = lambda r: r["method"] == "scrub" and r["metric"].startswith("residual")
    edit(run, lambda r: r | (blank if lost(r) else {}))
    rows = table(reports.write_report(run).read_text())
    assert list(rows)[-1] == "scrub" and rows["scrub"][:2] == ["–", "–"]


def test_vmapped_settings_and_requests_are_kept_apart(tmp_path, unsaved):
    run = fake_run(tmp_path / "run", levels=(4,))
    extra = [r | {"setting": "alpha=0.5"} for r in fake_rows((4,), METHODS) if r["method"] == "scrub"]
    single = [r | {"request": "0", "value": 99.0} for r in fake_rows((4,), METHODS)]
    write_rows(run, fake_rows((4,), METHODS) + extra + single)
    text = reports.write_report(run).read_text()
    words = re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL)
    assert "scrub (alpha=0.5)" in text and "99.00" not in words


def test_smallest_identified_fraction_is_shown_and_the_others_named(tmp_path, unsaved):
    run = fake_run(tmp_path / "run", levels=(4,))
    most = [r | {"gamma": 0.6, "value": 77.0} for r in fake_rows((4,), METHODS) if r["method"] != "oracle"]
    least = [r | ({"gamma": 0.6} if r["method"] == "oracle" else {}) for r in fake_rows((4,), METHODS)]
    write_rows(run, most + least)
    text = reports.write_report(run).read_text()
    words = re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL)  # coordinates may hold any digits
    assert "77.00" not in words and "oracle" in table(text)
    assert "not shown here: in tables, identified fractions above 0.2 at 4 copies" in text
    assert "By the share of each cluster that the request names at 4 copies" in text


def test_a_request_that_names_copies_is_said_to_leave_the_others(tmp_path):
    run = fake_run(tmp_path / "run", levels=(4,))
    for gamma, said in ((0.6, "2 of the 4 near copies of each stayed."), (1.0, "none of the 4 near copies of each st")):
        write_rows(run, [r | {"gamma": gamma} for r in fake_rows((4,), METHODS)])
        loaded = reports.read_run(run)
        answer = report_words.headline(loaded)
        assert f"targets and {round(5 * gamma) - 1} of the 4 near copies of each and" in answer and said in answer
        assert f"of which {'2 stay' if gamma < 1 else 'none stays'} when" in which_stay(loaded) + " when"
        told = reports.table_text([run], "markdown")
        assert f"4 near copies of each, of which the request names {round(5 * gamma) - 1}," in told


def test_margins_of_several_requests_use_their_own_members(tmp_path):
    run = fake_run(tmp_path / "run", levels=(4,))
    index = {"row": [0, 1, 2, 3], "split": ["forget"] * 4, "request": ["0", "0", "1", "1"]}
    parquet.write_table(pyarrow.table(index), run / "margins/index.parquet")
    rows = [("retrain", "margin", "forget", 4, str(i % 2), i, 0.0) for i in range(4)]
    names = ("method", "metric", "split", "copies", "request", "member", "value")
    parquet.write_table(pyarrow.table(dict(zip(names, zip(*rows)))), run / "results.parquet")
    np.save(run / "margins/retrain.npy", np.arange(4)[:, None] * 10.0 + np.arange(4))
    loaded = read_run(run)
    assert loaded.num_targets == 4 and set(loaded.margins) == {"retrain"}
    assert sorted(loaded.margins["retrain"]) == [0, 1, 12, 13, 20, 21, 32, 33]


def test_margins_are_those_of_the_identified_fraction_shown(tmp_path):
    run = fake_run(tmp_path / "run", levels=(4,))
    assert read_run(run).summary.gamma == {4: 0.2}
    own = run / "margins" / "copies=4,gamma=0.200"
    own.mkdir()
    (own / "index.parquet").write_bytes((run / "margins/index.parquet").read_bytes())
    np.save(own / "retrain.npy", np.full((MEMBERS, 2 * TARGETS), 7.0, np.float32))
    found = read_run(run).margins
    assert set(found) == {"retrain"} and (found["retrain"] == 7.0).all()


def test_main_figure_shows_the_values(run, tmp_path):
    summary = reports.read_summary(run / "summary.csv")
    figure = reports.main_figure(summary)
    lines = [line.get_ydata() for line in figure.axes[0].get_lines()]
    expected = [0.021, 0.601, 0.812, 0.928]
    assert any(len(y) == 4 and np.allclose(np.asarray(y, float), expected) for y in lines)
    for name in ("main.svg", "main.png"):
        assert reports.save_figure(run, tmp_path / name).stat().st_size > 10_000
    with pytest.raises(InputError, match="svg or .png"):
        reports.save_figure(run, tmp_path / "main.doc")


def test_page_is_deterministic(run, page, tmp_path):
    assert reports.write_report(run, tmp_path / "again.html").read_text() == page
    assert len(page) < 3_000_000

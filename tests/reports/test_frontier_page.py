"""The section on influence against price, on a synthetic run with remedies."""

import csv
import shutil

import pytest
from made_runs import METHODS, NUMBERS, fake_rows, fake_run, section_of, write_rows
from markupsafe import Markup

from unlearn_jax import reports
from unlearn_jax.reports import words
from unlearn_jax.reports.frontier_figure import frontier_figure
from unlearn_jax.reports.style import inline_svg

# (method, remedy) -> (distance, price, on the frontier, missed of the goal)
POINTS = {
    ("prmq", "expand"): (0.05, 2.0, 1.0, ("rest", "test")),
    ("prmq", ""): (0.3, 2.2, 0.0, ("distance", "rest", "test")),
    ("scrub", "expand"): (0.12, 0.2, 1.0, ()),
    ("scrub", ""): (0.78, 0.4, 0.0, ("distance", "test")),
    ("delete", "expand"): (360.0, 70.0, 0.0, ("distance", "rest", "test")),
    ("do_nothing", "expand"): (0.04, 0.1, 0.0, ("cost",)),
    ("retrain", "expand"): (0.02, 0.1, None, ("cost",)),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = fake_run(tmp_path_factory.mktemp("frontier") / "run", (4,), {"finetune": METHODS["finetune"]})
    rows = fake_rows((4,), {"finetune": METHODS["finetune"]})
    keys = {k: rows[0][k] for k in ("dataset", "model", "targets", "similarity", "request", "copies", "gamma")}

    def put(method, remedy, metric, mean, half=0.0, split="", reference="oracle"):
        values = dict(zip(NUMBERS, (mean, mean - half, mean + half, mean - half, mean + half, 32)))
        own = {"method": method, "remedy": remedy, "metric": metric, "split": split, "reference": reference}
        rows.append(keys | own | values)

    for (method, remedy), (distance, price, on, missed) in POINTS.items():
        put(method, remedy, "residual_distance", distance, 0.02, "forget")
        put(method, remedy, "residual_influence", distance / 2, 0.02, "forget")
        put(method, remedy, "largest_price", price, 0.1)
        for split in ("similar", "rest", "test"):
            put(method, remedy, "price_accuracy", price, 0.1, split)
        put(method, remedy, "cost_share", 0.08, reference="")
        if on is not None:
            put(method, remedy, "on_frontier", on)
            put(method, remedy, "frontier_share", 0.9 * on)
        for name in ("cost", "distance", "rest", "test"):
            put(method, remedy, f"goal_{name}", float(name not in missed))
        if remedy:
            for name, value in (("rows", 100.0), ("precision", 0.92), ("recall", 0.97)):
                put(method, remedy, f"found_{name}", value, split="similar", reference="")
    for name in ("original", "retrain", "placebo", "dedup"):
        put(name, "", "largest_price", 0.1, 0.05)
    write_rows(folder, rows)
    return folder


@pytest.fixture(scope="module")
def page(run):
    with pytest.MonkeyPatch.context() as patch:  # drawing is most of a page's time, and has its own test
        patch.setattr("unlearn_jax.reports.render.inline_svg", lambda *given: Markup("<svg></svg>"))
        return reports.write_report(run).read_text()


def frontier_rows(text):
    """Cells by population of the section's table."""
    rows = section_of(text, "frontier").rows
    return [[" ".join(cell.split()) for cell in row] for row in rows if len(row) == 14]


def test_words_tell_the_frontier_and_the_goal(page):
    assert "A method is on the frontier where" in page and "The goal is a distance" in page


def test_words_hold_a_remedy_against_its_method_alone(page, run):
    text = " ".join(page.split())
    said = words.without_remedy(reports.read_summary(run / "summary.csv"), 4)
    assert [line.split(" is at ")[0] for line in said] == ["retrain + expand", "prmq + expand", "scrub + expand"]
    assert said[2] == "scrub + expand is at 0.12 [0.10, 0.14], scrub alone at 0.78 [0.76, 0.80]" and said[2] in text


def test_the_table_has_remedies_below_their_methods(page):
    rows = frontier_rows(page)
    names = [row[0].split(" full")[0].split(" ref")[0] for row in rows]
    assert names == ["retrain", "retrain + expand", "do_nothing + expand", "prmq", "prmq + expand", "scrub"] + [
        "scrub + expand", "finetune", "delete + expand"
    ]  # fmt: skip
    by = dict(zip(names, rows))
    assert by["scrub + expand"][1:] == [
        "0.12 [0.10, 0.14]", "0.06 [0.04, 0.08]", *["0.2 [0.1, 0.3]"] * 3, "8.0", "92", "97", "90", *["yes"] * 4
    ]  # fmt: skip
    near = by["prmq + expand"]
    assert near[1] == "0.05 [0.03, 0.07]" and near[3:6] == ["2.0 [1.9, 2.1]"] * 3 and near[9] == "90"
    assert by["retrain + expand"][1] == "0.02 [0.00, 0.04]" and by["retrain + expand"][9] == "–"
    assert by["scrub"][7:] == ["–", "–", "0", "yes", "no", "yes", "no"]
    assert by["delete + expand"][1] == "360 [360, 360]" and by["finetune"][-4:] == ["–"] * 4


def test_the_figure_names_the_frontier_and_the_anchors_alone(run):
    summary = reports.read_summary(run / "summary.csv")
    for width in (9.4, 3.9):
        assert "<svg" in inline_svg(frontier_figure(summary, 4, width), "frontier", "the frontier")
        axes = frontier_figure(summary, 4, width).axes[0]
        named = {text.get_text() for text in axes.texts}
        assert named == {
            "prmq + expand", "scrub + expand", "retrain + expand", "oracle", "original", "retrain", "placebo", "dedup",
            "goal ",
        }  # fmt: skip


def test_a_run_without_a_frontier_has_no_section(tmp_path, unsaved):
    run = fake_run(tmp_path / "run", levels=(4,))
    assert 'id="frontier"' not in reports.write_report(run).read_text()


def test_several_settings_are_cautioned_about(run, tmp_path, unsaved):
    shutil.copytree(run, tmp_path / "run")
    with (run / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    more = [r | {"setting": "alpha=2"} for r in rows if (r["method"], r["remedy"]) == ("scrub", "")]
    write_rows(tmp_path / "run", rows + more)
    text = " ".join(reports.write_report(tmp_path / "run").read_text().split())
    assert "choose it on other targets (unlearn-jax choose)" in text and "scrub (alpha=2)" in text

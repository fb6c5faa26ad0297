"""Tables for papers, machines and notes, from records with known numbers."""

import csv
import io
import json
import math
import re
import shutil
import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_runs import NUMBERS, fake_run, write_rows

from unlearn_jax import reports
from unlearn_jax.cli import report as report_command
from unlearn_jax.errors import InputError
from unlearn_jax.reports import columns, tables

# method -> (distance, half its interval, diverged members)
DISTANCES = {"retrain": (0.8, 0.05, 0), "near": (0.2, 0.05, 0), "far": (0.5, 0.1, 0), "do_nothing": (1.0, 0.0, 0)}


def rows_of(distances, levels=(4,), identifiable=1.0):
    """Rows of a summary with these residual distances; the signed residual is a tenth less, the price 1.25 on test."""
    rows = []

    def put(level, method, metric, mean, half=0.0, split="", reference=""):
        keys = {"dataset": "digits", "model": "mlp", "targets": "random", "similarity": "near", "request": "all"}
        keys |= {"copies": level, "gamma": 1 / 3, "method": method, "split": split, "reference": reference}
        rows.append(keys | {"metric": metric} | dict(zip(NUMBERS, (mean, mean - half, mean + half, mean, mean, 16))))

    for level in levels:
        for method, (distance, half, lost) in distances.items():
            put(level, method, "residual_distance", distance, half, "forget", "oracle")
            put(level, method, "residual_influence", distance - 0.1, half, "forget", "oracle")
            put(level, method, "price_accuracy", 1.25, 0.5, "test", "oracle")
            put(level, method, "cost_share", 0.0999)
            put(level, method, "n_diverged", float(lost))
        put(level, "oracle", "accuracy", 0.2, 0.0, "forget")
        put(level, "oracle", "identifiable", identifiable, 0.0, "forget", "oracle")
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A whole run folder whose summary tests write anew."""
    return fake_run(tmp_path_factory.mktemp("tables") / "run", levels=(4,))


@pytest.fixture
def told(folder):
    """Lines and columns of a table over other distances."""

    def read(distances=DISTANCES, names="distance", methods="", levels="", **how):
        write_rows(folder, rows_of(distances, **how))
        named, chosen = columns.read_named([folder]), columns.columns_of(names)
        return columns.lines_of(named, chosen, columns.levels_of(levels, named), methods), chosen

    return read


def bold(told_of):
    """Labels of the lines in bold."""
    lines, _ = told_of
    return {lines[number].label for number in columns.best_lines(lines, 0)}


def test_bold_only_where_the_interval_ends_below_every_other(told):
    assert bold(told()) == {"near"}  # .25 < .40
    assert bold(told(DISTANCES | {"far": (0.5, 0.26, 0)})) == set()  # begins at .24
    assert bold(told(DISTANCES | {"third": (0.3, 0.0, 0), "far": (0.5, 0.3, 0)})) == set()  # not the next one alone
    assert bold(told(DISTANCES | {"near": (0.2, 0.05, 2)})) == set()  # members diverged
    assert bold(told(DISTANCES | {"far": (0.5, math.nan, 0)})) == set()  # no interval, no claim
    assert bold(told(identifiable=0.0)) == set()
    assert bold(told({"near": (0.2, 0.05, 0), "retrain": (0.8, 0.05, 0)})) == set()  # nothing to be better than
    given_models = DISTANCES | {"oracle_matching": (0.01, 0.0, 0), "brief": (0.1, 0.01, 0)}
    assert bold(told(given_models)) == {"brief"}  # an upper bound is no rival


def test_lines_hold_the_summary_in_order(told):
    lines, _ = told(names="distance,cost,price_test,residual")
    assert [line.label for line in lines] == ["oracle", "near", "far", "retrain", "do_nothing"]
    near = lines[1].cells
    assert near[0][:3] == pytest.approx((0.2, 0.15, 0.25)) and near[1].mean == 0.0999
    assert near[2][:3] == (1.25, 0.75, 1.75) and near[3].mean == pytest.approx(0.1)
    assert [line.label for line in told(methods="near,references")[0]] == ["oracle", "near", "retrain"]


def test_markdown_shows_known_numbers(told):
    lines, chosen = told(DISTANCES | {"near_miss": (0.21, 0.3, 3)}, names="distance,price_test,cost")
    text = tables.as_markdown(lines, chosen, {"run": "python study.py"})
    assert "| near | 0.20 [0.15, 0.25] | 1.2 [0.8, 1.8] | 0.1 |" in text
    assert "| near\\_miss \\* | 0.21 [−0.09, 0.51] |" in text and "members diverged" in text
    assert "| oracle | 0.00 | – | – |" in text and text.endswith("\n    python study.py\n")
    assert "Populations measured and not shown" not in text
    alone = tables.as_markdown(*told(methods="near"), {})
    assert "not shown: 4" in alone and "every other method shown" in alone


def test_csv_round_trip_is_exact(told):
    distances = DISTANCES | {"thirds": (1 / 3, 2 / 7, 0)}
    lines, chosen = told(distances, names="residual,distance,cost")
    back = list(csv.DictReader(io.StringIO(tables.as_csv(lines, chosen))))
    assert [row["method"] for row in back] == [line.entry.method for line in lines]
    for row, line in zip(back, lines):
        assert (row["run"], row["copies"], float(row["gamma"])) == ("run", "4", 1 / 3)
        for name, cell in zip(chosen, line.cells):
            for end, value in zip(("", "_low", "_high"), cell[:3]):
                text = row[name + end]
                assert (text == "") if math.isnan(value) else float(text) == value


def test_latex_has_booktabs_and_groups(told):
    lines, chosen = told(levels="all", names="distance")
    text = tables.as_latex(lines, chosen, {"run": "python x.py\n\\evil"}, "a b_c")
    assert text.startswith("% run: python x.py \\evil\n\\begin{table}") and "\\label{tab:a-b-c}" in text
    assert r"near & \textbf{0.20} {\scriptsize [0.15, 0.25]} \\" in text and r"do\_nothing & 1.00" in text
    assert "\\multicolumn" not in text and "95\\% intervals" in text
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]


def test_several_runs_are_named_apart(tmp_path):
    for name, distances in {"a": DISTANCES, "b": DISTANCES | {"near": (0.9, 0.01, 0)}}.items():
        fake_run(tmp_path / name / "run", levels=(4,))
        write_rows(tmp_path / name / "run", rows_of(distances))
    runs = [tmp_path / "a" / "run", tmp_path / "b" / "run"]
    rows = list(csv.DictReader(io.StringIO(reports.table_text(runs, "csv", "distance"))))
    assert {row["run"] for row in rows} == {"a/run", "b/run"}
    assert [row["distance"] for row in rows if row["method"] == "near"] == ["0.2", "0.9"]
    text = reports.table_text(runs, "latex", "distance")
    assert r"\multicolumn{2}{@{}l}{\textit{a/run, 4 copies}} \\" in text and "not paired" in text
    assert text.count(r"\textbf{0.20}") == text.count(r"\textbf{0.50}") == 1 and text.count(r"\textbf{") == 2
    with pytest.raises(InputError, match="is given twice"):
        reports.table_text([runs[0], runs[0]], "csv")


BACK = sorted(((v, k) for k, v in tables.SPECIAL.items()), key=lambda pair: -len(pair[0]))
SOURCE = re.compile("|".join(re.escape(pair[0]) for pair in BACK))
NASTY = st.text(st.sampled_from("ab 1\\{}$&#%_^~<>|\"`'[]-−·\n"), max_size=30)


@example("---")
@settings(max_examples=300, deadline=None)
@given(NASTY)
def test_latex_escaping_can_be_undone_and_leaves_no_command(text):
    escaped = tables.latex_escaped(text)
    plain = re.sub(r"([-'])\{\}(?=\1)", r"\1", escaped)
    assert SOURCE.sub(lambda found: dict(BACK)[found[0]], plain) == " ".join(text.split())
    left = re.sub(r"\\(textbackslash|textasciicircum|textasciitilde|textless|textgreater|textbar|char34"
                  r"|textperiodcentered)\{\}|\\`\{\}|\\[{}$&#%_]|\$-\$|\{[\[\]]?\}", "", escaped)  # fmt: skip
    assert not set(left) & set('\\{}$&#%_^~<>|"`[]\n') and "--" not in escaped


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("ab\\`*_{}[]<>#|~$ \n"), max_size=30))
def test_markdown_escaping_keeps_a_cell_in_its_row(text):
    escaped = tables.markdown_escaped(text)
    assert re.sub(r"\\(.)", r"\1", escaped) == " ".join(text.split())
    assert not re.search(r"(?<!\\)(?:\\\\)*[|*_`<\[]", escaped)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"kind": "word"}, "unknown table 'word'"),
        ({"columns": "distence"}, "unknown column 'distence'.*distance"),
        ({"methods": "nero"}, "unknown method of these runs 'nero'.*near"),
        ({"levels": "9"}, "no run has a level of 9 copies: choose among 4"),
        ({"levels": "many"}, "is not understood"),
    ],
)
def test_unknown_names_list_the_valid_ones(folder, asked, message):
    write_rows(folder, rows_of(DISTANCES))
    with pytest.raises(InputError, match=message):
        reports.table_text([folder], **({"kind": "csv"} | asked))


def test_command_prints_or_writes(folder, tmp_path, capsys):
    write_rows(folder, rows_of(DISTANCES))
    report_command.run(report_command.Args(runs=[folder], table="markdown"))
    printed = capsys.readouterr().out
    report_command.run(report_command.Args(runs=[folder], table="markdown", out=tmp_path / "t.md"))
    assert (tmp_path / "t.md").read_text() == printed and "| near |" in printed
    with pytest.raises(InputError, match="--figure and --table are both given"):
        report_command.run(report_command.Args(runs=[folder], table="csv", figure=tmp_path / "a.pdf"))
    with pytest.raises(InputError, match="no run is given"):
        report_command.run(report_command.Args(runs=[]))
    with pytest.raises(InputError, match="add --table"):
        report_command.run(report_command.Args(runs=[folder], methods="near"))


def test_other_kinds_of_runs_are_refused_in_one_sentence(tmp_path):
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(InputError, match=r"is a sweep \(unlearn-jax sweep\), and only studies"):
        reports.table_text([tmp_path], "csv")
    (tmp_path / "sweep.json").unlink()
    (tmp_path / "manifest.json").write_text(json.dumps({"status": "running", "config": {}}))
    with pytest.raises(InputError, match="nothing to show yet"):
        reports.table_text([tmp_path], "csv")


def test_an_unfinished_run_says_how_far_it_is(told):
    lines, chosen = told()
    half = lines[0].run._replace(run=lines[0].run.run._replace(unfinished="Unfinished: 1 of 2 levels are done."))
    text = tables.as_markdown([line._replace(run=half) for line in lines], chosen, {})
    assert "run: Unfinished: 1 of 2 levels are done." in text and "Unfinished" not in tables.caption(lines, chosen)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex here")
def test_latex_compiles(told, tmp_path):
    hostile = "\\a{b}$c&d#e%f_g^h~i<j>k|l\"m`n'o[p]q--r''s−t"
    lines, chosen = told(DISTANCES | {hostile: (0.3, 0.1, 1)}, names=",".join(columns.COLUMNS))
    table = tables.as_latex(lines, chosen, {"run": "python"})
    source = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n" + table + "\\end{document}\n"
    (tmp_path / "t.tex").write_text(source, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"], cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0 and (tmp_path / "t.pdf").stat().st_size > 5_000

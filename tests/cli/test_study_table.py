"""The rows that a study prints: all of a short one, ten of a long one, sorted."""

import pytest
from made_runs import METHODS, fake_run

from unlearn_jax.cli.study import headline
from unlearn_jax.cli.study_table import ALL, MANY, table_of
from unlearn_jax.reports import read_run


def rows(lines):
    return [line.split() for line in lines if line[:6].strip().isdecimal()]


def distance(row):
    return float(row[6])


def test_a_short_study_has_every_row_in_the_order_of_its_file(tmp_path):
    run = read_run(fake_run(tmp_path / "run", levels=(0, 4)))
    found = rows(table_of(run))
    assert len(found) == 2 * (4 + len(METHODS)) <= ALL
    assert [row[0] for row in found] == sorted(row[0] for row in found)


def test_a_long_study_has_the_ten_that_matter_and_says_where_the_rest_is(tmp_path):
    run = read_run(fake_run(tmp_path / "run", levels=(0, 1, 4, 8)))
    lines = table_of(run)
    found = rows(lines)
    every = 4 * (4 + len(METHODS))
    assert every > ALL and len(found) == MANY and {row[0] for row in found} == {"8"}
    assert [row[2] for row in found[:4]] == ["original", "retrain", "placebo", "dedup"]
    methods = [row for row in found[4:] if row[2] != "gradient_ascent"]
    assert [distance(row) for row in methods] == sorted(distance(row) for row in methods)
    assert lines[-2].startswith(f"{MANY} of {every} rows") and "summary.csv" in lines[-1]


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_has_lines_that_fit(width, tmp_path):
    run = fake_run(tmp_path / "run", levels=(0, 1, 4, 8))
    found, plain = headline(run, width).splitlines()[:-1], headline(run).splitlines()
    told = [line for line in found if "diverged" not in line]
    assert max(map(len, told)) <= width
    assert [row[:3] for row in rows(found)] == [row[:3] for row in rows(plain)]

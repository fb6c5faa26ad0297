"""Tables: one schema, numbers that come back, and tables of earlier versions under today's names."""

import math

import pytest
from pyarrow import parquet

from unlearn_jax.results.tables import FIGURES, KEYS, read_csv, row_of, write_csv, write_parquet

ROW = row_of({"dataset": "digits", "copies": 4, "gamma": 0.2, "method": "scrub", "metric": "klom", "variant": "closed"})


def test_a_figure_comes_back_from_both_files(tmp_path):
    rows = [ROW | dict(zip(FIGURES, (0.1 + 0.2, 0.1, math.inf, math.nan, 1e-300, 8)))]
    write_csv(tmp_path / "t.csv", (*KEYS, *FIGURES), rows)
    write_parquet(tmp_path / "t.parquet", (*KEYS, *FIGURES), rows)
    (text,), (numbers,) = read_csv(tmp_path / "t.csv"), parquet.read_table(tmp_path / "t.parquet").to_pylist()
    for name in FIGURES:
        assert float(text[name]) == rows[0][name] or math.isnan(rows[0][name])
        assert numbers[name] == rows[0][name] or math.isnan(numbers[name])
    assert (numbers["copies"], numbers["remedy"], text["remedy"]) == (4, "", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.csv", "t.parquet"]
    write_parquet(tmp_path / "t.parquet", KEYS, [row_of({"dataset": "own logits"})])
    assert parquet.read_table(tmp_path / "t.parquet").to_pylist()[0]["copies"] is None


def test_tables_of_earlier_versions_are_read_under_todays_names(tmp_path):
    (tmp_path / "old.csv").write_text("method,metric,mean,ci_low\nscrub,margin,1.5,1\n")
    assert read_csv(tmp_path / "old.csv") == [{"method": "scrub", "metric": "margin", "value": "1.5", "ci_low": "1"}]


def test_a_line_that_is_cut_off_and_an_unknown_key_are_faults(tmp_path):
    (tmp_path / "cut.csv").write_text("method,metric,value\nscrub,margin\n")
    with pytest.raises(ValueError, match="cut off"):
        read_csv(tmp_path / "cut.csv")
    with pytest.raises(ValueError, match="methd"):
        row_of({"methd": "scrub"})

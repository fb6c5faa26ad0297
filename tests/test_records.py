"""Records: lines that can be read while a study runs, tables written whole or not at all."""

import csv
import json

import numpy as np
import pytest
from pyarrow import parquet

from unlearn_jax.metrics import Estimate
from unlearn_jax.records import FIGURES, KEYS, Recorder, environment, write_json, write_whole

BASE = {"dataset": "digits", "copies": 4, "gamma": 0.2, "method": "scrub", "metric": "accuracy", "split": "test"}


def read_lines(folder):
    """The finished lines of records.jsonl."""
    text = (folder / "records.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


@pytest.fixture
def recorder(tmp_path):
    """A recorder with one figure and the values of three members, one not serving the request."""
    made = Recorder(tmp_path)
    made.figure(BASE, Estimate(0.5, 0.4, 0.6, 0.45, 0.55, 2))
    made.member_values(BASE, [0.25, None, float("nan")])
    made.figure(BASE | {"metric": "seconds"}, 1.5, n=3)
    yield made
    made.close()


def test_lines_can_be_read_while_the_study_runs(recorder, tmp_path):
    recorder.flush()
    lines = read_lines(tmp_path)
    assert len(lines) == 6
    assert lines[0] == dict.fromkeys(KEYS, "") | BASE | dict(zip(FIGURES, (0.5, 0.4, 0.6, 0.45, 0.55, 2)))
    assert [line["member"] for line in lines if "member" in line] == [-1, 0, 2, -1]
    recorder.figure(BASE, 2.0)
    recorder.flush()
    assert len(read_lines(tmp_path)) == 8
    assert sorted(p.name for p in tmp_path.iterdir()) == ["records.jsonl"]


def test_even_between_flushes_only_the_last_line_can_be_unfinished(tmp_path):
    recorder = Recorder(tmp_path)
    for number in range(500):
        recorder.figure(BASE, float(number))
    found = read_lines(tmp_path)
    assert 0 < len(found) < 1000
    assert [line["mean"] for line in found if "mean" in line] == [float(i) for i in range((len(found) + 1) // 2)]
    recorder.close()
    assert len(read_lines(tmp_path)) == 1000


def test_tables_hold_the_keys_then_the_figures(recorder, tmp_path):
    recorder.finish()
    table = parquet.read_table(tmp_path / "results.parquet")
    assert table.column_names == [*KEYS, "member", "value"]
    rows = table.to_pylist()
    assert [(r["member"], r["metric"]) for r in rows] == [
        (-1, "accuracy"), (0, "accuracy"), (2, "accuracy"), (-1, "seconds")
    ]  # fmt: skip
    np.testing.assert_array_equal([r["value"] for r in rows], [0.5, 0.25, np.nan, 1.5])
    assert rows[0]["copies"] == 4 and rows[0]["gamma"] == 0.2 and rows[0]["remedy"] == ""
    with (tmp_path / "summary.csv").open() as file:
        found = list(csv.DictReader(file))
    assert list(found[0]) == [*KEYS, *FIGURES] and len(found) == 2
    assert [found[0][name] for name in FIGURES] == ["0.5", "0.4", "0.6", "0.45", "0.55", "2"]
    assert [found[1][name] for name in FIGURES] == ["1.5", "nan", "nan", "nan", "nan", "3"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["records.jsonl", "results.parquet", "summary.csv"]


def test_a_key_that_no_table_has_is_refused(recorder):
    with pytest.raises(ValueError, match="spilt"):
        recorder.figure(BASE | {"spilt": "test"}, 1.0)


def test_an_exception_leaves_the_old_file_and_nothing_half_written(tmp_path):
    path = tmp_path / "table.csv"
    write_whole(path, lambda p: p.write_text("old"))

    def fail(part):
        part.write_text("half")
        raise RuntimeError("out of space")

    with pytest.raises(RuntimeError):
        write_whole(path, fail)
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["table.csv"]
    write_whole(path, lambda p: p.write_text("new"))
    assert path.read_text() == "new"


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path):
    path, seen = tmp_path / "a.json", []
    write_json(path, {"a": 1})

    def write(part):
        part.write_text("{}")
        seen.append(path.read_text())

    write_whole(path, write)
    assert json.loads(seen[0]) == {"a": 1} and path.read_text() == "{}"


def test_json_holds_what_is_not_plain(tmp_path):
    write_json(tmp_path / "a.json", {"path": tmp_path, "number": np.float64(1.5)})
    assert json.loads((tmp_path / "a.json").read_text())["path"] == str(tmp_path)


def test_environment_names_versions_device_and_commit():
    found = environment()
    assert {"python", "jax", "flax", "optax", "numpy"} <= set(found["versions"])
    assert found["device"].startswith("cpu") and found["devices"] == 4
    assert isinstance(found["git_commit"], str)

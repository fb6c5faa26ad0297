"""Records: lines that can be read while a study runs, tables written whole or not at all."""

import csv
import errno
import json

import numpy as np
import pytest
from pyarrow import parquet

from unlearn_jax.metrics import Estimate
from unlearn_jax.results import recorder as records
from unlearn_jax.results.recorder import Recorder, environment, write_json
from unlearn_jax.results.tables import FIGURES, KEYS
from unlearn_jax.runtime.disk import write_whole

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
    assert [line["value"] for line in found if "member" not in line] == [float(i) for i in range((len(found) + 1) // 2)]
    recorder.close()
    assert len(read_lines(tmp_path)) == 1000


def remade(folder, values):
    """A recorder that makes these rows again, or anew, in a folder."""
    made = Recorder(folder)
    for value in values:
        made.figure(BASE, float(value))
    return made


def means(folder):
    return [line["value"] for line in read_lines(folder) if "member" not in line]


def test_a_run_that_goes_on_writes_no_row_twice(tmp_path):
    remade(tmp_path, range(5)).close()
    before = (tmp_path / "records.jsonl").read_bytes()
    again = remade(tmp_path, range(3))
    assert (tmp_path / "records.jsonl").read_bytes() == before  # also before it has come so far again
    again.flush()
    assert (tmp_path / "records.jsonl").read_bytes() == before
    for value in (3, 4, 5, 6):
        again.figure(BASE, float(value))
    again.close()
    assert means(tmp_path) == list(range(7)) and (tmp_path / "records.jsonl").read_bytes().startswith(before)


@pytest.mark.parametrize("values, flushed", [([0, 1, 20], [0, 1, 20]), ([0, 1], [0, 1, 2, 3, 4])])
def test_rows_that_differ_take_the_place_of_earlier_ones_and_those_made_no_more_go_at_the_end(
    values, flushed, tmp_path
):
    remade(tmp_path, range(5)).close()
    again = remade(tmp_path, values)
    again.flush()
    assert means(tmp_path) == flushed
    again.finish()
    assert means(tmp_path) == values


@pytest.mark.parametrize("lost", [1, 30, 400])
def test_a_line_that_was_cut_off_is_completed(lost, tmp_path):
    remade(tmp_path, range(5)).close()
    whole = (tmp_path / "records.jsonl").read_bytes()
    (tmp_path / "records.jsonl").write_bytes(whole[:-lost])
    again = remade(tmp_path, range(5))
    again.close()
    assert (tmp_path / "records.jsonl").read_bytes() == whole


def test_a_full_disk_leaves_whole_lines(tmp_path, monkeypatch):
    recorder, real = remade(tmp_path, range(3)), records._write_all
    recorder.flush()

    class Small:
        """A file that takes 100 bytes and then no more."""

        def __init__(self, file):
            self.file, self.tell, self.truncate = file, file.tell, file.truncate

        def write(self, block):
            if len(block) < 300:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(block[:100])

    monkeypatch.setattr(records, "_write_all", lambda file, block: real(Small(file), block))
    recorder.figure(BASE, 3.0)
    with pytest.raises(OSError, match="No space left"):
        recorder.flush()
    recorder.close()
    assert means(tmp_path) == [0, 1, 2] and (tmp_path / "records.jsonl").read_bytes().endswith(b"\n")


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
    seen = []
    write_whole(path, lambda p: p.write_text("new") and seen.append(path.read_text()))
    assert seen == ["old"] and path.read_text() == "new"  # the old one stands until the new one is whole


def test_environment_names_versions_device_and_commit_and_json_holds_what_is_not_plain(tmp_path):
    found = environment()
    assert {"python", "jax", "flax", "optax", "numpy"} <= set(found["versions"])
    assert found["device"].startswith("cpu") and found["devices"] == 4
    assert isinstance(found["git_commit"], str)
    write_json(tmp_path / "a.json", {"path": tmp_path, "number": np.float64(1.5)})
    assert json.loads((tmp_path / "a.json").read_text())["path"] == str(tmp_path)


def test_nothing_is_written_through_a_link(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / ".table.csv-part").symlink_to(tmp_path / "thesis.tex")
    write_whole(tmp_path / "table.csv", lambda p: p.write_text("new"))
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    assert (tmp_path / "table.csv").read_text() == "new" and not (tmp_path / "table.csv").is_symlink()

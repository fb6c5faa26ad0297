"""The speed bench: two steps from the command to its table, and bad input refused before anything is measured."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "experiments"))

import _bench_audits as audit_bench
import _bench_influence as influence_bench
import _bench_neighbours as neighbours_bench
import bench
import toy

from unlearn_jax.errors import InputError


def test_two_steps_give_a_row_for_each_size(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "use_every_core", lambda: None)
    args = bench.Args(models="linear", members="1,2", steps=2, batch=8, json=tmp_path / "speed.json")
    bench.run(args)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[-2:]] == [["linear", "1"], ["linear", "2"]]
    rows = json.loads((tmp_path / "speed.json").read_text())["rows"]
    assert [row["members"] for row in rows] == [1, 2]
    for row in rows:
        assert (
            row["samples_per_second"] > 0 and row["loop_samples_per_second"] == rows[0]["loop_samples_per_second"] > 0
        )
        assert row["compile_seconds"] >= 0 and row["loop_compile_seconds"] > 0


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"members": "0"}, "--members is '0'"),
        ({"members": ""}, "--members is ''"),
        ({"steps": -3}, "--steps is -3"),
        ({"batch": 0}, "--batch is 0"),
        ({"chunk": -1}, "--chunk is -1"),
        ({"models": "mlp,nope"}, "unknown model 'nope'"),
        ({"axis": "side"}, "unknown axis 'side'"),
        ({"json": Path("/proc/none/speed.json")}, "another --json"),
    ],
)
def test_bad_input_is_refused_before_anything_is_measured(changes, said, monkeypatch):
    monkeypatch.setattr(bench, "make_problem", None)
    with pytest.raises(InputError, match=said):
        bench.run(bench.Args(**changes))


def test_metrics_of_audits_are_timed_and_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "use_every_core", lambda: None)
    called = []
    few = lambda: [audit_bench.Case("klom", "none", 2.0, lambda: called.append(1))]
    monkeypatch.setattr(audit_bench, "cases", few)
    bench.run(bench.Args(audits=True, json=tmp_path / "speed.json"))
    assert len(called) == audit_bench.REPEATS + 1
    (row,) = json.loads((tmp_path / "speed.json").read_text())["rows"]
    assert (row["metric"], row["seconds"] >= 0) == ("klom", True)
    assert "klom" in capsys.readouterr().out.splitlines()[-1]


def test_estimators_of_influence_are_timed_and_written(tmp_path, monkeypatch, capsys):
    for name, small in (("REPEATS", 1), ("TRAIN", 24), ("QUERIES", 4)):
        monkeypatch.setattr(influence_bench, name, small)
    every, few = influence_bench.digits, lambda: tuple(part[:64] for part in every())
    monkeypatch.setattr(influence_bench, "digits", few)
    monkeypatch.setattr(influence_bench, "one_core", lambda: None)
    with toy.quick_programs():
        bench.run(bench.Args(influence=True, json=tmp_path / "speed.json"))
    rows = json.loads((tmp_path / "speed.json").read_text())["rows"]
    names = {row["estimator"] for row in rows}
    assert {"influence, exact", "influence, CG", "EK-FAC", "TRAK", "gradient products"} <= names
    assert len({(row["estimator"], row["size"]) for row in rows}) == len(rows)
    assert all(row["first_seconds"] > 0 and row["seconds"] > 0 for row in rows)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[-len(rows) :]] == [row["estimator"] for row in rows]


def test_searches_are_timed_and_both_ways_agree(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(neighbours_bench, "SIZE", 300)
    monkeypatch.setattr(neighbours_bench, "REPEATS", 1)
    bench.run(bench.Args(neighbours=True, json=tmp_path / "speed.json"))
    rows = json.loads((tmp_path / "speed.json").read_text())["rows"]
    assert [row["flops"] for row in rows] == [2 * 300 * 300 * 192] * 3
    assert all(row["seconds"] > 0 for row in rows)
    _, device, plain = (case.call() for case in neighbours_bench.cases())
    assert (device.rows == plain).all()

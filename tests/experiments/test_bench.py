"""The speed bench: two steps from the command to its table, and bad input refused before anything is measured."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "experiments" / "bench"))

import _audits as audit_bench
import _influence as influence_bench
import _neighbours as neighbours_bench
import _populations as populations
import _spread as spread
import speed as bench
import toy

from unlearn_jax.cli.common import Hosts
from unlearn_jax.errors import InputError
from unlearn_jax.types import Population


def small(monkeypatch, **cases):
    monkeypatch.setattr(bench, "use_every_core", lambda: None)
    monkeypatch.setattr(populations, "REPEATS", 1)
    monkeypatch.setitem(populations.SIDE, "cpu", 32)
    monkeypatch.setattr(populations, "CASES", cases)


@pytest.mark.parametrize("cases", ["tiny", pytest.param("tiny,words", marks=pytest.mark.slow)])
def test_two_steps_give_a_row_for_each_size_and_a_comparison_the_next_time(cases, tmp_path, monkeypatch, capsys):
    tiny = populations.Case("linear", (8, 8, 1), {}, 8, 2, (1, 2))
    words = populations.Case("decoder", (4,), {"width": 8, "depth": 1, "heads": 2}, 4, 2, (2,), vocab=16)
    small(monkeypatch, tiny=tiny, words=words)
    with toy.quick_programs():
        bench.run(bench.Args(cases=cases, save=tmp_path / "speed.json"))
    lines = capsys.readouterr().out.splitlines()
    sizes = [("tiny", 1, "samples"), ("tiny", 2, "samples"), ("words", 2, "tokens")][: 2 + ("words" in cases)]
    assert [line.split()[:2] for line in lines[-len(sizes) :]] == [[name, str(n)] for name, n, _ in sizes]
    rows = json.loads((tmp_path / "speed.json").read_text())["rows"]
    assert [(row["case"], row["members"], row["unit"]) for row in rows] == sizes
    for row in rows:
        assert row["per_second"] > 0 and row["ratio"] == row["per_second"] / row["loop_per_second"]
        assert row["compile_seconds"] >= 0 and row["loop_compile_seconds"] > 0
        peak = rows[0]["flops_per_second"] / rows[0]["share_of_peak"]
        assert row["flops_per_second"] > 0 and row["share_of_peak"] == pytest.approx(row["flops_per_second"] / peak)
    half = [row | {"per_second": row["per_second"] / 2} for row in rows]
    assert [said.split(": ")[1].split()[0] for said in bench.changes(rows, half)] == ["2.00"] * len(sizes)
    assert bench.changes(rows, [row | {"members": 99} for row in rows]) == []


def test_speed_and_work_of_a_row_follow_from_its_sizes(monkeypatch):
    words = populations.Case("decoder", (4,), {"width": 8, "depth": 1, "heads": 2}, 4, 2, (2,), vocab=16)
    small(monkeypatch, words=words)
    built = populations.build(words, "float32", 3, 5)
    assert built.problem.recipe.steps == 3 and built.problem.recipe.batch == 5
    monkeypatch.setattr(populations, "population", lambda *_: lambda seed: Population(None, None, 0.5, 0.0))
    row = populations.measure("words", 2, built, None, bench.Args(), 1e9)
    assert row["per_second"] == 3 * 5 * 4 / 0.5 and "ratio" not in row
    assert row["flops_per_second"] == 3 * built.flops * 3 * 5 / 0.5 == row["share_of_peak"] * 1e9


def test_times_are_compared_the_right_way_round():
    row = {"metric": "klom", "size": "few", "seconds": 2.0}
    assert bench.changes([row], [row | {"seconds": 4.0}]) == ["klom few: 2.00 times as fast as the last time"]


@pytest.mark.parametrize("text", ["", "[]", '{"rows": 3}', '{"rows": [3]}'])
def test_a_file_that_no_bench_wrote_is_refused(text, tmp_path):
    (tmp_path / "notes.json").write_text(text)
    with pytest.raises(InputError, match="no table of this script"):
        bench.run(bench.Args(save=tmp_path / "notes.json"))
    assert (tmp_path / "notes.json").read_text() == text


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"members": "0"}, "--members is '0'"),
        ({"members": ","}, "--members is ','"),
        ({"steps": -3}, "--steps is -3"),
        ({"batch": -1}, "--batch is -1"),
        ({"chunk": -1}, "--chunk is -1"),
        ({"cases": "mlp,nope"}, "unknown case 'nope'"),
        ({"cases": " "}, "--cases is empty"),
        ({"axis": "side"}, "unknown axis 'side'"),
        ({"dtype": "float8"}, "unknown dtype 'float8'"),
        ({"save": Path("/proc/none/speed.json")}, "another --save"),
        ({"spread": True, "data_devices": 2}, "--spread goes through"),
        ({"spread": True, "hosts": Hosts("auto")}, "--spread goes through"),
    ],
)
def test_bad_input_is_refused_before_anything_is_measured(changes, said, monkeypatch):
    monkeypatch.setattr(populations, "build", None)
    monkeypatch.setattr(populations, "peak", None)
    with pytest.raises(InputError, match=said):
        bench.run(bench.Args(**changes))


def test_metrics_of_audits_are_timed_and_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "use_every_core", lambda: None)
    called = []
    few = lambda: [audit_bench.Case("klom", "none", 2.0, lambda: called.append(1))]
    monkeypatch.setattr(audit_bench, "cases", few)
    bench.run(bench.Args(audits=True, save=tmp_path / "speed.json"))
    assert len(called) == audit_bench.REPEATS + 1
    (row,) = json.loads((tmp_path / "speed.json").read_text())["rows"]
    assert (row["metric"], row["seconds"] >= 0) == ("klom", True)
    assert "klom" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.slow
def test_estimators_of_influence_are_timed_and_written(tmp_path, monkeypatch, capsys):
    for name, small in (("REPEATS", 1), ("TRAIN", 24), ("QUERIES", 4)):
        monkeypatch.setattr(influence_bench, name, small)
    every, few = influence_bench.digits, lambda: tuple(part[:64] for part in every())
    monkeypatch.setattr(influence_bench, "digits", few)
    monkeypatch.setattr(influence_bench, "one_core", lambda: None)
    with toy.quick_programs():
        bench.run(bench.Args(influence=True, save=tmp_path / "speed.json"))
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
    bench.run(bench.Args(neighbours=True, save=tmp_path / "speed.json"))
    rows = json.loads((tmp_path / "speed.json").read_text())["rows"]
    assert [row["flops"] for row in rows] == [2 * 300 * 300 * 192] * 3
    assert all(row["seconds"] > 0 for row in rows)
    _, device, plain = (case.call() for case in neighbours_bench.cases())
    assert (device.rows == plain).all()


@pytest.mark.parametrize(
    "have, layouts",
    [
        (2, [(1, 1, 1), (1, 2, 1), (1, 2, 2), (2, 1, 1)]),
        (3, [(1, 1, 1), (1, 2, 1), (1, 3, 1)]),
        (8, [(1, 1, 1), (1, 2, 1), (1, 4, 1), (1, 8, 1), (1, 8, 2), (2, 4, 1)]),
    ],
)
def test_layouts_use_one_device_then_more_then_members_in_halves_and_two_processes(have, layouts):
    assert [tuple(layout) for layout in spread.layouts(have)] == layouts


def test_layouts_are_compared_with_one_device(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(spread, "available", lambda: ("cpu", 2))
    where = {"device": "cpu, 2 cores", "versions": {"jax": "0"}}
    speeds = iter([100.0, 180.0, 60.0, 150.0])
    row = lambda name, layout: {"case": name, "members": 8, "per_second": next(speeds), "compile_seconds": 1.0}
    told = lambda name, layout, *_: (
        where,
        row(name, layout) | dict(zip(("processes", "devices"), layout), data_devices=1),
    )
    monkeypatch.setattr(spread, "_measured", told)
    bench.run(bench.Args(spread=True, cases="mlp", save=tmp_path / "speed.json"))
    kept = json.loads((tmp_path / "speed.json").read_text())
    assert [r["speedup"] for r in kept["rows"]] == [1.0, 1.8, 0.6, 1.5] and kept["device"] == "cpu, 2 cores"
    assert [line.split()[6] for line in capsys.readouterr().out.splitlines()[1:5]] == ["1.00", "1.80", "0.60", "1.50"]


@pytest.mark.parametrize("found", [("cpu", 1), ("tpu", 4)])
def test_spread_needs_devices_that_processes_can_share_out(found, monkeypatch):
    monkeypatch.setattr(spread, "available", lambda: found)
    with pytest.raises(InputError, match="needs several CPU cores or GPUs"):
        bench.run(bench.Args(spread=True))


@pytest.mark.slow
def test_two_processes_and_split_members_are_measured(tmp_path):
    args = bench.Args(spread=True, cases="mlp", steps=2, members="2", save=tmp_path / "speed.json")
    where, rows = spread.measure(args)
    assert [(r["processes"], r["devices"], r["data_devices"]) for r in rows][-1] == (2, rows[-1]["devices"], 1)
    assert all(r["per_second"] > 0 for r in rows) and where["versions"]["jax"]

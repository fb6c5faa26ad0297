"""One tiny sweep, whole: what it writes, what it may look at, its page, and a study with its preset."""

import csv
import json
import math
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import toy

from unlearn_jax import reports
from unlearn_jax.errors import InputError
from unlearn_jax.population import run as runner
from unlearn_jax.reports import sweep_figures
from unlearn_jax.reports.sweep_page import render_sweep
from unlearn_jax.studies import influence_share
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.run import run_study
from unlearn_jax.studies.setup import Watch
from unlearn_jax.sweeps import SweepConfig, run_sweep
from unlearn_jax.sweeps.config import study_of
from unlearn_jax.sweeps.rules import RULES
from unlearn_jax.sweeps.selection import select

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
STUDY = StudyConfig(
    train_size=150, test_size=60, num_targets=4, steps=20, copies="1", resamples=50, targets="random",
    hp=("lr=log:1e-2:100", "weight_decay=1e-4,.01"),
)  # fmt: skip
CHUNK = 4  # members in a program: one program for all lengths
SWEEP = SweepConfig(method="finetune", seeds=3, draw="sobol", draws=4, halving=2, rungs=2)


@pytest.fixture(scope="module")
def trained():
    """Members of each chunk that is trained, counted from the first test on."""
    counted, train = [], runner.train_chunk
    with pytest.MonkeyPatch.context() as patch, toy.quick_programs():

        def count(program, plan, member, *rest):
            counted.append(member.key.shape[0])
            return train(program, plan, member, *rest)

        patch.setattr(runner, "train_chunk", count)
        patch.setattr(influence_share, "MEMBERS", 1)
        yield counted


@pytest.fixture(scope="module")
def swept(tmp_path_factory, trained):
    stages, out = [], tmp_path_factory.mktemp("sweeps") / "sweep"
    watch = noting(stages)
    assert run_sweep(SWEEP, STUDY, out, watch=watch, command="python <sweep>.py", chunk=CHUNK) == out
    return out, stages


def noting(stages):
    return Watch(stage=lambda label, members: stages.append((label, members)))


def told_of(out):
    with (out / "summary.csv").open() as file:
        return json.loads((out / "sweep.json").read_text()), list(csv.DictReader(file))


def test_settings_run_as_one_population_at_each_length(swept):
    out, stages = swept
    told, rows = told_of(out)
    kept = len(told["rungs"][1]["run"])
    assert stages == [("original", 3), ("oracle", 3), ("finetune epochs=5", 15), ("finetune", 3 * kept)]
    assert [r["share"] for r in told["rungs"]] == [0.5, 1.0] and len(told["rungs"][0]["run"]) == 5  # 4 and the defaults
    assert told["rungs"][0]["kept"] == told["rungs"][1]["run"] and 3 <= kept < 5
    assert {r["budget"] for r in rows} == {"epochs=5", ""} and {r["method"] for r in rows} == {"finetune"}
    whole = {one["setting"] for one in told["settings"] if one["share"] == 1.0}
    assert whole == {r["setting"] for r in rows if r["budget"] == ""} and len(whole) == kept
    assert all(1e-2 <= one["values"]["lr"] <= 100 for one in told["settings"])


def test_the_cost_is_that_of_the_runs(swept):
    told, rows = told_of(swept[0])
    spent = sum(3 * float(r["value"]) for r in rows if r["metric"].startswith("grad_evals"))
    assert told["cost"]["grad_evals"] == pytest.approx(spent) == sum(r["cost"] for r in told["rungs"])
    assert spent == pytest.approx(sum(one["grad_evals"] for one in told["settings"]))
    one = told["settings"][0]["grad_evals"] - told["rungs"][0]["cost"] / 5  # its run at the whole length, or none
    assert told["cost"]["without_halving"] == pytest.approx(5 * one, rel=0.2) or one == 0


def test_choices_do_not_look_at_the_oracle_and_the_regret_is_told(swept, unsaved):
    out, _ = swept
    told, rows = told_of(out)
    last = [r for r in rows if r["budget"] == ""]
    blind = [r for r in last if r["reference"] == ""]
    turned = [r | ({"value": "0.5"} if r["reference"] else {}) for r in last]
    assert told["identifiable"] is False and "not identifiable" in render_sweep(
        reports.read_sweep(out)
    )  # of three seeds
    for rule in RULES:
        own = told["choices"][rule]
        assert own["setting"] == select(blind, "finetune", False)[rule]["setting"]
        assert own["setting"] == select(turned, "finetune", True)[rule]["setting"]
        distance = {r["setting"]: float(r["value"]) for r in last if r["metric"] == "residual_distance"}
        assert own["distance"] == distance[own["setting"]]
        assert (
            own["regret"] == pytest.approx(own["distance"] - told["choices"]["oracle"]["distance"])
            and own["regret"] >= 0
        )
    assert told["choices"]["oracle_any"]["distance"] == min(distance.values())


def test_differences_of_distances_are_paired(swept):
    told, _ = told_of(swept[0])
    best, found = told["choices"]["oracle"]["setting"], {one["setting"]: one for one in told["settings"]}
    for name, one in found.items():
        if one["share"] < 1:  # dropped
            assert one["distance"] is one["nearer"] is one["regret"] is None
            continue
        value, low, high = one["regret"]
        assert value == pytest.approx(one["distance"] - found[best]["distance"]) and low <= value <= high
        if name == best:
            assert one["regret"] == [0.0, 0.0, 0.0]  # the same draws twice
        usual = found[""]
        if usual["share"] == 1:
            assert one["nearer"][0] == pytest.approx(usual["distance"] - one["distance"])
        else:
            assert one["nearer"] is None


def test_a_sweep_that_is_repeated_trains_nothing_and_another_is_refused(swept, trained):
    out, _ = swept
    before = len(trained)
    first = told_of(out)[1]
    run_sweep(SWEEP, STUDY, out, command="python <sweep>.py", chunk=CHUNK)
    assert len(trained) == before and told_of(out)[1] == first
    with pytest.raises(InputError, match="holds another sweep"):
        run_sweep(SweepConfig(**{**SWEEP.__dict__, "seeds": 4}), STUDY, out)
    with pytest.raises(InputError, match="something else than a sweep"):
        run_sweep(SWEEP, STUDY, out.parent / "populations")


def test_without_the_oracle_nothing_but_originals_is_trained(swept, trained, tmp_path, unsaved):
    out, stages = swept[0], []
    quick = SweepConfig(**{**SWEEP.__dict__, "oracle": False, "halving": 0, "defaults": False})
    before = len(trained)
    run_sweep(quick, STUDY, tmp_path / "blind", store=out.parent / "populations", watch=noting(stages), chunk=CHUNK)
    assert stages == [("original", 3), ("finetune", 12)]
    told, rows = told_of(tmp_path / "blind")
    assert set(told["choices"]) == set(RULES) and not any(r["reference"] for r in rows)
    assert set(trained[before:]) == {CHUNK}  # the originals came from the store
    page = reports.write_sweep_page(tmp_path / "blind").read_text()
    assert "without the oracle" in page and "residual distance (oracle)" not in page


def test_a_study_takes_the_preset(swept, trained):
    out, _ = swept
    told, rows = told_of(out)
    preset = json.loads((out / "preset.json").read_text())
    chosen = told["choices"]["margins"]["setting"]
    values = next(one["values"] for one in told["settings"] if one["setting"] == chosen)
    assert preset["methods"] == {"finetune": values} and preset["about"]["dataset"] == "digits"
    before = len(trained)
    study = StudyConfig(
        **{**STUDY.__dict__, "hp": (), "methods": "finetune", "members": 3, "presets": str(out / "preset.json")}
    )
    run = run_study(study, out.parent / "study", chunk=CHUNK)
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["presets"]["name"] == "preset" and manifest["asked"]["presets"] == ""
    assert (
        manifest["asked"]["hp"] == manifest["presets"]["settings"] == [f"finetune.{k}={v}" for k, v in values.items()]
    )
    with (run / "summary.csv").open() as file:
        own = [r for r in csv.DictReader(file) if r["method"] == "finetune" and r["request"] == "all"]
    figure = lambda rows, metric: [float(r["value"]) for r in rows if r["metric"] == metric and r["budget"] == ""]
    mine = [r for r in rows if r["setting"] == chosen]
    for metric in ("residual_distance", "heldout_margin_error", "request_margin_gap"):
        np.testing.assert_allclose(figure(own, metric), figure(mine, metric), rtol=1e-3, atol=1e-3)
    assert len(trained) - before == 4  # retrain, placebo, dedup and the method: original and oracle were there


def test_the_page_is_whole_and_escaped(swept, unsaved):
    out, _ = swept
    page = reports.write_sweep_page(out)
    text = page.read_text()
    assert page == out / "sweep.html" and "python &lt;sweep&gt;.py" in text and "<sweep>" not in text
    sections = re.findall(r'<section id="(\w+)">', text)
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(re.findall(r' id="([^"]+)"', text))
    assert sections == ["choices", "parallel", "response", "rungs", "settings", "words", "reproduce"]
    assert "http" not in re.sub(r"http://www.w3.org/\S*", "", text)
    sweep = reports.read_sweep(out)
    drawn = sweep_figures.parallel_figure(sweep).axes[0]
    ticks = [tick.get_text().replace("\n", " ") for tick in drawn.get_xticklabels()]
    assert ticks == ["lr", "weight_decay", "score by margins", "residual distance"]
    assert len(drawn.lines) >= len(sweep.whole) + len(sweep_figures.marks_of(sweep)) + 4
    with pytest.raises(InputError, match="there is no sweep"):
        reports.write_sweep_page(out.parent)
    broken = out.parent / "broken"
    broken.mkdir()
    (broken / "sweep.json").write_text(json.dumps({"kind": "sweep", "status": "running"}))
    with pytest.raises(InputError, match="run unlearn-jax sweep again"):
        reports.write_sweep_page(broken)


def test_figures_take_settings_without_an_order(swept):
    read = reports.read_sweep(swept[0])
    named = [
        one | {"values": one["values"] | {"weight_decay": [5, 8] if n % 2 else [6]}}
        for n, one in enumerate(read.told["settings"])
    ]
    listed = read._replace(told=read.told | {"settings": named})
    assert sweep_figures.scale_of(listed, "weight_decay") == "list" and sweep_figures.scale_of(listed, "lr") == "log"
    texts = [text.get_text() for text in sweep_figures.parallel_figure(listed).axes[0].texts]
    assert {"5+8", "6"} & set(texts)
    assert sweep_figures.ordered_names(listed) == ["lr"] and not sweep_figures.pairs_of(listed)
    assert 'id="response-lr-w' in render_sweep(listed) and len(sweep_figures.response_figure(listed, "lr").axes) == 2
    bounds = [one | {"values": one["values"] | {"lr": [math.inf, 10.0, 9.0][n % 3]}} for n, one in enumerate(named)]
    free = listed._replace(told=read.told | {"settings": bounds})  # no bound is a list's last entry
    texts = [text.get_text() for text in sweep_figures.parallel_figure(free).axes[0].texts]
    rates = [text for text in texts if text in ("9.0", "10.0", "inf")]
    assert rates == sorted(rates, key=float) and len(rates) > 1 and "<svg" in render_sweep(free)
    assert sweep_figures.scale_of(free, "lr") == "list" and not sweep_figures.curves_of(free)
    assert not sweep_figures.pairs_of(read) and sweep_figures.curves_of(read)[0] == "lr"  # two values make no surface
    varied = [one | {"values": {"lr": 2.0**-n, "weight_decay": n * n % 5}} for n, one in enumerate(named)]
    several = read._replace(told=read.told | {"settings": [one | {"share": 1.0, "score": 0.5} for one in varied]})
    assert sweep_figures.pairs_of(several) == [("lr", "weight_decay")] and not sweep_figures.curves_of(several)
    assert len(sweep_figures.surface_figure(several, ("lr", "weight_decay")).axes) >= 3  # two panels and a scale
    alike = [one | {"values": {"lr": 2.0**-n, "weight_decay": 0.1}} for n, one in enumerate(named)]
    joined = read._replace(
        told=read.told | {"settings": [one | {"share": 1.0, "score": n} for n, one in enumerate(alike)]}
    )
    (curve,) = sweep_figures.response_figure(joined, "lr").axes[0].lines
    assert curve.get_ydata().tolist() == [4, 3, 2, 1, 0] and curve.get_label() == "weight_decay=0.1"


@pytest.mark.parametrize(
    ("sweep", "study", "said"),
    [
        ({"method": ""}, {}, "no method is given"),
        ({"method": "scrubb"}, {}, "unknown method"),
        ({"seeds": 1}, {}, "--seeds is 1"),
        ({"seeds": 3}, {"requests": 2}, "--seeds is 3 with 2 requests: give at least 4"),
        ({}, {"gamma": ".2,.6"}, "--gamma names 2 shares"),
        ({"rule": "oracle"}, {}, "unknown rule"),
        ({"halving": 1}, {}, "--halving is 1"),
        ({"rungs": 0}, {}, "--rungs is 0"),
        ({"method": "ssd"}, {}, "has no length"),
        ({}, {"budget": 1000.0}, "--budget sets the length"),
        ({}, {"methods": "all"}, "give --method"),
        ({}, {"members": 4}, "give --seeds"),
        ({}, {"remedies": "expand,weight"}, "--remedies names several"),
        ({}, {"remedies": "expand"}, "leave it out with --remedies"),
        ({}, {"presets": "a"}, "--presets is for studies"),
        ({"method": "unsir"}, {}, "whole classes"),
    ],
)
def test_what_a_sweep_cannot_do_is_one_sentence(sweep, study, said):
    with pytest.raises(InputError, match=said) as told:
        study_of(SweepConfig(**{**SWEEP.__dict__, **sweep}), StudyConfig(**{**STUDY.__dict__, **study}))
    assert str(told.value).endswith(".") and "\n" not in str(told.value)


def test_bad_input_ends_the_script_with_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ("--targets", "random", "--copies", "1", "--num-targets", "4", "--quiet")
    cases = {
        ("--method", "scrub"): "nothing to sweep",
        ("--method", "scrub", "--hp", "lr=log:0:1:3"): "above 0",
        ("--method", "scrub", "--hp", "lr=.1", "--draw", "sobol", "--draws", "3"): "give 2 or 4",
        ("--method", "scrub", "--hp", "optimizer=speed", *small): "optimizer",
        ("--method", "scrub", "--hp", "lr=.1", "--rule", "request", "--test-size", "12", *small): "needs 20 held-out",
    }
    for words, said in cases.items():
        monkeypatch.setattr(sys, "argv", ["sweep.py", *words])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(EXPERIMENTS / "sweep.py"), run_name="__main__")
        out, errors = capsys.readouterr()
        assert ended.value.code == 2 and out == "" and said in errors and errors.count("\n") == 1, errors
    assert not (tmp_path / "runs").exists()

"""Two methods by one command: what it writes, what it decides, and that it goes on where it was."""

import csv
import dataclasses
import json
import math
from types import SimpleNamespace

import pytest
import toy

from unlearn_jax.cli import sweep as sweep_command
from unlearn_jax.errors import InputError
from unlearn_jax.population import run as runner
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.presets import read_presets, with_presets
from unlearn_jax.studies.resolve import resolve
from unlearn_jax.studies.setup import Watch
from unlearn_jax.sweeps import SweepConfig, are_several, run_sweep, run_sweeps, sweep_name
from unlearn_jax.sweeps.rules import RULES
from unlearn_jax.sweeps.several import decide

STUDY = StudyConfig(
    train_size=100, test_size=40, num_targets=4, steps=2, copies="1", resamples=50, targets="random",
    hp=("auto", "finetune.epochs=1", "gradient_ascent.bound=1", "gradient_ascent.epochs=1"),
)  # fmt: skip
SWEEP = SweepConfig(method="finetune,do_nothing,gradient_ascent", seeds=2, draw="sobol", draws=2)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    stages, out = [], tmp_path_factory.mktemp("sweeps") / "several"
    watch = Watch(stage=lambda label, members: stages.append((label, members)))
    with toy.quick_programs():
        assert run_sweeps(SWEEP, STUDY, out, watch=watch, command="python sweep.py", chunk=2) == out
    return out, stages


def test_every_method_is_in_one_preset_file(swept):
    out, stages = swept
    assert stages[:2] == [("original", 2), ("oracle", 2)]
    assert stages[2:] == [("finetune", 4), ("finetune", 2), ("gradient_ascent", 4), ("gradient_ascent", 2)]
    presets, told = read_presets(str(out / "preset.json")), json.loads((out / "sweeps.json").read_text())
    assert list(presets.methods) == list(told["methods"]) == ["finetune", "do_nothing", "gradient_ascent"]
    assert told["status"] == "complete" and presets.about["command"] == told["command"] == "python sweep.py"
    for key in ("kept", "versions", "chosen_by", "targets", "requests", "skip_requests", "copies", "device", "seeds"):
        assert key in presets.about
    assert told["methods"] == presets.about["methods"] and told["names"] == ["finetune", "gradient_ascent"]
    assert set(told["rules"]) == {*RULES, "preset", "defaults", "lot"}
    assert told["methods"]["do_nothing"] == {"kept_defaults": True, "why": "nothing to sweep"}
    for name in ("finetune", "gradient_ascent"):
        own = told["methods"][name]
        assert own["kept_defaults"] == (presets.methods[name] == {}) and own["candidates"] == 3
        assert (out / name / "sweep.json").is_file() and (out / name / "preset.json").is_file()


def test_sweeps_that_are_complete_are_read_and_others_run(swept, monkeypatch):
    out, _ = swept
    stages, first = [], (out / "preset.json").read_text()
    watch = Watch(stage=lambda label, members: stages.append(label))
    monkeypatch.setattr(runner, "train_chunk", None)  # nothing is trained
    run_sweeps(SWEEP, STUDY, out, watch=watch, command="python sweep.py", chunk=2)
    assert stages == [] and (out / "preset.json").read_text() == first
    path = out / "finetune" / "sweep.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "running"}))  # as if it had been killed
    run_sweeps(SWEEP, STUDY, out, watch=watch, command="python sweep.py", chunk=2)
    assert stages == ["original", "oracle", "finetune", "finetune"] and (out / "preset.json").read_text() == first
    whole = (out / "sweeps.json").read_text()
    (out / "sweeps.json").write_text(json.dumps(json.loads(whole) | {"dataset_digest": "of another file"}))
    with pytest.raises(InputError, match="of other data under the same name"):
        run_sweeps(SWEEP, STUDY, out)
    (out / "sweeps.json").write_text(whole)
    with pytest.raises(InputError, match="holds another sweep"):
        run_sweeps(dataclasses.replace(SWEEP, seeds=3), STUDY, out)


def told(*, default=(True, 0.5, 0.8), chosen=(True, 0.4, 0.2), gain=(0.1, 0.05, 0.2), pick="lr=0.01", count=1):
    """sweep.json of two settings, each (allowed, score, distance)."""
    one = lambda name, lr, own, gain: {
        "setting": name, "values": {"lr": lr}, "default": not name, "share": 1.0, "allowed": own[0], "score": own[1],
        "distance": own[2], "gain": gain,
    }  # fmt: skip
    settings = [one("lr=0.01", 0.01, chosen, gain), one("", 0.008, default, [0.0, 0.0, 0.0])]
    choices = {"margins": {"setting": pick, "allowed": count, "candidates": 2}, "oracle": {"distance": 0.1}}
    study = dataclasses.asdict(StudyConfig(methods="scrub"))
    asked = {"sweep": {"method": "scrub", "rule": "margins"}}
    return {"asked": asked, "config": study, "settings": settings, "choices": choices}


def test_defaults_are_kept_unless_the_choice_is_clearly_better():
    taken = decide(told())
    assert taken.values == {"lr": 0.01} and taken.why == "clearly better" and taken.distance == 0.2
    assert taken.regret == pytest.approx(0.1) and taken.default_distance == 0.8
    kept = decide(told(gain=(0.1, -0.05, 0.2)))
    assert kept.values == {} and kept.why.startswith("not told") and kept.distance == 0.8 and kept.setting == "lr=0.01"
    assert decide(told(pick="")).why == "none is better than the defaults"
    assert decide(told(count=0)).why == "no setting is allowed" and not decide(told(count=0)).values
    for count, values in ((0, {}), (1, {"lr": 0.01})):  # the defaults were not tried, or dropped
        alone = told(count=count, chosen=(bool(count), 0.4, 0.2), gain=None)
        alone["settings"].pop()
        assert decide(alone).values == values and decide(alone).why.startswith("no setting" if not count else "the def")
    harm = decide(told(default=(False, 0.5, 0.1), gain=(-0.1, -0.2, 0.0)))
    assert harm.values == {"lr": 0.01} and harm.why == "the defaults are not allowed" and harm.default_distance == 0.1
    blind = decide(told(default=(True, 0.5, None), chosen=(True, 0.4, None)))
    assert blind.values and math.isnan(blind.distance)


def test_the_distance_has_no_part_in_the_decision():
    for chosen in (0.0, 0.5, 2.0):
        for gain in ((0.1, 0.05, 0.2), (0.1, -0.05, 0.2)):
            own = decide(told(chosen=(True, 0.4, chosen), gain=gain))
            assert bool(own.values) == (gain[1] > 0)


def test_names_of_folders_and_of_groups():
    assert are_several("all") and are_several("scrub,ssd") and not are_several("scrub")
    name = lambda method: sweep_name(SweepConfig(method=method), STUDY)
    assert name("scrub,ssd").startswith("sweep-scrub+ssd-digits-") and name("all").startswith("sweep-all-")
    assert name("a,b,c,d").startswith("sweep-4-methods-")


@pytest.mark.parametrize(
    ("method", "hp", "said"),
    [
        ("none", ("auto",), "names no method"),
        ("do_nothing,retrain", ("auto",), "have nothing to sweep"),
        ("finetune,scrubb", ("auto",), "unknown method"),
        ("finetune,ssd", ("lr=.1",), "whose it is, is not said"),
        ("finetune,ssd", ("auto", "scrub.lr=.1"), "'scrub' is not swept"),
        ("finetune,ssd", ("ssd.alpha=1,2",), "nothing to sweep of finetune"),
        ("finetune,unsir", ("auto",), "whole classes"),
    ],
)
def test_what_cannot_be_swept_is_one_sentence(tmp_path, method, hp, said):
    study = dataclasses.replace(STUDY, hp=hp)
    with pytest.raises(InputError, match=said) as error:
        run_sweeps(dataclasses.replace(SWEEP, method=method), study, tmp_path / "none")
    assert str(error.value).endswith(".") and not (tmp_path / "none").exists()


def test_the_script_prints_a_line_for_each_method(swept, monkeypatch):
    out, _ = swept
    lines = sweep_command.overview(out).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["finetune", "do_nothing", "gradient_ascent"]
    assert lines[4].endswith("of 3 methods leave their defaults") and str(out / "preset.json") in lines[-2]
    assert "not identifiable" in lines[-3]  # of two seeds


def test_the_script_draws_all_pages_and_names_that_of_all_methods(swept, monkeypatch, capsys, unsaved):
    out, _ = swept
    monkeypatch.setattr(runner, "train_chunk", None)  # every sweep is read
    run = {"out": out, "chunk": 2, "quiet": True, "json": True}
    (out / "gradient_ascent" / "sweep.html").touch()  # as new as its sweep
    for page in (False, True):
        sweep_command.run(SimpleNamespace(study=STUDY, sweep=SWEEP, run=sweep_command.SweepRun(page=page, **run)))
        assert (out / "sweeps.html").is_file() == (out / "finetune" / "sweep.html").is_file() == page
        said = json.loads(capsys.readouterr().out)
        assert said["page"] == (str(out / "sweeps.html") if page else None) and said["sweeps"]["status"] == "complete"
    text = (out / "sweeps.html").read_text()
    assert "of 3 methods leave" in text and 'id="afterwards"' in text and 'href="finetune/sweep.html"' in text


def test_a_remedy_around_a_method_is_swept_with_it(swept, tmp_path):
    words = ("expand.rule=nearest", "expand.at_least=.01", "expand.k=1,4", "bound=1,2", "epochs=1")
    study = dataclasses.replace(STUDY, remedies="expand", hp=words)
    sweep = dataclasses.replace(SWEEP, method="gradient_ascent", draw="grid", draws=0, defaults=False, oracle=False)
    with toy.quick_programs():
        out = run_sweep(sweep, study, tmp_path / "sweep", store=swept[0].parent / "populations", chunk=2)
    with (out / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = {
        f"expand.rule=nearest,expand.at_least=0.01,expand.k={k},bound={bound},epochs=1"
        for k in (1, 4)
        for bound in (1, 2)
    }
    assert {(r["method"], r["remedy"]) for r in rows} == {("gradient_ascent", "expand")}
    assert {r["setting"] for r in rows} == names
    lost = {r["setting"]: r["value"] for r in rows if r["metric"] == "request_margin_gap"}
    assert len(set(lost.values())) == 4  # both kinds of settings take effect
    preset = read_presets(str(out / "preset.json")).methods
    assert set(preset) == {"gradient_ascent", "expand"} and set(preset["expand"]) == {"rule", "at_least", "k"}
    told = json.loads((out / "sweep.json").read_text())
    one = next(s for s in told["settings"] if s["setting"] == told["choices"]["margins"]["setting"])
    assert preset["expand"]["k"] == str(one["values"]["expand.k"])
    config, _ = with_presets(
        StudyConfig(methods="gradient_ascent", remedies="expand", presets=str(out / "preset.json"))
    )
    assert set(resolve(config).settings) == {"gradient_ascent", "expand"}
    assert sweep_name(sweep, study).startswith("sweep-gradient_ascent+expand-digits-")

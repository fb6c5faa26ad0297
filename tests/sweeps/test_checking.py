"""Checks of presets: differences that are known beforehand, what is told of them, and a tiny check, whole."""

import csv
import dataclasses
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import toy

from unlearn_jax import reports
from unlearn_jax.cli import check_presets
from unlearn_jax.errors import InputError
from unlearn_jax.methods import METHODS, settings_at
from unlearn_jax.population import run as runner
from unlearn_jax.reports import check_page
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.populations import EvaluatedPopulation
from unlearn_jax.studies.presets import read_presets, write_presets
from unlearn_jax.studies.resolve import resolve
from unlearn_jax.studies.setup import Watch
from unlearn_jax.sweeps import check_name, run_check
from unlearn_jax.sweeps.changes import DISTANCE, FIGURES, GROUPS, REST, SIGNED, TEST, changes, group_of, summary_of
from unlearn_jax.sweeps.checking import cautions, checked

MEMBERS, TARGETS, HELD = 8, 6, 40
ROWS = {"forget": range(TARGETS), "test": range(6, 6 + HELD), "rest": range(46, 46 + HELD)}


def setup_of():
    """A level with six targets, forty held-out and forty other samples, and what a scorer asks of its study."""
    every = np.arange(6 + 2 * HELD)
    rows = SimpleNamespace(**{name: np.asarray(at) for name, at in ROWS.items()})
    level = SimpleNamespace(rows=[rows], request_of=np.zeros(MEMBERS, int))
    bench = SimpleNamespace(targets=every, cluster=every)
    config = SimpleNamespace(requests=1, seed=0, resamples=200)
    return SimpleNamespace(bench=bench, config=config, shown=every), level


def outcome(name, setting, margin, right=HELD, rest=HELD, noise=0.0):
    """A population whose targets have this margin, with the first ``right`` of the held-out samples right."""
    table = np.zeros((MEMBERS, 6 + 2 * HELD))
    table[:, :TARGETS] = margin + noise * np.random.default_rng(0).normal(size=(MEMBERS, TARGETS))
    correct = np.zeros_like(table)
    correct[:, 6 : 6 + right] = correct[:, 46 : 46 + rest] = 1.0
    scores, role = SimpleNamespace(margin=table, correct=correct), "oracle" if name == "oracle" else "original"
    return EvaluatedPopulation(name, role, setting, None, scores, (10.0, 20.0))


NAMED = {"original": outcome("original", "", 4.0), "oracle": outcome("oracle", "", 0.0)}


def compared(*pairs):
    return changes(*setup_of(), NAMED, list(pairs))


def test_a_shift_that_is_known_is_found():
    (row,) = compared((outcome("scrub", "", 3.2, right=30, rest=30), outcome("scrub", "lr=1", -1.2, right=40, rest=20)))
    assert (row["method"], row["remedy"], row["setting"]) == ("scrub", "", "lr=1")
    own = row["figures"]
    np.testing.assert_allclose(own[DISTANCE]["defaults"] + own[DISTANCE]["preset"], [0.8] * 3 + [0.3] * 3)
    np.testing.assert_allclose(own[DISTANCE]["difference"], [-0.5] * 3)  # nothing varies: a point
    np.testing.assert_allclose(own[SIGNED]["difference"], [-1.1] * 3)  # .8 to -.3: signed, it goes past the oracle
    assert [own[name]["difference"][0] for name in (TEST, REST)] == [-25.0, 25.0]
    assert [own[name]["verdict"] for name in FIGURES] == ["falls", "falls", "falls", "rises"]
    assert own[TEST]["defaults"][0] == 25.0 and own[TEST]["difference"][1] < -25.0 < own[TEST]["difference"][2]
    assert row["group"] == "nearer" and row["grad_evals"] == {"defaults": 30.0, "preset": 30.0}


def test_settings_that_are_the_same_differ_by_exactly_nothing_however_noisy():
    same = lambda setting: outcome("ssd", setting, 1.0, right=33, noise=2.0)._replace(remedy="expand")
    (row,) = compared((same(""), same("alpha=10")))
    assert (row["method"], row["remedy"]) == ("ssd", "expand") and row["group"] == "not told"
    for name in FIGURES:
        own = row["figures"][name]
        assert own["difference"] == [0.0, 0.0, 0.0] and own["verdict"] == "not told"
        assert own["defaults"] == own["preset"] and own["defaults"][1] <= own["defaults"][0]
    assert row["figures"][DISTANCE]["defaults"][1] < row["figures"][DISTANCE]["defaults"][2]


def test_members_that_diverge_are_counted_and_left_out():
    usual, other, lost = (outcome("npo", setting, 2.0) for setting in ("", "lr=1", "lr=9"))
    other.scores.margin[3] = np.nan
    lost.scores.margin[:] = np.nan
    first, second = compared((usual, other), (usual, lost))
    assert first["diverged"] == {"defaults": 0, "preset": 1} and first["figures"][DISTANCE]["preset"][0] == 0.5
    assert second["diverged"]["preset"] == MEMBERS and second["group"] == "not defined"
    assert second["figures"][DISTANCE]["preset"] == [None] * 3
    counted = summary_of([first, second])
    assert counted["figures"][DISTANCE] == {
        "falls": 0, "rises": 0, "not told": 1, "not defined": 1, "median_defaults": 0.5, "median_preset": 0.5,
    }  # fmt: skip
    assert counted["groups"]["not defined"] == ["npo"] and set(counted["groups"]) == set(GROUPS)
    about = {"warnings": [], "references": {"identifiable": True}, "notes": [], "methods": [first]}
    (said,) = check_page.cautions(about)
    assert said.endswith("figures are of the others: npo 0 at the defaults, 1 with the presets")
    summary, farther = {"summary": counted}, compared((usual, outcome("npo", "lr=3", 3.0)))[0]
    shown = [[cell.text for cell in row.cells] for row in check_page._counts(summary).rows]
    assert any(row[n : n + 2] == ["1", "0.50"] for row in shown for n in range(len(row)))  # not defined is counted
    order = str(check_page._methods({"methods": [second, farther, first]}))
    assert order.index("lr=1") < order.index("lr=3") < order.index("lr=9")  # what is not known comes last


def test_every_pair_of_verdicts_has_its_group():
    told = ("falls", "not told", "rises")
    found = [[group_of(distance, lost) for lost in told] for distance in told]
    assert found == [["nearer", "nearer", "dearer"], ["regained", "not told", "harmed"], ["traded", "harmed", "harmed"]]


ABOUT = {
    "dataset": "digits", "benchmark": "", "similarity": "near", "targets": "atypical", "num_targets": 30, "requests": 1,
    "skip_requests": 1, "model": "mlp", "scale": "small",
}  # fmt: skip


@pytest.mark.parametrize(
    ("about", "study", "said"),
    [
        ({}, {}, ""),
        ({}, {"skip_requests": 1}, "30 of the 30 targets .* give --skip-requests 0$"),
        ({}, {"requests": 2}, "30 of the 60 targets .* give --skip-requests 2$"),
        ({}, {"num_targets": 40}, "10 of the 40 targets .* give --skip-requests 2$"),
        ({"skip_requests": 0}, {"skip_requests": 1}, ""),
        ({"skip_requests": 3}, {"skip_requests": 3}, "give --skip-requests 0$"),
        ({}, {"targets": "random"}, "made for something else .targets atypical, here random.*is not known$"),
        ({"seed": 1}, {}, "seed 1, here 0.*is not known$"),
        ({"train_size": 500}, {}, "train_size 500, here none.*is not known$"),
        ({"train_size": 500}, {"train_size": 500}, ""),
        ({"model": "convnet", "dataset": "mnist"}, {}, "dataset mnist, here digits, model convnet, here mlp.$"),
        ({"targets": "whole_class"}, {"targets": "whole_class", "skip_requests": 1}, "^1 of the 1 classes are among"),
        ({"targets": "whole_class"}, {"targets": "whole_class", "skip_requests": 2}, ""),
        ({"targets": None}, {}, "do not say which targets"),
    ],
)
def test_presets_are_not_believed_on_the_targets_that_they_were_made_on(about, study, said):
    about = {key: value for key, value in (ABOUT | about).items() if value is not None}
    found = "; ".join(cautions(about, resolve(StudyConfig(**{"members": 8} | study))))
    assert re.search(said, found) if said else found == ""


def test_shipped_presets_were_made_on_other_targets_than_a_check_takes():
    for name in ("vision-copies-small", "facts-paraphrase-small"):
        found = checked(StudyConfig(benchmark=name, presets=name, methods="all", copies="4"))
        about = read_presets(name).about
        assert cautions(about, found.study) == [] and found.notes == []
        assert len(found.pairs) == sum(not one["kept_defaults"] for one in about["methods"].values())
        assert set(found.kept) == {key for key, one in about["methods"].items() if one["kept_defaults"]} - {"retrain"}


def test_methods_that_a_remedy_cannot_go_around_are_left_out(tmp_path):
    write_presets(
        tmp_path / "mine.json", {name: {"lr": 0.1} for name in ("npo", "finetune")} | {"ssd": {"alpha": 3}}, {}
    )
    study = StudyConfig(presets=str(tmp_path / "mine.json"), methods="npo,finetune,ssd", remedies="project")
    found = checked(study)
    assert [pair.sweep.method for pair in found.pairs] == ["npo"] and found.kept == []
    assert [said.partition(":")[0] for said in found.notes] == [f"{m}+project was not run" for m in ("finetune", "ssd")]
    with pytest.raises(InputError, match="change nothing that runs with project"):
        write_presets(tmp_path / "mine.json", {"ssd": {"alpha": 3}}, {})
        checked(study)


STUDY = StudyConfig(
    train_size=100, test_size=40, num_targets=4, steps=2, copies="1", resamples=50, targets="random",
    methods="finetune,do_nothing", members=2,
)  # fmt: skip
USUAL = settings_at(METHODS["finetune"], "small")[1]["lr"]


@pytest.fixture(scope="module")
def checks(tmp_path_factory):
    """Checks of the defaults' own rate and of a larger one, and the stages that they went through."""
    folder, stages = tmp_path_factory.mktemp("checks"), []
    watch = Watch(stage=lambda label, members: stages.append((label, members)))
    for name, rate in (("same", USUAL), ("larger", 30 * USUAL)):
        write_presets(folder / f"{name}.json", {"finetune": {"lr": rate}, "do_nothing": {}, "scrub": {"lr": 1}}, {})
        study = dataclasses.replace(STUDY, presets=str(folder / f"{name}.json"))
        with toy.quick_programs():
            assert run_check(study, folder / name, watch=watch, command="python <check>.py", chunk=2) == folder / name
    return folder, stages


def told_of(folder):
    with (folder / "check.csv").open() as file:
        return json.loads((folder / "check.json").read_text()), list(csv.DictReader(file))


def test_a_check_of_the_defaults_finds_no_difference_and_of_others_does(checks):
    folder, stages = checks
    assert stages == [("original", 2), ("oracle", 2), ("retrain", 2), ("finetune", 4)] * 2
    told, rows = told_of(folder / "same")
    assert told["status"] == "complete" and told["kept"] == ["do_nothing"] and len(rows) == len(FIGURES)
    assert [float(row["difference"]) for row in rows] == [0.0] * len(FIGURES)
    assert told["presets"]["settings"] == [f"finetune.lr={USUAL}"] and told["summary"]["methods"] == 1
    assert "do not say which targets" in told["warnings"][0] and not told["references"]["identifiable"]
    other, rows = told_of(folder / "larger")
    mine, theirs = (one["methods"][0]["figures"] for one in (told, other))
    assert mine[SIGNED]["defaults"] == theirs[SIGNED]["defaults"] != theirs[SIGNED]["preset"]
    assert other["methods"][0]["setting"] == rows[0]["setting"] == f"lr={30 * USUAL:g}"
    assert float(rows[1]["difference"]) == theirs[SIGNED]["difference"][0] != 0.0


def test_a_check_that_is_repeated_trains_nothing_and_another_is_refused(checks, monkeypatch):
    folder, _ = checks
    first = (folder / "larger" / "check.csv").read_text()
    monkeypatch.setattr(runner, "train_chunk", None)  # nothing is trained
    study = dataclasses.replace(STUDY, presets=str(folder / "larger.json"))
    run_check(study, folder / "larger", command="python <check>.py", chunk=2)
    assert (folder / "larger" / "check.csv").read_text() == first
    with pytest.raises(InputError, match="holds another check of presets"):
        run_check(dataclasses.replace(study, seed=1), folder / "larger")
    with pytest.raises(InputError, match="something else than a check of presets"):
        run_check(study, folder / "populations")
    assert check_name(study).startswith("check-larger-digits-near-random-")


def test_the_page_and_the_headline_say_what_was_found(checks, monkeypatch, unsaved):
    folder, _ = checks
    page = reports.write_check_page(folder / "larger")
    text = page.read_text()
    assert page == folder / "larger" / "check.html" and "python &lt;check&gt;.py" in text and "<check>" not in text
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(re.findall(r' id="([^"]+)"', text))
    assert re.findall(r'<section id="(\w+)">', text) == ["counts", "distance", "methods", "words", "reproduce"]
    assert (
        "http" not in re.sub(r"http://www.w3.org/\S*", "", text) and reports.kind_of_run(folder / "larger") == "check"
    )
    lines = check_presets.headline(folder / "same").splitlines()
    assert lines[1].split()[0] == "finetune" and lines[1].count("0.00 [0.00, 0.00]") == 1 and "not told" in lines[1]
    assert lines[2] == "1 methods leave their defaults, 1 keeps them" and lines[-1] == f"run folder: {folder / 'same'}"
    assert any(line.startswith("warning: residuals are not identifiable") for line in lines)
    (folder / "larger" / "check.json").write_text(json.dumps({"kind": "check", "status": "running"}))
    with pytest.raises(InputError, match="run unlearn-jax check-presets again"):
        reports.write_check_page(folder / "larger")
    with pytest.raises(InputError, match="there is no check"):
        reports.write_check_page(folder)


@pytest.mark.parametrize(
    ("study", "said"),
    [
        ({"presets": ""}, "no presets are given"),
        ({"hp": ("scrub.lr=.1",)}, "--hp is for studies"),
        ({"members": 1}, "--members is 1: give at least 2"),
        ({"gamma": ".2,.6"}, "--gamma names 2 shares"),
        ({"members": 4, "requests": 4}, "--members is 4 with 4 requests: give at least 8"),
        ({"methods": "do_nothing"}, "none of which this study runs"),
        ({"remedies": "expand,tilt"}, "--remedies names several"),
        ({"presets": "nowhere"}, "there are no presets 'nowhere'"),
    ],
)
def test_what_cannot_be_checked_is_one_sentence(tmp_path, study, said):
    config = StudyConfig(**{"presets": "vision-copies-small", "methods": "all"} | study)
    with pytest.raises(InputError, match=said) as told:
        run_check(config, tmp_path / "none")
    assert str(told.value).endswith(".") and "\n" not in str(told.value) and not (tmp_path / "none").exists()

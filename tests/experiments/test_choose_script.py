"""The script that chooses settings: what it writes and prints, and bad input."""

import csv
import dataclasses
import json
import shlex

import tyro

from unlearn_jax.cli import study as study_command
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.resolve import resolve

KEYS = ("copies", "gamma", "request", "method", "remedy", "setting", "reference", "split", "metric")
COLUMNS = (*KEYS, "value", "ci_low")
# setting -> (accuracy drop, margin error, request gap, residual distance)
SETTINGS = {"lr=0.02": (0.1, 2.0, 3.0, 0.6), "lr=0.04": (0.2, 3.0, 0.1, 0.5), "lr=0.08": (0.3, 4.0, -1.0, 0.4)}
CONFIG = StudyConfig(dataset="digits", copies="0,4", requests=4, skip_requests=4, members=16, similarity="near")


def fake(folder, settings=SETTINGS, method="prmq", oracle=True, **changes):
    """A finished run on tuning targets."""
    rows = []
    for setting, (drop, error, gap, distance) in settings.items():
        figures = {"heldout_accuracy_drop": drop, "heldout_margin_error": error, "request_margin_gap": gap}
        for metric, value in (
            figures | {"n_diverged": 0.0} | ({"residual_distance": distance} if oracle else {})
        ).items():
            of = "oracle" if metric == "residual_distance" else ""
            keys = {"gamma": 0.2, "request": "all", "method": method, "setting": setting, "reference": of}
            for copies in (0, 4):  # the smaller level says the opposite and is not asked
                own = keys | {"copies": copies, "metric": metric, "value": value if copies else -value, "ci_low": ""}
                rows.append(own)
            rows.append(keys | {"copies": 4, "request": "0", "metric": metric, "value": -99.0})
    folder.mkdir()
    with (folder / "summary.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    asked = dataclasses.asdict(dataclasses.replace(CONFIG, **changes)) | {"methods": method}
    (folder / "manifest.json").write_text(json.dumps({"status": "complete", "config": asked, "asked": asked}))
    return folder


def test_it_writes_the_choice_and_the_regret_apart_and_a_command_that_a_study_takes(script, tmp_path):
    runs = fake(tmp_path / "a"), fake(tmp_path / "b", {"decay=5+8": (0.1, 1.0, -1.0, 0.3)}, "scrub")
    code, output, errors = script("choose", *runs)
    assert code == 0 and errors == ""
    chosen = json.loads((tmp_path / "a" / "chosen.json").read_text())
    assert [c["hp"] for c in chosen["choices"]] == [["prmq.lr=0.04"], ["scrub.decay=5,8"]]
    assert "residual_distance" not in json.dumps(chosen) and '"regret"' not in json.dumps(chosen)
    apart = json.loads((tmp_path / "a" / "chosen.regret.json").read_text())["regret"]
    assert [(r["best"], round(r["regret"], 3)) for r in apart] == [("lr=0.08", 0.1), ("decay=5+8", 0.0)]
    (command,) = chosen["commands"]
    assert command in output and "Apart, with the oracle" in output
    study = tyro.cli(study_command.Args, args=shlex.split(command)[2:]).study
    assert study == dataclasses.replace(
        CONFIG, skip_requests=0, methods="prmq,scrub", hp=("prmq.lr=0.04", "scrub.decay=5,8")
    )
    assert resolve(study).settings == {"prmq": {"lr": [0.04]}, "scrub": {"decay": [(5, 8)]}}


def test_with_the_oracles_figures_removed_the_choice_is_the_same(script, tmp_path):
    for name, oracle in (("seen", True), ("hidden", False)):
        assert script("choose", fake(tmp_path / name, oracle=oracle))[0] == 0
    seen, hidden = (json.loads((tmp_path / n / "chosen.json").read_text()) for n in ("seen", "hidden"))
    assert seen == hidden


def test_the_study_to_report_has_other_targets(script, tmp_path):
    for skipped, expected in ((0, 4), (2, 6), (4, 0), (8, 0)):
        script("choose", fake(tmp_path / str(skipped), skip_requests=skipped))
        told = json.loads((tmp_path / str(skipped) / "chosen.json").read_text())["commands"][0]
        assert tyro.cli(study_command.Args, args=shlex.split(told)[2:]).study.skip_requests == expected


def test_bad_input_is_one_sentence(refused, tmp_path):
    run = fake(tmp_path / "a")
    other = fake(tmp_path / "b", seed=1)
    old = fake(tmp_path / "old", {})
    cases = {
        (tmp_path / "none",): "has no manifest.json",
        (run, other): "seed differ",
        (old,): "run unlearn-jax study again",
        (run, "--rule", "oracle"): "unknown rule 'oracle'",
        (run, "--out", tmp_path / "absent" / "c.json"): "cannot write",
    }
    for words, said in cases.items():
        refused("choose", *words, said=said)

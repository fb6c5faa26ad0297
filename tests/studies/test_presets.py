"""Preset files: what a study makes of them, and what is refused."""

import dataclasses
import json

import pytest

from unlearn_jax.errors import InputError
from unlearn_jax.studies import presets
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.presets import read_presets, with_presets, write_presets
from unlearn_jax.studies.resolve import resolve

METHODS = {
    "scrub": {"lr": 0.0123, "decay": [5, 8], "optimizer": "sgd", "epochs": 4},
    "prmq": {"lr": 0.02},
    "expand": {"k": 4, "same_class": True},
}


@pytest.fixture
def file(tmp_path):
    write_presets(tmp_path / "mine.json", METHODS, {"dataset": "digits"})
    return tmp_path / "mine.json"


def test_settings_are_taken_where_hp_says_nothing(file):
    config, told = with_presets(
        StudyConfig(methods="scrub", remedies="expand", hp=("scrub.lr=.1,.2",), presets=str(file))
    )
    assert config.presets == "" and resolve(config).settings == {
        "scrub": {"lr": [0.1, 0.2], "decay": [(5, 8)], "optimizer": ["sgd"], "epochs": [4]},
        "expand": {"k": [4], "same_class": [True]},
    }
    assert told["name"] == "mine" and told["about"] == {"dataset": "digits"} and "scrub.decay=5,8" in told["settings"]
    assert not any(word.startswith(("prmq", "scrub.lr")) for word in told["settings"])
    assert with_presets(StudyConfig(hp=("scrub.lr=.1",))) == (StudyConfig(hp=("scrub.lr=.1",)), {})


def test_a_study_is_the_same_however_its_settings_are_given(file):
    config, told = with_presets(StudyConfig(methods="prmq", presets=str(file)))
    assert config == StudyConfig(methods="prmq", hp=("prmq.lr=0.02",))
    write_presets(file, METHODS | {"prmq": {"lr": 0.03}}, {})
    other, changed = with_presets(StudyConfig(methods="prmq", presets=str(file)))
    assert resolve(other).name != resolve(config).name and changed["digest"] != told["digest"]
    write_presets(file, METHODS, {"other": "words"})
    assert read_presets(str(file)).digest == told["digest"]


def test_infinity_is_written_as_json_can_read_it(file):
    write_presets(file, {"gradient_ascent": {"bound": float("inf"), "lr": 0.1}}, {})
    assert json.loads(file.read_text(), parse_constant=lambda word: pytest.fail(word))["presets"] == 1
    config, _ = with_presets(StudyConfig(methods="gradient_ascent", presets=str(file)))
    assert resolve(config).settings == {"gradient_ascent": {"bound": [float("inf")], "lr": [0.1]}}


def test_shipped_presets_go_by_name(file, monkeypatch):
    monkeypatch.setattr(presets, "SHIPPED", file.parent)
    assert read_presets("mine") == read_presets(str(file))
    with pytest.raises(InputError, match="one of mine, or a file"):
        read_presets("yours")


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ({"scrubb": {}}, "none of which"),
        ({"scrubb": {"lr": 1}}, "no method or remedy 'scrubb'"),
        ({"scrub": {"learning": 1}}, "no hyperparameter 'learning'"),
        ({"scrub": {"lr": "fast"}}, "scrub.lr is 'fast'"),
        ({"scrub": {"lr": [0.1, 0.2]}}, "which it cannot be"),
        ({"scrub": {"lr": "0.1,0.2"}}, "which it cannot be"),
        ({"scrub": {"decay": 5}}, "which it cannot be"),
        ({"scrub": {"decay": [5.5]}}, "which it cannot be"),
        ({"scrub": {"epochs": 0.5}}, "whole numbers"),
        ({"scrub": {"lr": None}}, "which it cannot be"),
        ({"scrub": {"lr": float("nan")}}, "give numbers"),
        ({"scrub": 3}, "no preset file"),
        ({"expand": {"far": 1}}, "no setting 'far'"),
        ([], "no preset file"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path, methods, said):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps({"presets": 1, "methods": methods}))
    with pytest.raises(InputError, match=said) as told:
        with_presets(StudyConfig(methods="scrub", remedies="expand", presets=str(path)))
    assert str(told.value).endswith(".") and "\n" not in str(told.value)


def test_files_that_are_no_presets_are_refused(tmp_path, file):
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "text.json").write_text("scrub: lr")
    for name, said in (("list", "no preset file"), ("text", "cannot read"), ("absent", "there are no presets")):
        with pytest.raises(InputError, match=said):
            read_presets(str(tmp_path / f"{name}.json"))
    with pytest.raises(InputError, match="none of which this study runs"):
        with_presets(StudyConfig(methods="finetune", presets=str(file)))
    write_presets(file, {"finetune": {}, "ssd": {}, "scrub": {"lr": 0.1}}, {})  # two are said to keep their defaults
    with pytest.raises(InputError, match="keep the defaults of ssd and have settings of scrub, none of which"):
        with_presets(StudyConfig(methods="ssd", presets=str(file)))
    with pytest.raises(InputError, match="cannot write"):
        write_presets(tmp_path / "absent" / "mine.json", {}, {})
    assert dataclasses.asdict(StudyConfig())["presets"] == ""

"""The configuration: axes, hyperparameters, presets, and what is refused before anything is read."""

import dataclasses
import hashlib
import json

import pytest

from unlearn_jax.errors import InputError
from unlearn_jax.methods import CORE, METHODS
from unlearn_jax.models import MODELS
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.resolve import LATER, resolve
from unlearn_jax.studies.storage import _refuse_other
from unlearn_jax.studies.validate import check

INFINITE = float("inf")


def config(**changes):
    return dataclasses.replace(StudyConfig(), **changes)


def refused(changes, said):
    """Assert that these changes are refused in a sentence."""
    with pytest.raises(InputError) as caught:
        check(resolve(config(**changes)))
    assert said in str(caught.value) and str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_the_default_is_sound_and_is_the_issue_main_job():
    check(resolve(StudyConfig()))
    assert list(resolve(StudyConfig()).copies) == [0, 1, 4, 8] and list(resolve(StudyConfig()).gammas) == [None]
    assert resolve(StudyConfig()).settings == {}
    own = resolve(StudyConfig()).config
    assert (own.num_targets, own.members, own.resamples, own.targets) == (30, 32, 2000, "atypical")


def test_what_is_left_open_is_the_data_sets_own():
    own = resolve(StudyConfig(dataset="facts")).config
    assert (own.copies, own.targets, own.members) == ("0,1,4", "random", 8)
    assert resolve(own).model == "decoder" and resolve(own).config == own
    given = StudyConfig(dataset="facts", similarity="near", copies="2", targets="class", members=3)
    assert resolve(given).config == given


def test_texts_have_presets_by_corpus_and_by_model():
    own = resolve(StudyConfig(dataset="wordnet_glosses")).config
    assert (own.copies, own.members, own.train_size, own.test_size) == ("0,1,4,8", 32, 8000, 2000)
    assert resolve(StudyConfig(dataset="wordnet_glosses", train_size=0)).config.train_size == 0  # all
    assert resolve(own).model == "mlp" and resolve(own).features.name == "tfidf" and resolve(own).dedup_threshold == 0.9
    for changes in ({"model": "encoder"}, {"features": "tokens"}):
        given = resolve(StudyConfig(dataset="folder/mine.csv", **changes)).config
        assert resolve(given).model == "encoder" and resolve(given).features.name == "tokens" and given.members == 8
        check(resolve(given))
    linear = StudyConfig(dataset="reuters_r8", model="linear", features="minilm", methods="all")
    check(resolve(linear))
    assert "perturbs pixels" in resolve(linear).left_out["l2ul"] and "l2ul" not in resolve(linear).methods
    assert resolve(given).name.startswith("mine.csv-near-atypical-")
    assert resolve(StudyConfig(dataset="reuters_r8", similarity="natural:.6")).config.copies == "0,1,2"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"copies": "-1"}, "--copies has -1"),
        ({"copies": "4,-2,1"}, "--copies has -2"),
        ({"copies": "few"}, "--copies is 'few'"),
        ({"copies": "1.5"}, "--copies is '1.5'"),
        ({"copies": " , "}, "--copies names no number"),
        ({"dataset": "facts", "similarity": "far"}, "exact, near, paraphrase, semantic"),
        ({"dataset": "facts", "model": "mlp"}, "model 'mlp' does not read the data of 'facts'"),
        ({"model": "decoder"}, "model 'decoder' does not read the data of 'digits'"),
        ({"gamma": "0"}, "--gamma has 0"),
        ({"gamma": ".5,1.5"}, "--gamma has 1.5"),
        ({"gamma": "-1"}, "--gamma has -1"),
        ({"gamma": "nan"}, "--gamma has nan"),
        ({"gamma": "all"}, "--gamma is 'all'"),
        ({"gamma": ","}, "--gamma is ','"),
        ({"members": 0}, "--members is 0"),
        ({"members": -3}, "--members is -3"),
        ({"requests": 0}, "--requests is 0"),
        ({"members": 4, "requests": 5}, "--requests is 5 with 4 members"),
        ({"num_targets": 0}, "--num-targets is 0"),
        ({"skip_requests": -1}, "--skip-requests is -1"),
        ({"similarity": "natural:2"}, "write natural:COSINE with a cosine in"),
        ({"resamples": 0}, "--resamples is 0"),
        ({"train_size": -1}, "--train-size is -1"),
        ({"test_size": -1}, "--test-size is -1"),
        ({"steps": -5}, "--steps is -5"),
        ({"batch": -5}, "--batch is -5"),
        ({"lr": -0.1}, "--lr is -0.1"),
        ({"lr": float("nan")}, "--lr is nan"),
        ({"lr": INFINITE}, "--lr is inf"),
        ({"seed": -1}, "--seed is -1"),
        ({"methods": " , "}, "--methods is empty: give core, all, none"),
        ({"seed": 2**32}, "--seed is"),
        ({"dedup_threshold": -0.1}, "--dedup-threshold is -0.1"),
        ({"dedup_threshold": 1.2}, "--dedup-threshold is 1.2"),
        ({"similarity": "close"}, "exact, far, natural, near"),
        ({"targets": "hard"}, "atypical, class, contested, distant, person, random"),
        ({"dtype": "float16"}, "bfloat16, float32"),
        ({"model": "mlpp"}, f"unknown model 'mlpp': choose one of {', '.join(sorted(MODELS))}"),
        ({"model_options": ("depth=3",)}, "unknown mlp option 'depth'"),
        ({"model_options": ("widths",)}, "write NAME=VALUE"),
        ({"methods": "scrub,sleep"}, "unknown method 'sleep': choose one of all, amnesiac"),
        ({"methods": "scrub", "hp": ("finetune.lr=1",)}, "add it to --methods"),
        ({"methods": "none", "hp": ("finetune.lr=1",)}, "add it to --methods"),
    ],
)
def test_bad_settings_are_one_clear_sentence(changes, said):
    refused(changes, said)


def test_an_unknown_method_lists_the_valid_ones():
    with pytest.raises(InputError, match="unknown method 'sleep'") as caught:
        check(resolve(config(methods="scrub,sleep")))
    assert all(name in str(caught.value) for name in METHODS)


def test_axes_are_sorted_without_repeats():
    assert list(resolve(config(copies="8, 0,1,8")).copies) == [0, 1, 8]
    assert list(resolve(config(gamma="1,.2,.20")).gammas) == [0.2, 1.0]


# --- hyperparameters ----------------------------------------------------------------------------------------------


def test_several_values_of_a_numeric_hyperparameter():
    found = resolve(config(hp=("scrub.alpha=.1,.5", "scrub.lr=1e-3", "finetune.lr=0.01"))).settings
    assert found == {"scrub": {"alpha": [0.1, 0.5], "lr": [1e-3]}, "finetune": {"lr": [0.01]}}
    assert all(isinstance(value, float) for value in found["scrub"]["alpha"])


def test_static_hyperparameters_keep_their_type():
    found = resolve(config(hp=("scrub.decay=3,6", "finetune.epochs=2", "finetune.momentum=.5"))).settings
    assert found == {"scrub": {"decay": [(3, 6)]}, "finetune": {"epochs": [2], "momentum": [0.5]}}
    assert isinstance(found["finetune"]["epochs"][0], int)


def test_a_boolean_hyperparameter_is_true_or_false(monkeypatch):
    entry = METHODS["finetune"]
    monkeypatch.setitem(METHODS, "finetune", entry._replace(static=entry.static | {"last_layer": False, "how": "all"}))
    read = lambda text: resolve(config(hp=(text,))).settings["finetune"]
    assert read("finetune.last_layer=TRUE") == {"last_layer": [True]}
    assert read("finetune.last_layer=false") == {"last_layer": [False]}
    assert read("finetune.how=none") == {"how": ["none"]}
    with pytest.raises(InputError, match="false, true"):
        read("finetune.last_layer=1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lr=0.1", "METHOD.NAME=VALUE"),
        ("finetune.lr", "METHOD.NAME=VALUE"),
        ("finetune.lr=", "METHOD.NAME=VALUE"),
        ("finetune.lr=,", "METHOD.NAME=VALUE"),
        ("finetune.epochs= ", "METHOD.NAME=VALUE"),
        ("finetune.lr=fast", "give numbers"),
        ("finetune.epochs=1.5", "give whole numbers"),
        ("finetune.epochs=1,2", "one run for each"),
        ("finetune.momentum=.5,.9", "one run for each"),
        ("finetune.epochs=-1", "give 0 or more"),
        ("finetune.batch=0", "give 1 or more"),
        ("scrub.forget_batch=-8", "give 1 or more"),
        ("scrub.alpha=nan", "has nan: give numbers"),
        ("finetune.momentum=nan", "give 0 or more"),
        ("finetune.alpha=1", "has no hyperparameter 'alpha': it has lr, weight_decay, epochs, batch, optimizer"),
        ("do_nothing.lr=1", "it has none"),
        ("finetuning.lr=1", "unknown method 'finetuning'"),
        ("retrain.lr=1", "use --lr"),
    ],
)
def test_bad_hyperparameters_are_refused(text, said):
    refused({"hp": (text,)}, said)


# --- presets and names --------------------------------------------------------------------------------------------


def test_presets_give_way_to_what_is_asked():
    study = resolve(StudyConfig())
    name, recipe = study.model, study.recipe
    assert (name, recipe.steps, recipe.batch, recipe.lr) == ("mlp", 1200, 128, 2e-3)
    study = resolve(config(model="linear", steps=7, batch=3, lr=0.5, augment="crop"))
    name, recipe = study.model, study.recipe
    assert (name, recipe.steps, recipe.batch, recipe.lr, recipe.augment) == ("linear", 7, 3, 0.5, "crop")
    assert resolve(config(dataset="cifar10")).model == "resnet9"
    assert resolve(config(dataset="cifar10", augment="none")).recipe.augment == "none"
    assert resolve(config(dataset="some/where/mine.npz")).model == "convnet"


def test_model_options_take_the_type_of_their_default():
    assert resolve(config(model_options=("widths=64,32",))).model_options == {"widths": (64, 32)}
    assert resolve(config(model="convnet", model_options=("norm=batch",))).model_options == {"norm": "batch"}


def test_run_names_differ_where_the_configuration_does_and_only_there():
    names = {resolve(config(**c)).name for c in ({}, {"seed": 1}, {"hp": ("scrub.lr=1",)}, {"copies": "0"})}
    assert len(names) == 4 and all(name.startswith("digits-near-atypical-") for name in names)
    assert resolve(StudyConfig()).name == resolve(StudyConfig()).name
    assert "/" not in resolve(config(dataset="some/where/mine.npz")).name


def test_fields_that_came_later_do_not_rename_the_studies_that_leave_them_empty():
    old = {k: v for k, v in dataclasses.asdict(resolve(StudyConfig()).config).items() if k not in LATER}
    digest = hashlib.sha256(json.dumps(old, sort_keys=True).encode()).hexdigest()[:6]
    assert resolve(StudyConfig()).name == f"digits-near-atypical-{digest}"
    assert resolve(StudyConfig(skip_requests=1)).name != resolve(StudyConfig()).name


def test_a_run_folder_from_before_a_field_came_is_continued(tmp_path):
    config = resolve(StudyConfig()).config
    asked = {k: v for k, v in dataclasses.asdict(config).items() if k not in LATER}
    (tmp_path / "manifest.json").write_text(json.dumps({"asked": asked}))
    assert _refuse_other(tmp_path, config) == json.loads(json.dumps({"asked": asked}))
    with pytest.raises(InputError, match=r"holds another study \(skip_requests differ\)"):
        _refuse_other(tmp_path, dataclasses.replace(config, skip_requests=1))


def test_core_is_the_seven_methods_of_the_first_study():
    seven = {"retrain", "finetune", "gradient_ascent", "neggrad_plus", "random_label", "scrub", "do_nothing"}
    assert {*CORE} == seven and seven <= {*METHODS}


def test_repeats_are_one_value_and_a_repeated_name_is_refused():
    assert resolve(config(hp=("scrub.alpha=.1,.1,.5",))).settings["scrub"]["alpha"] == [0.1, 0.5]
    with pytest.raises(InputError, match="gives scrub.lr twice"):
        _ = resolve(StudyConfig(hp=("scrub.lr=1e-3", "scrub.lr=1e-2"))).settings


def test_presets_belong_to_the_registered_data_set_not_to_a_file_of_its_name():
    assert resolve(StudyConfig(dataset="cifar10")).scale == "cifar"
    own = StudyConfig(dataset="folder/cifar10.npz")
    assert resolve(own).scale == "small_conv" and resolve(own).model == "convnet"


@pytest.mark.parametrize(
    "given, scale",
    [
        ({}, "small"),
        ({"model": "linear"}, "small"),
        ({"model": "convnet"}, "small_conv"),
        ({"dataset": "fashion_mnist"}, "small_conv"),
        ({"dataset": "fashion_mnist", "model": "mlp"}, "small"),
        ({"dataset": "cifar10", "model": "mlp"}, "cifar"),
        ({"model": "convnet", "scale": "small"}, "small"),
        ({"dataset": "facts"}, "small_transformer"),
        ({"dataset": "reuters_r8"}, "small_text"),
        ({"dataset": "mine.tsv", "model": "encoder"}, "small_transformer"),
        ({"scale": "language"}, "language"),
    ],
)
def test_defaults_follow_the_data_set_and_the_network(given, scale):
    assert resolve(StudyConfig(**given)).scale == scale

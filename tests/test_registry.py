"""Entries of installed packages (made on the fly): found by name, loaded when used, refused in a sentence."""

import sys

import numpy as np
import pytest
import toy
from sentences import one_sentence

from unlearn_jax import registry
from unlearn_jax.data import DATASETS, load_dataset
from unlearn_jax.errors import InputError
from unlearn_jax.evaluation.table import study_metrics
from unlearn_jax.methods import CORE, METHODS, check_setting, prepare, select
from unlearn_jax.methods.catalogue import methods_table
from unlearn_jax.models import MODELS, build_model, model_options, reads
from unlearn_jax.remedies import REMEDIES, remedy_settings, select_remedies
from unlearn_jax.remedies.common import Remedied
from unlearn_jax.reports.metric_rows import further
from unlearn_jax.results.recorder import environment
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.resolve import resolve

GOOD = """
import numpy as np

from unlearn_jax import from_arrays
from unlearn_jax.methods import METHODS
from unlearn_jax.models import build_model
from unlearn_jax.evaluation.battery import of_split
from unlearn_jax.evaluation.metric import PopulationMetric
from unlearn_jax.remedies.common import Remedied, Remedy

METHOD = METHODS["finetune"]._replace(name="toy_tune", numeric={"lr": 0.02, "weight_decay": 0.0})
REMEDY = Remedy("toy_plain", "none", "the method as it is", lambda evidence, settings: Remedied(
    evidence.run(evidence.plain)), {"width": 2.0}, {})


def data(*, data_dir=None):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, 4, 4), np.uint8), np.arange(60) % 3
    return from_arrays("toy_data", images[:40], labels[:40], images[40:], labels[40:])


def model(classes, shape, *, hidden=3):
    return build_model("mlp", classes, shape, widths=(hidden,))


model.reads = ("images", "vectors")
gap = PopulationMetric(
    metric="toy_gap", title="toy gap", unit="nats", what="Difference of means.", source="a package",
    needs=("margin",), takes=of_split("margin", "forget"), figure=lambda u, r: u.mean(axis=0) - r.mean(axis=0),
)
"""
GROUPS = {
    "methods": {"toy_tune": "METHOD"},
    "remedies": {"toy_plain": "REMEDY"},
    "datasets": {"toy_data": "data"},
    "models": {"toy_model": "model"},
    "metrics": {"toy_gap": "gap"},
}


def install(folder, package, offers, source="", module=None):
    """A package with entry points, as an installer would leave it: a module and a ``.dist-info``."""
    module = module or package.replace("-", "_")
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{package.replace('-', '_')}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
    lines = [
        line
        for group, points in offers.items()
        for line in (f"[unlearn_jax.{group}]", *(f"{name} = {module}:{value}" for name, value in points.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on the search path, forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "USED", {})
    monkeypatch.setattr(registry, "WARNED", set())
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("toy_"):
            del sys.modules[name]


@pytest.fixture
def good(site):
    """A sound package, installed."""
    install(site, "toy-package", GROUPS, GOOD)
    return site


def test_only_names_are_read_until_one_is_used(good):
    assert "toy_tune" in METHODS and "toy_tune" in METHODS.names() and "toy_tune" not in list(METHODS)
    assert "toy_plain" in REMEDIES and "toy_data" in DATASETS and "toy_model" in MODELS
    with pytest.raises(InputError, match=r"unknown method 'toy_tun': choose one of .*\btoy_tune\b"):
        select("toy_tun")
    assert "toy_package" not in sys.modules and registry.USED == {}
    assert METHODS["toy_tune"].numeric["lr"] == 0.02 and METHODS.get("toy_tune") is METHODS["toy_tune"]
    assert environment()["versions"]["toy-package"] == "1.2"  # in manifests
    assert METHODS.get("toy_none", 3) == 3 and "toy_none" not in METHODS
    with pytest.raises(KeyError, match="toy_none"):
        METHODS["toy_none"]


def test_a_method_is_selected_by_name_and_is_in_no_group(good):
    assert select("scrub,toy_tune") == ["scrub", "toy_tune"]
    assert "toy_tune" not in select("all") + select("core")
    assert METHODS["toy_tune"] and "toy_tune" not in methods_table() and len(METHODS) == len(list(METHODS))
    config = StudyConfig(methods="core,toy_tune", hp=("toy_tune.lr=.1,.2",))
    assert list(resolve(config).wrapped) == [*CORE, "toy_tune"]
    assert resolve(config).settings == {"toy_tune": {"lr": [0.1, 0.2]}}
    fold, plan, hp = prepare("toy_tune", toy.problem(), {"epochs": 2, "batch": 16}, toy.SIZES)
    assert plan.steps == 6 and hp == {"lr": 0.02, "weight_decay": 0.0}
    with pytest.raises(InputError, match="method 'toy_tune' has no hyperparameter 'tempo'"):
        check_setting("toy_tune", "tempo")


def test_a_metric_is_measured_where_it_is_asked_for_and_shown(good):
    assert [row.metric for row in study_metrics("toy_gap,tow")] == ["tow", "toy_gap"] and not study_metrics("")
    ((told, _),) = further([("toy_gap", "", "forget", "oracle"), ("price_margin", "", "rest", "oracle")])
    assert told.name == "toy gap" and "toy_gap" not in {row.metric for row in study_metrics("all")}


def test_remedies_data_and_models_are_found_by_name(good):
    assert select_remedies("all,toy_plain") == [*REMEDIES, "toy_plain"] and "toy_plain" not in list(REMEDIES)
    assert remedy_settings("toy_plain", {"width": 1.0}) == {"width": 1.0}
    assert isinstance(Remedied(None), tuple) and load_dataset("toy_data").train.inputs.shape == (40, 4, 4, 1)
    assert resolve(StudyConfig(dataset="toy_data")).kind == "image"
    assert model_options("toy_model") == {"hidden": 3} and reads("toy_model") == ("images", "vectors")
    model = build_model("toy_model", 3, (4, 4, 1), hidden=5)
    variables = model.init(toy.member_keys(0, "a", 1)[0], np.ones((1, 4, 4, 1)))
    assert variables["params"]["head"]["kernel"].shape == (5, 3)
    with pytest.raises(InputError, match="unknown toy_model option 'depth': choose one of hidden"):
        build_model("toy_model", 3, (4, 4, 1), depth=5)


def test_a_name_that_is_built_in_stays_what_it_was_with_a_warning(site):
    names = {"methods": {"scrub": "x"}, "datasets": {"digits": "x"}, "models": {"mlp": "x"}}
    install(site, "toy-clash", names, "x = 1")
    own = METHODS["scrub"]
    said = "package 'toy-clash' offers the method 'scrub', which is there already: give it another name"
    with pytest.warns(UserWarning, match=said):
        assert select("scrub") == ["scrub"]
    assert select("scrub") == ["scrub"]  # said once
    assert METHODS["scrub"] is own and select("core") == list(CORE) and prepare("finetune", toy.problem())
    with pytest.warns(UserWarning, match="package 'toy-clash' offers the model 'mlp'"):
        build_model("mlp", 3, (4, 4, 1))
    with pytest.warns(UserWarning, match="package 'toy-clash' offers the data set 'digits'"):
        load_dataset("digits")
    assert "toy_clash" not in sys.modules


BROKEN = {
    "methods": {"toy_absent": "absent", "toy_misnamed": "misnamed", "toy_needy": "needy"}
    | dict.fromkeys(("toy_text", "toy-dash", "expand", "oracle", "all"), "text"),
    "remedies": {"toy_number": "number", "toy_text": "text"},
    "datasets": {"toy_number": "number", "toy_bare": "bare", "toy_none": "none", "toy_kind": "kind"},
    "models": {"toy_bare": "bare"},
}
SOURCE = """
from unlearn_jax import load_dataset
from unlearn_jax.methods import METHODS

text, number, bare = "an entry", 3, lambda: None
misnamed = METHODS["scrub"]
needy = misnamed._replace(name="toy_needy", needs=frozenset({"luck"}))
none = lambda data_dir: None
kind = lambda data_dir: load_dataset("digits")._replace(kind="text")
"""


@pytest.mark.parametrize(
    "use, said",
    [
        (lambda: select("toy_absent") and METHODS["toy_absent"], r"the method 'toy_absent', but importing "
         r"'toy_broken:absent' fails \(AttributeError: module 'toy_broken' has no attribute 'absent'\): repair"),
        (lambda: METHODS["toy_text"], "'toy_broken:text' is of type str, not MethodSpec: repair or uninstall"),
        (lambda: METHODS["toy_misnamed"], "calls itself 'scrub'"),
        (lambda: METHODS["toy_needy"], r"declares needs \['luck'\], which are to be some of forget, retain"),
        (lambda: select("toy-dash"), "'toy-dash': rename it in letters, digits and underscores."),
        (lambda: select("expand"), "'expand', a name that means something else here: give it another one"),
        (lambda: select("oracle"), "'oracle', a name that means something else here"),
        (lambda: METHODS["all"], "'all', a name that means something else here"),
        (lambda: REMEDIES["toy_number"], "the remedy 'toy_number', but 'toy_broken:number' is of type int, not Remedy"),
        (lambda: select_remedies("toy_text"), "the remedy 'toy_text', a name that means something else here"),
        (lambda: load_dataset("toy_number"), "is of type int, not a function"),
        (lambda: load_dataset("toy_bare"), r"cannot be called as the library calls it \(got an unexpected keyword"),
        (lambda: model_options("toy_bare"), r"cannot be called as the library calls it \(too many positional"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_in_one_sentence_that_names_the_package(site, use, said):
    install(site, "toy-broken", BROKEN, SOURCE)
    assert ": " in one_sentence(f"package 'toy-broken' offers .*{said}", use)
    assert select("all") == list(METHODS) and select_remedies("all") == list(REMEDIES)  # nobody else is troubled


def test_data_of_another_type_or_kind_and_a_package_that_fails_to_import_are_refused(site):
    install(site, "toy-broken", BROKEN, SOURCE)
    one_sentence("data set 'toy_none' is of type NoneType: return what from_arrays", lambda: load_dataset("toy_none"))
    said = r"is of kind text, its entry says image: enter it as DatasetSpec\(load"
    one_sentence(said, lambda: load_dataset("toy_kind"))
    install(site, "toy-crash", {"methods": {"toy_crash": "x"}}, "raise RuntimeError('no\\nsuch luck')")
    with pytest.raises(InputError, match=r"package 'toy-crash' .* fails \(RuntimeError: no\): repair or uninstall"):
        prepare("toy_crash", toy.problem())
    assert prepare("finetune", toy.problem()) and select("core") == list(CORE)


def test_two_packages_may_not_offer_one_name(site):
    for package in ("toy-first", "toy-second"):
        install(site, package, {"methods": {"toy_twice": "x"}}, "x = 1")
    one_sentence("packages '.*' and '.*' offer the method 'toy_twice': uninstall all of", lambda: select("toy_twice"))


def test_everything_that_is_installed_can_be_listed(good):
    install(good, "toy-broken", {"methods": {"toy_text": "x", "scrub": "x"}}, "x = 1")
    found = {(offer.noun, offer.name): offer for offer in registry.installed()}
    sound = [("method", "toy_tune"), ("remedy", "toy_plain"), ("data set", "toy_data"), ("model", "toy_model")]
    assert {key: found[key][2:] for key in sound} == dict.fromkeys(sound, ("toy-package", "1.2", ""))
    assert "is of type int, not MethodSpec" in found["method", "toy_text"].fault
    assert "which is there already" in found["method", "scrub"].fault

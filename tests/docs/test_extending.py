"""The page on extending, run as the one script that it is."""

import re
from pathlib import Path

import numpy as np
import pytest
import toy

from unlearn_jax import DATASETS, METHODS
from unlearn_jax.errors import InputError
from unlearn_jax.methods.support.common import MethodSpec
from unlearn_jax.models import build_model
from unlearn_jax.remedies import REMEDIES, Remedy
from unlearn_jax.results.tables import read_csv
from unlearn_jax.testing import check_method

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
pytest_plugins = ["unlearn_jax.testing.fixtures"]
SMALLER = ("members=8, steps=60, batch=16, resamples=200", "members=4, steps=4, batch=16, resamples=20")


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """(names that the page's script leaves, its folder)."""
    folder, names = tmp_path_factory.mktemp("extending"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        whole = "\n".join(BLOCKS)
        assert SMALLER[0] in whole
        with toy.quick_programs():
            exec(compile(whole.replace(*SMALLER), PAGE.name, "exec"), names)
        yield names, folder


def test_the_page_adds_one_of_each(script):
    assert len(BLOCKS) == 8 and isinstance(METHODS["doubt"], MethodSpec) and isinstance(REMEDIES["nearby"], Remedy)
    assert script[0]["sizes"] == [643, 643]
    for name in ("net", "nnx_net"):
        model = build_model(name, 3, (6, 6, 1), width=4)
        images = np.zeros((2, 6, 6, 1), np.float32)
        assert model.apply(model.init(toy.member_keys(0, "a", 1)[0], images), images)[0].features.shape == (2, 4)
    data = DATASETS["stripes"]()
    assert data.train.inputs.shape == (120, 6, 6, 1) and data.num_classes == 3


def test_the_study_has_the_method_at_both_settings_with_and_without_the_remedy(script):
    rows = [row for row in read_csv(script[1] / "runs/stripes/summary.csv") if row["metric"] == "residual_distance"]
    found = {(row["method"], row["remedy"], row["setting"]) for row in rows if row["method"] == "doubt"}
    assert found == {("doubt", remedy, f"pull={pull}") for remedy in ("", "nearby") for pull in ("0.5", "1")}


def test_the_study_has_the_metric_of_every_population_against_both_references(script):
    rows = [row for row in read_csv(script[1] / "runs/stripes/summary.csv") if row["metric"] == "spread_ratio"]
    assert {row["reference"] for row in rows} == {"oracle", "retrain"}
    assert {row["method"] for row in rows} >= {"original", "retrain", "oracle", "doubt"}
    assert all(np.isfinite(float(row["value"])) for row in rows)


def test_the_contract_is_a_fixture_too(script, method_contract):
    assert method_contract is check_method
    with pytest.raises(InputError, match="method 'doubt' has no hyperparameter 'tempo'"):
        method_contract(METHODS["doubt"], {"tempo": 1.0})


@pytest.mark.slow
def test_the_method_keeps_the_contract(script):
    with toy.quick_programs():
        script[0]["test_doubt_keeps_the_contract"]()

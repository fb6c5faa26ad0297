"""What an attribution study refuses, in one sentence and before anything is written; and studies without copies."""

import csv
import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import toy
from pyarrow import parquet
from refusals import refuses

from unlearn_jax.attribution import AttributionConfig, law, run, run_attribution, tracks
from unlearn_jax.attribution.estimators import ESTIMATORS, chosen
from unlearn_jax.attribution.ground import prepare_ground
from unlearn_jax.errors import InputError

SUBSETS = 16
CONFIG = AttributionConfig(  # small in every way
    train_size=80, num_targets=3, copies=2, queries=6, subsets=SUBSETS, repeats=2, ensemble=1,
    steps=20, targets="random", model_options=("widths=8",),
)  # fmt: skip


def test_a_folder_that_holds_something_else_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "prepare_ground", None)
    path = tmp_path / "manifest.json"
    for content in (json.dumps({"config": dataclasses.asdict(CONFIG) | {"seed": 1}}), "[]", "{", "{}"):
        path.write_text(content)
        refuses("holds another run: give another --out folder", run_attribution, CONFIG, tmp_path)
        assert path.read_text() == content and len(list(tmp_path.iterdir())) == 1
    refuses("is a file", run_attribution, CONFIG, path)


BAD = {
    "estimator": ({"estimators": "influence,tea"}, "unknown estimator 'tea': choose one of all, cosine"),
    "no estimator": ({"estimators": " ,"}, "--estimators is empty"),
    "track": ({"tracks": "exact,rail"}, "unknown track 'rail'"),
    "no track": ({"tracks": ""}, "--tracks is empty: give exact or network"),
    "repeats": ({"repeats": 1}, "--repeats is 1: give at least 2"),
    "subsets": ({"subsets": 15}, "--subsets is 15: give at least 16"),
    "targets": ({"num_targets": 1}, "--num-targets is 1: give at least 2"),
    "ensemble": ({"ensemble": 0}, "--ensemble is 0"),
    "copies": ({"copies": -1}, "--copies is -1: give at least 0"),
    "l2": ({"l2": 0.0}, "--l2 is 0"),
    "infinite l2": ({"l2": float("inf")}, "--l2 is inf"),
    "nan damping": ({"damping": float("nan")}, "--damping nan"),
    "who": ({"targets": "class"}, "unknown targets 'class': choose one of atypical, random"),
    "facts": ({"dataset": "facts", "train_size": 0}, "--dataset facts has no classes"),
    "data": ({"dataset": "nowhere.npz"}, "nowhere.npz"),
    "model": ({"model": "tree"}, "tree"),
    "many copies": ({"num_targets": 30, "copies": 4}, "--copies 4 makes 120 similar images"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_writes_nothing(case, tmp_path):
    changes, said = BAD[case]
    with pytest.raises(InputError) as error:
        run_attribution(dataclasses.replace(CONFIG, **changes), tmp_path / "runs" / "run")
    assert said in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_inputs_that_a_regression_cannot_take_are_refused_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr("unlearn_jax.attribution.ground.MAX_INPUTS", 63)
    config, told = dataclasses.replace(CONFIG, targets="atypical"), "the exact track takes 63 values a sample"
    refuses(f"{told} .* give --tracks network", run_attribution, config, tmp_path / "run")
    assert not list(tmp_path.iterdir())
    assert len(prepare_ground(dataclasses.replace(CONFIG, tracks="network")).train) == 86


def test_estimators_come_in_the_order_of_the_registry_once():
    assert chosen("trak, influence,trak") == ["influence", "trak"] and chosen("gram,all") == list(ESTIMATORS)
    assert run.tracks_of(dataclasses.replace(CONFIG, tracks="network, exact,network")) == ["network", "exact"]


@pytest.mark.slow
def test_without_copies_only_single_examples_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(law, "COPIES", (0, 1))
    config = dataclasses.replace(CONFIG, copies=0, estimators="gram,datamodel", tracks="exact", num_targets=2)
    with toy.quick_programs():
        out = run_attribution(config, tmp_path / "run")
    table = parquet.read_table(out / "removals.parquet").to_pydict()
    assert set(table["removed"]) == {"target"} and set(table["estimator"]) == {"gram", "datamodel"}
    with (out / "summary.csv").open() as file:
        metrics = {(r["removed"], r["metric"]) for r in csv.DictReader(file)}
    assert {"carried_by_similar", "similar_found"}.isdisjoint(m for _, m in metrics) and ("half", "lds") in metrics
    assert parquet.read_table(out / "carriers.parquet").to_pydict()["similar"] == [0.0] * 4
    assert json.loads((out / "manifest.json").read_text())["examples"]["train"] == 80


@pytest.mark.parametrize("copies", [0, 1])
def test_networks_without_clusters_are_trained_only_where_there_are_clusters(copies, monkeypatch):
    ground, roles = prepare_ground(dataclasses.replace(CONFIG, copies=copies)), []
    variables = {"params": {"w": np.zeros((1, 2), np.float32)}, "state": {}}
    train = lambda *a, role, **k: roles.append((role, len(a[2]))) or SimpleNamespace(variables=variables, seconds=0.0)

    def say(model, task, variables, batch, **more):
        margins = np.random.default_rng(0).normal(size=(roles[-1][1], len(batch.weight)))
        return SimpleNamespace(margin=margins, correct=margins > 0)

    monkeypatch.setattr(tracks, "train_subsets", train)
    monkeypatch.setattr(tracks, "outputs_of", say)
    track = tracks.network_track(CONFIG, ground)
    clusters = [("without clusters", 9)] * copies
    assert roles == [("without singles", 9), *clusters, ("halves", SUBSETS), ("everything", 1)]
    assert track.clusters.value.shape == track.singles.value.shape and set(track.seconds) == dict(roles).keys()

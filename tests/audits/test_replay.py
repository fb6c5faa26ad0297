"""An audit of a tiny study: the populations are the study's own, and nothing is trained twice."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from pyarrow import parquet

from unlearn_jax.audits import Precision, audit_study
from unlearn_jax.audits import look as look_module
from unlearn_jax.audits import replay as replays
from unlearn_jax.errors import InputError
from unlearn_jax.metrics import margin
from unlearn_jax.population import run as runner
from unlearn_jax.roles import NULLS
from unlearn_jax.studies import influence_share
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.run import run_study

MEMBERS, TARGETS = 8, 4
CONFIG = StudyConfig(  # small in every way
    train_size=200,
    test_size=60,
    num_targets=TARGETS,
    members=MEMBERS,
    steps=40,
    copies="0,2",
    methods="do_nothing,gradient_ascent",
    resamples=50,
    targets="random",
    model_options=("widths=12",),
    hp=("gradient_ascent.lr=1e-4,1e30",),
)
HOW = Precision(draws=20, splits=20, resamples=40)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A finished study's folder, its audit, what the audit had trained, and its populations."""
    folder = tmp_path_factory.mktemp("audit")
    run, trained, seen = folder / "run", [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(influence_share, "MEMBERS", 1)
        run_study(CONFIG, run, store=folder / "populations")
    keep, look = runner.checkpoint.save_chunk, replays.replayed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner.checkpoint, "save_chunk", lambda *a, **k: trained.append(a[3]["label"]) or keep(*a, **k))
        patch.setattr(look_module, "FEATURED", 2)
        patch.setattr(replays, "replayed", lambda *a, **k: seen.append(look(*a, **k)) or seen[0])
        out = audit_study(run, how=HOW, command="audit")
    return run, out, trained, seen[0]


def test_only_the_populations_for_null_bands_are_trained(study):
    assert set(study[2]) == {"null", "null_b", "null_c", "retrain_b", "retrain_c"}


def test_the_populations_are_those_of_the_study(study):
    run, _, _, panels = study
    index = parquet.read_table(run / "margins" / "index.parquet").to_pydict()
    column = {split: [r for r, s in zip(index["row"], index["split"]) if s == split] for split in ("forget", "similar")}
    for panel in panels.populations:
        name = panel.name + (f"@{panel.setting}" if panel.setting else "")
        if panel.name in NULLS or panel.setting == "lr=1e+30":
            continue
        kept = np.load(run / "margins" / f"{name}.npy")
        for split, columns in column.items():
            mine = margin(panel.logits[0][split], panels.ground[0].labels[split])
            np.testing.assert_allclose(mine, kept[:, columns], rtol=2e-4, atol=2e-4)


def test_null_populations_are_like_the_oracle_and_are_not_it(study):
    panels = study[3]
    mine, other = (panels.find(name).logits[0]["forget"] for name in ("oracle", "null"))
    assert np.abs(mine - other).max() > 0.1 and abs(mine.mean() - other.mean()) < 1.0


def test_everything_that_asks_for_weights_was_measured(study):
    names = {f"{r['metric']} {r['variant']}".strip() for r in rows(study[1])}
    assert {
        "relearning_steps on the request",
        "benign_relearning_steps on similar samples",
        "linear_probe logistic",
    } <= names
    assert {"zrf all", "linear_cka debiased", "knn_overlap k=10", "residual_knowledge gaussian", "cost_rte"} <= names
    assert {"entanglement midpoint", "gradient_coupling total", "gradient_coupling own cluster"} <= names
    assert any(name.startswith("weight_distance") and name.endswith("from original") for name in names)
    with np.load(study[1] / "curves.npz") as curves:
        assert {"noise_radii", "fpr", "relearning/oracle", "targeted/gradient_ascent[lr=0.0001]/oracle"} <= set(
            curves.files
        )


def rows(out):
    """Rows of audit.csv."""
    with (out / "audit.csv").open() as file:
        return list(csv.DictReader(file))


def test_doing_nothing_is_the_original_and_a_diverged_method_is_said(study):
    value = {
        r["method"]: float(r["value"]) for r in rows(study[1])
        if (r["metric"], r["variant"], r["split"], r["reference"]) == ("klom", "closed", "forget", "oracle")
        and r["setting"] != "lr=1e+30"
    }  # fmt: skip
    assert value["do_nothing"] == pytest.approx(value["original"], rel=1e-3)
    told = json.loads((study[1] / "audit.json").read_text())
    assert any("members of gradient_ascent[lr=1e+30] diverged" in note for note in told["notes"])
    assert told["members"]["oracle"] == MEMBERS and told["methods"] == [
        "gradient_ascent[lr=0.0001]",
        "gradient_ascent[lr=1e+30]",
    ]


@pytest.mark.slow
def test_three_members_and_one_target_are_enough(tmp_path):
    """And the study's own chunks are read although their width is not the usual one."""
    few = {"members": 3, "num_targets": 1, "copies": "1", "methods": "do_nothing", "hp": ()}
    run = run_study(dataclasses.replace(CONFIG, **few), tmp_path / "run", store=tmp_path / "populations", chunk=2)
    trained, keep = [], runner.checkpoint.save_chunk
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner.checkpoint, "save_chunk", lambda *a, **k: trained.append(a[3]["label"]) or keep(*a, **k))
        out = audit_study(run, how=HOW)
    assert set(trained) == {"null", "null_b", "null_c", "retrain_b", "retrain_c"}
    metrics = {r["metric"] for r in rows(out)}
    assert {"klom", "linear_cka", "gradient_coupling", "entanglement"} <= metrics
    assert any("fewer than 8 members" in note for note in json.loads((out / "audit.json").read_text())["notes"])
    (tmp_path / "populations").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="give --store FOLDER"):
        audit_study(run, how=HOW)


@pytest.mark.parametrize(
    "spoil, said",
    [
        (lambda run: (run / "manifest.json").unlink(), "has no manifest.json"),
        (lambda run: (run / "manifest.json").write_text("{"), "no study of this version wrote"),
        (lambda run: (run / "manifest.json").write_text('{"asked": {}, "status": "running"}'), "is not complete"),
        (lambda run: (run / "manifest.json").write_text('{"asked": {"colour": 1}, "status": "x"}'), "no study of this"),
    ],
)
def test_a_folder_that_holds_no_finished_study_is_refused(tmp_path, spoil, said):
    run = tmp_path / "run"
    run.mkdir()
    (run / "manifest.json").write_text("{}")
    spoil(run)
    with pytest.raises(InputError, match=said):
        audit_study(run, how=HOW)
    assert not (run / "audit").exists()


def test_a_negative_rate_is_refused(tmp_path):
    with pytest.raises(InputError, match="--relearn-lr is -1"):
        audit_study(tmp_path, how=HOW, relearn_lr=-1.0)

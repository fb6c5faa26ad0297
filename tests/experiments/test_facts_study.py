"""A study of language in miniature, from the call to the page: what is recorded and what the report shows of it."""

import csv
import dataclasses
import json

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
import toy

from unlearn_jax import reports
from unlearn_jax.data import load_dataset
from unlearn_jax.population import checkpoint
from unlearn_jax.population import run as runner
from unlearn_jax.studies import influence_share
from unlearn_jax.studies import setup as setups
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.run import run_study

FACTS = load_dataset("facts")
CONFIG = StudyConfig(
    dataset="facts", similarity="semantic", copies="2", methods="delete", num_targets=5, members=2, steps=4,
    model_options=("width=16", "depth=1", "heads=2"), resamples=20,
)  # fmt: skip


@pytest.fixture(scope="module", params=[2, pytest.param(0, marks=pytest.mark.slow)], ids="lora={}".format)
def ran(request, tmp_path_factory):
    """A run folder of two members, two copies and five targets with a store beside it; its configuration; its stages.

    By default of adapters on a base, which the study trains as well, so that a whole decoder is trained there too.
    """
    out, stages = tmp_path_factory.mktemp("language") / "run", []
    watch = setups.SILENT._replace(stage=lambda label, members: stages.append((label, members)))
    config = dataclasses.replace(CONFIG, lora=request.param)
    with pytest.MonkeyPatch.context() as patch, toy.quick_programs():
        patch.setattr(influence_share, "MEMBERS", 1)
        return run_study(config, out, watch=watch), config, stages


@pytest.fixture
def run(ran):
    return ran[0]


def test_adapters_are_trained_on_one_base(ran):
    out, config, stages = ran
    if not config.lora:
        assert stages[0] == ("original", 2)
        return
    assert stages[:2] == [("base", 1), ("original", 2)]
    manifest = json.loads((out / "manifest.json").read_text())
    told = manifest["base"]
    assert told["examples"] == 384 and told["seconds"] > 0
    assert told["parameters_of_a_member"] == 16 * 2 + 2 * 48 + 16 * 2 + 2 * 16 < told["parameters"] / 10
    assert any("one frozen base" in note for note in manifest["notes"])
    store = out.parent / "populations"
    kept = [checkpoint.load_chunk(store, path.name) for path in store.iterdir() if path.is_dir()]
    sizes = sorted(sum(np.size(x) for x in jax.tree.leaves(chunk["variables"]["params"])) for chunk in kept)
    assert sizes == [2 * told["parameters_of_a_member"]] * 6 + [told["parameters"]]
    margins = {p.stem: np.load(p) for p in (out / "margins").glob("*.npy")}
    assert {"original", "oracle", "delete"} <= set(margins) and all(np.isfinite(m).all() for m in margins.values())


@pytest.mark.slow
def test_a_study_that_was_killed_goes_on_from_the_store(ran, monkeypatch, tmp_path):
    out, config, _ = ran
    monkeypatch.setattr(runner, "train_chunk", lambda *args: pytest.fail("trained again"))
    again = run_study(config, tmp_path / "again", store=out.parent / "populations")
    for path in (out / "margins").glob("*.npy"):
        np.testing.assert_array_equal(np.load(path), np.load(again / "margins" / path.name))


def test_the_records_have_every_split_of_language_and_its_measured_similarity(run):
    with (run / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = {row["split"] for row in rows if row["metric"] == "accuracy"}
    assert found == {"forget", "similar", "rest", "validation", "test", "test_similar"}
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["config"]["model"] == "decoder" and manifest["config"]["targets"] == "random"
    measured = manifest["similarity"]["2"]
    assert set(measured) - {"minilm"} == {"words", "edit", "tfidf", "embedding"} and 0 < measured["words"]["mean"] < 0.9
    assert 0 < measured["edit"]["mean"] < 1 and 0 < measured["tfidf"]["mean"] < 1


def test_who_carries_the_targets_is_told_of_language_too(ran):
    run, config, _ = ran
    with (run / "summary.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["metric"] == "carried_by_similar"]
    noted = [note for note in json.loads((run / "manifest.json").read_text())["notes"] if "who carries" in note]
    if config.lora:  # adapters have no layer to tap
        assert rows == [] and len(noted) == 1
    else:
        assert [(r["method"], r["copies"]) for r in rows] == [("original", "2")] and noted == []
        assert np.isfinite(float(rows[0]["value"]))


def test_what_each_population_answers_is_counted_over_its_members(run):
    answers = json.loads((run / "answers.json").read_text())
    assert {"original", "retrain", "oracle", "placebo", "dedup", "delete"} <= set(answers)
    assert all(len(given) == 5 and all(sum(one.values()) == 2 for one in given) for given in answers.values())


def figures(run, **keys):
    """Rows of the summary by (method, metric, split, reference)."""
    with (run / "summary.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if all(r[k] == v for k, v in keys.items())]
    return {(r["method"], r["metric"], r["split"], r["reference"]): float(r["value"]) for r in rows}


def test_every_population_has_every_figure_of_language(run):
    found = figures(run)
    everyone = {"original", "retrain", "oracle", "placebo", "dedup", "delete"}
    for metric, split in [
        ("answer_probability", "test"), ("rouge_l", "similar"), ("exact_memorisation", "forget"),
        ("extraction_strength", "forget"), ("log_truth_ratio", "test_similar"), ("truth_ratio_retain", "test"),
        ("log_truth_ratio_public", "test_similar"), ("model_utility", "rest"), ("auc_loss", "forget"),
        ("auc_min_k", "forget"), ("auc_min_k_plus_plus", "forget"), ("auc_zlib", "forget"),
    ]:  # fmt: skip
        assert {m for m, name, at, _ in found if (name, at) == (metric, split)} == everyone, metric
    for metric in ("forget_quality", "forget_quality_distance", "privleak"):
        for reference in ("retrain", "oracle"):
            assert {m for m, name, _, r in found if (name, r) == (metric, reference)} == everyone - {reference}


def test_the_stored_tokens_give_the_recorded_figures(run):
    """Recomputed from the files alone, as somebody would who has only the run folder."""
    index, found, train = pq.read_table(run / "margins/index.parquet").to_pylist(), figures(run), FACTS.train
    forget = [row for row in index if row["split"] == "forget"]
    at, stated = [row["row"] for row in forget], [train.ids.tolist().index(row["dataset_id"]) for row in forget]
    truth = train.targets[stated][train.targets[stated] >= 0].reshape(len(at), 2)
    for method in ("original", "delete"):
        with np.load(run / f"margins/{method}.tokens.npz") as tokens:
            logprob, greedy, likeliest = (tokens[name][:, at] for name in ("logprob", "greedy", "likeliest"))
        right = likeliest == truth
        expected = {
            "answer_probability": np.exp(logprob.mean(axis=2)).mean(),
            "exact_memorisation": right.mean(),
            "extraction_strength": (np.cumprod(right[..., ::-1], axis=2).sum(axis=2) / 2).mean(),
        }
        for metric, value in expected.items():
            assert found[method, metric, "forget", ""] == pytest.approx(value, rel=1e-5, abs=1e-9)
        np.testing.assert_array_equal(greedy[..., 0], likeliest[..., 0])  # neither was told anything of the answer
        first = greedy[..., 0] == truth[..., 0]
        np.testing.assert_array_equal(greedy[first], likeliest[first])  # both were told a right first word


def test_the_report_shows_statements_and_answers_in_place_of_pictures(run, unsaved):
    page = reports.write_report(run).read_text(encoding="utf-8")
    with np.load(run / "gallery.npz") as gallery:
        texts = gallery["texts"]
    assert texts.shape == (5, 3) and all(str(text) in page for text in texts.ravel())
    assert 'id="answers"' in page and page.count("extraction<br>strength") == 1
    assert "Word cosine" in page and "population</th>" in page and "<img src=" not in page.split("Targets and their")[1]

"""A study of language in miniature, from the call to the page: what is recorded and what the report shows of it."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))

import report

from unlearn_jax.config import StudyConfig
from unlearn_jax.study import run_study


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder of two members, two copies and five targets."""
    out = tmp_path_factory.mktemp("language") / "run"
    config = StudyConfig(
        dataset="facts", similarity="semantic", copies="2", methods="delete", num_targets=5, members=2, steps=4,
        model_options=("width=16", "depth=1", "heads=2"), resamples=20,
    )  # fmt: skip
    return run_study(config, out)


def test_the_records_have_every_split_of_language_and_its_measured_similarity(run):
    with (run / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = {row["split"] for row in rows if row["metric"] == "accuracy"}
    assert found == {"forget", "similar", "rest", "test", "test_similar"}
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["config"]["model"] == "decoder" and manifest["config"]["targets"] == "random"
    measured = manifest["similarity"]["2"]
    assert set(measured) - {"minilm"} == {"words", "edit", "tfidf", "embedding"} and 0 < measured["words"]["mean"] < 0.9
    assert 0 < measured["edit"]["mean"] < 1 and 0 < measured["tfidf"]["mean"] < 1


def test_what_each_population_answers_is_counted_over_its_members(run):
    answers = json.loads((run / "answers.json").read_text())
    assert {"original", "retrain", "oracle", "placebo", "dedup", "delete"} <= set(answers)
    assert all(len(given) == 5 and all(sum(one.values()) == 2 for one in given) for given in answers.values())


def test_the_report_shows_statements_and_answers_in_place_of_pictures(run):
    page = report.write_report(run).read_text(encoding="utf-8")
    with np.load(run / "gallery.npz") as gallery:
        texts = gallery["texts"]
    assert texts.shape == (5, 3) and all(str(text) in page for text in texts.ravel())
    assert "Word cosine" in page and "population</th>" in page and "<img src=" not in page.split("Targets and their")[1]

"""Which remedies a study runs around which methods, and how their settings are read."""

import dataclasses

import numpy as np
import pytest

from unlearn_jax.errors import InputError
from unlearn_jax.evaluation.scoring import found_quality
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.hyperparameters import values_of
from unlearn_jax.studies.remedies import check_remedies, left_out_remedies, role_of
from unlearn_jax.studies.resolve import resolve

STUDY = StudyConfig(methods="do_nothing,finetune,scrub,sisa", remedies="expand,perturb,cluster_sharding")


def test_a_remedy_wraps_the_methods_that_it_can_and_says_why_not_the_others():
    assert list(resolve(STUDY).pairs) == [
        *(("do_nothing", "expand"), ("finetune", "expand")),
        *(("scrub", "expand"), ("scrub", "perturb")),
        *(("sisa", "expand"), ("sisa", "cluster_sharding")),
    ]
    said = [said for _, said in left_out_remedies(resolve(STUDY))]
    assert "do_nothing+perturb was not run: it changes nothing" in said
    assert "finetune+perturb was not run: it reads no requested sample" in said
    assert "scrub+cluster_sharding was not run: it has no shards" in said


def test_remedies_that_data_or_inputs_have_no_use_for_are_left_out():
    words = dataclasses.replace(STUDY, dataset="reuters_r8", methods="scrub", remedies="perturb,paraphrase")
    assert list(resolve(words).pairs) == [("scrub", "perturb")]
    assert left_out_remedies(resolve(words)) == [
        ("", "paraphrase is not defined for models of vectors and was not run")
    ]
    tokens = dataclasses.replace(words, model="encoder")
    assert list(resolve(tokens).pairs) == [("scrub", "paraphrase")]
    facts = dataclasses.replace(words, dataset="facts", remedies="tilt,paraphrase")
    assert list(resolve(facts).pairs) == [("scrub", "paraphrase")]
    assert ("", "tilt is not defined for facts data and was not run") in left_out_remedies(resolve(facts))


def test_a_named_remedy_that_no_method_can_take_is_refused():
    check_remedies(resolve(dataclasses.replace(STUDY, remedies="all", methods="do_nothing")))
    with pytest.raises(InputError, match="remedy 'cluster_sharding' has nothing to do: scrub.cluster_sharding was not"):
        check_remedies(resolve(dataclasses.replace(STUDY, remedies="cluster_sharding", methods="scrub")))


def test_a_request_smaller_than_its_parts_is_refused_before_anything_runs():
    few = dataclasses.replace(STUDY, remedies="partition", hp=("partition.parts=2,9",), num_targets=5)
    with pytest.raises(InputError, match="partition.parts is 9 and a request has 5: give at most that"):
        check_remedies(resolve(few))
    check_remedies(resolve(dataclasses.replace(few, num_targets=9)))


def test_members_trained_anew_share_no_draws_with_the_originals():
    assert role_of("scrub", "expand") == "original"
    assert role_of("retrain", "expand") == "retrain+expand"
    assert role_of("sisa", "cluster_sharding") == "sisa+cluster_sharding"


def test_settings_are_read_in_their_own_type_and_checked_before_anything_runs():
    config = dataclasses.replace(STUDY, hp=("expand.k=4,8", "expand.rule=mutual", "perturb.radius=.1,1"))
    found = resolve(config).settings
    assert found["expand"] == {"k": [4, 8], "rule": ["mutual"]} and found["perturb"] == {"radius": [0.1, 1.0]}
    for text, said in {
        "expand.rule=magic": "unknown value of expand.rule 'magic': choose one of auto, carriers, mutual, nearest",
        "expand.k=-1": "expand.k is -1: give 0 or more",
        "expand.size=3": "remedy 'expand' has no setting 'size'",
        "weight.width=1": "--hp names 'weight', which this study does not run: add it to --remedies",
    }.items():
        with pytest.raises(InputError, match=said):
            _ = resolve(dataclasses.replace(STUDY, hp=(text,))).settings
    with pytest.raises(InputError, match="project.adjacent is 2.0: it is a share, give at most 1"):
        values_of("project", "adjacent", "2")
    assert values_of("project", "expand", "true,false") == [True, False]


def test_quality_of_a_search_is_precision_recall_and_number():
    rows = type("Rows", (), {"similar": np.array([1, 2, 3, 4])})
    assert found_quality(rows, np.array([2, 3, 9])) == (pytest.approx(2 / 3), 0.5, 3.0)
    none = found_quality(rows, np.array([], int))
    assert np.isnan(none[0]) and none[1:] == (0.0, 0.0)


@pytest.mark.parametrize(
    ("dataset", "similarity", "said"),
    [("digits", "terms", "is for token sequences"), ("facts", "aligned", "is for images"), ("digits", "aligned", "")],
)
def test_a_similarity_that_does_not_suit_the_data_is_refused_before_anything_runs(dataset, similarity, said):
    asked = StudyConfig(dataset=dataset, remedies="expand", hp=(f"expand.similarity={similarity}",))
    if not said:
        check_remedies(resolve(asked))
        return
    with pytest.raises(InputError, match=f"--hp expand.similarity: similarity '{similarity}' {said}"):
        check_remedies(resolve(asked))

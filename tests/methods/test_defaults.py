"""Shipped defaults bear a request of any size: what is bounded by the plan, and, slow, what every method does."""

import numpy as np
import pytest
import toy

from unlearn_jax.errors import InputError
from unlearn_jax.methods import METHODS, SMALL, prepare, settings_at
from unlearn_jax.methods.support.common import unforgotten
from unlearn_jax.population.plans import Sizes, request_batch, request_batches
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.resolve import resolve
from unlearn_jax.sweeps.defaults import Effect, alike, effects

SPLIT = [name for name, entry in METHODS.items() if "pieces" in entry.static]
REQUEST_LENGTH = ("gradient_ascent", "grad_diff", "kl_retain", "npo", "simnpo", "undial", "satimp")
STUDIES = {  # random targets of a seed that no reported study has
    "30": {"targets": "random", "num_targets": 30, "copies": "4"},
    "150": {"targets": "random", "num_targets": 150, "copies": "2"},
    "class": {"targets": "whole_class", "copies": "0"},
}


def study(size, methods="all", **more):
    """The configuration of a study on digits at one size of the request."""
    return StudyConfig(members=8, seed=7, methods=methods, **STUDIES[size], **more)


def updates_on_request(name, scale, count):
    """Updates of a method's plan that read the request, whose number is not a pass of statistics."""
    plan = prepare(name, toy.problem(), {}, Sizes(count, 1200, 10), scale=scale)[1]
    return int((plan.forget_cost > 0).sum())


@pytest.mark.parametrize("name", sorted(set(SPLIT) - {"boundary_shrink"}))  # which reads its labels in a pass first
def test_the_number_of_updates_on_the_request_does_not_grow_with_it(name):
    assert {*REQUEST_LENGTH, "scrub", "scrub_r", "delete"} <= set(SPLIT)
    for scale in SMALL:
        counts = [updates_on_request(name, scale, count) for count in (30, 150, 1000, 6000)]
        assert settings_at(METHODS[name], scale)[0]["pieces"] > 0
        assert max(counts) == counts[-1] <= 1.2 * counts[0]  # 30 in 12 pieces are 10 batches of 3


@pytest.mark.parametrize("scale", ["cifar", "language"])
def test_published_settings_count_passes_over_the_whole_request(scale):
    for name in SPLIT:
        if scale in METHODS[name].presets and name not in ("scrub", "scrub_r"):
            assert settings_at(METHODS[name], scale)[0]["pieces"] == 0
    for name in ("scrub", "scrub_r"):
        assert settings_at(METHODS[name], "cifar")[0]["pieces"] == 0


@pytest.mark.parametrize("count", [1, 2, 11, 12, 13, 30, 150, 5000])
@pytest.mark.parametrize("pieces", [0, 1, 4, 12])
def test_pieces_split_a_request_evenly_and_batches_stay_within_their_size(count, pieces):
    sizes = Sizes(count, 100)
    batch, number = request_batch(sizes, 128, pieces), request_batches(sizes, 128, pieces)
    assert 1 <= batch <= min(128, count)
    assert batch * number >= count or number == pieces  # a pass shows all, or as many as it may
    assert pieces == 0 or number <= pieces
    assert batch * (number - 1) < count


def test_an_example_stops_counting_at_the_bound():
    losses = np.array([0.0, 1.0, np.log(3.0) - 1e-3, np.log(3.0) + 1e-3, 50.0], np.float32)
    np.testing.assert_array_equal(unforgotten(toy.problem(), losses, 1.0), [1, 1, 1, 0, 0])
    np.testing.assert_array_equal(unforgotten(toy.problem(), losses, np.inf), np.ones(5))


@pytest.mark.parametrize(
    "name", ["scrub", "scrub_r", "neggrad_plus", "sfron", "gradient_ascent", "rurk", "rfe", "l2ul"]
)
def test_ascent_ends_at_chance_at_every_small_scale_and_is_published_at_cifar(name):
    assert all(settings_at(METHODS[name], scale)[1]["bound"] == 1.0 for scale in SMALL)
    if name not in ("rurk", "rfe"):  # whose bound is ours at every scale
        assert settings_at(METHODS[name], "cifar")[1]["bound"] == np.inf


def test_no_default_is_refused_at_any_size():
    checked = [entry for entry in METHODS.values() if entry.check is not None]
    assert checked
    for entry in checked:
        for sizes in (Sizes(1, 1200), Sizes(30, 1170), Sizes(150, 1050), Sizes(600, 600), Sizes(1199, 1)):
            for scale in SMALL:
                entry.check(sizes, *settings_at(entry, scale))


def test_a_group_leaves_out_what_does_not_fit_the_answers_and_a_name_runs_it():
    unfit = {name for name, entry in METHODS.items() if "language" in entry.unfit}
    group = StudyConfig(dataset="facts", methods="all")
    for name in unfit:
        assert f"{name} does not fit language" in resolve(group).left_out[name]
        assert "language" in METHODS[name].reads
        named = StudyConfig(dataset="facts", methods=f"finetune,{name}")
        assert not resolve(named).left_out and name in resolve(named).methods
        assert name not in resolve(StudyConfig(methods="all")).left_out


def test_methods_that_do_the_same_to_every_target_are_alike():
    rng = np.random.default_rng(0)
    shift = rng.normal(size=20)
    made = [Effect("a", 20, 99.0, 99.0, 50.0, 1.0, 0.5, s) for s in (shift, 3.0 * shift + 2.0, -shift)]
    np.testing.assert_allclose(alike(made), [[1, 1, -1], [1, 1, -1], [-1, -1, 1]], atol=1e-9)
    assert made[0].sound and not made[0]._replace(rest=94.9).sound and made[0]._replace(rest=np.nan, refused="so").sound


@pytest.mark.slow
def test_effects_of_a_small_study_are_of_its_methods_and_say_what_is_refused(monkeypatch):
    def refuse(sizes, static, numeric):
        raise InputError("not at this size.")

    monkeypatch.setitem(METHODS, "ssd", METHODS["ssd"]._replace(check=refuse))
    config = StudyConfig(targets="random", copies="1", members=2, steps=60, methods="finetune,ssd,retrain")
    found = {one.method: one for one in effects(config)}
    assert set(found) == {"finetune", "ssd"} and found["ssd"].refused == "not at this size."
    own = found["finetune"]
    assert own.targets == 30 and own.shift.shape == (30,) and 0 < own.worst <= own.rest <= 100
    assert np.isfinite([own.forget, own.margin, own.residual]).all() and not own.refused


@pytest.mark.slow
@pytest.mark.parametrize("size", STUDIES)
def test_every_method_at_its_defaults_keeps_what_remains(size, tmp_path):
    found = list(effects(study(size), store=tmp_path))
    assert len(found) >= 50
    broken = {one.method: round(one.rest, 1) for one in found if not one.sound}
    assert not broken


@pytest.mark.slow
@pytest.mark.parametrize("targets, skip", [("random", 0), ("atypical", 4)])
def test_the_request_length_family_is_told_apart_by_what_it_does_to_targets(targets, skip, tmp_path):
    config = StudyConfig(
        members=8, seed=7, methods=",".join(REQUEST_LENGTH), copies="4", targets=targets, skip_requests=skip
    )
    found = list(effects(config, store=tmp_path))
    assert [one.method for one in found] == list(REQUEST_LENGTH)
    pairs = alike(found)[np.triu_indices(len(found), 1)]
    assert pairs.max() < 0.95

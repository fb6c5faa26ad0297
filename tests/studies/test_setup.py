"""What a prepared study must hold before anything is trained."""

import dataclasses

import jax
import numpy as np
import pytest

from unlearn_jax.data import DATASETS, from_arrays
from unlearn_jax.data.references import reference_rows
from unlearn_jax.data.similarity.copies import pixel_embedding
from unlearn_jax.data.splits import request_rows
from unlearn_jax.errors import InputError
from unlearn_jax.population.members import make_tables, member_keys
from unlearn_jax.population.run import run_population
from unlearn_jax.studies import problems
from unlearn_jax.studies import setup as setups
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.resolve import resolve

CONFIG = StudyConfig(
    dataset="mine",
    model="mlp",
    targets="random",
    num_targets=4,
    requests=2,
    members=2,
    copies="0,2",
    similarity="exact",
    methods="none",
    steps=5,
    batch=16,
)


@pytest.fixture
def images(monkeypatch):
    """Pixels of a registered data set of 90 training images in 3 classes, to be changed in place."""
    pixels = np.random.default_rng(0).integers(0, 256, (120, 6, 6, 1)).astype(np.uint8)
    labels = np.arange(120) % 3
    load = lambda data_dir=None: from_arrays("mine", pixels[:90].copy(), labels[:90], pixels[90:], labels[90:])
    monkeypatch.setitem(DATASETS, "mine", load)
    return pixels


def oracle(setup):
    """Weights of two oracles of the first request."""
    rows = reference_rows("oracle", setup.bench, request_rows(setup.bench, 0, copies=2), 0, 0)
    fold, plan, hp = setup.training
    hp = {name: np.full(2, value) for name, value in hp.items()}
    keys = member_keys(0, "oracle", 2)
    return run_population(fold, plan, setup.stored, make_tables([rows, rows]), keys, {}, hp=hp).variables


def test_the_pixels_of_a_target_have_no_way_to_an_oracle(images):
    before = setups.prepare_study(resolve(CONFIG))
    (target, *_) = request_rows(before.bench, 0, copies=0).forget
    images[target] = 255 - images[target] // 2
    after = setups.prepare_study(resolve(CONFIG))
    assert after.dataset.mean != before.dataset.mean
    assert (after.bench.inputs[target] != before.bench.inputs[target]).any()
    assert after.problem.model is before.problem.model  # mean and std are among the arguments that it is cached by
    for one, other in zip(jax.tree.leaves(oracle(before)), jax.tree.leaves(oracle(after))):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", ["random", "class", "distant", "atypical"])
def test_statistics_are_those_of_the_training_images_outside_all_requests(images, monkeypatch, kind):
    asked = []
    build = problems.build_model
    monkeypatch.setattr(problems, "build_model", lambda *args, **given: asked.append(given) or build(*args, **given))
    problems._image_model.cache_clear()
    setup = setups.prepare_study(resolve(dataclasses.replace(CONFIG, targets=kind)))
    outside = setup.bench.inputs[(setup.bench.origin == 0) & (setup.bench.request < 0)] / 255
    assert len(outside) == 90 - 8
    np.testing.assert_allclose(asked[-1]["mean"], outside.mean((0, 1, 2)), rtol=1e-10)
    np.testing.assert_allclose(asked[-1]["std"], outside.std((0, 1, 2)), rtol=1e-10)


def test_mined_neighbours_of_images_stand_as_copies_and_have_no_way_to_an_oracle(images):
    config = dataclasses.replace(CONFIG, similarity="natural:.2", copies="0,1,2")
    before = setups.prepare_study(resolve(config))
    rows = request_rows(before.bench, 0, copies=2)
    assert before.notes[0].startswith("copies are the nearest training images")
    assert before.notes[1].startswith("neighbours keep their own labels: ")
    near = before.bench.dataset_id[rows.similar]
    np.testing.assert_array_equal(before.bench.labels[rows.similar], before.dataset.train.targets[near])
    unit = pixel_embedding(before.bench.inputs)
    source = {before.bench.cluster[row]: row for row in rows.forget}
    cosine = [unit[row] @ unit[source[before.bench.cluster[row]]] for row in rows.similar]
    assert min(cosine) >= 0.2 - 1e-6 and not np.isin(before.bench.dataset_id[rows.rest], near).any()
    few = request_rows(before.bench, 0, copies=1)
    assert {*few.similar} < {*rows.similar} and len(few.rest) == len(rows.rest)
    images[near[0]] = images[near[0]] // 2 + 60  # as near as before, for the embedding has no scale
    after = setups.prepare_study(resolve(config))
    np.testing.assert_array_equal(after.bench.dataset_id, before.bench.dataset_id)
    assert after.dataset.mean != before.dataset.mean and after.problem.model is before.problem.model


def test_the_names_of_similar_images_and_the_kinds_of_targets_are_checked_against_each_other(images):
    with pytest.raises(InputError, match="choose other --targets than whole_class"):
        setups.prepare_study(resolve(dataclasses.replace(CONFIG, similarity="natural", targets="whole_class")))
    said = (
        r"^8 targets are more than the 0 images with 2 others at cosine 0.9 or more that share none: ask for fewer\.$"
    )
    with pytest.raises(InputError, match=said):
        setups.prepare_study(resolve(dataclasses.replace(CONFIG, similarity="natural")))


def test_more_copies_than_other_images_are_refused_before_any_is_made(images, monkeypatch):
    monkeypatch.setattr(setups, "make_bench", lambda *args, **kwargs: pytest.fail("copies were made"))
    for kind in ("random", "class", "atypical"):
        config = dataclasses.replace(CONFIG, targets=kind, copies="0,100000000")
        with pytest.raises(InputError, match=r"400,000,000 similar .* 86 other training images: give at most 21\.$"):
            setups.prepare_study(resolve(config))


def test_more_copies_than_the_memory_holds_are_refused_before_any_is_made(images, monkeypatch):
    monkeypatch.setattr(setups, "make_bench", lambda *args, **kwargs: pytest.fail("copies were made"))
    monkeypatch.setattr(setups, "_memory", lambda: 9_000.0)
    with pytest.raises(InputError, match="16 copies need about .* GB of memory"):
        setups.prepare_study(resolve(CONFIG))


def test_a_placebo_that_cannot_be_drawn_is_refused_but_for_requests_of_a_class(images):
    with pytest.raises(InputError, match=r"cannot drop \d+ images of class . and keep one.*fewer copies or targets\.$"):
        setups.prepare_study(resolve(dataclasses.replace(CONFIG, requests=1, num_targets=30, copies="1,2")))
    setup = setups.prepare_study(
        resolve(dataclasses.replace(CONFIG, targets="class", requests=2, num_targets=16, copies="0,2"))
    )
    level = lambda copies: [request_rows(setup.bench, r, copies=copies) for r in range(2)]
    assert setups.absent_references(setup.bench, level(0)) == {}
    said = setups.absent_references(setup.bench, level(2))
    assert list(said) == ["placebo"]
    assert said["placebo"].startswith("placebo was left out at 2 copies: placebo cannot drop 32 images of class")
    assert "14 other images that could be dropped" in said["placebo"]

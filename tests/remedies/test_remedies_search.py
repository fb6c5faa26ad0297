"""The search for similar samples, against the rules counted by hand on the toy."""

import numpy as np
import plots
import pytest
import toy

from unlearn_jax.errors import InputError
from unlearn_jax.influence import batch_of, ekfac_fit, ekfac_influence
from unlearn_jax.population.plans import FORWARD
from unlearn_jax.remedies import remedy_settings
from unlearn_jax.remedies.likeness import influence_rows, one_of
from unlearn_jax.remedies.search import (
    SIMILARITIES,
    effective_number,
    found_neighbours,
    rule_of,
    search_cost,
    searched,
    similarity,
    sizes_of,
)

SETTINGS = remedy_settings("expand", {"similarity": "inputs", "rule": "standout", "margin": 0.0})


@pytest.fixture(scope="module")
def evidence(original):
    return plots.evidence("finetune", "expand", original)


def cosines(a, b):
    """Cosines of pixels less their mean."""
    flat = plots.examples()[0].reshape(toy.ROWS, -1).astype(np.float64)
    flat = flat - flat.mean(axis=1, keepdims=True)
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    return unit[a] @ unit[b].T


@pytest.mark.parametrize("name", [name for name in SIMILARITIES if name != "terms"])
def test_every_similarity_is_a_cosine_and_knows_a_copy(name, evidence):
    found = similarity(evidence, 0, name, toy.REQUESTED, toy.KEPT)
    assert found.shape == (10, 40) and np.abs(found).max() <= 1 + 1e-4
    labels = plots.examples()[1]
    for query, row in enumerate(toy.REQUESTED):
        alike = labels[toy.KEPT] == labels[row]
        assert found[query, plots.PLANTED[query]] >= np.sort(found[query][alike])[-3]


def test_the_similarity_of_inputs_is_that_of_pixels(evidence):
    found = similarity(evidence, 0, "inputs", toy.REQUESTED, toy.KEPT)
    np.testing.assert_allclose(found, cosines(toy.REQUESTED, toy.KEPT), atol=1e-5)


@pytest.mark.parametrize("same_class", [True, False])
@pytest.mark.parametrize("rule, k", [("nearest", 3), ("mutual", 3), ("standout", 3)])
def test_each_rule_takes_what_it_says(rule, k, same_class, evidence):
    labels, every = plots.examples()[1], np.concatenate([toy.REQUESTED, toy.KEPT])
    taken = set()
    for row in toy.REQUESTED:
        near = cosines([row], toy.KEPT)[0]
        if same_class:
            near = np.where(labels[toy.KEPT] == labels[row], near, -np.inf)
        candidates = toy.KEPT[np.argsort(-near)[:k]]
        for one in candidates:
            others = every[every != one]
            back = cosines([one], others)[0]
            strangers = back[~np.isin(others, [*toy.REQUESTED, *candidates])]
            takes = {
                "nearest": True,
                "mutual": row in others[np.argsort(-back)[:k]],
                "standout": cosines([one], [row])[0, 0] >= strangers.max(),
            }
            taken |= {int(one)} if takes[rule] else set()
    found = found_neighbours(evidence, 0, SETTINGS | {"rule": rule, "k": k, "same_class": same_class})
    assert found.tolist() == sorted(taken) and set(plots.PLANTED) <= taken


def test_a_least_cosine_leaves_far_ones_out(evidence):
    near = SETTINGS | {"rule": "nearest", "k": 8}
    found = found_neighbours(evidence, 0, near | {"at_least": 0.99})
    np.testing.assert_array_equal(found, np.sort(toy.KEPT[(cosines(toy.REQUESTED, toy.KEPT) >= 0.99).any(axis=0)]))


def test_members_of_one_request_share_one_search_and_its_cost_is_counted(evidence):
    found, spent = searched(evidence, SETTINGS)
    assert len(found) == plots.MEMBERS and all(rows is found[0] for rows in found) and spent == (0.0, 0.0)
    assert search_cost(evidence, "features") == pytest.approx((10 * FORWARD, 40 * FORWARD))
    assert search_cost(evidence, "influence") == pytest.approx((2 * 10 * FORWARD, 2 * 40 * FORWARD))
    assert searched(evidence, remedy_settings("expand", {}))[1] == search_cost(evidence, "influence")


def test_the_default_of_images_is_blind_to_poses_and_others_keep_what_they_look_like(evidence, monkeypatch):
    usual = remedy_settings("expand", {})
    assert rule_of(evidence, usual) == "carriers"
    assert {rule_of(evidence._replace(kind=kind), usual) for kind in ("text", "facts")} == {"standout"}
    assert rule_of(evidence, usual | {"similarity": "aligned"}) == "standout"
    monkeypatch.setattr("unlearn_jax.remedies.likeness.aligned_cosine", None)  # calling it would end the test
    assert len(found_neighbours(evidence, 0, usual))
    assert similarity(evidence, 0, "auto", toy.REQUESTED, toy.KEPT).shape == (10, 40)


def test_carriers_are_those_of_the_largest_influence_and_as_many_as_there_effectively_are(evidence):
    usual = remedy_settings("expand", {"reach": 1.0})
    vectors = influence_rows(evidence, 0, np.concatenate([toy.REQUESTED, toy.KEPT]), 0.5)
    labels, taken = plots.examples()[1], set()
    for query, row in enumerate(toy.REQUESTED):
        score = np.where(labels[toy.KEPT] == labels[row], vectors[10:] @ vectors[query], 0.0).clip(0)
        count = int(np.ceil(score.sum() ** 2 / (score**2).sum()))
        taken |= {int(r) for r in toy.KEPT[np.argsort(-score)[:count]]}
    found = found_neighbours(evidence, 0, usual)
    assert found.tolist() == sorted(taken)
    assert set(found_neighbours(evidence, 0, usual | {"reach": 0.3})) < set(found)


def test_rows_of_influence_have_the_influence_of_ekfac_as_products(evidence):
    rows = np.concatenate([toy.REQUESTED, toy.KEPT])
    vectors = influence_rows(evidence, 1, rows, 1.0)
    model, task, variables = evidence.problem.model, evidence.problem.task, one_of(evidence, 1)
    batch = lambda at: batch_of(*(x[np.asarray(at)] for x in evidence.stored), np.ones(len(at), np.float32))
    fitted = batch(np.sort(evidence.kept[1]))
    last = lambda name: name == list(variables["params"])[-1]
    fit = ekfac_fit(model, task, variables, fitted, labels="exact", select=last)
    scores = np.asarray(
        ekfac_influence(model, task, variables, batch(rows), batch(rows), fit=fit, relative_damping=0.1)
    )
    ratio = (vectors @ vectors.T) / scores
    np.testing.assert_allclose(ratio, np.median(ratio), rtol=2e-3)


@pytest.mark.parametrize("copies", [2, 8, 9, 12, 16])
def test_copies_beyond_any_fixed_number_of_candidates_are_found(copies, original):
    """A line of clusters in the plane: each requested row with its copies around it, strangers far away."""
    rng, clusters, strangers = np.random.default_rng(0), 3, 300
    angle = lambda base, n: base + 0.01 * rng.random(n)
    at = np.concatenate(
        [[1.0, 2.0, 3.0], *(angle(1.0 + c, copies) for c in range(clusters)), rng.uniform(4, 6, strangers)]
    )
    near = np.cos(at[:, None] - at[None]).astype(np.float32)
    asked, kept = np.arange(3), np.arange(3, len(at))
    fake = plots.evidence("finetune", "expand", original)._replace(
        requested=[asked], kept=[kept], labels=np.zeros(len(at), int)
    )
    module = __import__("unlearn_jax.remedies.search", fromlist=["search"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "similarity", lambda e, m, n, q, r: near[np.ix_(q, r)].copy())
        settings = SETTINGS | {"margin": 1e-4}
        found = found_neighbours(fake, 0, settings)
        np.testing.assert_array_equal(found, np.arange(3, 3 + 3 * copies))
        fixed = found_neighbours(fake, 0, settings | {"k": 8})
    assert len(fixed) < 3 * copies if copies > 8 else np.array_equal(fixed, found)


def test_adaptive_numbers_of_candidates_leave_strangers_to_compare_with():
    cosine = np.zeros((2, 400), np.float32)
    assert sizes_of(0, cosine) == [8, 16, 32, 64] and sizes_of(20, cosine) == [20]
    assert sizes_of(0, np.where(np.arange(400) < 100, cosine, -np.inf)) == [8, 16]
    assert sizes_of(0, cosine[:, :5]) == [5]


def test_the_effective_number_of_equal_weights_is_their_number_and_does_not_depend_on_scale():
    weights = np.random.default_rng(0).random((3, 7))
    np.testing.assert_allclose(effective_number(np.ones((2, 5))), 5.0)
    np.testing.assert_allclose(effective_number(1e-9 * weights), effective_number(weights))
    assert ((effective_number(weights) >= 1) & (effective_number(weights) <= 7)).all()


def test_settings_that_a_rule_does_not_have_are_refused_rather_than_ignored(evidence):
    with pytest.raises(InputError, match="rule 'carriers' has no k"):
        found_neighbours(evidence, 0, remedy_settings("expand", {"rule": "carriers", "k": 4}))
    assert rule_of(evidence, remedy_settings("expand", {"at_least": 0.5})) == "standout"


def test_unknown_names_are_refused(evidence):
    with pytest.raises(InputError, match="unknown rule 'magic'"):
        found_neighbours(evidence, 0, SETTINGS | {"rule": "magic"})
    with pytest.raises(InputError, match="unknown similarity 'magic'"):
        similarity(evidence, 0, "magic", toy.REQUESTED, toy.KEPT)
    with pytest.raises(InputError, match="similarity 'terms' is for token sequences"):
        similarity(evidence, 0, "terms", toy.REQUESTED, toy.KEPT)
    with pytest.raises(InputError, match="similarity 'aligned' is for images"):
        similarity(evidence._replace(kind="text"), 0, "aligned", toy.REQUESTED, toy.KEPT)

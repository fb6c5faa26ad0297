"""The search for similar samples, against the rules counted by hand on the toy."""

import numpy as np
import plots
import pytest
import toy

from unlearn_jax.errors import InputError
from unlearn_jax.population.plans import FORWARD
from unlearn_jax.remedies import remedy_settings
from unlearn_jax.remedies.search import SIMILARITIES, found_neighbours, search_cost, searched, similarity

SETTINGS = remedy_settings("expand", {"similarity": "inputs", "margin": 0.0})


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
    assert search_cost(evidence, "influence") == (20.0, 80.0)


def test_unknown_names_are_refused(evidence):
    with pytest.raises(InputError, match="unknown rule 'magic'"):
        found_neighbours(evidence, 0, SETTINGS | {"rule": "magic"})
    with pytest.raises(InputError, match="unknown similarity 'magic'"):
        similarity(evidence, 0, "magic", toy.REQUESTED, toy.KEPT)
    with pytest.raises(InputError, match="similarity 'terms' is for token sequences"):
        similarity(evidence, 0, "terms", toy.REQUESTED, toy.KEPT)
    with pytest.raises(InputError, match="similarity 'aligned' is for images"):
        similarity(evidence._replace(kind="text"), 0, "aligned", toy.REQUESTED, toy.KEPT)

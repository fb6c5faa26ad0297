"""Exact nearest rows against brute force, pairs and clusters against graphs written out by hand."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearn_jax.data.similarity.links import clusters, linked, mutual, threshold_pairs
from unlearn_jax.data.similarity.nearest import top_k, unit_rows
from unlearn_jax.errors import InputError

SHAPES = [(1, 1, 1), (13, 5, 3), (40, 3, 16)]  # each is a program of its own, dense and sparse


def some_rows(seed, n):
    """Rows of unit norm whose cosines are exact in float32, many of them equal, some rows of zeros."""
    corners = np.array([[1, 0, 0, 0], [0.5, 0.5, 0.5, 0.5], [0.5, -0.5, 0.5, -0.5], [0, 0, 0, 1], [0, 0, 0, 0]])
    return corners[np.random.default_rng(seed).integers(0, 5, n)].astype(np.float32)


def by_force(rows, queries, k, least, own):
    """The same by a full matrix and a stable sort."""
    cosine = queries.astype(np.float64) @ rows.astype(np.float64).T
    cosine[cosine < least - 1e-6] = -np.inf
    cosine[~queries.any(axis=1)] = -np.inf
    cosine[:, ~rows.any(axis=1)] = -np.inf
    cosine[np.flatnonzero(own >= 0), own[own >= 0]] = -np.inf
    order = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
    found = np.take_along_axis(cosine, order, axis=1)
    order, found = np.pad(order, ((0, 0), (0, k - order.shape[1]))), np.pad(found, ((0, 0), (0, k - found.shape[1])))
    found[:, len(rows) :] = -np.inf
    return np.where(np.isinf(found), -1, order), found, np.isfinite(cosine).sum(axis=1)


def agrees_with_brute_force(shape, seed, least, sparse):
    n, k, block = shape
    rows = some_rows(seed, n)
    given_rows = sp.csr_matrix(rows) if sparse else rows
    near = top_k(given_rows, k, at_least=least, block=block)
    order, cosine, within = by_force(rows, rows, k, least, np.arange(n))
    np.testing.assert_array_equal(near.rows, order)
    np.testing.assert_array_equal(near.cosine, cosine.astype(np.float32))
    np.testing.assert_array_equal(near.within, within)


@settings(max_examples=24, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(0, 9), st.sampled_from([-1.0, 0.0, 0.5, 1.0]), st.booleans())
def test_brute_force_agrees_at_every_size_with_ties_and_zeros(shape, seed, least, sparse):
    agrees_with_brute_force(shape, seed, least, sparse)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(5, 2, 1), (7, 3, 7), (12, 2, 4)], ids=str)
def test_brute_force_agrees_at_other_sizes(shape):
    for seed, (least, sparse) in enumerate(itertools.product([-1.0, 0.0, 0.5, 1.0], [False, True])):
        agrees_with_brute_force(shape, seed, least, sparse)


def queries_agree(seed, shape, kind):
    count, block = shape
    rows, asked = some_rows(seed, 11), some_rows(seed + 100, count)
    own = np.random.default_rng(seed).integers(-1, 11, count)
    own = {"none": np.full(count, -1), "named": own, "true": np.arange(count)}[kind]
    exclude = {"none": None, "named": own, "true": True}[kind]
    near = top_k(rows, 3, queries=asked, block=block, exclude_self=exclude)
    order, cosine, _ = by_force(rows, asked, 3, -1, own)
    np.testing.assert_array_equal(near.rows, order)
    np.testing.assert_array_equal(near.cosine, cosine.astype(np.float32))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 9), st.sampled_from([(1, 5), (9, 2)]), st.sampled_from(["none", "named", "true"]))
def test_queries_of_their_own(seed, shape, kind):
    queries_agree(seed, shape, kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["none", "named", "true"])
def test_queries_of_their_own_in_blocks_of_four(kind):
    for seed in range(3):
        queries_agree(seed, (6, 4), kind)


@pytest.mark.parametrize("blocks", toy.some([((7, 64),), ((1,),)], 1))
def test_real_numbers_agree_with_brute_force_and_blocks_do_not_matter(blocks):
    rows = unit_rows(np.random.default_rng(0).standard_normal((60, 8)))
    order, cosine, within = by_force(rows, rows, 6, 0.2, np.arange(60))
    for block in blocks:
        near = top_k(rows, 6, at_least=0.2, block=block)
        np.testing.assert_array_equal(near.rows, order)
        np.testing.assert_allclose(near.cosine, cosine, atol=1e-6)
        np.testing.assert_array_equal(near.within, within)
    np.testing.assert_array_equal(top_k(rows, 1, exclude_self=False).rows[:, 0], np.arange(60))


def test_no_queries_and_no_rows():
    assert top_k(np.eye(3), 2, queries=np.zeros((0, 3))).rows.shape == (0, 2)
    assert (top_k(np.zeros((0, 3)), 2, queries=np.eye(3)).rows == -1).all()


def pairs_agree(seed, k, threshold):
    rows = unit_rows(np.random.default_rng(seed).standard_normal((25, 3)))
    near = top_k(rows, k, at_least=threshold, block=8)
    lists = [set(own[own >= 0].tolist()) for own in near.rows]
    both = [(i, j) for i in range(25) for j in range(i + 1, 25) if i in lists[j] and j in lists[i]]
    either = [(i, j) for i in range(25) for j in range(i + 1, 25) if i in lists[j] or j in lists[i]]
    cosine = rows @ rows.T
    every = [(i, j) for i in range(25) for j in range(i + 1, 25) if cosine[i, j] >= threshold]
    assert [tuple(p) for p in mutual(near).tolist()] == both
    assert [tuple(p) for p in linked(near).tolist()] == either
    assert [tuple(p) for p in threshold_pairs(rows, near, threshold).tolist()] == every


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.sampled_from([1, 3]), st.sampled_from([0.5, 0.7, 0.9]))
def test_pairs_by_definition(seed, k, threshold):
    pairs_agree(seed, k, threshold)


@pytest.mark.slow
@pytest.mark.parametrize("k", [2, 4])
def test_pairs_by_definition_of_other_numbers_of_neighbours(k):
    for seed, threshold in enumerate((0.5, 0.7, 0.9)):
        pairs_agree(seed, k, threshold)


def test_clusters_are_connected_components_numbered_by_first_row():
    rng = np.random.default_rng(1)
    for n, count in ((1, 0), (9, 4), (30, 20)):
        pairs = rng.integers(0, n, (count, 2))
        reach = np.eye(n, dtype=bool)
        reach[pairs[:, 0], pairs[:, 1]] = reach[pairs[:, 1], pairs[:, 0]] = True
        for _ in range(n):
            reach = (reach.astype(int) @ reach.astype(int)) > 0
        first = reach.argmax(axis=1)
        np.testing.assert_array_equal(clusters(n, pairs), np.unique(first, return_inverse=True)[1])


@pytest.mark.parametrize(
    ("rows", "settings", "said"),
    [
        (np.eye(3), {"k": 0}, "at least 1"),
        (np.eye(3), {"k": 1, "block": 0}, "at least 1"),
        (2 * np.eye(3), {"k": 1}, "row 0 of the embedding has norm 2"),
        (np.array([[1.0, 0.0], [np.nan, 0.0]]), {"k": 1}, "row 1 of the embedding has norm nan"),
        (sp.csr_matrix(2 * np.eye(3)), {"k": 1}, "norm 2"),
        (np.ones(3), {"k": 1}, "shape"),
        (np.eye(3), {"k": 1, "queries": np.eye(2)}, "embed both alike"),
        (np.eye(3), {"k": 1, "queries": np.eye(3)[[0, 1, 2, 0]], "exclude_self": True}, "name the row"),
        (np.eye(3), {"k": 1, "exclude_self": np.array([0, 1, 3])}, "-1 to 2"),
        (np.eye(3), {"k": 1, "exclude_self": np.array([0, 1])}, "3 queries"),
    ],
)
def test_refusals(rows, settings, said):
    with pytest.raises(InputError, match=said):
        top_k(rows, **settings)


def test_a_threshold_of_zero_is_refused_where_pairs_are_asked_for():
    rows = unit_rows(np.ones((13, 2)))
    with pytest.raises(InputError, match="in \\(0, 1\\]"):
        threshold_pairs(rows, top_k(rows, 1, at_least=0.0), 0.0)

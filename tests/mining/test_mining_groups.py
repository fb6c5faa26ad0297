"""Clusters, their counts and their refusals, against graphs and counts by hand."""

import numpy as np
import pytest
import toy

from unlearn_jax.data.similarity.nearest import unit_rows
from unlearn_jax.errors import InputError
from unlearn_jax.mining.embeddings import Rows, by_cosine
from unlearn_jax.mining.groups import cluster, ladder, of_test, purity, same_label_share, told


def on_circle(degrees) -> np.ndarray:
    """Unit rows at these angles, whose cosines are those of the differences."""
    angle = np.deg2rad(np.asarray(degrees, float))
    return unit_rows(np.stack([np.cos(angle), np.sin(angle)], axis=1))


# a chain of three, a pair, one alone; cos 10 = .985, cos 20 = .940
TRAIN = on_circle([0, 10, 20, 100, 105, 200])
LABELS = np.array([0, 0, 1, 2, 2, 1])
TEST = on_circle([12, 101, 300])


def found(k=5):
    return by_cosine(Rows(TRAIN, TEST), k)


@pytest.mark.parametrize("k", toy.some([1, 5, 2], 2))
def test_clusters_at_a_threshold_are_the_whole_graph_whatever_k(k):
    groups = cluster(found(k), 0.98, links_mutual=False, largest=0.9)
    assert groups.of.tolist() == [0, 0, 0, 1, 1, -1]
    assert groups.sizes.tolist() == [3, 2]
    assert groups.degree.tolist() == [1, 2, 1, 1, 1, 0]
    assert groups.pairs.tolist() == [[0, 1], [1, 2], [3, 4]]
    assert purity(groups, LABELS).tolist() == pytest.approx([2 / 3, 1.0])
    assert same_label_share(groups, LABELS) == pytest.approx(2 / 3)


def test_mutual_links_are_fewer():
    groups = cluster(found(1), 0.98, links_mutual=True, largest=0.9)
    assert groups.pairs.tolist() in ([[0, 1], [3, 4]], [[1, 2], [3, 4]])
    every = cluster(found(1), 0.0, links_mutual=True, largest=0.9)
    assert len(every.pairs) == 2


def test_test_samples_belong_to_the_cluster_of_their_nearest():
    groups = cluster(found(), 0.98, links_mutual=False, largest=0.9)
    which, near = of_test(found(), groups, 0.98)
    assert which.tolist() == [0, 1, -1] and near.tolist() == [True, True, False]


def test_the_ladder_counts_samples_with_a_neighbour():
    rows = {row["threshold"]: row for row in ladder(found(), LABELS, np.array([0, 0, 0]))}
    assert (rows[0.98]["train"], rows[0.98]["test"]) == (5, 2)
    assert rows[0.98]["test_same_label"] == pytest.approx(0.5)
    assert (rows[1.0]["train"], rows[1.0]["train_same_label"]) == (0, None)
    assert rows[0.5]["train"] == 5  # cos 95 < 0
    assert "test" not in ladder(by_cosine(Rows(TRAIN, None), 2), LABELS, None)[0]


def test_what_is_told_of_a_target():
    groups = cluster(found(), 0.98, links_mutual=False, largest=0.9)
    alone = told(found().train, groups, 5, 0.98)
    assert (alone["near"], alone["links"], alone["cluster"], alone["cluster_size"]) == (False, 0, -1, 1)
    assert alone["nearest"] == 4 and alone["similarity"] == pytest.approx(np.cos(np.deg2rad(95)), abs=1e-6)
    assert told(found().train, groups, 1, 0.98)["links"] == 2


def test_a_chain_is_refused_with_a_threshold_that_parts_it():
    rows = on_circle(np.concatenate([np.arange(40), 90 + 3 * np.arange(10)]))  # 1 degree apart: cosine .99985
    chain = by_cosine(Rows(rows, None), 5)
    with pytest.raises(InputError, match=r"40 of 50 training samples.*try --threshold 1 or more, or --mutual"):
        cluster(chain, 0.999, links_mutual=False, largest=0.1)
    with pytest.raises(InputError, match="try --threshold 0.999 or more, or a smaller --k"):
        spread = on_circle(3 * np.arange(60))  # cosine .9986
        cluster(by_cosine(Rows(spread, None), 4), 0.9, links_mutual=True, largest=0.1)
    assert cluster(chain, 0.999, links_mutual=False, largest=0.9).sizes.tolist() == [40]
    rows = on_circle([0.0] * 40 + [90.0] * 10)
    with pytest.raises(InputError, match="another --embedding"):
        cluster(by_cosine(Rows(rows, None), 3), 0.9, links_mutual=False, largest=0.1)


def test_no_link_at_all_names_the_nearest_pair():
    with pytest.raises(InputError, match=r"nearest pair has 0.9962: try --threshold 0.99 or less"):
        cluster(found(), 0.9999, links_mutual=False, largest=0.9)
    zeros = by_cosine(Rows(np.zeros((3, 2), np.float32), None), 1)
    with pytest.raises(InputError, match="give a lower --threshold"):
        cluster(zeros, 0.9, links_mutual=False, largest=0.9)

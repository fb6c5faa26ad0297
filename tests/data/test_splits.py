"""Targets, the layout of stored examples, requests, and the rows of every reference population."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearn_jax.data import from_arrays, splits
from unlearn_jax.data import references as bench_references
from unlearn_jax.data.references import detected_groups, placebo_shortfall, reference_rows
from unlearn_jax.data.similarity.copies import pixel_embedding
from unlearn_jax.data.similarity.duplicates import near_duplicate_groups
from unlearn_jax.data.similarity.mined import Mined
from unlearn_jax.data.splits import is_whole_class, make_bench, named_copies, request_rows
from unlearn_jax.data.targets import AROUND, choose_targets, contested, distance_to_class
from unlearn_jax.errors import InputError

QUICK = settings(max_examples=40, deadline=None, database=None, derandomize=True)
SEED = 3


def source(n=90, tests=12, classes=3, seed=0):
    """A small data set of unrelated images."""
    rng = np.random.default_rng(seed)
    images = rng.random((n + tests, 6, 6, 1)).astype(np.float32)
    labels = np.arange(n + tests) % classes
    return from_arrays("mine", images[:n], labels[:n], images[n:], labels[n:], num_classes=classes)


DATA = source()
TARGETS = choose_targets(DATA, "random", 4, 2, SEED)
BENCH = make_bench(DATA, TARGETS, copies=4, level="exact", seed=SEED)


@functools.cache
def near(copies):
    """A bench of near copies."""
    return make_bench(DATA, TARGETS, copies=copies, level="near", seed=SEED)


# --- held-out examples ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tests", "classes"), [(12, 3), (7, 2), (1, 1)])
def test_half_of_the_held_out_examples_of_each_class_are_validation_and_no_price_is_measured_on_them(tests, classes):
    data = source(tests=tests, classes=classes)
    bench = make_bench(data, choose_targets(data, "random", 4, 2, SEED), copies=1, level="exact", seed=SEED)
    rows = request_rows(bench, 0, copies=1)
    assert not np.intersect1d(rows.validation, rows.test).size
    both = np.sort(np.concatenate([rows.validation, rows.test]))
    np.testing.assert_array_equal(bench.inputs[both], data.test.inputs)
    for label in range(classes):
        counts = [(bench.labels[part] == label).sum() for part in (rows.validation, rows.test)]
        assert abs(counts[0] - counts[1]) <= 1
    assert not np.intersect1d(both, rows.everything).size
    labels = np.arange(40) % 4
    first, again, other = (splits.held_out_origins(labels, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() and (first == 4).sum() == (other == 4).sum() == 20


# --- targets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["random", "class", "distant", "atypical"])
def test_targets_are_disjoint_sorted_of_the_sizes_asked_and_seeded(kind):
    score = np.random.default_rng(1).normal(0, 1, 90)
    found = choose_targets(DATA, kind, 5, 3, SEED, score)
    assert [len(t) for t in found] == [5, 5, 5]
    assert len(np.unique(np.concatenate(found))) == 15
    assert all((np.diff(t) > 0).all() for t in found)
    for first, again in zip(found, choose_targets(DATA, kind, 5, 3, SEED, score)):
        np.testing.assert_array_equal(first, again)


def test_random_targets_follow_the_seed_and_those_of_a_class_share_it():
    assert {*choose_targets(DATA, "random", 5, 1, 0)[0]} != {*choose_targets(DATA, "random", 5, 1, 1)[0]}
    labels = [np.unique(DATA.train.targets[t]) for t in choose_targets(DATA, "class", 10, 3, SEED)]
    assert all(len(x) == 1 for x in labels) and len({int(x[0]) for x in labels}) == 3


def test_whole_classes_are_all_of_a_class_each():
    lopsided = source(n=92, classes=5)
    found = choose_targets(lopsided, "whole_class", 1, 2, SEED)
    drawn = [int(lopsided.train.targets[t[0]]) for t in found]
    assert len({*drawn}) == 2
    for label, rows in zip(drawn, found):
        np.testing.assert_array_equal(rows, np.flatnonzero(lopsided.train.targets == label))
    bench = make_bench(lopsided, found, copies=1, level="exact", seed=SEED)
    for request in range(2):
        rows = request_rows(bench, request, copies=1)
        assert is_whole_class(bench, rows) and "it has 0 other images" in placebo_shortfall(bench, rows)


def test_distant_targets_are_far_from_their_own_class_and_the_most_atypical_are_dealt_out_in_turn():
    away = distance_to_class(DATA)
    flat = pixel_embedding(DATA.train.inputs).astype(float)
    for label in range(3):
        own = np.flatnonzero(DATA.train.targets == label)
        distance = [np.linalg.norm(flat[i] - flat[own].mean(axis=0)) for i in own]
        np.testing.assert_allclose(away[own], np.asarray(distance) / np.median(distance), rtol=1e-9)
    (found,) = choose_targets(DATA, "distant", 6, 1, SEED)
    assert away[found].min() >= np.delete(away, found).max()
    score = np.random.default_rng(2).permutation(90).astype(float)
    found = choose_targets(DATA, "atypical", 3, 2, SEED, score)
    ranked = np.argsort(-score)
    assert {*found[0]} == {*ranked[[0, 2, 4]]} and {*found[1]} == {*ranked[[1, 3, 5]]}


def contest(images, labels, row, left_out):
    """How contested a row is by the definition, some rows left out."""
    unit = pixel_embedding(images).astype(np.float64)
    cosine = unit @ unit[row]
    cosine[left_out] = -1
    near = np.argsort(-cosine)[:AROUND]
    weight = np.maximum(cosine[near], 0)
    return (weight * np.where(labels[near] == labels[row], -1, 1)).sum() / weight.sum()


def test_contested_examples_lie_among_those_of_other_classes():
    found = contested(DATA)
    for row in range(0, 90, 7):
        assert abs(found[row] - contest(DATA.train.inputs, DATA.train.targets, row, [row])) < 2e-4
    assert -1 <= found.min() < found.max() <= 1


def test_the_neighbours_of_a_cluster_do_not_count_for_its_target():
    rows = np.arange(40)
    images = np.random.default_rng(0).random((40, 6, 6, 1)).astype(np.float32)
    images[1] = images[0] + np.float32(0.0)
    data = from_arrays("mine", images, rows % 2, images[:4], rows[:4] % 2)
    mined = Mined(np.array([0]), np.array([[1]]))
    before, after = contested(data), contested(data, mined)
    assert after[0] < before[0]  # the nearest, of the other class, is its own neighbour
    assert abs(after[0] - contest(images, rows % 2, 0, [0, 1])) < 2e-4


@pytest.mark.parametrize(
    ("kind", "size", "requests", "said"),
    [
        ("random", 46, 1, "more than half"),
        ("atypical", 23, 2, "more than half"),
        ("class", 31, 1, "fewer than 31"),
        ("class", 2, 4, "only 3 classes"),
        ("whole_class", 1, 4, "only 3 classes"),
        ("whole_class", 1, 2, "60 targets are more than half"),
        ("random", 0, 1, "at least 1"),
        ("random", 1, 0, "at least 1"),
    ],
)
def test_too_many_or_too_few_targets_are_refused(kind, size, requests, said):
    with pytest.raises(InputError, match=said):
        choose_targets(DATA, kind, size, requests, SEED, np.zeros(90))


@pytest.mark.parametrize("kind", ["random", "class", "distant", "atypical", "whole_class"])
def test_skipped_requests_leave_other_targets(kind):
    data = source(n=90, classes=6)
    score = np.random.default_rng(1).normal(0, 1, 90)
    draw = lambda requests, skipped: choose_targets(data, kind, 4, requests, SEED, score, skipped=skipped)
    first, later = draw(2, 0), draw(2, 2)
    assert [len(t) for t in later] == ([15, 15] if kind == "whole_class" else [4, 4])
    assert not np.intersect1d(np.concatenate(first), np.concatenate(later)).size
    if kind in ("random", "distant", "atypical"):  # ranks 8 to 15 of the order, of which more requests take all
        every = np.concatenate(draw(4, 0))
        np.testing.assert_array_equal(np.sort(np.concatenate(first + later)), np.sort(every))
    elif kind == "class":
        assert not {*labels_of(data, first)} & {*labels_of(data, later)}


def labels_of(data, targets):
    """Class of the first of each request's targets."""
    return [int(data.train.targets[t[0]]) for t in targets]


def test_skipped_targets_count_where_classes_have_little_room():
    room = np.array([2, 2, 90])
    first, later = (choose_targets(DATA, "random", 6, 1, SEED, room=room, skipped=s) for s in (0, 1))
    both = np.concatenate(first + later)
    assert len(np.unique(both)) == 12 and (np.bincount(DATA.train.targets[both]) <= room).all()


def test_neighbours_of_another_class_are_spared_for_the_placebo_too():
    rows = np.arange(40)
    labels = np.where(rows < 36, 0, 1)  # four of class 1: two clusters of class 0 have neighbours there, one fits
    images = np.random.default_rng(0).random((40, 6, 6, 1)).astype(np.float32)
    data = from_arrays("mine", images, labels, images[:4], labels[[0, 1, 36, 37]])
    mined = Mined(np.array([0, 5, 10]), np.array([[36], [37], [11]]))
    room, score = np.array([30, 1]), np.linspace(1, 0, 40)
    how = {"among": (mined.rows, "x"), "room": room, "mined": mined}
    draw = lambda count: choose_targets(data, "atypical", count, 1, SEED, score, **how)
    (found,) = draw(2)
    assert found.tolist() == [0, 10]
    bench = make_bench(data, [found], copies=1, level="natural", seed=0, mined=np.array([[36], [11]]))
    assert placebo_shortfall(bench, request_rows(bench, 0, copies=1)) == ""
    with pytest.raises(InputError, match="ask for at most 2 targets"):
        draw(3)


@pytest.mark.parametrize(
    ("kind", "size", "skipped", "said"),
    [
        ("random", 30, 3, r"120 targets, those of skipped requests included, are more than the 90 training images"),
        ("class", 2, 3, "1 requests by class and 3 skipped but only 3 classes"),
        ("whole_class", 2, 3, "1 requests by class and 3 skipped but only 3 classes"),
    ],
)
def test_more_skipped_requests_than_there_are_targets_for_are_refused(kind, size, skipped, said):
    with pytest.raises(InputError, match=said):
        choose_targets(DATA, kind, size, 1, SEED, skipped=skipped)


# --- the stored examples ------------------------------------------------------------------------------------------


def test_layout_says_where_every_row_comes_from():
    bench = near(2)
    assert [int((bench.origin == k).sum()) for k in range(5)] == [90, 16, 6, 16, 6]
    np.testing.assert_array_equal(bench.inputs[bench.origin == 0], DATA.train.inputs)
    np.testing.assert_array_equal(bench.inputs[np.isin(bench.origin, (2, 4))], DATA.test.inputs)
    flat = np.concatenate(TARGETS)
    for row in np.flatnonzero((bench.origin == 1) | (bench.origin == 3)):
        target = flat[bench.cluster[row]]
        assert bench.targets[row] == DATA.train.targets[target]
        assert bench.dataset_id[row] == DATA.train.ids[target]
        assert bench.cluster[target] == bench.cluster[row] and bench.request[target] == bench.request[row]
        assert bench.copy[target] == 0
    assert {*bench.copy[bench.origin == 1]} == {1, 2} and {*bench.copy[bench.origin == 3]} == {0, 1}
    elsewhere = np.setdiff1d(np.flatnonzero(bench.origin == 0), flat)
    tests = np.flatnonzero(np.isin(bench.origin, (2, 4)))
    for column in (bench.request, bench.cluster, bench.copy):
        assert (column[elsewhere] == -1).all() and (column[tests] == -1).all()
    assert bench.requests == 2


def test_held_out_draws_are_never_a_training_copy_nor_a_target():
    bench = near(2)
    flat = bench.inputs.reshape(len(bench.inputs), -1)
    trained, fresh = flat[bench.origin <= 1], flat[bench.origin == 3]
    assert len(fresh) == 2 * 8
    assert len(np.unique(np.concatenate([trained, fresh]), axis=0)) == len(trained) + len(fresh)
    assert not (BENCH.origin == 3).any()  # there are none of exact copies
    assert len(request_rows(BENCH, 0, copies=2).test_similar) == 0


def test_fewer_copies_are_the_same_copies():
    few, many = near(1), near(2)
    for bench_row in np.flatnonzero(few.origin == 1):
        same = (many.origin == 1) & (many.cluster == few.cluster[bench_row]) & (many.copy == few.copy[bench_row])
        np.testing.assert_array_equal(many.inputs[same][0], few.inputs[bench_row])
    np.testing.assert_array_equal(many.inputs[many.origin == 3], few.inputs[few.origin == 3])
    for request in range(2):  # targets stay the same rows along the axes
        found = [request_rows(few, request, copies=0), request_rows(many, request, copies=2, gamma=0.7)]
        np.testing.assert_array_equal(found[0].forget, TARGETS[request])
        np.testing.assert_array_equal(found[1].forget, TARGETS[request])
    with pytest.raises(InputError, match="0 or more"):
        make_bench(DATA, TARGETS, copies=-1, level="exact", seed=SEED)


# --- requests -----------------------------------------------------------------------------------------------------


@QUICK
@given(st.integers(0, 1), st.integers(0, 4), st.one_of(st.none(), st.floats(0.001, 1.0)))
def test_splits_are_disjoint_and_cover_the_training_set(request_number, copies, gamma):
    rows = request_rows(BENCH, request_number, copies=copies, gamma=gamma)
    mine = (BENCH.origin == 1) & (BENCH.request == request_number) & (BENCH.copy <= copies)
    expected = np.flatnonzero((BENCH.origin == 0) | mine)
    assert len(rows.everything) == len(expected)
    np.testing.assert_array_equal(np.sort(rows.everything), expected)
    np.testing.assert_array_equal(rows.test, np.flatnonzero(BENCH.origin == 2))
    named = 0 if gamma is None else max(0, round(gamma * (copies + 1)) - 1)
    np.testing.assert_array_equal(rows.forget, TARGETS[request_number])
    assert len(rows.forget_copies) == 4 * named and len(rows.similar) == 4 * (copies - named)
    assert rows.gamma == pytest.approx((1 + named) / (copies + 1)) and 0 < rows.gamma <= 1
    for cluster in BENCH.cluster[rows.forget]:  # every cluster gives as many
        assert (BENCH.cluster[rows.forget_copies] == cluster).sum() == named
    np.testing.assert_array_equal(rows.requested, np.concatenate([rows.forget, rows.forget_copies]))
    for part in rows[:6]:
        assert part.dtype == np.int32


@pytest.mark.parametrize(
    ("copies", "gamma", "named", "realised"),
    [(4, None, 0, 0.2), (4, 0.2, 0, 0.2), (4, 0.6, 2, 0.6), (4, 1.0, 4, 1.0), (3, 0.5, 1, 0.5), (0, 0.5, 0, 1.0),
     (8, 0.01, 0, 1 / 9)],
)  # fmt: skip
def test_gamma_names_a_share_of_each_cluster(copies, gamma, named, realised):
    assert named_copies(copies, gamma) == named
    if copies <= 4:
        assert request_rows(BENCH, 0, copies=copies, gamma=gamma).gamma == pytest.approx(realised)


def test_other_requests_keep_their_targets_in_rest_and_their_copies_out():
    for gamma in (0.0, -0.1, 1.5, float("nan")):
        with pytest.raises(InputError, match=r"share in \(0, 1\]"):
            request_rows(BENCH, 0, copies=4, gamma=gamma)
    rows = request_rows(BENCH, 0, copies=4, gamma=0.6)
    assert np.isin(TARGETS[1], rows.rest).all()
    theirs = np.flatnonzero((BENCH.origin == 1) & (BENCH.request == 1))
    assert not np.isin(theirs, rows.everything).any()


# --- reference populations ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [None, 0.4, 1.0])
def test_original_retrain_and_oracle_rows_with_and_without_copies(gamma):
    rows = request_rows(BENCH, 1, copies=4, gamma=gamma)
    of = lambda role: reference_rows(role, BENCH, rows, 0, SEED)
    np.testing.assert_array_equal(of("original"), np.sort(rows.everything))
    np.testing.assert_array_equal(of("retrain"), np.setdiff1d(rows.everything, rows.requested))
    outside = np.setdiff1d(np.flatnonzero(BENCH.origin == 0), TARGETS[1])
    for role in ("oracle", "oracle_b"):  # whole clusters, whatever gamma
        np.testing.assert_array_equal(of(role), outside)
    if gamma == 1.0:
        np.testing.assert_array_equal(of("retrain"), of("oracle"))
    rows = request_rows(BENCH, 0, copies=0)
    of = lambda role: reference_rows(role, BENCH, rows, 0, SEED)
    np.testing.assert_array_equal(of("retrain"), of("oracle"))
    np.testing.assert_array_equal(of("retrain"), of("placebo"))
    assert len(of("original")) == len(of("retrain")) + 4


@pytest.mark.parametrize("member", range(4))
def test_placebo_drops_the_request_and_strangers_of_the_similar_samples_classes(member):
    rows = request_rows(BENCH, 0, copies=4, gamma=0.4)
    found = reference_rows("placebo", BENCH, rows, member, SEED)
    assert len(np.unique(found)) == len(found)
    dropped = np.setdiff1d(rows.everything, found)
    assert np.isin(rows.requested, dropped).all()
    strangers = np.setdiff1d(dropped, rows.requested)
    assert np.isin(strangers, rows.rest).all()  # so never a target of its own request, nor a copy
    count = lambda at: np.bincount(BENCH.targets[at], minlength=3).tolist()
    assert len(strangers) == len(rows.similar) and count(strangers) == count(rows.similar)


def test_placebo_and_dedup_are_drawn_for_each_member_and_repeat():
    rows = request_rows(BENCH, 0, copies=4)
    groups = detected_groups(BENCH, rows, 0.99).groups
    for role in ("placebo", "dedup"):
        of = lambda member, role=role: reference_rows(role, BENCH, rows, member, SEED, groups)
        np.testing.assert_array_equal(of(0), of(0))
        assert len({tuple(of(member)) for member in range(8)}) == 8
        assert tuple(of(0)) != tuple(reference_rows(role, BENCH, rows, 0, SEED + 1, groups))


def test_placebo_says_where_a_class_is_too_small():
    data = source(n=24)
    targets = choose_targets(data, "class", 4, 1, SEED)
    bench = make_bench(data, targets, copies=1, level="exact", seed=SEED)
    said = r"cannot drop 4 images of class \d and keep one, for it has 4 other images that could be dropped: ask for"
    with pytest.raises(InputError, match=said):
        reference_rows("placebo", bench, request_rows(bench, 0, copies=1), 0, SEED)
    assert placebo_shortfall(bench, request_rows(bench, 0, copies=0)) == ""
    assert placebo_shortfall(bench, request_rows(bench, 0, copies=1, gamma=1.0)) == ""  # nothing stays


def test_a_request_is_of_a_whole_class_where_nothing_else_of_the_class_is_trained_on():
    whole = np.flatnonzero(DATA.train.targets == 1)
    for targets, expected in ((whole, True), (whole[1:], False), (np.append(whole, 0), False)):
        bench = make_bench(DATA, [targets], copies=1, level="exact", seed=SEED)
        assert is_whole_class(bench, request_rows(bench, 0, copies=1)) is expected


def test_dedup_drops_the_request_first_and_keeps_one_of_each_group():
    rows = request_rows(BENCH, 0, copies=4, gamma=0.4)  # three of four copies stay
    detection = detected_groups(BENCH, rows, 0.99)
    kept = np.sort(np.concatenate([rows.similar, rows.rest]))
    assert len(detection.groups) == len(kept)
    seen = set()
    for member in range(12):
        found = reference_rows("dedup", BENCH, rows, member, SEED, detection.groups)
        assert not np.isin(rows.requested, found).any() and np.isin(rows.rest, found).all()
        assert (np.diff(found) > 0).all()
        stayed = np.intersect1d(found, rows.similar)
        assert sorted(BENCH.cluster[stayed]) == sorted(BENCH.cluster[rows.forget])  # one each
        seen |= {*stayed.tolist()}
    assert len(seen) == len(rows.similar)  # any of a group may be the one


# --- the detector's score -----------------------------------------------------------------------------------------


def bench_with(extra=(), copies=3, num_targets=4):
    """A bench of exact copies in which training image b repeats a, for (a, b) in ``extra`` (ranks among the rest)."""
    data = source(seed=7)
    targets = choose_targets(data, "random", num_targets, 1, SEED)
    rest = np.setdiff1d(np.arange(90), targets[0])
    inputs = data.train.inputs.copy()
    for a, b in extra:
        inputs[rest[b]] = inputs[targets[0][0]] if a == "target" else inputs[rest[a]]
    data = data._replace(train=data.train._replace(inputs=inputs))
    return make_bench(data, targets, copies=copies, level="exact", seed=SEED)


def test_exact_copies_are_all_found_missed_ones_count_against_recall_and_natural_duplicates_against_precision():
    bench = bench_with()
    found = detected_groups(bench, request_rows(bench, 0, copies=3), 0.99)
    assert found.recall == 1.0 and found.precision == 1.0
    assert len(np.unique(found.groups)) == 86 + 4
    inputs = bench.inputs.copy()
    first = np.flatnonzero((bench.origin == 1) & (bench.cluster == 0))
    inputs[first] = np.random.default_rng(0).random((3, 6, 6, 1))  # three copies that look like nothing else
    found = detected_groups(bench._replace(inputs=inputs), request_rows(bench, 0, copies=3), 0.99)
    assert found.recall == pytest.approx(9 / 12) and found.precision == 1.0
    bench = bench_with([(0, 1), (2, 3)])
    found = detected_groups(bench, request_rows(bench, 0, copies=3), 0.99)
    assert found.recall == 1.0 and found.precision == pytest.approx(12 / 16)
    mixed = bench_with([("target", 1)])  # a stranger among the copies of the first target
    found = detected_groups(mixed, request_rows(mixed, 0, copies=3), 0.99)
    assert found.recall == 1.0 and found.precision == pytest.approx(9 / 13)


def test_a_lone_copy_has_no_duplicate_to_be_found():
    bench = bench_with(copies=1)
    for copies in (0, 1):
        found = detected_groups(bench, request_rows(bench, 0, copies=copies), 0.99)
        assert np.isnan(found.recall) and np.isnan(found.precision)
    bench = bench_with(copies=2)
    found = detected_groups(bench, request_rows(bench, 0, copies=2, gamma=2 / 3), 0.99)
    assert np.isnan(found.recall)  # one of two copies is requested, so one stays


def test_a_bench_is_searched_for_pairs_once_for_all_levels_and_requests(monkeypatch):
    searched, search = [], bench_references.near_pairs
    monkeypatch.setattr(bench_references, "near_pairs", lambda *args: searched.append(1) or search(*args))
    bench = make_bench(DATA, TARGETS, copies=4, level="exact", seed=SEED)
    every = [request_rows(bench, r, copies=copies) for r in range(2) for copies in (0, 2, 4)]
    found = [detected_groups(bench, rows, 0.99) for rows in every]
    assert len(searched) == 1
    detected_groups(bench, every[0], 0.9), detected_groups(near(4), every[0], 0.9)
    assert len(searched) == 3  # another threshold, another bench
    for rows, detection in zip(every, found):
        kept = np.sort(np.concatenate([rows.similar, rows.rest]))
        alone = near_duplicate_groups(pixel_embedding(bench.inputs[kept]), 0.99)
        np.testing.assert_array_equal(detection.groups, alone)

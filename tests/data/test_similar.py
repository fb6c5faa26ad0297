"""Constructed copies, pixel embeddings and the near-duplicate detector."""

import numpy as np
import pytest

from unlearn_jax.data.similarity import duplicates
from unlearn_jax.data.similarity.copies import FRESH, LEVELS, cosine, level_of, make_copies, pixel_embedding
from unlearn_jax.data.similarity.duplicates import leader_groups, near_duplicate_groups, near_pairs
from unlearn_jax.errors import InputError

IDS = np.asarray([11, 5, 700_000])
NUMBERS = np.arange(1, 5)


def colours(dtype=np.uint8, seed=0):
    """Three smooth images, (3, 12, 12, 3): one shape for all tests, because each shape is compiled."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((3, 4, 4, 3)).repeat(3, axis=1).repeat(3, axis=2)
    return np.rint(coarse * 255).astype(np.uint8) if dtype == np.uint8 else coarse.astype(np.float32)


def many(images, level, count, first=1, **options):
    """``count`` copies, four at a time."""
    parts = [made(images, level, numbers=np.arange(4) + start, **options) for start in range(first, first + count, 4)]
    return np.concatenate(parts, axis=1)


def made(images, level="near", ids=IDS, numbers=NUMBERS, seed=0, flips=False):
    """`make_copies` with the defaults of these tests."""
    return make_copies(images, ids, np.asarray(numbers), level=level, seed=seed, flips=flips)


@pytest.mark.parametrize("level", ["near", "far"])
def test_copies_are_seeded_distinct_and_unlike_their_source(level):
    images = colours()
    first = made(images, level)
    assert first.shape == (3, 4, 12, 12, 3)
    np.testing.assert_array_equal(first, made(images, level))
    assert (first != made(images, level, seed=1)).any(axis=(2, 3, 4)).all()
    for copies, source in zip(first, images):
        flat = np.concatenate([source[None], copies]).reshape(5, -1)
        assert len(np.unique(flat, axis=0)) == 5


def test_a_source_and_a_number_mean_the_same_copy_whatever_else_is_asked():
    images = colours()
    whole = many(images, "near", 8)
    np.testing.assert_array_equal(made(images, numbers=[8, 1, 6, 3]), whole[:, [7, 0, 5, 2]])
    whole = made(images, "far")
    np.testing.assert_array_equal(made(images[::-1], "far", ids=IDS[::-1]), whole[::-1])
    others = colours(seed=1)
    others[1] = images[1]
    np.testing.assert_array_equal(made(others, "far", ids=np.asarray([8, IDS[1], 9]))[1], whole[1])
    same = made(np.repeat(images[:1], 3, axis=0), "far")
    assert (same[0] != same[1]).any() and (same[1] != same[2]).any()  # the id, not the image, fixes the draw


def test_exact_copies_are_the_source_and_own_their_memory_and_no_copies_have_the_right_shape():
    for dtype in (np.uint8, np.float32):
        images = colours(dtype)
        copies = made(images, "exact")
        assert copies.dtype == dtype and copies.flags.writeable
        np.testing.assert_array_equal(copies, np.repeat(images[:, None], 4, axis=1))
    copies[:] = 0
    assert images.any()
    for level in LEVELS:
        assert made(colours(), level, numbers=[]).shape == (3, 0, 12, 12, 3)
        assert made(colours()[:0], level, ids=IDS[:0]).shape == (0, 4, 12, 12, 3)


@pytest.mark.parametrize("level", ["near", "far"])
def test_dtype_and_range_are_kept(level):
    small, floats = made(colours(), level), made(colours(np.float32), level)
    assert small.dtype == np.uint8 and floats.dtype == np.float32
    assert floats.min() >= 0.0 and floats.max() <= 1.0
    np.testing.assert_allclose(small / 255, floats, atol=1.5 / 255)  # one generator behind both
    white = made(np.full((3, 12, 12, 3), 255, np.uint8), level)
    assert white.mean() > 150  # clipped, not wrapped around


def test_levels_are_ordered_by_measured_similarity():
    found = {level: [] for level in LEVELS} | {"strangers": []}
    for seed in range(12):
        images = colours(seed=seed)
        source = pixel_embedding(images)[:, None]
        found["strangers"] += [cosine(source[:-1], source[1:]).mean()]
        for level in LEVELS:
            copies = made(images, level).reshape(12, 12, 12, 3)
            found[level] += [cosine(pixel_embedding(copies).reshape(3, 4, -1), source).mean()]
    found = {level: np.mean(values) for level, values in found.items()}
    assert found["exact"] == pytest.approx(1.0, abs=1e-6)
    assert found["strangers"] + 0.2 < found["far"] < found["near"] - 0.05 < 0.95


def test_mirror_images_come_only_at_far_and_only_where_they_are_allowed():
    image = np.zeros((3, 12, 12, 3), np.float32)
    image[:, :, :4] = 1.0  # bright on the left

    def on_the_left(level, flips):
        copies = many(image, level, 40, flips=flips)
        return copies[:, :, :, :6].mean((2, 3, 4)) > copies[:, :, :, 6:].mean((2, 3, 4))

    assert on_the_left("far", flips=False).all()
    assert on_the_left("near", flips=True).all()
    assert 0.3 < on_the_left("far", flips=True).mean() < 0.7


def test_held_out_draws_differ_from_every_training_copy():
    images = colours()
    train, fresh = many(images, "near", 32), many(images, "near", 4, first=FRESH)
    for copies, draws in zip(train, fresh):
        flat = np.concatenate([copies, draws]).reshape(36, -1)
        assert len(np.unique(flat, axis=0)) == 36


def test_a_strength_scales_every_edit_of_a_level():
    near, half = LEVELS["near"], level_of("near:0.5")
    assert level_of("near") == level_of("near:1") == near
    assert half[:2] == (near.shift / 2, near.rotation / 2) and half[3:7] == tuple(x / 2 for x in near[3:7])
    assert level_of("far:0.5").zoom == pytest.approx([1 - (1 - z) / 2 for z in LEVELS["far"].zoom])
    assert level_of("far:0.5").flip and not half.flip
    with pytest.raises(InputError, match="exact, far, near"):
        made(colours(), "close")
    for text in ("near:", "near:0", "near:-1", "near:5", "near:nan", "near:strong", "exact:0.5"):
        with pytest.raises(InputError, match="is not understood"):
            level_of(text)


def slow_embedding(image, blocks=8):
    """Block means with loops."""
    height, width, channels = image.shape
    edges = lambda side: [int(side * k / blocks) for k in range(blocks + 1)]
    rows, columns, out = edges(height), edges(width), []
    for i in range(blocks):
        for j in range(blocks):
            for c in range(channels):
                out.append(image[rows[i] : rows[i + 1], columns[j] : columns[j + 1], c].astype(float).mean())
    out = np.asarray(out) - np.mean(out)
    return out / np.linalg.norm(out)


@pytest.mark.parametrize("shape", [(16, 16, 1), (12, 20, 3), (32, 32, 3)])
def test_embedding_equals_its_transcription(shape):
    images = np.random.default_rng(0).integers(0, 256, (5, *shape)).astype(np.uint8)
    found = pixel_embedding(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [slow_embedding(image) for image in images], atol=1e-6)


def test_small_images_keep_their_pixels_and_constant_ones_have_no_direction():
    images = np.random.default_rng(1).random((3, 8, 8, 1)).astype(np.float32)
    flat = images.reshape(3, -1) - images.reshape(3, -1).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(pixel_embedding(images), flat / np.linalg.norm(flat, axis=1, keepdims=True), atol=1e-6)
    assert (pixel_embedding(np.full((2, 16, 16, 3), 7, np.uint8)) == 0).all()
    images = np.random.default_rng(2).random((4, 16, 16, 3)).astype(np.float32)
    np.testing.assert_allclose(pixel_embedding(0.3 * images + 0.2), pixel_embedding(images), atol=1e-5)


def test_cosine_of_rows_after_their_means_are_removed():
    a, b = np.random.default_rng(3).normal(0, 1, (2, 6, 5))
    expected = [np.corrcoef(x, y)[0, 1] for x, y in zip(a, b)]
    np.testing.assert_allclose(cosine(a, b), expected, rtol=1e-10)
    np.testing.assert_allclose(cosine(a, 4 - 2 * a), -1.0)
    assert cosine(np.ones((1, 3)), a[:1, :3]) == 0.0


def brute_groups(embedding, threshold):
    """Each row with the first leader near it, one row after another."""
    leaders, label = [], []
    for i, row in enumerate(embedding):
        near = [leader for leader in leaders if float(row @ embedding[leader]) >= threshold]
        leaders += [] if near else [i]
        label.append(near[0] if near else i)
    return label


def partition(labels):
    """The groups as a set of sets of rows."""
    labels = np.asarray(labels)
    return {frozenset(np.flatnonzero(labels == name)) for name in np.unique(labels)}


def scattered(n=40, kinds=12):
    """Rows in loose bunches, with chains between them."""
    rng = np.random.default_rng(4)
    rows = rng.normal(0, 1, (kinds, 6))[rng.integers(0, kinds, n)] + 0.35 * rng.normal(0, 1, (n, 6))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_groups_equal_brute_force_whatever_the_block(threshold):
    rows = scattered()
    expected = partition(brute_groups(rows, threshold))
    assert 1 < len(expected) < 40
    for block in (2048, 40, 7, 1):
        assert partition(near_duplicate_groups(rows, threshold, block=block)) == expected


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_groups_of_some_rows_from_the_pairs_of_all_are_those_of_the_rows_alone(threshold):
    rows, some = scattered(), np.arange(1, 40, 3)
    found = leader_groups(near_pairs(rows, threshold), some)
    np.testing.assert_array_equal(found, near_duplicate_groups(rows[some], threshold))


def test_chains_are_cut_rows_without_direction_stand_alone_and_equal_rows_are_duplicates():
    angle = np.deg2rad([0, 20, 40, 60, 120])
    rows = np.concatenate([np.stack([np.cos(angle), np.sin(angle)], axis=1), np.zeros((2, 2))])
    assert partition(near_duplicate_groups(rows, np.cos(np.deg2rad(25)))) == {
        frozenset({0, 1}), frozenset({2, 3}), frozenset({4}), frozenset({5}), frozenset({6})
    }  # fmt: skip
    rows = pixel_embedding(np.random.default_rng(5).random((3, 8, 8, 1)).astype(np.float32))
    assert partition(near_duplicate_groups(rows[[0, 1, 0, 2]], 1.0)) == {
        frozenset({0, 2}), frozenset({1}), frozenset({3})
    }  # fmt: skip


def test_a_threshold_that_pairs_nearly_everything_or_is_no_cosine_is_refused(monkeypatch):
    monkeypatch.setattr(duplicates, "MAX_PAIRS", 30)
    with pytest.raises(InputError, match="give a higher one"):
        near_duplicate_groups(np.ones((20, 1)), 0.1)
    for threshold in (0.0, -0.5, 1.01, float("nan")):
        with pytest.raises(InputError, match=r"cosine in \(0, 1\]"):
            near_duplicate_groups(np.eye(2), threshold)

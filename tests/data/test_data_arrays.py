import numpy as np
import pytest

from unlearn_jax.data import check_dataset, dataset_digest, from_arrays, subset
from unlearn_jax.data.arrays import pixel_stats, stratified_rows
from unlearn_jax.errors import InputError


def images(count, dtype=np.uint8, shape=(5, 4, 2), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, *shape))
    return pixels.astype(np.uint8) if dtype == np.uint8 else (pixels / 255).astype(dtype)


def make(dtype=np.uint8, **changes):
    dataset = from_arrays("toy", images(12, dtype), np.arange(12) % 3, images(6, dtype), np.arange(6) % 3)
    return dataset._replace(**changes)


def broken(split, **changes):
    dataset = make(np.float32)
    return dataset._replace(**{split: getattr(dataset, split)._replace(**changes)})


def with_pixel(value):
    pixels = images(12, np.float32)
    pixels[7, 1, 2, 0] = value
    return pixels


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_from_arrays_keeps_the_pixels_and_computes_their_scale(dtype):
    dataset = make(dtype)
    scale = 255 if dtype == np.uint8 else 1
    assert dataset.train.inputs.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    np.testing.assert_allclose(dataset.train.inputs, images(12, dtype), rtol=1e-6)
    np.testing.assert_allclose(dataset.mean, (images(12, dtype) / scale).mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(dataset.std, (images(12, dtype) / scale).std((0, 1, 2)), rtol=1e-5)
    assert (dataset.num_classes, dataset.class_names, dataset.flips) == (3, ("0", "1", "2"), False)
    assert dataset.train.targets.dtype == np.int32 and dataset.train.ids.dtype == np.int64
    np.testing.assert_array_equal(np.concatenate([dataset.train.ids, dataset.test.ids]), np.arange(18))


def test_from_arrays_adds_the_channel_of_grey_images():
    grey = images(4, shape=(3, 2))
    dataset = from_arrays("grey", grey, [0, 1, 0, 1], grey[:2], [1, 0], class_names=("a", "b"), flips=True)
    np.testing.assert_array_equal(dataset.train.inputs[..., 0], grey)
    assert dataset.class_names == ("a", "b") and dataset.flips
    assert check_dataset(dataset) is dataset


@pytest.mark.parametrize(
    "dataset, said",
    [
        (lambda: broken("train", inputs=with_pixel(np.nan)), "train split of 'toy' has NaN.*row 7"),
        (lambda: broken("train", inputs=with_pixel(np.inf)), "infinite"),
        (lambda: broken("train", inputs=with_pixel(1.5)), r"1\.5: scale them"),
        (lambda: broken("train", inputs=with_pixel(-0.5)), r"-0\.5 to .*: scale them"),
        (lambda: broken("test", targets=np.full(6, 3, np.int32)), "test split.*label 3 in row 0"),
        (lambda: broken("test", targets=np.full(6, -1, np.int32)), "label -1"),
        (lambda: broken("test", targets=np.zeros(5, np.int32)), "6 images, 5 labels"),
        (lambda: broken("test", targets=np.zeros(6)), "int32"),
        (lambda: broken("train", ids=np.zeros(12, np.int64)), "train.*duplicate ids"),
        (lambda: broken("test", ids=np.arange(6)), "shares ids"),
        (lambda: broken("test", inputs=images(6, np.float32)[..., 0]), "shape"),
        (lambda: broken("test", inputs=images(6, np.float32)[:, :3]), "one shape"),
        (lambda: broken("test", inputs=images(6)), "one shape and dtype"),
        (lambda: broken("test", inputs=images(6, np.float64)), "float64"),
        (lambda: broken("test", targets=np.zeros((6, 1), np.int32)), "one number for each"),
        (lambda: make(class_names=("a",)), "one name for each class"),
        (lambda: make(mean=(0.5,)), "one mean"),
        (lambda: make(std=(0.0, 0.1)), "all equal"),
    ],
)
def test_check_dataset_says_what_is_wrong_and_where(dataset, said):
    with pytest.raises(InputError, match=said):
        check_dataset(dataset())


@pytest.mark.parametrize(
    "arguments, said",
    [
        ((images(0), [], images(2), [0, 1]), "train split.*labels of dtype"),
        ((images(0), np.zeros(0, int), images(2), [0, 1]), "train split.*empty"),
        ((images(2), [0, 1], images(0), np.zeros(0, int)), "test split.*empty"),
        ((images(2), [0, 1.5], images(2), [0, 1]), "train split.*integers"),
        ((images(2), [0, -1], images(2), [0, 1]), "number the classes from 0"),
        ((images(2).astype(int), [0, 1], images(2), [0, 1]), "uint8 in 0..255 or float32"),
        ((images(2), [0, 1], images(2) * 1.0, [0, 1]), "test split.*scale them"),
        ((images(3), [0, 1], images(2), [0, 1]), "3 images and 2 labels: give as many of each.$"),
        ((images(2), [[0], [1]], images(2), [0, 1]), r"train split.*labels of shape \(2, 1\): give one whole number"),
        ((images(2), 1, images(2), [0, 1]), r"labels of shape \(\)"),
        ((images(2), [0, 10**9], images(2), [0, 1]), "label 1000000000 among 2 images: number the classes from 0 with"),
        ((images(3), [0, 1, 2], images(2), [0, 9]), "test split.*label 9 in row 1, which no training image has"),
        ((images(3), [0, 2, 2], images(2), [1, 0]), "test split.*label 1 in row 0, which no training image has"),
        ((images(2) * 0, [0, 1], images(2), [0, 1]), "all equal"),
        ((5, 3, images(2), [0, 1]), "shape"),
        ((images(2) * 1e300, [0, 1], images(2) * 1.0, [0, 1]), "infinite"),
    ],
)
def test_from_arrays_refuses_what_it_cannot_use(arguments, said):
    with pytest.raises(InputError, match=said):
        from_arrays("mine", *arguments)


def test_num_classes_may_be_given_for_classes_without_a_training_image():
    dataset = from_arrays("mine", images(3), [0, 1, 2], images(2), [0, 9], num_classes=10)
    assert dataset.num_classes == len(dataset.class_names) == 10
    for wrong in (0, -1, 10**9):
        with pytest.raises(InputError, match=f"num_classes {wrong}: give 1 to 100000"):
            from_arrays("mine", images(3), [0, 1, 2], images(2), [0, 1], num_classes=wrong)
    with pytest.raises(InputError, match="label 9 in row 1, outside 0..4: correct the label or num_classes"):
        from_arrays("mine", images(3), [0, 1, 2], images(2), [0, 9], num_classes=5)


def test_subset_is_stratified_seeded_and_keeps_ids():
    targets = np.repeat(np.arange(3), [60, 30, 10])
    dataset = from_arrays("toy", images(100), targets, images(100, seed=1), targets)
    part = subset(dataset, 50, 21, seed=4)
    np.testing.assert_array_equal(np.bincount(part.train.targets), [30, 15, 5])
    np.testing.assert_array_equal(np.bincount(part.test.targets), [13, 6, 2])
    assert (np.diff(part.train.ids) > 0).all()
    np.testing.assert_array_equal(part.train.inputs, dataset.train.inputs[part.train.ids])
    np.testing.assert_array_equal(part.test.targets, targets[part.test.ids - 100])
    assert part.mean == pixel_stats(part.train.inputs)[0] != dataset.mean
    assert dataset_digest(part) == dataset_digest(subset(dataset, 50, 21, seed=4))
    assert dataset_digest(part) != dataset_digest(subset(dataset, 50, 21, seed=5))
    assert dataset_digest(subset(dataset, None, None, seed=0)) == dataset_digest(dataset)
    for sizes, said in (((0, 1), "train split.*1 to 12"), ((1, 7), "test split.*not 7")):
        with pytest.raises(InputError, match=said):
            subset(make(), *sizes, seed=0)


def test_stratified_rows_of_every_size():
    targets = np.array([0] * 7 + [1] * 5 + [2])
    for size in range(1, 14):
        rows = stratified_rows(targets, size, np.random.default_rng(size))
        assert len(set(rows)) == size
        assert np.abs(np.bincount(targets[rows], minlength=3) - size * np.array([7, 5, 1]) / 13).max() < 1


def test_digest_depends_on_contents_alone_in_either_byte_order():
    dataset = make()
    digest = dataset_digest(dataset)
    assert len(digest) == 64 and digest == dataset_digest(dataset._replace(name="other", mean=(0.0, 0.0)))
    swapped = dataset.train._replace(inputs=dataset.train.inputs.astype(">u1").copy())
    assert digest == dataset_digest(dataset._replace(train=swapped))
    changed = dataset.train.inputs.copy()
    changed[3, 2, 1, 0] ^= 1
    for other in (
        dataset._replace(train=dataset.train._replace(inputs=changed)),
        dataset._replace(test=dataset.test._replace(ids=dataset.test.ids + 1)),
        dataset._replace(num_classes=4),
        dataset._replace(flips=True),
        make(np.float32),
    ):
        assert dataset_digest(other) != digest
    dataset = make(np.float32)
    train = dataset.train
    big = train._replace(inputs=train.inputs.astype(">f4"), targets=train.targets.astype(">i4"))
    assert dataset_digest(dataset) == dataset_digest(dataset._replace(train=big))

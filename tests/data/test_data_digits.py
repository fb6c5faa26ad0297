import numpy as np
import pytest

from unlearn_jax.data import DATASETS, dataset_digest, load_dataset
from unlearn_jax.data.sources.corpora import CORPORA
from unlearn_jax.data.sources.embedded import digits
from unlearn_jax.errors import InputError

COUNTS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_digits_are_whole_and_stratified():
    dataset = load_dataset("digits")
    train, test = dataset.train, dataset.test
    assert train.inputs.shape == (1200, 8, 8, 1) and test.inputs.shape == (597, 8, 8, 1)
    assert train.inputs.dtype == np.float32 and not dataset.flips
    counts = np.bincount(train.targets) + np.bincount(test.targets)
    np.testing.assert_array_equal(counts, COUNTS)
    assert np.abs(np.bincount(train.targets) - np.array(COUNTS) * 1200 / 1797).max() < 1
    np.testing.assert_array_equal(np.sort(np.concatenate([train.ids, test.ids])), np.arange(1797))


def test_ids_are_rows_of_the_source_and_the_split_follows_the_seed_alone():
    from sklearn.datasets import load_digits

    source, dataset = load_digits(), digits()
    for split in (dataset.train, dataset.test):
        np.testing.assert_array_equal(split.inputs[..., 0] * 16, source.images[split.ids])
        np.testing.assert_array_equal(split.targets, source.target[split.ids])
    assert dataset_digest(digits()) == dataset_digest(digits(data_dir="anywhere", seed=0))
    assert not np.array_equal(digits(seed=1).train.ids, digits().train.ids)


def test_unknown_name_lists_the_valid_ones():
    with pytest.raises(
        InputError, match="'imagenet': choose one of ag_news_subset, bulletins, cifar10, cifar100, digits"
    ):
        load_dataset("imagenet")
    images = {"digits", "mnist", "fashion_mnist", "cifar10", "cifar100"}
    assert set(DATASETS) == images | {"facts", "facts_large", *CORPORA}

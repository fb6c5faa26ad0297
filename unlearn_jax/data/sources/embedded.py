"""Real data that comes with scikit-learn: nothing to download or prepare."""

from __future__ import annotations

import os

import numpy as np

from unlearn_jax.data.arrays import Dataset, Split, pixel_stats, stratified_rows

DIGITS_TRAIN = 1200  # of 1,797; the other 597 are the test split


def digits(*, data_dir: str | os.PathLike | None = None, seed: int = 0) -> Dataset:
    """1,797 grey 8x8 handwritten digits, 1,200 to train on and 597 to test, classes in equal proportions.

    Inputs are (n, 8, 8, 1) float32 in [0, 1] (the stored counts 0..16 over 16); ids are rows of
    ``sklearn.datasets.load_digits()``. ``seed`` chooses the split; ``data_dir`` is ignored, and there so that
    every source is called alike. Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten
    Digits, UCI Machine Learning Repository, 1998 (its test part).
    """
    from sklearn.datasets import load_digits

    del data_dir
    source = load_digits()
    inputs = (source.images / 16).astype(np.float32)[..., None]
    targets = source.target.astype(np.int32)
    train_rows = stratified_rows(targets, DIGITS_TRAIN, np.random.default_rng(seed))
    test_rows = np.setdiff1d(np.arange(len(targets)), train_rows)
    train, test = (Split(inputs[rows], targets[rows], rows.astype(np.int64)) for rows in (train_rows, test_rows))
    mean, std = pixel_stats(train.inputs)
    names = tuple(str(label) for label in source.target_names)
    return Dataset("digits", train, test, 10, mean, std, False, names)

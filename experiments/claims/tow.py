"""The tug of war (arXiv 2406.01257) of several populations of a study, over shared draws."""

from __future__ import annotations

import numpy as np

from unlearn_jax.metrics import Draws

from .read import StoredLevel, draws, recognised

SPLITS = ("forget", "rest", "test")


def gaps(level: StoredLevel, name: str) -> list[Draws]:
    """Draws of the share recognised, of a population and of retraining in turn, by split: what `scores` takes."""
    return [draws(level, one, split, recognised) for split in SPLITS for one in (name, "retrain")]


def scores(*shares):
    """Mean over populations of (1 - |gap|) on request, retained and test samples; 1 = like the reference."""
    each = 2 * len(SPLITS)
    products = []
    for start in range(0, len(shares), each):
        pairs = shares[start : start + each]
        products.append(np.prod([1.0 - np.abs(u - r) for u, r in zip(pairs[::2], pairs[1::2])], axis=0))
    return np.mean(products, axis=0)

"""Features, weights and gradients compared: CKA, neighbours, probes, weight distance, entanglement, MMD, coupling.

Methods that forget often change the last layer alone; these look beneath it. Features are (n, d) of one model, or
(members, n, d) of a population; then the answer has a leading member axis, and member i is compared with member i of
the other argument (or with its only one). For means over members: `subset_draws` or `subset_draws_pooled` with one role
for both, so that partners are drawn together.

Odd input is the same for all: a model with a value that is not finite has diverged, and its answer is NaN (nothing is
dropped, so that members stay in line); shapes that do not belong together and empty ones: `InputError`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from unlearn_jax.errors import InputError
from unlearn_jax.metrics.arrays import whole_number

ROWS = 512  # rows of a table of distances at once


def linear_cka(x, y, *, debiased: bool = False) -> float | Float64[np.ndarray, " members"]:
    """Linear centred kernel alignment of two sets of features of the same examples; 1 = alike up to rotation and scale.

    Args:
        x: features (n, d1), or (members, n, d1).
        y: features (n, d2), or (members, n, d2).
        debiased: use the unbiased HSIC, about 0 for features that have nothing in common; without it the value is
            high wherever d is near n or above, whatever the features. Takes four examples; may be a little negative.

    Returns:
        A float, or (members,). Constant features: NaN (no variance to align).

    Raises:
        InputError: shapes that do not belong together, or under two (debiased: four) examples.

    Source: Kornblith et al. (arXiv 1905.00414); debiased as in Nguyen et al. (arXiv 2010.15327), with the HSIC of Song
    et al. (2012).

    Example:
        >>> import numpy as np
        >>> x = np.array([[0.0, 1.0], [2.0, 0.0], [1.0, 1.0]])
        >>> round(linear_cka(x, 3.0 * x[:, ::-1]), 6)
        1.0
    """
    return _each(lambda a, b: _cka(a, b, debiased), x, y, least=4 if debiased else 2)


def _cka(x: np.ndarray, y: np.ndarray, debiased: bool) -> float:
    floor = [1e-24 * np.square(a).sum() ** 2 + 1e-300 for a in (x, y)]  # rounding leaves this much of constant features
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    hsic = _unbiased_hsic if debiased else _gram_product
    scale = [hsic(a, a) for a in (x, y)]
    if any(s <= f for s, f in zip(scale, floor)):
        return np.nan
    return hsic(x, y) / np.sqrt(scale[0] * scale[1])


def _gram_product(x: np.ndarray, y: np.ndarray) -> float:
    """sum of (X X') * (Y Y'), the short way round."""
    if len(x) < min(x.shape[1], y.shape[1]):
        return float(np.sum((x @ x.T) * (y @ y.T)))
    return float(np.square(x.T @ y).sum())


def _unbiased_hsic(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased HSIC with linear kernels, without their n by n tables."""
    n, own_x, own_y = len(x), np.square(x).sum(axis=1), np.square(y).sum(axis=1)
    rows_x, rows_y = x @ x.sum(axis=0) - own_x, y @ y.sum(axis=0) - own_y
    trace = _gram_product(x, y) - own_x @ own_y
    sums = rows_x.sum() * rows_y.sum() / ((n - 1.0) * (n - 2.0))
    return float((trace + sums - 2.0 / (n - 2.0) * (rows_x @ rows_y)) / (n * (n - 3.0)))


def knn_overlap(x, y, k: int = 10) -> Float64[np.ndarray, " n"] | Float64[np.ndarray, "members n"]:
    """Share of its k nearest neighbours that an example keeps from one set of features to the other.

    Args:
        x: features (n, d1), or (members, n, d1).
        y: features (n, d2), or (members, n, d2).
        k: neighbours, Euclidean, the example itself left out; fewer than n.

    Returns:
        (n,), or (members, n), in [0, 1]; k / (n - 1) by chance. Of neighbours at the same distance it is undefined
        which count, so features that are constant, or that tie for most of the examples, say nothing.

    Raises:
        InputError: shapes that do not belong together, or a k that is not in [1, n - 1].

    Source: the mutual k-nearest-neighbour metric of representational similarity, as in Huh et al. (arXiv 2405.07987).

    Example:
        >>> import numpy as np
        >>> x = np.array([[0.0], [1.0], [10.0], [11.0]])
        >>> knn_overlap(x, -x, k=1).tolist(), knn_overlap(x, x[[0, 2, 1, 3]], k=1).tolist()
        ([1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0])
    """
    n = np.shape(x)[-2] if np.ndim(x) > 1 else 0
    if whole_number(k, "k", 0) not in range(1, max(n, 1)):
        raise InputError(f"k is {k} for {n} examples: give a number of neighbours between 1 and {max(1, n - 1)}.")

    def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        kept = np.empty(n)
        for start in range(0, n, ROWS):
            rows = np.arange(start, min(n, start + ROWS))
            near = np.zeros((2, len(rows), n), bool)
            for table, features in zip(near, (a, b)):
                gaps = _square_gaps(features[rows], features)
                gaps[np.arange(len(rows)), rows] = np.inf
                np.put_along_axis(table, np.argpartition(gaps, k - 1, axis=1)[:, :k], True, axis=1)
            kept[rows] = (near[0] & near[1]).sum(axis=1) / k
        return kept

    return _each(overlap, x, y, least=2, empty=np.full(n, np.nan))


def _square_gaps(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances, (rows of x, rows of y)."""
    centre = y.mean(axis=0)
    x, y = x - centre, y - centre
    gaps = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1) - 2.0 * (x @ y.T)
    return np.maximum(gaps, 0.0)


def linear_probe(
    features_train, labels_train, features_test, labels_test, *, strength: float = 1.0, max_iter: int = 1000
) -> Float64[np.ndarray, " m"] | Float64[np.ndarray, "members m"]:
    """Where a logistic regression on frozen features predicts right; the mean is the probe's accuracy.

    Args:
        features_train: (n, d), or (members, n, d); standardised with their own mean and spread, a probe per member.
        labels_train: (n,) labels, of all members.
        features_test: (m, d), or (members, m, d).
        labels_test: (m,).
        strength: inverse L2 penalty (``C`` of scikit-learn).
        max_iter: steps; a probe that has not converged by then is used as it stands.

    Returns:
        (m,) or (members, m) of 0 and 1, which `mean_estimate` and `price` take. With one label in training all are
        given that label; constant features leave the most frequent one. NaN where either features are not finite.

    Raises:
        InputError: shapes that do not belong together, no examples, a strength that is not positive.

    Source: Alain and Bengio (arXiv 1610.01644).

    Example:
        >>> import numpy as np
        >>> x = np.array([[-2.0], [-1.0], [1.0], [2.0]])
        >>> linear_probe(x, [0, 0, 1, 1], x, [0, 0, 1, 0]).tolist()
        [1.0, 1.0, 1.0, 0.0]
    """
    train_labels, test_labels = np.asarray(labels_train), np.asarray(labels_test)
    sizes = [np.shape(f)[-2:-1] for f in (features_train, features_test)]
    if sizes != [train_labels.shape, test_labels.shape] or np.shape(features_train)[-1] != np.shape(features_test)[-1]:
        raise InputError("features and labels do not belong together: give (n, d) features with a label each.")
    if not strength > 0:
        raise InputError(f"strength is {strength}: give an inverse penalty above 0.")

    def right(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        return (_probe(train, train_labels, test, strength, max_iter) == test_labels).astype(np.float64)

    return _each(right, features_train, features_test, least=1, paired=False, empty=np.full(len(test_labels), np.nan))


def _probe(train: np.ndarray, labels: np.ndarray, test: np.ndarray, strength: float, max_iter: int) -> np.ndarray:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(labels)) == 1:
        return np.full(len(test), labels[0])
    centre, spread = train.mean(axis=0), train.std(axis=0)
    constant = spread <= 1e-12 * np.abs(train).max(axis=0)  # not 0, for the mean of equal numbers is rounded
    spread, train, test = np.where(constant, 1.0, spread), *(np.where(constant, centre, x) for x in (train, test))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = LogisticRegression(C=strength, max_iter=max_iter).fit((train - centre) / spread, labels)
    return fit.predict((test - centre) / spread)


def weight_distance(
    weights: Mapping, reference: Mapping, names: Sequence[str] | None = None
) -> dict[str, Float64[np.ndarray, " members"]]:
    """Distance of weights from a reference, layer by layer, relative to the reference's norm.

    Args:
        weights: by layer, arrays with a leading member axis.
        reference: the same layers of as many members, or of one.
        names: layers wanted; None = all of ``weights``.

    Returns:
        By layer ``|w_i - r_i| / |r_i|``, (members,); NaN where the reference is 0 or a weight not finite. Against the
        models that the members started from it is how far a method went. Against a retrained population it is large
        for good models too, since networks from other seeds order their units otherwise.

    Raises:
        InputError: layers missing, or shapes that differ.

    Source: the layer-wise distance of Golatkar et al. (arXiv 1911.04933) and Tarun et al. (arXiv 2111.08947).

    Example:
        >>> import numpy as np
        >>> one, other = {"dense": np.array([[3.0, 0.0]])}, {"dense": np.array([[3.0, 4.0]])}
        >>> weight_distance(one, other)["dense"].tolist()
        [0.8]
    """
    layers = list(weights if names is None else names)
    missing = [name for name in layers if name not in weights or name not in reference]
    if missing or not layers:
        raise InputError(f"layers {missing} are missing: give names that weights and reference both have.")
    distances = {}
    for name in layers:
        w, r = (np.asarray(x[name], np.float64) for x in (weights, reference))
        if not min(w.ndim, r.ndim, w.size) or w.shape[1:] != r.shape[1:] or len(r) not in (1, len(w)):
            raise InputError(f"{name} is {w.shape} and {r.shape}: give one shape, and as many members or one.")
        flat = lambda x: np.where(np.isfinite(x), x, np.nan).reshape(len(x), -1)
        w, r = flat(w), flat(r)
        norm = np.linalg.norm(r, axis=1)
        distances[name] = np.linalg.norm(w - r, axis=1) / np.where(norm > 0, norm, np.nan)
    return distances


def _each(
    function: Callable, x, y, *, least: int, paired: bool = True, same_width: bool = False, empty: Any = np.nan
) -> Any:
    """A figure of two models' features, or of each member of two populations; ``empty`` where one diverged."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim not in (2, 3) or y.ndim not in (2, 3) or not x.size or not y.size:
        raise InputError(f"features are {x.shape} and {y.shape}: give (examples, d), or (members, examples, d).")
    if (paired and x.shape[-2] != y.shape[-2]) or (same_width and x.shape[-1] != y.shape[-1]):
        raise InputError(f"features are {x.shape} and {y.shape}: give both the same {'examples' if paired else 'd'}.")
    if min(x.shape[-2], y.shape[-2]) < least:
        raise InputError(f"features are {x.shape} and {y.shape}: give {least} examples or more.")
    single, (x, y) = x.ndim == y.ndim == 2, (a if a.ndim == 3 else a[None] for a in (x, y))
    members = max(len(x), len(y))
    if min(len(x), len(y)) not in (1, members):
        raise InputError(f"{len(x)} members cannot be matched with {len(y)}: give as many, or one.")
    pairs = ((x[i % len(x)], y[i % len(y)]) for i in range(members))
    results = [function(a, b) if np.isfinite(a).all() and np.isfinite(b).all() else empty for a, b in pairs]
    if single:
        return results[0] if isinstance(results[0], np.ndarray) else float(results[0])
    return np.asarray(results, np.float64)

"""What can be measured of a population without any oracle: its answers on examples that no model was trained on.

Unlearning should leave held-out examples as they were. A method's settings can be compared by that on a tuning split of
targets, where a practitioner has the original models and some held-out data, and no model that never saw the request.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from unlearn_jax.errors import InputError
from unlearn_jax.metrics.draws import RESAMPLES, Draws, as_values, draws_of, pooled_mean
from unlearn_jax.metrics.residual import check_targets, distinct_products, squared_distance
from unlearn_jax.metrics.summary import Estimate, estimate_of

MIN_HELDOUT, MAX_HELDOUT = 20, 2000  # held-out examples that `expected_margins` needs, and that it takes
PENALTIES = np.array([1e-4, 1e-3, 1e-2, 1e-1, 1.0])  # in units of the kernel's mean eigenvalue


def heldout_margin_error(
    unlearned, original, *, role: str = "original", seed: int = 0, resamples: int = RESAMPLES
) -> Estimate:
    """Root mean squared difference, over held-out examples, of a population's mean margin and the original's, in nats.

    The square is estimated without the bias that finitely many members bring: products are taken over distinct members
    only, of the members' own differences where member i starts from original member i.

    Args:
        unlearned: margins (members, held-out examples), blocks by request, or `Values`.
        original: the same of the models that saw everything, the same members in the same order.
        role: ``original`` where ``unlearned`` started from the originals; else populations are independent.
        seed: of the draws.
        resamples: number of draws.

    Raises:
        InputError: arrays that are not (members, examples), or numbers of examples that differ.

    Example:
        >>> heldout_margin_error(np.full((4, 3), 1.0), np.zeros((4, 3))).value
        1.0
    """
    draws = margin_error_draws(unlearned, original, role=role, seed=seed, resamples=resamples)
    return estimate_of(draws, low=0.0)


def margin_error_draws(
    unlearned, original, *, role: str = "original", seed: int = 0, resamples: int = RESAMPLES
) -> Draws:
    """The draws behind `heldout_margin_error`; same arguments."""
    check_targets([unlearned, original])
    u, full = as_values(unlearned, role), as_values(original, "original")
    if u.role == full.role:
        paired = u._replace(blocks=[a - b for a, b in zip(u.blocks, full.blocks)])
        squares = distinct_products(paired, seed, resamples)
    else:
        paired, squares = u, squared_distance(u, full, seed, resamples)
    figure = lambda weights: np.sqrt(np.maximum(pooled_mean(squares, weights), 0.0))
    return draws_of(figure, paired, seed, resamples)._replace(role=u.role if u.role == full.role else "")


def expected_margins(heldout, labels, margins, request, request_labels) -> Float64[np.ndarray, " q"]:
    """Margins of the original models on a request, had they never seen it: an estimate from held-out examples.

    A ridge classifier is fitted to held-out examples alone, which have nothing to do with the request. How clearly it
    speaks for an example's label (its score less the best other one, of a held-out example without that example) is
    related to the original's margin by a line, fitted to held-out examples, and the request is put on that line.

    Args:
        heldout: (h, d) embedding of held-out examples, rows of similar length; an array or a sparse matrix.
        labels: (h,) their classes.
        margins: (h,) the original models' mean margins on them, nats.
        request: (q, d) embedding of the request.
        request_labels: (q,) its classes.

    Returns:
        (q,) nats; NaN where held-out examples are fewer than `MIN_HELDOUT` or of one class. The ridge penalty is the
        one of `PENALTIES` with the smallest error on left-out examples. Examples that were chosen because models find
        them hard are harder than this can tell: for them it is an upper bound.

    Raises:
        InputError: arrays of other lengths.
    """
    labels, margins = np.asarray(labels), np.asarray(margins, np.float64)
    heldout, request = (x if hasattr(x, "toarray") else np.asarray(x) for x in (heldout, request))
    if not heldout.shape[0] == len(labels) == len(margins) or request.shape[0] != len(request_labels):
        raise InputError("embeddings, labels and margins are of different lengths: give one row for each example.")
    finite = np.flatnonzero(np.isfinite(margins))
    finite = finite[:: max(1, -(-len(finite) // MAX_HELDOUT))]
    heldout, labels, margins = heldout[finite], labels[finite], margins[finite]
    clear, request_clear = clearness(heldout, labels, request, request_labels)
    if np.isnan(clear).any():
        return np.full(request.shape[0], np.nan)
    slope = np.cov(clear, margins)[0, 1] / max(clear.var(ddof=1), 1e-12)
    return margins.mean() + slope * (request_clear - clear.mean())


def clearness(heldout, labels, request, request_labels) -> tuple[Float64[np.ndarray, " h"], Float64[np.ndarray, " q"]]:
    """How clearly a ridge classifier that held-out examples alone have made speaks for each example's label.

    Args:
        heldout: (h, d) embedding of held-out examples, an array or a sparse matrix.
        labels: (h,) their classes.
        request: (q, d) embedding of the request.
        request_labels: (q,) its classes.

    Returns:
        Score of the label less the best other one, (h,) of held-out examples, each by the others alone, and (q,) of the
        request; NaN where held-out examples are fewer than `MIN_HELDOUT` or of one class.
    """
    labels = np.asarray(labels)
    classes = np.unique(labels)
    if len(labels) < MIN_HELDOUT or len(classes) < 2:
        return np.full(len(labels), np.nan), np.full(request.shape[0], np.nan)
    kernel, between = _kernels(heldout.astype(np.float64), request.astype(np.float64))
    left_out, weights = _ridge(kernel, (labels[:, None] == classes).astype(np.float64))
    scores = between @ weights
    return _clearness(left_out, labels, classes), _clearness(scores, np.asarray(request_labels), classes)


def _kernels(heldout, request) -> tuple[np.ndarray, np.ndarray]:
    """1 + inner products about the mean of the held-out rows, (h, h) among them and (q, h); sparse rows stay sparse."""
    dense = lambda x: x.toarray() if hasattr(x, "toarray") else np.asarray(x)
    among, cross = dense(heldout @ heldout.T), dense(request @ heldout.T)
    mean, total = among.mean(axis=0), among.mean()  # of each row's products with the others, by the centre
    request_mean = cross.mean(axis=1, keepdims=True)
    return 1.0 + among - mean - mean[:, None] + total, 1.0 + cross - mean - request_mean + total


def _ridge(kernel: np.ndarray, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predictions (n, classes) of kernel ridge regression for each example left out, and its dual weights."""
    values, vectors = np.linalg.eigh(kernel)
    values, turned = np.maximum(values, 0.0), vectors.T @ answers
    best: tuple = (np.inf, None, None)
    for penalty in PENALTIES * values.mean():
        fitted = vectors @ ((values / (values + penalty))[:, None] * turned)
        leverage = np.minimum((vectors**2) @ (values / (values + penalty)), 1 - 1e-9)[:, None]
        left_out = (fitted - leverage * answers) / (1 - leverage)
        if (error := float(np.mean((left_out - answers) ** 2))) < best[0]:
            best = (error, left_out, vectors @ (turned / (values + penalty)[:, None]))
    return best[1], best[2]


def _clearness(scores: np.ndarray, labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Score of each example's label less the best other one; (n, classes) -> (n,)."""
    is_label = labels[:, None] == classes
    return np.where(is_label, scores, 0.0).sum(axis=1) - np.where(is_label, -np.inf, scores).max(axis=1)

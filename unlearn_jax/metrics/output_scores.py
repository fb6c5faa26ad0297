"""Scores of one prediction that membership attacks threshold: entropy, modified entropy, confidence."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from unlearn_jax.errors import InputError
from unlearn_jax.metrics.arrays import CLIP, as_logits, log_softmax


def entropy(logits) -> Float64[np.ndarray, "... n"]:
    """Entropy of the predicted distribution, nats; (..., C) -> (...,), at least 0, NaN where a logit is NaN.

    Example:
        >>> entropy([[0.0, 0.0]]).round(4).tolist()
        [0.6931]
    """
    if not np.size(logits):
        raise InputError(f"logits are {np.shape(logits)}: give (..., classes) with at least one of each.")
    logp = log_softmax(logits)
    return -(np.exp(logp) * np.maximum(logp, -CLIP)).sum(axis=-1)


def modified_entropy(logits, labels) -> Float64[np.ndarray, "... n"]:
    """Modified entropy: 0 for a certain right answer, large for a certain wrong one; nats.

    ``-(1 - p_y) log p_y - sum over the other classes c of p_c log(1 - p_c)``, logarithms held at -100. Some public code
    takes log p_c for log(1 - p_c), and writes the label's term into the rows of all other examples too.

    Args:
        logits: (..., n, C), at least two classes.
        labels: (n,) whole numbers in [0, C), or (..., n).

    Returns:
        (..., n). NaN where a logit is NaN; an infinite logit is a certain answer.

    Raises:
        InputError: shapes that do not belong together, or a label that is no class.

    Source: Song and Mittal (arXiv 2003.10595).

    Example:
        >>> import numpy as np
        >>> modified_entropy(np.log([[0.75, 0.25]]), [0]).round(4).tolist()  # -2 * .25 * log(.75)
        [0.1438]
    """
    logits, labels = as_logits(logits, labels, "logits")
    logp, log_rest = log_softmax(logits), _log_complement(logits)
    true = np.arange(logits.shape[-1]) == labels[..., None]
    weight, log_of = np.exp(np.where(true, log_rest, logp)), np.where(true, logp, log_rest)
    return -(weight * np.maximum(log_of, -CLIP)).sum(axis=-1)


def _log_complement(logits: np.ndarray) -> np.ndarray:
    """log(1 - p) of each class; that of the likeliest by the sum of the others, where 1 - p would lose all digits."""
    logp = log_softmax(logits)
    top = np.arange(logits.shape[-1]) == np.argmax(logits, axis=-1)[..., None]
    others = np.where(top, -np.inf, logp)
    high = np.maximum(others.max(axis=-1, keepdims=True), -1e300)
    rest = high + np.log(np.exp(others - high).sum(axis=-1, keepdims=True))
    return np.where(top, rest, np.log1p(-np.exp(np.where(top, -1e300, logp))))


def confidence(logits, labels) -> Float64[np.ndarray, "... n"]:
    """Probability of the true label; (..., n, C) and (n,) or (..., n) -> (..., n). NaN where a logit is NaN.

    Example:
        >>> confidence([[0.0, 0.0]], [1]).tolist()
        [0.5]
    """
    logits, labels = as_logits(logits, labels, "logits")
    return np.exp(np.take_along_axis(log_softmax(logits), labels[..., None], axis=-1)[..., 0])

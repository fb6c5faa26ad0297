"""Language metrics on token log-probabilities: answers' probability and margin.

NumPy, in float64. Arrays end in the axes named, and may lead with a member axis: (N, n, T) for N members, n examples
and T tokens. A mask is 1 on the tokens of the answer and 0 on prompt and padding, whose values are never looked at.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from unlearn_jax.errors import InputError

ROUNDING = 1e-3  # nats by which rounding may lift a log-probability above 0
RESOLUTION = 2.0**-24  # smallest loss that a probability in float32 can show


def live_tokens(mask, shape: tuple) -> Bool[np.ndarray, "... T"]:
    """The mask as booleans of the shape (..., T); `InputError` where it does not fit or leaves an answer empty."""
    mask = np.asarray(mask)
    fits = mask.ndim > 0 and len(shape) > 0 and mask.shape[-1] == shape[-1]
    try:
        live = np.broadcast_to(mask != 0, shape)
    except ValueError:
        fits = False
    if not fits:
        raise InputError(f"mask is {mask.shape} for tokens {shape}: give one entry for each token.")
    if not np.isin(mask, (0, 1)).all():
        raise InputError("mask holds values besides 0 and 1: give 1 for answer tokens, 0 for prompt and padding.")
    empty = int((~live.any(axis=-1)).sum())
    if empty:
        raise InputError(f"{empty} answers have no live token: mark their tokens in the mask or leave them out.")
    return live


def log_probabilities(values, name: str, live: np.ndarray | bool = True) -> Float64[np.ndarray, " ..."] | np.float64:
    """``values`` in float64, 0 where not live and at most 0; `InputError` where they cannot be log-probabilities."""
    values = np.where(live, np.asarray(values, np.float64), 0.0)
    if (values > ROUNDING).any():
        raise InputError(f"{name} holds values above 0: give log-probabilities in nats, not probabilities or losses.")
    return np.minimum(values, 0.0)


def right_tokens(predicted, targets, mask) -> tuple[np.ndarray, np.ndarray]:
    """Where live tokens are predicted right, and the live tokens."""
    predicted, targets = np.asarray(predicted), np.asarray(targets)
    try:
        shape = np.broadcast_shapes(predicted.shape, targets.shape)
    except ValueError:
        shape = ()
    if not shape or predicted.shape[-1:] != targets.shape[-1:]:
        raise InputError(
            f"predicted is {predicted.shape}, targets {targets.shape}: give one target for each prediction."
        )
    live = live_tokens(mask, shape)
    return (predicted == targets) & live, live


def mean_of_lowest(score: np.ndarray, live: np.ndarray, share: float) -> np.ndarray:
    """Mean of the lowest share of the live scores, at least one; NaN where a live score is NaN."""
    if not 0 < share <= 1:
        raise InputError(f"share is {share}: give a share of the tokens in (0, 1], 0.2 for the usual 20%.")
    count = np.maximum(1, np.floor(share * live.sum(axis=-1) + 1e-9))  # .29 of 100 is 28.999...
    ordered = np.sort(np.where(live, score, np.inf), axis=-1)  # masked places last
    chosen = np.where(np.arange(score.shape[-1]) < count[..., None], ordered, 0.0)
    return np.where((np.isnan(score) & live).any(axis=-1), np.nan, chosen.sum(axis=-1) / count)


def common_subsequence(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence, a row of the usual table at a time as the bits of one integer."""
    places: dict[Hashable, int] = {}
    for index, token in enumerate(other):
        places[token] = places.get(token, 0) | 1 << index
    every = (1 << len(other)) - 1
    row = every  # a zero bit marks a place where the length of the best match goes up by one
    for token in one:
        met = row & places.get(token, 0)
        row = (row + met | row - met) & every
    return len(other) - row.bit_count()


class AnswerProbability(NamedTuple):
    """How probable answers are, each (..., n)."""

    probability: np.ndarray  # geometric mean over the answer's tokens, in [0, 1]
    logprob: np.ndarray  # of the whole answer, nats
    loss: np.ndarray  # mean negative log-probability, nats per token


def answer_probability(token_logprob, mask) -> AnswerProbability:
    """Probability of each answer: per token (the geometric mean, TOFU's "probability") and, apart, of the whole.

    Args:
        token_logprob: log p of each true token given those before it, (..., n, T), nats.
        mask: live tokens, (n, T) or of the same shape.

    Raises:
        InputError: a mask that does not fit or leaves an answer empty, or log-probabilities above 0.

    Source: Maini et al. (arXiv 2401.06121).

    Example:
        >>> import numpy as np
        >>> found = answer_probability(np.log([[0.9, 0.5, 0.125]]), [[0, 1, 1]])
        >>> found.probability.round(3).tolist(), np.exp(found.logprob).round(4).tolist()
        ([0.25], [0.0625])
    """
    live = live_tokens(mask, np.shape(token_logprob))
    total = log_probabilities(token_logprob, "token_logprob", live).sum(axis=-1)
    mean = total / live.sum(axis=-1)
    return AnswerProbability(np.exp(mean), total, 0.0 - mean)


def sequence_margin(summed_logprob, *, resolution: float = RESOLUTION) -> Float64[np.ndarray, " ..."] | np.float64:
    """Log-odds of a whole free-text answer, ``log p - log(1 - p)`` in nats; any shape.

    Args:
        summed_logprob: log p of the whole answer, nats; minus infinity gives minus infinity.
        resolution: log p nearer to 0 counts as this near. In float32 a certain answer's log p is exactly 0, and an
            infinite margin would read as a diverged model; the default bounds the margin at 16.6.

    Raises:
        InputError: log-probabilities above 0, or a resolution that is not positive.

    Example:
        >>> import numpy as np
        >>> sequence_margin(np.log([0.5, 0.9, 1e-9])).round(3).tolist()
        [0.0, 2.197, -20.723]
    """
    if not resolution > 0:
        raise InputError(f"resolution is {resolution}: give a positive number of nats.")
    x = np.minimum(log_probabilities(summed_logprob, "summed_logprob"), -resolution)
    with np.errstate(divide="ignore"):
        return x - np.where(x > -np.log(2.0), np.log(-np.expm1(x)), np.log1p(-np.exp(x)))


def candidate_margin(true_logprob, other_logprobs) -> Float64[np.ndarray, "... n"]:
    """Log-odds of the true answer among candidates, ``log p(true) - logsumexp log p(others)`` in nats.

    Args:
        true_logprob: log p of the whole true answer, (..., n).
        other_logprobs: log p of the other answers, (..., n, K); minus infinity for one that is not there.

    Raises:
        InputError: shapes that do not belong together, no other answer, or log-probabilities above 0.

    Example:
        >>> import numpy as np
        >>> candidate_margin(np.log([0.2]), np.log([[0.05, 0.05]])).round(4).tolist()
        [0.6931]
    """
    true, others = log_probabilities(true_logprob, "true_logprob"), log_probabilities(other_logprobs, "other_logprobs")
    check_candidates(true.shape, others.shape, "other_logprobs")
    with np.errstate(invalid="ignore"):
        return true - np.logaddexp.reduce(others, axis=-1)


def check_candidates(one: tuple, many: tuple, name: str) -> None:
    """`InputError` unless ``many`` is ``one`` with a last axis of at least one candidate."""
    if many[:-1] != one or len(many) != len(one) + 1 or many[-1] == 0:
        raise InputError(f"{name} is {many} beside {one}: give one row of at least one candidate for each example.")

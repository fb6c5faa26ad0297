"""How much of a text a language model gives back, and how much it looks like training text.

NumPy and plain Python; axes and masks as in `unlearn_jax.metrics.language`. "Teacher forcing" means that each token was
predicted from the true tokens before it; ``predicted[..., t]`` is the prediction for ``targets[..., t]``.
"""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Float64

from unlearn_jax.errors import InputError
from unlearn_jax.metrics.language import (
    common_subsequence,
    live_tokens,
    log_probabilities,
    mean_of_lowest,
    right_tokens,
)
from unlearn_jax.metrics.roc import auc

MIN_SPREAD = 1e-3  # nats; a smaller spread of the next token's log-probability counts as this


def rouge_l_recall(
    predictions: Sequence[Sequence[Hashable]], references: Sequence[Sequence[Hashable]]
) -> Float64[np.ndarray, " n"]:
    """ROUGE-L recall: the longest common subsequence of answer and reference, over the reference's length.

    Args:
        predictions: n token sequences without padding, words or token numbers; public figures use lower-case stemmed
            words.
        references: n token sequences, none of them empty.

    Returns:
        (n,), in [0, 1]. Extra words in the answer cost nothing: recall alone rewards long answers.

    Raises:
        InputError: texts that are not split into tokens, numbers that differ, or an empty reference.

    Source: Lin, "ROUGE: a package for automatic evaluation of summaries" (2004); used by TOFU (arXiv 2401.06121) and
    MUSE (arXiv 2407.06460).

    Example:
        >>> rouge_l_recall(["the cat sat down".split()], ["the old cat sat".split()]).tolist()
        [0.75]
    """
    if any(isinstance(text, str) for batch in (predictions, references) for text in (batch, *batch)):
        raise InputError("predictions and references hold whole texts: split each into a list of tokens first.")
    if len(predictions) != len(references):
        raise InputError(f"{len(predictions)} predictions for {len(references)} references: give one for each.")
    pairs = [[_tokens(text) for text in pair] for pair in zip(predictions, references)]
    empty = [i for i, (_, reference) in enumerate(pairs) if not reference]
    if empty:
        raise InputError(f"references {empty} are empty: leave these examples out.")
    return np.asarray([common_subsequence(*pair) / len(pair[1]) for pair in pairs], np.float64)


def _tokens(text) -> list:
    return text.tolist() if hasattr(text, "tolist") else list(text)


def exact_memorisation(predicted, targets, mask) -> Float64[np.ndarray, "... n"]:
    """Share of an answer's tokens that greedy prediction gets right under teacher forcing; (..., n).

    Args:
        predicted: most probable token at each place, (..., n, T).
        targets: true tokens, (n, T) or of the same shape; what stands at masked places (-100, say) does not matter.
        mask: live tokens, (n, T) or of the same shape.

    Raises:
        InputError: shapes that do not belong together, or an answer without a live token.

    Source: Tirumala et al. (arXiv 2205.10770).

    Example:
        >>> exact_memorisation([[5, 1, 2, 9]], [[-100, 1, 2, 3]], [[0, 1, 1, 1]]).round(3).tolist()
        [0.667]
    """
    right, live = right_tokens(predicted, targets, mask)
    return right.sum(axis=-1) / live.sum(axis=-1)


def extraction_strength(predicted, targets, mask) -> Float64[np.ndarray, "... n"]:
    """Extraction strength ``1 - k* / L`` of answers of L tokens; (..., n).

    k* is the length of the shortest prefix of the answer after which greedy prediction, under teacher forcing, equals
    all of the rest. 1 = the prompt alone draws the answer (k* = 0); 0 = the last token is wrong, so that only the whole
    answer "extracts" itself (k* = L). Public code stops at k* = L - 1: it never falls below 1 / L, and gives an answer
    of one token 1 whether it is right or wrong.

    Args:
        predicted: most probable token at each place, (..., n, T).
        targets: true tokens, (n, T) or of the same shape.
        mask: live tokens, (n, T) or of the same shape; the answer is its live tokens in their order.

    Raises:
        InputError: shapes that do not belong together, or an answer without a live token.

    Source: Wang et al. (arXiv 2406.09179), after Carlini et al. (arXiv 2012.07805).

    Example:
        >>> extraction_strength([[7, 1, 0, 3, 4]], [[-100, 1, 2, 3, 4]], [[0, 1, 1, 1, 1]]).tolist()
        [0.5]
    """
    right, live = right_tokens(predicted, targets, mask)
    to_the_end = np.logical_and.accumulate((right | ~live)[..., ::-1], axis=-1)[..., ::-1]
    return (to_the_end & live).sum(axis=-1) / live.sum(axis=-1)


def min_k(token_logprob, mask, *, share: float = 0.2) -> Float64[np.ndarray, " ..."]:
    """Min-K% Prob: mean log-probability of the least probable tokens; higher = more like training text; (..., n).

    Args:
        token_logprob: log p of each true token, (..., n, T), nats.
        mask: live tokens, (n, T) or of the same shape.
        share: of the live tokens that count, rounded down, at least one; in (0, 1].

    Raises:
        InputError: a share outside (0, 1], a mask that does not fit, or log-probabilities above 0.

    Source: Shi et al. (arXiv 2310.16789). Some code reports the negative.

    Example:
        >>> min_k([[-9.0, -1.0, -5.0, -3.0, -2.0]], [[0, 1, 1, 1, 1]], share=0.5).tolist()
        [-4.0]
    """
    live = live_tokens(mask, np.shape(token_logprob))
    return mean_of_lowest(np.asarray(log_probabilities(token_logprob, "token_logprob", live)), live, share)


def min_k_plus_plus(
    token_logprob, mean_logprob, std_logprob, mask, *, share: float = 0.2
) -> Float64[np.ndarray, " ..."]:
    """Min-K%++: as `min_k`, on log-probabilities standardised by the model's own next-token distribution; (..., n).

    Args:
        token_logprob: log p of each true token, (..., n, T), nats.
        mean_logprob: sum of p log p over the vocabulary at that place, of the same shape.
        std_logprob: standard deviation of log p under p, of the same shape. Below 0.001 it counts as 0.001 (the
            floor of public code; the paper has none): where the model is certain or indifferent, it is 0.
        mask: live tokens, (n, T) or of the same shape.
        share: as in `min_k`.

    Raises:
        InputError: as in `min_k`, shapes that differ, or a negative standard deviation.

    Source: Zhang et al. (arXiv 2404.02936). Some code reports the negative.

    Example:
        >>> min_k_plus_plus([[-3.0, -1.0]], [[-1.0, -1.0]], [[0.5, 1.0]], [[1, 1]]).tolist()
        [-4.0]
    """
    shapes = [np.shape(a) for a in (token_logprob, mean_logprob, std_logprob)]
    if len(set(shapes)) > 1:
        raise InputError(f"token, mean and std are {shapes[0]}, {shapes[1]} and {shapes[2]}: give one of each a token.")
    live = live_tokens(mask, shapes[0])
    value = log_probabilities(token_logprob, "token_logprob", live)
    mean = log_probabilities(mean_logprob, "mean_logprob", live)
    spread = np.where(live, np.asarray(std_logprob, np.float64), 1.0)
    if (spread < 0).any():
        raise InputError("std_logprob holds negative values: give standard deviations, not log-probabilities.")
    return mean_of_lowest((value - mean) / np.maximum(spread, MIN_SPREAD), live, share)


def zlib_score(summed_logprob, texts: Sequence[str]) -> Float64[np.ndarray, "... n"]:
    """Negative log-probability over the text's length after zlib compression; lower = more like training text.

    Args:
        summed_logprob: log p of each whole text, (..., n), nats.
        texts: the n texts whose tokens were summed, compressed as UTF-8.

    Returns:
        (..., n), nats per compressed byte. The paper divides the mean per token, for texts of one length; over answers
        of different lengths that would make every long one look like training text.

    Raises:
        InputError: numbers that differ, or log-probabilities above 0.

    Source: Carlini et al. (arXiv 2012.07805).

    Example:
        >>> zlib_score([-12.0], ["abcd"]).tolist()  # four bytes and eight of header and check sum
        [1.0]
    """
    values = log_probabilities(summed_logprob, "summed_logprob")
    if isinstance(texts, str) or values.shape[-1:] != (len(texts),):
        raise InputError(
            f"summed_logprob is {values.shape}: give a list of as many texts as its last axis has entries."
        )
    return -values / np.asarray([len(zlib.compress(text.encode("utf-8"))) for text in texts])


def membership_auc(members, nonmembers) -> Float64[np.ndarray, " ..."] | np.float64:
    """Area under the ROC curve of a score that is to be higher on members: P(member > non-member), ties count half.

    Args:
        members: scores of texts of the forget set, (..., n).
        nonmembers: scores of texts held out, (..., m); leading axes as those of ``members``.

    Returns:
        (...,), in [0, 1]; NaN where a score is NaN.

    Raises:
        InputError: no score on one side, or leading axes that differ.

    Example:
        >>> membership_auc([[3.0, 1.0]], [[2.0, 0.0]]).tolist()
        [0.75]
    """
    return auc(members, nonmembers)


def privleak(auc_unlearned, auc_retrain, *, least: float = 0.01) -> Float64[np.ndarray, " ..."] | np.float64:
    """PrivLeak, ``100 ((1 - AUC_u) - (1 - AUC_r)) / (1 - AUC_r)`` in per cent; 0 = as the reference, < 0 = still leaks.

    Args:
        auc_unlearned: AUC of a membership attack on the unlearned model, any shape: 1 where every text of the forget
            set looks more like training text than every text held out.
        auc_retrain: the same on the reference, retrained or oracle.
        least: the figure is NaN where 1 - AUC_r is below this: it divides by it, and would show only noise.

    Raises:
        InputError: an AUC outside [0, 1] (per cent, say), or ``least`` not positive.

    Source: MUSE (arXiv 2407.06460), whose AUC is 1 minus this one. NaN passes through.

    Example:
        >>> privleak([0.5, 1.0, 0.25], 0.5).tolist()
        [0.0, -100.0, 50.0]
    """
    unlearned, retrain = np.asarray(auc_unlearned, np.float64), np.asarray(auc_retrain, np.float64)
    if any(((auc < 0) | (auc > 1)).any() for auc in (unlearned, retrain)):
        raise InputError("an AUC lies outside [0, 1]: give areas under the curve as shares, not in per cent.")
    if not least > 0:
        raise InputError(f"least is {least}: give the smallest 1 - AUC of the reference to divide by, above 0.")
    left = np.where(1.0 - retrain < least, np.nan, 1.0 - retrain)
    return 100.0 * (retrain - unlearned) / left

"""The metrics of TOFU (Maini et al. 2024, arXiv 2401.06121): truth ratio, forget quality, model utility.

NumPy, in float64. Arrays end in the axes named, and may lead with a member axis: (N, n) for N members and n examples.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from unlearn_jax.errors import InputError, choose
from unlearn_jax.metrics.draws import RESAMPLES, Draws, as_values, distribution_of, draws_of, steps_of
from unlearn_jax.metrics.language import ROUNDING, check_candidates
from unlearn_jax.metrics.summary import Estimate, estimate_of

LARGEST = 700.0  # nats: both exp(LARGEST) and its inverse are finite
CHUNK = 2_000_000  # numbers at once when distributions are resampled
TRUTH_RATIOS = ("paper", "public")
AGGREGATES = ("forget", "retain", "share")
TOFU_UTILITY = tuple(
    f"{s}_{p}" for s in ("retain", "authors", "facts") for p in ("probability", "rouge", "truth_ratio")
)


def truth_ratio(
    paraphrase_loss, perturbed_loss, *, variant: str = "paper", log: bool = False
) -> Float64[np.ndarray, "... n"]:
    """TOFU's truth ratio R: how probable wrong answers are per token, relative to a right one; near 0 = knows it.

    Args:
        paraphrase_loss: mean negative log-probability per token of the paraphrased right answer, (..., n), nats.
        perturbed_loss: the same of the wrong answers, (..., n, K).
        variant: ``paper`` averages the wrong answers' probabilities (the paper's equation); ``public`` averages their
            losses, a geometric mean (the authors' released test of forget quality): R is then never larger.
        log: give log R. R itself is held within exp(+-700), where models that have come apart would tie.

    Returns:
        (..., n); the reciprocal of what some code calls the truth ratio, the same for `forget_quality`.

    Raises:
        InputError: shapes that do not belong together, no wrong answer, negative losses, an unknown variant.

    Source: Maini et al. (arXiv 2401.06121).

    Example:
        >>> import numpy as np
        >>> losses = -np.log([0.5]), -np.log([[0.1, 0.4]])
        >>> [truth_ratio(*losses, variant=v).round(3).tolist() for v in ("paper", "public")]
        [[0.5], [0.4]]
    """
    choose("variant of the truth ratio", variant, TRUTH_RATIOS)
    right, wrong = (-np.asarray(loss, np.float64) for loss in (paraphrase_loss, perturbed_loss))
    if (right > ROUNDING).any() or (wrong > ROUNDING).any():
        raise InputError("losses are negative: give mean negative log-probabilities per token, in nats.")
    check_candidates(right.shape, wrong.shape, "perturbed_loss")
    with np.errstate(invalid="ignore"):
        if variant == "paper":
            ratio = np.logaddexp.reduce(wrong, axis=-1) - np.log(wrong.shape[-1]) - right
        else:
            ratio = wrong.mean(axis=-1) - right
    return ratio if log else np.exp(np.clip(ratio, -LARGEST, LARGEST))


def truth_ratio_scores(ratio, aggregate: str) -> Float64[np.ndarray, " ..."] | np.float64:
    """What TOFU averages over examples, for each example, in [0, 1]; for `mean_estimate` and its interval.

    Args:
        ratio: truth ratios (not their logarithms), (..., n).
        aggregate: ``forget`` = min(R, 1 / R), best where right and wrong are alike; ``retain`` = max(0, 1 - R);
            ``share`` = 1 / (1 + R), right over right + wrong.

    Raises:
        InputError: negative ratios, or an unknown aggregate.

    Example:
        >>> [truth_ratio_scores([0.25, 4.0], a).tolist() for a in ("forget", "retain", "share")]
        [[0.25, 0.25], [0.75, 0.0], [0.8, 0.2]]
    """
    choose("aggregate", aggregate, AGGREGATES)
    ratio = np.asarray(ratio, np.float64)
    if (ratio < 0).any():
        raise InputError("ratio holds negative values: give truth ratios, not their logarithms.")
    with np.errstate(divide="ignore", over="ignore"):
        rules = {"forget": np.minimum(ratio, 1.0 / ratio), "retain": np.maximum(0.0, 1.0 - ratio)}
        return rules[aggregate] if aggregate in rules else 1.0 / (1.0 + ratio)


def truth_ratio_aggregate(ratio, aggregate: str) -> Float64[np.ndarray, " ..."] | np.float64:
    """Mean of `truth_ratio_scores` over examples, (..., n) -> (...).

    Example:
        >>> float(truth_ratio_aggregate([0.25, 4.0], "forget"))
        0.25
    """
    return truth_ratio_scores(ratio, aggregate).mean(axis=-1)


class ForgetQuality(NamedTuple):
    """Two-sample Kolmogorov-Smirnov test between truth ratios, each (...)."""

    distance: np.ndarray  # D, largest gap between the two distribution functions; 0 = alike
    p_value: np.ndarray  # TOFU's forget quality; high = no difference found, so it falls with more examples


def forget_quality(ratio_unlearned, ratio_reference) -> ForgetQuality:
    """TOFU's forget quality of one model against one reference model, or of each member; D beside the p-value.

    Args:
        ratio_unlearned: truth ratios on the forget set, or their logarithms (only their order counts), (..., n).
        ratio_reference: the same kind, of a model that never saw it, (..., m); leading axes broadcast.

    Returns:
        NaN where a ratio is NaN. Examples count as independent; for populations see `forget_quality_interval`.

    Raises:
        InputError: no example, or leading axes that do not broadcast.

    Source: Maini et al. (arXiv 2401.06121); two-sided test, exact up to 10,000 examples (SciPy).

    Example:
        >>> found = forget_quality([1.0, 2.0, 3.0, 4.0], [3.0, 4.0, 5.0, 6.0])
        >>> float(found.distance), round(float(found.p_value), 3)
        (0.5, 0.771)
    """
    from scipy.stats import ks_2samp

    pair = [np.asarray(r, np.float64) for r in (ratio_unlearned, ratio_reference)]
    shapes = [r.shape for r in pair]
    try:
        lead = np.broadcast_shapes(*(s[:-1] for s in shapes))
    except ValueError:
        lead = None
    if lead is None or any(len(s) == 0 or s[-1] == 0 for s in shapes):
        raise InputError(f"ratios are {shapes[0]} and {shapes[1]}: give examples on the last axis, members before it.")
    pair = [np.broadcast_to(r, (*lead, r.shape[-1])) for r in pair]
    results = np.full((2, *lead), np.nan)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "ks_2samp: Exact calculation unsuccessful", RuntimeWarning)
        for at in np.ndindex(*lead):
            if not any(np.isnan(r[at]).any() for r in pair):
                test = ks_2samp(pair[0][at], pair[1][at])
                results[(slice(None), *at)] = test.statistic, test.pvalue
    return ForgetQuality(results[0][()], results[1][()])


def forget_quality_interval(unlearned, reference, **setting) -> Estimate:
    """D between the truth ratios of two populations, with its two-way interval; arguments of `forget_quality_draws`.

    D of finite samples lies above 0 even where nothing differs, and resampling lifts it further: judge it beside the D
    of a second population of the reference's own kind, not against 0.

    Example:
        >>> import numpy as np
        >>> low, high = np.arange(12.0).reshape(3, 4), np.arange(12.0).reshape(3, 4) + 100.0
        >>> forget_quality_interval(low, high, resamples=50)[:3]
        (1.0, 1.0, 1.0)
    """
    return estimate_of(forget_quality_draws(unlearned, reference, **setting), low=0.0, high=1.0)


def forget_quality_draws(
    unlearned,
    reference,
    *,
    roles: tuple[str, str] = ("original", "reference"),
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Draws:
    """The draws behind `forget_quality_interval`, from which paired differences and ranks are made.

    Args:
        unlearned: truth ratios, or their logarithms, (members, examples), a list of such blocks by request, or
            `Values` (with clusters, which are then drawn whole).
        reference: the same of the reference population, on the same examples.
        roles: whose member draws each of the two shares; a method started from the originals shares theirs.
        seed: of the draws.
        resamples: number of draws.

    Returns:
        D between the distributions over members and examples, every example weighing alike; a member with a
        value that is not finite has weight zero, so logarithms are the safer input.

    Raises:
        InputError: populations on different examples.

    Source: the statistic of arXiv 2401.06121, resampled as all figures here are.
    """
    pair = [as_values(data, role) for data, role in zip((unlearned, reference), roles)]
    counts = [[block.shape[1] for block in values.blocks] for values in pair]
    if counts[0] != counts[1]:
        raise InputError(f"populations have {counts[0]} and {counts[1]} examples: give both the same forget set.")
    grid = np.unique(np.concatenate([block.ravel() for values in pair for block in values.blocks]))
    steps = [steps_of(values, grid, seed, resamples) for values in pair]
    rows = max(1, CHUNK // max(len(s.order) for s in steps))

    def figure(weights: list[np.ndarray]) -> np.ndarray:
        out = []
        for start in range(0, 1 + resamples, rows):
            at = slice(start, start + rows)
            a, b = (distribution_of(s, [w if len(w) == 1 else w[at] for w in weights], at) for s in steps)
            out.append(np.abs(a - b).max(axis=1).round(12))  # running sums leave 1e-16 behind
        return np.concatenate(out)

    fewest = [max(1, values.members - len(values.blocks)) for values in pair]
    draws = draws_of(figure, pair[0], seed, resamples)
    return draws._replace(n=min(values.members for values in pair), freedom=min(fewest))


def model_utility(components: Mapping[str, object], *, names: Sequence[str] = TOFU_UTILITY):
    """TOFU's model utility: the harmonic mean of probability, ROUGE-L recall and truth ratio on three retained sets.

    Args:
        components: by name, a number or an array over members, in [0, 1].
        names: exactly the components wanted, by default TOFU's nine, `TOFU_UTILITY`; a mean of fewer is another figure.

    Returns:
        A number, or an array over members; 0 where a component is 0.

    Raises:
        InputError: names missing or unknown, or values that are NaN or outside [0, 1], with their names.

    Source: Maini et al. (arXiv 2401.06121).

    Example:
        >>> float(model_utility({"a": 0.5, "b": 1.0}, names=("a", "b")).round(4))
        0.6667
    """
    if set(components) != set(names) or not names:
        raise InputError(f"components are {', '.join(components)}: give exactly {', '.join(names)}.")
    values = {name: np.asarray(components[name], np.float64) for name in names}
    wrong = [name for name, v in values.items() if not ((v >= 0) & (v <= 1 + 1e-6)).all()]
    if wrong:
        raise InputError(f"{', '.join(wrong)}: not in [0, 1] or NaN; give shares, and leave out diverged members.")
    with np.errstate(divide="ignore"):
        return len(names) / sum(1.0 / v for v in values.values())


tofu_truth_ratio, tofu_forget_quality = truth_ratio, forget_quality  # where one name is to say whose they are
